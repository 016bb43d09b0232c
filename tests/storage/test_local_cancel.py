"""Cancels operations on local disk at many steps: no file stays open, and none is left beside the objects."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from asyncstore.runtime import Runtime
from asyncstore.storage.local import LocalStorage
from asyncstore.storage.registry import open_storage
from tests.storage.cancelling import cancel_after

LARGE = os.urandom(9 << 20)
STEPS = [1, 2, 3, 5, 8, 13, 50, 200, 1000]

Operation = Callable[[LocalStorage], Awaitable[object]]


@pytest.fixture
async def storage(scratch: Path) -> AsyncIterator[LocalStorage]:
    async with Runtime() as runtime:
        storage = LocalStorage(scratch / "root", runtime=runtime, durability="fast")
        await storage.put("d/large", LARGE)
        yield storage
        await storage.aclose()


def open_files(root: str) -> list[str]:
    """Return the objects, temporary files and directories of objects that this process has open."""
    names = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)]
    instances = os.path.join(root, ".asyncstore/tmp")
    return [name for name in names if name.startswith(root) and os.path.dirname(name) != instances]


def _is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def temporary_files(root: str) -> list[str]:
    return [name for _, _, names in os.walk(os.path.join(root, ".asyncstore/tmp")) for name in names]


async def get(storage: LocalStorage) -> None:
    async with storage.get("d/large") as reader:
        async for _ in reader:
            await anyio.lowlevel.checkpoint()
        await anyio.sleep_forever()


async def list_all(storage: LocalStorage) -> None:
    async with storage.list("", recursive=True) as entries:
        async for _ in entries:
            await anyio.sleep_forever()


async def put(storage: LocalStorage) -> None:
    await storage.put("d/new", LARGE)
    await anyio.sleep_forever()


async def copy(storage: LocalStorage) -> None:
    await storage.copy_from(storage.copy_source("d/large"), "d/new")
    await anyio.sleep_forever()


@pytest.mark.parametrize("operation", [get, list_all, put, copy])
@pytest.mark.parametrize("native", [False, True], ids=["by a scope", "by the task"])
async def test_a_cancelled_operation_leaves_no_file_open_and_no_temporary_file(
    storage: LocalStorage, operation: Operation, native: bool
) -> None:
    for steps in STEPS:
        await cancel_after(steps, lambda: operation(storage), native=native)
        assert open_files(storage.root) == []
        assert temporary_files(storage.root) == []


async def test_a_storage_whose_block_is_cancelled_removes_its_temporary_directory(scratch: Path) -> None:
    with anyio.CancelScope() as scope:
        async with open_storage(scratch / "root") as storage:
            await storage.put("object", b"content")
            scope.cancel()
    assert os.listdir(scratch / "root/.asyncstore/tmp") == []
