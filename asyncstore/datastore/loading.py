"""Loads artifacts: blobs come in the order of completion and are decoded in the store's threads, in batches."""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeAlias

from asyncstore.datastore.context import FlowContext
from asyncstore.datastore.serializers import ArtifactInfo, SerializerRegistry
from asyncstore.errors import ArtifactError, AsyncStoreError
from asyncstore.types import MIB, Key

_BATCH_ITEMS = 64
_BATCH_BYTES = MIB

Wanted: TypeAlias = Mapping[Key, list[tuple[str, ArtifactInfo]]]
"""The artifacts that share a blob; each is decoded on its own, so that they are distinct objects."""
_Task: TypeAlias = tuple[str, bytes, ArtifactInfo]


@asynccontextmanager
async def load_values(
    context: FlowContext, wanted: Wanted, *, where: str, prefetched: Mapping[Key, bytes]
) -> AsyncGenerator[AsyncIterator[tuple[str, Any]]]:
    """Give names and values of artifacts. ``prefetched`` holds blobs that need no request.

    A failure names the artifact and ``where``; those that are known at the same time come as one group.
    """
    at_hand = [(key, prefetched[key]) for key in wanted if key in prefetched]
    missing = [key for key in wanted if key not in prefetched]
    try:
        async with (
            context.cas.load_blobs(missing) as blobs,
            aclosing(_decoded(context, wanted, at_hand, blobs)) as values,
        ):
            yield values
    except (AsyncStoreError, BaseExceptionGroup) as error:
        named = _naming(error, lambda failure: _for_artifacts(failure, wanted, where))
        if named is error:
            raise
        raise named from error


async def _decoded(
    context: FlowContext, wanted: Wanted, at_hand: list[tuple[Key, bytes]], blobs: AsyncIterator[tuple[Key, bytes]]
) -> AsyncGenerator[tuple[str, Any]]:
    waiting: list[_Task] = []
    size = 0
    async for key, blob in _chain(at_hand, blobs):
        waiting.extend((name, blob, info) for name, info in wanted[key])
        size += len(blob)
        if len(waiting) >= _BATCH_ITEMS or size >= _BATCH_BYTES:
            for item in await _decode(context, waiting):
                yield item
            waiting, size = [], 0
    for item in await _decode(context, waiting):
        yield item


async def _chain(
    first: list[tuple[Key, bytes]], then: AsyncIterator[tuple[Key, bytes]]
) -> AsyncGenerator[tuple[Key, bytes]]:
    for item in first:
        yield item
    async for item in then:
        yield item


async def _decode(context: FlowContext, tasks: list[_Task]) -> list[tuple[str, Any]]:
    if not tasks:
        return []
    values, failures = await context.runtime.pool.run(_decode_all, context.serializers, tasks)
    raise_together(failures, "artifacts cannot be loaded")
    return values


def _decode_all(
    serializers: SerializerRegistry, tasks: Iterable[_Task]
) -> tuple[list[tuple[str, Any]], list[AsyncStoreError]]:
    values: list[tuple[str, Any]] = []
    failures: list[AsyncStoreError] = []
    for name, blob, info in tasks:
        try:
            values.append((name, serializers.deserialize(name, blob, info)))
        except AsyncStoreError as error:
            failures.append(error)
    return values, failures


def raise_together(failures: list[AsyncStoreError], message: str) -> None:
    """Raise one failure as itself, several as a group; nothing if there is none."""
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise ExceptionGroup(f"{len(failures)} {message}", failures)


def _for_artifacts(error: AsyncStoreError, wanted: Wanted, where: str) -> AsyncStoreError | None:
    """Return the error of a blob as that of the artifacts that it holds, None if it is none of theirs."""
    if isinstance(error, ArtifactError):
        return _told(error, f"{where}: {error}") if where not in str(error) else None
    artifacts = wanted.get(getattr(error, "key", Key("")))
    if not artifacts or where in str(error):
        return None
    names = ", ".join(repr(name) for name, _ in artifacts)
    return _told(error, f"{where}: artifact {names}: {error}")


def _told(error: AsyncStoreError, message: str) -> AsyncStoreError:
    # A copy, since other loads of the same blob raise the original.
    told = copy.copy(error)
    told.args = (message, *error.args[1:])
    return told


def _naming(error: BaseException, rename: Callable[[AsyncStoreError], AsyncStoreError | None]) -> BaseException:
    if isinstance(error, BaseExceptionGroup):
        parts: list[BaseException] = list(error.exceptions)  # pyright: ignore[reportUnknownArgumentType]  # lost in isinstance
        named = [_naming(part, rename) for part in parts]
        return error if all(a is b for a, b in zip(named, parts, strict=True)) else error.derive(named)
    return (rename(error) if isinstance(error, AsyncStoreError) else None) or error
