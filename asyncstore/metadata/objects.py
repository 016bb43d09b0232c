"""Order of objects, their addresses, and filters on lists of them: pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from asyncstore.errors import InvalidPathspecError, MetadataError, TaggingError
from asyncstore.layout import metadata_id_fault
from asyncstore.metadata.records import Kind, MetaObject

LEVELS: Final[tuple[Kind, ...]] = ("flow", "run", "step", "task", "artifact")
"""What the pieces of a pathspec name, from the top."""

_PARENTS: Final = MappingProxyType(
    {
        "flow": frozenset({0}),
        "run": frozenset({1}),
        "step": frozenset({2}),
        "task": frozenset({2, 3}),
        "artifact": frozenset({2, 3, 4}),
        "metadata": frozenset({2, 4}),
    }
)
_PLURALS: Final = MappingProxyType({"metadata": "metadata"})
_MAX_ATTEMPT = 2**15 - 1  # a service keeps 16 bits


@dataclass(frozen=True, slots=True)
class TagFilter:
    """Admits objects that carry every tag named: among all their tags, the users' own, or the system's."""

    any_tags: Collection[str] = ()
    tags: Collection[str] = ()
    system_tags: Collection[str] = ()

    def __post_init__(self) -> None:
        for name in ("any_tags", "tags", "system_tags"):
            wanted = getattr(self, name)
            if isinstance(wanted, str) or not all(isinstance(tag, str) for tag in wanted):
                raise TaggingError(f"a filter's {name} is a collection of strings, not {wanted!r}")

    def admits(self, item: MetaObject) -> bool:
        """Say whether ``item`` carries every tag named."""
        return (
            item.tags.issuperset(self.tags)
            and item.system_tags.issuperset(self.system_tags)
            and (item.tags | item.system_tags).issuperset(self.any_tags)
        )


def check_address(*path: str, least: int = 1, most: int = len(LEVELS)) -> tuple[str, ...]:
    """Return the ids of an object's address, or raise `InvalidPathspecError`."""
    if not least <= len(path) <= most:
        names = "/".join(level.capitalize() for level in LEVELS[:most])
        raise InvalidPathspecError(
            f"an address here has {least} to {most} pieces ({names}), not {len(path)}: {path!r}", where=repr(path)
        )
    for level, piece in zip(LEVELS, path, strict=False):
        reason = metadata_id_fault(level, piece)
        if reason:
            raise InvalidPathspecError(f"{level} id {piece!r}: {reason}", where=repr(path))
    return path


def check_list(kind: Kind, path: tuple[str, ...], attempt: int | None) -> tuple[str, ...]:
    """Return the address of a list's parent, or raise `InvalidPathspecError` if ``kind`` is not found below it.

    An ``attempt`` is one of a task.
    """
    if kind not in _PARENTS:
        raise InvalidPathspecError(f"{kind!r} is no kind of object; there are {', '.join(_PARENTS)}", where=str(kind))
    if len(path) not in _PARENTS[kind]:
        above = " or ".join(
            f"a {LEVELS[length - 1]}" if length else "nothing (all of them)" for length in sorted(_PARENTS[kind])
        )
        raise InvalidPathspecError(
            f"{_PLURALS.get(kind, kind + 's')} are listed below {above}, not below {'/'.join(path)!r}",
            where="/".join(path),
        )
    check_attempt(attempt)
    if attempt is not None and len(path) != 4:
        raise InvalidPathspecError(
            f"an attempt is one of a task; list the {_PLURALS.get(kind, kind + 's')} of a task", where="/".join(path)
        )
    return check_address(*path, least=0)


def check_attempt(attempt: Any, *, required: bool = False) -> int | None:
    """Return an attempt's number, or raise `InvalidPathspecError`; None is none, unless one is ``required``."""
    if attempt is None and not required:
        return None
    if isinstance(attempt, bool) or not isinstance(attempt, int) or not 0 <= attempt <= _MAX_ATTEMPT:
        raise InvalidPathspecError(f"an attempt is an integer from 0 to {_MAX_ATTEMPT}, not {attempt!r}")
    return attempt


def is_numbered(identifier: str) -> bool:
    """Say whether a run or task id was made by a provider, as Metaflow decides it: ``int`` takes it."""
    try:
        int(identifier)
    except ValueError:
        return False
    return True


def newest_first(items: Iterable[MetaObject]) -> list[MetaObject]:
    """Sort by creation time, latest first; among equals the higher number, then the later name, comes first."""
    return sorted(items, key=_age, reverse=True)


def path_order(path: tuple[str, ...]) -> tuple[tuple[int, str], ...]:
    """Return a key that sorts paths by their numbers, names before them."""
    return tuple((int(piece), "") if piece.isdecimal() else (-1, piece) for piece in path)


def check_pattern(pattern: str | None) -> re.Pattern[str]:
    """Return a compiled pattern, of anything for None, or raise `MetadataError`."""
    try:
        return re.compile(pattern or "")
    except (re.error, TypeError) as error:
        raise MetadataError(
            f"pattern {pattern!r:.80} is not a regular expression: {error}", where=str(pattern)
        ) from None


def _age(item: MetaObject) -> tuple[int, tuple[tuple[int, str], ...], str]:
    return item.ts_epoch, path_order(item.path), item.datum.field if item.datum else ""
