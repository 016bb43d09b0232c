"""What a failure is called on the command line, and the exit code that it ends with."""

from __future__ import annotations

import os
from collections.abc import Iterator

from asyncstore.errors import AsyncStoreError, ConfigError, IntegrityError, InvalidNameError

DAMAGE = 1
USAGE = 2
UNFINISHED = 3
INTERRUPTED = 130
PIPE_CLOSED = 141

MOST_LINES = 20


def failure_lines(error: BaseException) -> list[str]:
    """Return one line for each failure, or none if one of them is of a kind that nobody foresaw."""
    leaves = list(_leaves(error))
    if not all(_is_foreseen(leaf) for leaf in leaves):
        return []
    lines = list(dict.fromkeys(printable(_text(leaf)) for leaf in leaves))
    rest = len(lines) - MOST_LINES
    return lines[:MOST_LINES] + ([f"and {rest} more failures"] if rest > 0 else [])


def exit_code(error: BaseException) -> int:
    """Return the exit code for a failure; of several, the gravest decides: damage, then usage."""
    codes = {_code(leaf) for leaf in _leaves(error)}
    return min(codes)


def printable(text: str) -> str:
    """Return a text as one line that moves no cursor: file names and server messages may hold anything."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)  # pyright: ignore[reportUnknownArgumentType]  # lost in isinstance
    else:
        yield error


def _is_foreseen(error: BaseException) -> bool:
    # Storages translate what the system says of their files. What it says of a source comes as it is, with the name.
    # Without a name it is about the standard output.
    return isinstance(error, AsyncStoreError | OSError)


def _text(error: BaseException) -> str:
    if isinstance(error, AsyncStoreError) or not isinstance(error, OSError):
        return str(error)
    name = "cannot write the output" if error.filename is None else os.fsdecode(error.filename)
    return f"{name}: {error.strerror or error}"


def _code(error: BaseException) -> int:
    if isinstance(error, IntegrityError):
        return DAMAGE
    return USAGE if isinstance(error, ConfigError | InvalidNameError) else UNFINISHED
