"""Where output goes: lines to stdout; a moving picture of the work to stderr, if that is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

import click

from asyncstore.types import GIB, KIB, MIB

REFRESH_SECONDS = 0.1


class Screen(Protocol):
    """What a command shows while it works."""

    def line(self, text: str) -> None:
        """Print a line of the result."""
        ...

    def advance(self, count: int, size: int) -> None:
        """Tell that ``count`` more items with ``size`` more bytes are done."""
        ...


class PlainScreen:
    """Results only."""

    def line(self, text: str) -> None:
        click.echo(text)

    def advance(self, count: int, size: int) -> None:
        pass


@contextmanager
def screen(title: str, *, total: int | None = None, unit: str = "file") -> Generator[Screen]:
    """Open a screen for one piece of work over ``total`` items, if that is known."""
    if not sys.stderr.isatty():
        yield PlainScreen()
        return
    from asyncstore.cli.terminal import TerminalScreen

    terminal = TerminalScreen(title, total, unit)
    with terminal:
        yield terminal


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start


def note(text: str) -> None:
    """Print a remark for somebody who sits at a terminal; a pipe does not get it."""
    if sys.stderr.isatty():
        click.echo(text, err=True)


def size_text(size: float) -> str:
    """Return a number of bytes for people."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return count_text(round(size), "byte")


def count_text(count: int, one: str, many: str | None = None) -> str:
    """Return "1 file" or "2,450 files"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
