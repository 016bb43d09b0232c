"""Metaflow's structured log lines: read, written and merged.

Follows ``mflog/mflog.py`` of Metaflow 2.19. A line is ``[MFLOG|0|<UTC time>Z|<source>|<id>]<message>``; one that its
receiver is to keep begins with ``[![MFLOG|``. Anything else in a log is kept, and comes last when logs are merged.
"""

from __future__ import annotations

import heapq
import io
import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

SOURCES = ("runtime", "task")
"""Where log files come from, in the order in which they are read: the scheduler, the task's own container."""
STREAMS = ("stdout", "stderr")

_LINE = re.compile(rb"(\[!)?\[MFLOG\|0\|(.+?)Z\|(.+?)\|(.+?)\](.*)")
_TIME = "%Y-%m-%dT%H:%M:%S.%f"
_NO_TIME = b"3000-01-01T00:00:00.000000"


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a log.

    ``time`` is UTC; None, as ``source`` and ``id``, for a line that is not structured. The message of a structured
    line has no newline at its end, that of any other keeps it, as in Metaflow.
    """

    message: bytes
    time: datetime | None = None
    source: str | None = None
    id: str | None = None
    should_persist: bool = False

    @property
    def text(self) -> str:
        """The message, with U+FFFD for what is not UTF-8."""
        return self.message.decode("utf-8", "replace")


def parse_line(line: bytes) -> LogLine | None:
    """Return what a structured line says, or None for any other line."""
    parsed = _parse(line)
    return parsed[1] if parsed else None


def format_line(message: bytes, *, source: str, time: datetime | None = None, line_id: str | None = None) -> bytes:
    """Return ``message``, its newline included, as a structured line; ``time`` is aware, and now by default."""
    stamp = (time or datetime.now(UTC)).astimezone(UTC).strftime(_TIME)
    return f"[MFLOG|0|{stamp}Z|{source}|{line_id or uuid.uuid4()}]".encode() + message


def is_structured(line: bytes) -> bool:
    """Say whether a line begins as a structured one does, whether or not it parses."""
    return line.startswith((b"[MFLOG|", b"[![MFLOG|"))


def set_should_persist(line: bytes) -> bytes:
    """Mark a structured line as one that its receiver is to keep."""
    return b"[!" + line if line.startswith(b"[MFLOG|") else line


def unset_should_persist(line: bytes) -> bytes:
    """Take that mark away."""
    return line[2:] if line.startswith(b"[![MFLOG|") else line


def merge_logs(logs: Iterable[bytes]) -> Iterator[LogLine]:
    """Give the lines of several logs of one stream by time; lines that are not structured come last.

    Lines of one log with the same time keep their order (Metaflow orders them by their random ids).
    """
    merged = heapq.merge(*(_timed(log) for log in logs), key=lambda item: item[0])
    return (line for _, line in merged)


def redacted(source: str, stream: str) -> bytes:
    """Return what replaces a scrubbed log."""
    return f"[REDACTED {source} {stream}]".encode()


def _timed(log: bytes) -> list[tuple[bytes, LogLine]]:
    # Ordered by the text of the time, as Metaflow does; sorted() keeps the order of equals.
    lines = (_parse(line) or (_NO_TIME, LogLine(line)) for line in io.BytesIO(log))
    return sorted(lines, key=lambda item: item[0])


def _parse(line: bytes) -> tuple[bytes, LogLine] | None:
    match = _LINE.match(line)
    if match is None:
        return None
    try:
        time = datetime.strptime(match[2].decode("ascii"), _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
    source, id_ = match[3].decode("utf-8", "replace"), match[4].decode("utf-8", "replace")
    return match[2], LogLine(match[5], time, source, id_, match[1] is not None)
