"""Progress on a terminal, drawn by rich on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from asyncstore.cli.output import REFRESH_SECONDS, count_text, size_text


class TerminalScreen:
    """A bar below the lines of the result; it is gone when the work is done."""

    def __init__(self, title: str, total: int | None, unit: str) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", style="bold"),
            BarColumn(),
            TextColumn("{task.fields[done]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=True,
        )
        self._task = self._progress.add_task(title, total=total, done="")
        self._total = total
        self._unit = unit
        self._count = 0
        self._size = 0
        self._lines: list[str] = []
        self._shown = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._show()
        finally:
            self._progress.stop()

    def line(self, text: str) -> None:
        if sys.stdout.isatty():
            # The bar has to move down for each print, so lines are printed many at a time.
            self._lines.append(text)
            self._refresh()
        else:
            click.echo(text)

    def advance(self, count: int, size: int) -> None:
        self._count += count
        self._size += size
        self._refresh()

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._shown >= REFRESH_SECONDS:
            self._shown = now
            self._show()

    def _show(self) -> None:
        if self._total is None:
            count = count_text(self._count, self._unit)
        else:
            count = f"{self._count:,} of {count_text(self._total, self._unit)}"
        done = f"{count}, {size_text(self._size)}"
        self._progress.update(self._task, completed=self._count, done=done)
        if self._lines:
            lines, self._lines = self._lines, []
            self._progress.console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
