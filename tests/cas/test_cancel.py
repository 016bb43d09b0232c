"""Cancels each operation of the store after many numbers of turns of the loop, in both ways that there are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.layout import split_blob_path
from asyncstore.runtime import Runtime
from asyncstore.storage.memory import MemoryStorage
from tests.cas.content import Chunks, compressible, key_of, random_bytes

Operation = Callable[[ContentAddressedStore, Path], Awaitable[object]]

CONTENTS = [compressible(700), random_bytes(700), random_bytes(300_000), compressible(4_500_000)]
TURNS = [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 100, 300, 1000, 3000]


async def save(store: ContentAddressedStore, directory: Path) -> None:
    await store.save_blobs([*CONTENTS, *CONTENTS, directory / "file", Chunks(random_bytes(5_000_000))])


async def load(store: ContentAddressedStore, directory: Path) -> None:
    async with store.load_blobs([key_of(content) for content in CONTENTS] * 3) as blobs:
        async for _ in blobs:
            await anyio.lowlevel.checkpoint()


async def load_one(store: ContentAddressedStore, directory: Path) -> None:
    for content in CONTENTS:
        await store.load_blob(key_of(content))


async def stream(store: ContentAddressedStore, directory: Path) -> None:
    for content in CONTENTS:
        async with store.open_blob(key_of(content)) as chunks:
            async for _ in chunks:
                pass


async def verify(store: ContentAddressedStore, directory: Path) -> None:
    async with store.verify_blobs([key_of(content) for content in CONTENTS]) as statuses:
        async for _ in statuses:
            pass
    await store.missing([key_of(content) for content in CONTENTS])


async def cancel_with_anyio(work: Awaitable[object], turns: int) -> bool:
    finished = False

    async def run() -> None:
        nonlocal finished
        await work
        finished = True

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    return finished


async def cancel_with_asyncio(work: Awaitable[object], turns: int) -> bool:
    task = asyncio.ensure_future(work)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return False
    return True


@pytest.mark.parametrize("operation", [save, load, load_one, stream, verify])
@pytest.mark.parametrize("cancel", [cancel_with_anyio, cancel_with_asyncio])
async def test_a_cancelled_operation_leaves_nothing_borrowed_open_or_half_written(
    storage: MemoryStorage, runtime: Runtime, tmp_path: Path, operation: Operation, cancel
) -> None:
    (tmp_path / "file").write_bytes(random_bytes(200_000))
    cancelled = 0
    for turns in TURNS:
        store = ContentAddressedStore(f"{turns}/data", storage)
        if operation is not save:
            await store.save_blobs(CONTENTS)
        cancelled += not await cancel(operation(store, tmp_path), turns)
        assert runtime.memory.used == 0
        assert runtime.requests.available == runtime.limits.requests
        async with storage.list(f"{turns}/data", recursive=True) as entries:
            found = [split_blob_path(entry.path) async for entry in entries]
        keys = [key for _, key in filter(None, found)]
        assert len(keys) == len(found)
        async with ContentAddressedStore(f"{turns}/data", storage).verify_blobs(keys) as statuses:
            assert all([status.ok async for status in statuses])
        if operation is save:
            with anyio.fail_after(20):  # nobody waits for a flight that was cancelled
                await operation(store, tmp_path)
    assert cancelled >= 3, "the sweep must reach into the operation"
