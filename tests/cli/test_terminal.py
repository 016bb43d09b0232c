"""On a terminal the work can be seen; in a pipe there is nothing but the result."""

from __future__ import annotations

import io
import logging
import os
import pty
import subprocess
from pathlib import Path

import pytest

from asyncstore.cli.app import run
from asyncstore.cli.terminal import TerminalScreen
from tests.cli.conftest import command


class Terminal(io.StringIO):
    """A terminal as far as programs ask, that this process stands before once it was opened."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self._patch = patch

    def isatty(self) -> bool:
        return True

    def open(self) -> None:
        # Not in a fixture: pytest sets both anew between a fixture and its test.
        self._patch.setattr("sys.stdout", self)
        self._patch.setattr("sys.stderr", self)


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal, in a directory and a home of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ASYNCSTORE_DURABILITY", "fast")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    return Terminal(monkeypatch)


def test_results_and_a_summary_are_seen_on_a_terminal(terminal: Terminal, tmp_path: Path) -> None:
    terminal.open()
    long = "a" * 200
    (tmp_path / long).write_bytes(b"1")
    assert run(["put", long, "--to", "store"]) == 0
    # A long name is not broken into lines, so that it can be copied.
    assert f"356a192b7913b04c54574d18c28d46e6395428ab  {long}\n" in terminal.getvalue()
    assert "1 file, 1 byte: 1 new blob, 1 byte written, in " in terminal.getvalue()
    assert run(["check", "store"]) == 0
    assert "1 blob in 1 store, 1 byte verified: 0 damaged, 0 unreadable\n" in terminal.getvalue()
    assert run(["get", "356a192b7913b04c54574d18c28d46e6395428ab", "--from", "store"]) == 0
    assert (tmp_path / "356a192b7913b04c54574d18c28d46e6395428ab").read_bytes() == b"1"


def test_the_bar_counts_what_is_done(terminal: Terminal) -> None:
    terminal.open()
    with TerminalScreen("checking", 2000, "blob") as screen:
        screen.advance(1500, 3 << 20)
        screen.line("a line of the result")
    assert "1,500 of 2,000 blobs, 3.0 MiB" in terminal.getvalue()
    assert "a line of the result\n" in terminal.getvalue()
    with TerminalScreen("saving", None, "file") as screen:
        screen.advance(1, 1)
    assert "1 file, 1 byte" in terminal.getvalue()


def test_somebody_who_lists_a_directory_that_is_not_there_learns_it(terminal: Terminal, tmp_path: Path) -> None:
    terminal.open()
    assert run(["ls", "typo"]) == 0
    assert terminal.getvalue() == f"There is nothing in {tmp_path / 'typo'}.\n"


def test_lines_go_to_stdout_where_only_stderr_is_a_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.open()
    pipe = io.StringIO()
    monkeypatch.setattr("sys.stdout", pipe)
    with TerminalScreen("saving", None, "file") as screen:
        screen.line("a line of the result")
    assert pipe.getvalue() == "a line of the result\n"
    assert "a line of the result" not in terminal.getvalue()


def test_what_the_library_logs_is_seen(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal.open()

    def wait(*arguments: object) -> None:
        logging.getLogger("asyncstore.storage.retrying").warning("attempt %d\nfollows", 2)

    monkeypatch.setattr("asyncstore.cli.ls.run_async", wait)
    assert run(["ls", "store"]) == 0
    assert terminal.getvalue() == "asyncstore: attempt 2\\nfollows\n"


def test_a_real_terminal_shows_the_bar_and_a_pipe_does_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    words = command("put", tmp_path / "a", "--to", tmp_path / "store")
    environ = {**os.environ, "TERM": "xterm", "ASYNCSTORE_DURABILITY": "fast"}
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=theirs, env=environ, check=True)
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(theirs)
        os.close(ours)
    assert done.stdout == b"356a192b7913b04c54574d18c28d46e6395428ab  a\n"
    assert "saving" in shown
    assert "1 file, 1 byte: 1 new blob" in shown
    piped = subprocess.run(words, capture_output=True, env=environ, check=True)
    assert (piped.stdout, piped.stderr) == (done.stdout, b"")
