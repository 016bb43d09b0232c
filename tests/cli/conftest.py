"""Runs the command line, in this process or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from asyncstore.cli.app import run


@dataclass(frozen=True)
class Outcome:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command in this process, in a directory and a home of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ASYNCSTORE_DURABILITY", "fast")

    def call(*arguments: str | os.PathLike[str]) -> Outcome:
        capsys.readouterr()
        code = run([os.fspath(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return call


def command(*arguments: str | os.PathLike[str]) -> list[str]:
    """Return the words that run a command in a process of its own."""
    return [sys.executable, "-m", "asyncstore", *(os.fspath(word) for word in arguments)]


def in_process(*arguments: str | os.PathLike[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, **options)  # type: ignore[call-overload, no-any-return]  # options of subprocess.run
