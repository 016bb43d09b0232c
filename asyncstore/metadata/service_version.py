"""Versions of a metadata service and what each can do: pure."""

from __future__ import annotations

import re
from typing import Final

from asyncstore.errors import MetadataError

NAMED_IDS: Final = (2, 0, 2)
HEARTBEATS: Final = (2, 0, 4)
ATTEMPTS: Final = (2, 0, 6)
TAG_MUTATION: Final = (2, 3, 0)
FILTERED_TASKS: Final = (2, 5, 0)

_LEADING: Final = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


def parse_version(text: str | None) -> tuple[int, int, int] | None:
    """Return the leading numbers of a version, or None if there are none."""
    match = _LEADING.match(text or "")
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def is_too_old(version: str | None, least: tuple[int, int, int]) -> bool:
    """Say whether a service is known to be older than ``least``; one that tells no version is not."""
    known = parse_version(version)
    return known is not None and known < least


def require(version: str | None, least: tuple[int, int, int], what: str, where: str) -> None:
    """Raise `MetadataError` if a service is known to be older than ``least``."""
    if is_too_old(version, least):
        wanted = ".".join(map(str, least))
        raise MetadataError(
            f"{what} needs a metadata service of version {wanted} or later, {where} is {version}; upgrade it",
            operation=what,
            where=where,
        )
