"""Saves artifacts: pickled, hashed, packed and sent as a pipeline, within the memory budget.

Each worker takes a batch of values, serializes it in one thread hop and hands the bytes to the content-addressed
store; while one waits for requests, others serialize.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing
from typing import Any, TypeAlias

import anyio

from asyncstore.concurrency import aiter_any, task_group
from asyncstore.datastore.context import FlowContext
from asyncstore.datastore.index import ArtifactIndex
from asyncstore.datastore.loading import raise_together
from asyncstore.datastore.serializers import ArtifactInfo, Serialized, SerializerRegistry
from asyncstore.errors import ArtifactError, AsyncStoreError
from asyncstore.types import KIB, MIB, Key

_BATCH_ITEMS = 64
_BATCH_BYTES = MIB
_TYPICAL = 16 * KIB  # memory reserved for a value whose size cannot be told before it is serialized

Pair: TypeAlias = tuple[str, Any]
_Outcome: TypeAlias = "tuple[Serialized, ArtifactInfo] | AsyncStoreError"


async def save_values(context: FlowContext, artifacts: Iterable[Pair] | AsyncIterable[Pair]) -> ArtifactIndex:
    """Store values and return their entries, in the order of the input.

    A value that cannot be serialized does not stop the others; such failures come together at the end, and nothing
    is returned. A failure of the store cancels the rest.
    """
    return await _Save(context).run(artifacts)


class _Save:
    def __init__(self, context: FlowContext) -> None:
        self._context = context
        self._account = context.runtime.memory.account()
        self._turn = anyio.Lock()
        self._count = 0
        self._saved: list[tuple[int, str, Key, ArtifactInfo]] = []
        self._failures: list[tuple[int, AsyncStoreError]] = []

    async def run(self, artifacts: Iterable[Pair] | AsyncIterable[Pair]) -> ArtifactIndex:
        source = aiter_any(artifacts)
        try:
            async with aclosing(source), task_group() as group:
                # One more than there are threads, to serialize while the others are busy.
                for _ in range(self._context.runtime.limits.threads + 1):
                    group.start_soon(self._work, source)
        finally:
            self._account.close()
        raise_together([error for _, error in sorted(self._failures, key=_place)], "artifacts cannot be saved")
        index = ArtifactIndex()
        for _, name, key, info in sorted(self._saved, key=_place):
            index.record(name, key, info)
        return index

    async def _work(self, source: AsyncGenerator[Pair]) -> None:
        while batch := await self._pull(source):
            while batch:
                batch = await self._save_some(batch)

    async def _pull(self, source: AsyncGenerator[Pair]) -> list[tuple[int, str, Any]]:
        """Take the next values of the input, a batch's worth."""
        batch: list[tuple[int, str, Any]] = []
        size = 0
        async with self._turn:
            while len(batch) < _BATCH_ITEMS and size < _BATCH_BYTES:
                try:
                    name, value = await anext(source)
                except StopAsyncIteration:
                    break
                _check_name(name)
                batch.append((self._count, name, value))
                self._count += 1
                size += _size_of(value)
        return batch

    async def _save_some(self, batch: list[tuple[int, str, Any]]) -> list[tuple[int, str, Any]]:
        """Store the first values of a batch, about as many as fit into `_BATCH_BYTES`; return the rest."""
        held = self._memory(_size_of(value) for _, _, value in batch)
        await self._account.take(held)
        try:
            outcomes = await self._context.runtime.pool.run(_serialize, self._context.serializers, batch)
            made = [outcome[0].data for outcome in outcomes if not isinstance(outcome, AsyncStoreError)]
            needed = self._memory(memoryview(data).nbytes for data in made)
            if needed > held:
                # Given back before more is asked for: two that wait for each other's would wait for ever.
                self._account.give(held)
                held = 0
                await self._account.take(needed)
                held = needed
            stored = iter(await self._context.cas.save_blobs(made, reserved=True))
        finally:
            self._account.give(held)
        for (place, name, _), outcome in zip(batch, outcomes, strict=False):
            if isinstance(outcome, AsyncStoreError):
                self._failures.append((place, outcome))
            else:
                self._saved.append((place, name, next(stored).key, outcome[1]))
        return batch[len(outcomes) :]

    def _memory(self, sizes: Iterable[int]) -> int:
        """Return the bytes that serialized values and their saving take."""
        serialized = list(sizes)
        return sum(serialized) + self._context.cas.memory_to_save(serialized)


def _serialize(serializers: SerializerRegistry, batch: list[tuple[int, str, Any]]) -> list[_Outcome]:
    """Serialize values until the batch is full; at least one."""
    outcomes: list[_Outcome] = []
    size = 0
    for _, name, value in batch:
        try:
            outcome = serializers.serialize(name, value)
        except AsyncStoreError as error:
            outcomes.append(error)
            continue
        outcomes.append(outcome)
        size += outcome[1].size or 0
        if size >= _BATCH_BYTES:
            break
    return outcomes


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise ArtifactError(f"{name!r} is not the name of an artifact", name=str(name), operation="save")


def _size_of(value: Any) -> int:
    """Return the bytes that a value will about take, as far as that can be told at once and without its own code."""
    if isinstance(value, bytes | bytearray | str):
        return sys.getsizeof(value)
    if type(value).__module__.partition(".")[0] in {"numpy", "pyarrow"}:
        size: object = getattr(value, "nbytes", None)
        return size if isinstance(size, int) else _TYPICAL
    return _TYPICAL


def _place(item: tuple[Any, ...]) -> int:
    return int(item[0])
