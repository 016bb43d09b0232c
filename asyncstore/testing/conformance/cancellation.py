"""Calls that are cancelled at every await, by anyio's scopes and by asyncio's own ``Task.cancel``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
import pytest

from asyncstore.concurrency import CLEANUP_SECONDS
from asyncstore.errors import NotFoundError
from asyncstore.storage.base import PutItem, SupportsBatch
from asyncstore.testing.conformance.helpers import entries, noise, nothing_borrowed, part_size, read
from asyncstore.testing.harness import Harness

_Call = Callable[[], Awaitable[object]]

OLD, NEW = noise(50_000, 1), noise(60_000, 2)


def _points(count: int, duration: float) -> Iterator[_Call]:
    """Give moments of a call that takes ``duration`` seconds: first one turn of the loop apart, then spread evenly."""

    async def turns(number: int) -> None:
        for _ in range(number):
            await asyncio.sleep(0)

    for number in range(count // 2):
        yield partial(turns, number)
    for number in range(1, count // 2 + 1):
        yield partial(anyio.sleep, duration * number / (count // 2))


async def _awaited(call: _Call) -> None:
    await call()


@asynccontextmanager
async def _by_scope(call: _Call) -> AsyncGenerator[None]:
    async with anyio.create_task_group() as group:
        group.start_soon(_awaited, call)
        yield
        group.cancel_scope.cancel()


@asynccontextmanager
async def _by_task(call: _Call) -> AsyncGenerator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_awaited(call))
        yield
        task.cancel()


_WAYS = {"by a scope": _by_scope, "by the task": _by_task}


async def _sweep(
    harness: Harness, way: str, call: _Call, *, prepare: _Call, check: _Call, count: int | None = None
) -> None:
    """Cancel ``call`` at each point, and check afterwards that the storage is sound and nothing is borrowed."""
    await prepare()
    began = time.perf_counter()
    await call()
    duration = time.perf_counter() - began
    for wait in _points(count or harness.traits.sweep, duration):
        await prepare()
        with anyio.fail_after(60):
            async with _WAYS[way](call):
                await wait()
        await nothing_borrowed(harness)
        await check()


async def _state(harness: Harness, path: str) -> tuple[bytes, object] | None:
    try:
        async with harness.storage.get(path) as reader:
            return b"".join([chunk async for chunk in reader]), reader.meta.attributes.get("k")
    except NotFoundError:
        return None


_each_way = pytest.mark.parametrize("way", _WAYS)


class CancellationCases:
    """Afterwards an object is whole or absent, and all that was borrowed is back."""

    @_each_way
    async def test_a_cancelled_put_leaves_a_whole_object_or_none(self, harness: Harness, way: str) -> None:
        async def check() -> None:
            assert await _state(harness, "d/object") in {None, (NEW, "new")}

        await _sweep(
            harness,
            way,
            lambda: harness.storage.put("d/object", NEW, attributes={"k": "new"}),
            prepare=lambda: harness.storage.delete("d/object"),
            check=check,
        )

    @_each_way
    async def test_a_cancelled_overwrite_leaves_the_old_or_the_new_object(self, harness: Harness, way: str) -> None:
        async def check() -> None:
            assert await _state(harness, "d/object") in {(OLD, "old"), (NEW, "new")}

        await _sweep(
            harness,
            way,
            lambda: harness.storage.put("d/object", NEW, attributes={"k": "new"}),
            prepare=lambda: harness.storage.put("d/object", OLD, attributes={"k": "old"}),
            check=check,
        )

    @_each_way
    async def test_a_cancelled_delete_leaves_a_whole_object_or_none(self, harness: Harness, way: str) -> None:
        async def check() -> None:
            assert await _state(harness, "d/object") in {None, (OLD, "old")}

        await _sweep(
            harness,
            way,
            lambda: harness.storage.delete("d/object"),
            prepare=lambda: harness.storage.put("d/object", OLD, attributes={"k": "old"}),
            check=check,
        )

    @_each_way
    async def test_cancelled_looks_leave_everything_as_it_is(self, harness: Harness, way: str) -> None:
        async def look() -> None:
            await harness.storage.head("d/object")
            await read(harness.storage, "d/object")
            await entries(harness.storage, "d")
            await entries(harness.storage, recursive=True)

        async def check() -> None:
            assert await _state(harness, "d/object") == (OLD, "old")

        await harness.storage.put("d/object", OLD, attributes={"k": "old"})
        await _sweep(harness, way, look, prepare=anyio.lowlevel.checkpoint, check=check)

    @_each_way
    async def test_a_body_may_be_cancelled_while_it_is_read(self, harness: Harness, way: str) -> None:
        data = noise(2_000_000)
        await harness.storage.put("d/object", data)

        async def follow() -> None:
            target = bytearray(100_000)
            async with harness.storage.get("d/object") as reader:
                while await reader.read_into(memoryview(target)):
                    await anyio.lowlevel.checkpoint()

        async def check() -> None:
            assert await read(harness.storage, "d/object") == data

        await _sweep(harness, way, follow, prepare=anyio.lowlevel.checkpoint, check=check)

    @_each_way
    async def test_a_cancelled_upload_is_aborted(self, harness: Harness, way: str) -> None:
        size = part_size(harness.storage)
        parts = [noise(size, 1), noise(size, 2), noise(9, 3)]

        async def upload() -> None:
            handle = await harness.storage.create_multipart("d/object", part_size=size, attributes={"k": "new"})
            try:
                async with anyio.create_task_group() as group:
                    for number, part in enumerate(parts):
                        group.start_soon(handle.put_part, number, part)
                await handle.complete()
            finally:
                with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                    await handle.abort()

        async def check() -> None:
            assert await _state(harness, "d/object") in {None, (b"".join(parts), "new")}

        await _sweep(harness, way, upload, prepare=lambda: harness.storage.delete("d/object"), check=check)

    @_each_way
    async def test_a_cancelled_batch_leaves_whole_objects(self, harness: Harness, way: str) -> None:
        paths = [f"d/{number}" for number in range(8)]
        items = [PutItem(path, NEW, {"k": path}) for path in paths]

        async def put() -> None:
            if batch := harness.storage.power(SupportsBatch):
                await batch.put_batch(items)
                await batch.get_batch(paths, max_bytes=len(NEW) * 8)
                await batch.head_batch(paths)

        async def prepare() -> None:
            for path in paths:
                await harness.storage.delete(path)

        async def check() -> None:
            for path in paths:
                assert await _state(harness, path) in {None, (NEW, path)}

        await _sweep(harness, way, put, prepare=prepare, check=check)

    @_each_way
    async def test_64_calls_cancelled_at_once_give_everything_back(self, harness: Harness, way: str) -> None:
        async def many() -> None:
            async with anyio.create_task_group() as group:
                for number in range(64):
                    group.start_soon(one, number)

        async def one(number: int) -> None:
            await harness.storage.put(f"d/{number}", OLD, attributes={"k": "old"})
            assert await read(harness.storage, f"d/{number}") == OLD

        async def check() -> None:
            for entry in await entries(harness.storage, "d"):
                state = await _state(harness, entry.path)
                assert state == (OLD, "old") or (state is None and not harness.traits.can("sure listings"))

        await _sweep(harness, way, many, prepare=anyio.lowlevel.checkpoint, check=check, count=6)
