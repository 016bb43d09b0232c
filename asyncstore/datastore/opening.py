"""Reads the indexes of attempts that are done, one or many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from asyncstore.concurrency import run_all
from asyncstore.datastore.context import FlowContext
from asyncstore.datastore.files import groups_of, read_group
from asyncstore.datastore.index import ArtifactIndex, parse_index
from asyncstore.errors import DataMissingError
from asyncstore.layout import ATTEMPT_INDEX, attempt_name
from asyncstore.types import KIB, TaskPath

_INLINE = 32 * KIB  # an index up to this size is parsed on the loop: faster than the way to a thread


@dataclass(frozen=True, slots=True)
class AttemptRef:
    """One attempt of one task."""

    path: TaskPath
    attempt: int
    is_done: bool = True


async def load_index(context: FlowContext, ref: AttemptRef) -> ArtifactIndex:
    """Return the index of an attempt that is done. One request, none if a cache has it.

    Raises `DataMissingError` if the index is not there, `IntegrityError` if it is damaged.
    """
    return (await load_indexes(context, [ref]))[ref]


async def load_indexes(context: FlowContext, refs: Iterable[AttemptRef]) -> dict[AttemptRef, ArtifactIndex]:
    """Return the indexes of attempts that are done. One request each; errors as in `load_index`."""
    indexes: dict[AttemptRef, ArtifactIndex] = {}

    async def load(group: list[AttemptRef]) -> None:
        paths = {ref: index_path(context, ref) for ref in group if not await _from_cache(context, ref, indexes)}
        found = await read_group(context.storage, list(paths.values()))
        for ref, path in paths.items():
            if found[path] is None:
                raise DataMissingError(
                    f"attempt {ref.attempt} of {context.directory(ref.path)} is done, but {path} is not there; "
                    "the task is damaged: check and repair the store",
                    where=path,
                )
        contents = {path: data for path, data in found.items() if data is not None}
        if sum(map(len, contents.values())) > _INLINE:
            parsed = await context.runtime.pool.run(_parse_all, contents)
        else:
            parsed = _parse_all(contents)
        for ref, path in paths.items():
            indexes[ref] = parsed[path]
            if context.indexes is not None:
                await context.indexes.store_metadata(ref.path, ref.attempt, parsed[path])

    await run_all(groups_of(context.storage, dict.fromkeys(refs)), load, width=context.runtime.limits.requests)
    return indexes


def index_path(context: FlowContext, ref: AttemptRef) -> str:
    """Return the path of an attempt's index."""
    return f"{context.directory(ref.path)}/{attempt_name(ref.attempt, ATTEMPT_INDEX)}"


async def _from_cache(context: FlowContext, ref: AttemptRef, indexes: dict[AttemptRef, ArtifactIndex]) -> bool:
    cached = await context.indexes.load_metadata(ref.path, ref.attempt) if context.indexes is not None else None
    if cached is not None:
        indexes[ref] = cached
    return cached is not None


def _parse_all(contents: Mapping[str, bytes]) -> dict[str, ArtifactIndex]:
    return {path: parse_index(data, where=path) for path, data in contents.items()}
