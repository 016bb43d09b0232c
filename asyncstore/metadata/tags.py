"""Rules of tags: pure.

Follows Metaflow 2.19 ``tagging_util.py``, where only clients check them; a service takes any.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from asyncstore.errors import TaggingError

MAX_TAG_LENGTH = 500
"""Longest tag, in characters."""
MAX_USER_TAGS = 50
"""Most user tags of one run; more are left alone where they are already there."""


def check_tag(tag: Any) -> str:
    """Return ``tag`` as text (bytes are UTF-8), or raise `TaggingError`."""
    if isinstance(tag, bytes):
        try:
            tag = tag.decode()
        except UnicodeDecodeError:
            raise TaggingError(f"tag {tag[:40]!r} is not UTF-8") from None
    if not isinstance(tag, str):
        raise TaggingError(f"a tag is a string, not {type(tag).__name__}: {tag!r:.80}")
    try:
        tag.encode()
    except UnicodeEncodeError:
        raise TaggingError(f"tag {tag[:40]!r} cannot be written as UTF-8") from None
    if not tag:
        raise TaggingError("a tag is not empty")
    if len(tag) > MAX_TAG_LENGTH:
        raise TaggingError(f"tag {tag[:40]!r}… has {len(tag)} characters; at most {MAX_TAG_LENGTH} are allowed")
    return tag


def check_tags(tags: Any, what: str = "tags") -> tuple[str, ...]:
    """Return an iterable of tags as text, each once, in order; or raise `TaggingError`. None is none."""
    if tags is None:
        return ()
    if isinstance(tags, str | bytes):
        raise TaggingError(f"{what} is an iterable of strings, not one string; write [{tags[:40]!r}]")
    try:
        items = list(tags)
    except TypeError:
        raise TaggingError(f"{what} is an iterable of strings, not {type(tags).__name__}") from None
    return tuple(dict.fromkeys(check_tag(tag) for tag in items))


def check_set_size(tags: frozenset[str], existing: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return ``tags`` if there are not too many, or no more than there were; else raise `TaggingError`."""
    if len(tags) > MAX_USER_TAGS and len(tags) > len(existing):
        raise TaggingError(f"{len(tags)} user tags; at most {MAX_USER_TAGS} are allowed on a run. Remove some first")
    return tags


def check_new_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return the user tags of an object to be created, or raise `TaggingError`."""
    checked = check_tags(tags)
    check_set_size(frozenset(checked))
    return checked


def check_mutation(add: Any, remove: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the tags to add and to remove, or raise `TaggingError`; nothing to do at all is an error too."""
    adding, removing = check_tags(add, "add"), check_tags(remove, "remove")
    if not adding and not removing:
        raise TaggingError("no tag to add and none to remove; name at least one")
    return adding, removing


def mutate(
    tags: Iterable[str], system_tags: frozenset[str], add: Iterable[str], remove: Iterable[str]
) -> tuple[str, ...]:
    """Return the user tags after a mutation, in their order.

    Removal comes first, so that a tag in both stays. System tags are not added again. Removing one raises
    `TaggingError`.
    """
    before, removing = dict.fromkeys(tags), set(remove)
    protected = sorted(removing & system_tags)
    if protected:
        raise TaggingError(f"system tags cannot be removed: {', '.join(map(repr, protected))}; nothing was changed")
    kept = [tag for tag in before if tag not in removing]
    return tuple(dict.fromkeys([*kept, *(tag for tag in add if tag not in system_tags)]))
