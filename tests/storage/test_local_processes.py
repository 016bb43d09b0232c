"""Local storage in the hands of several processes, some of which die or fork."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

import anyio
import pytest

from asyncstore.errors import StorageTimeoutError
from asyncstore.runtime import Runtime
from asyncstore.storage import local_lock
from asyncstore.storage.base import PutItem
from asyncstore.storage.local import LocalStorage
from asyncstore.storage.local_os import OsCalls
from asyncstore.types import Limits, WriteMode

ROUNDS = 20
OBJECTS = 200
PATHS = [f"F/data/{n % 16:02x}/{n}" for n in range(OBJECTS)]


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    async with Runtime() as runtime:
        yield runtime


async def write_rounds(root: str, writer: int, turn: Barrier, mode: WriteMode) -> None:
    async with Runtime(Limits(threads=2)) as runtime:
        storage = LocalStorage(root, runtime=runtime, durability="fast")
        for number in range(ROUNDS):
            below = number if mode == "create" else 0
            items = [PutItem(f"{below}/{path}", b"%d" % writer * 50, {"writer": writer}) for path in PATHS]
            turn.wait(60)
            for start in range(0, OBJECTS, 20):
                await storage.put_batch(items[start : start + 20], mode=mode)
        await storage.aclose()


def run_writer(root: str, writer: int, turn: Barrier, mode: WriteMode) -> None:
    anyio.run(write_rounds, root, writer, turn, mode)


def check_pair(data: bytes | None, attributes: object) -> int:
    assert data in (b"0" * 50, b"1" * 50)
    writer = int(data[:1])
    assert attributes == {"writer": writer}
    return writer


async def test_of_two_processes_that_create_the_same_objects_one_wins_body_and_sidecar(
    scratch: Path, runtime: Runtime
) -> None:
    context = multiprocessing.get_context("spawn")
    turn = context.Barrier(2)
    writers = [
        context.Process(target=run_writer, args=(str(scratch / "root"), writer, turn, "create")) for writer in range(2)
    ]
    for process in writers:
        process.start()
    for process in writers:
        await anyio.to_thread.run_sync(process.join)
        assert process.exitcode == 0
    storage = LocalStorage(scratch / "root", runtime=runtime)
    won = [0, 0]
    for number in range(ROUNDS):
        for found in await storage.get_batch([f"{number}/{path}" for path in PATHS], max_bytes=1 << 20):
            assert found is not None
            won[check_pair(found.data, found.meta.attributes)] += 1
    assert min(won) > 0, "the writers never met; this shows nothing"


async def test_readers_see_one_writer_or_the_other_and_never_nothing_while_two_processes_overwrite(
    scratch: Path, runtime: Runtime
) -> None:
    context = multiprocessing.get_context("spawn")
    turn = context.Barrier(2)
    storage = LocalStorage(scratch / "root", runtime=runtime, durability="fast")
    await storage.put_batch([PutItem(f"0/{path}", b"0" * 50, {"writer": 0}) for path in PATHS])
    writers = [
        context.Process(target=run_writer, args=(str(scratch / "root"), writer, turn, "overwrite"))
        for writer in range(2)
    ]
    for process in writers:
        process.start()
    seen = [0, 0]
    while any(process.is_alive() for process in writers):
        for found in await storage.get_batch([f"0/{path}" for path in PATHS], max_bytes=1 << 20):
            assert found is not None
            seen[check_pair(found.data, found.meta.attributes)] += 1
        for head in await storage.head_batch([f"0/{path}" for path in PATHS]):
            assert head is not None
    assert [process.exitcode for process in writers] == [0, 0]
    assert min(seen) > 0, "no change was ever seen; this shows nothing"
    await storage.aclose()


DIES = """
import asyncio, os, signal, sys
from asyncstore.runtime import Runtime
from asyncstore.storage.local import LocalStorage

async def main():
    storage = LocalStorage(sys.argv[1], runtime=Runtime(), durability="fast")
    await storage.put("kept", b"kept", attributes={"n": 1})
    upload = await storage.create_multipart("lost", part_size=1000)
    await upload.put_part(0, bytes(1000))
    print("ready", flush=True)
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
    await upload.complete()

asyncio.run(main())
"""


async def test_the_next_writer_removes_what_the_dead_left_and_not_what_belongs_to_the_living(
    tmp_path: Path, runtime: Runtime
) -> None:
    def start(fate: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", DIES, str(tmp_path), fate], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    # The living first: the dead one must not take it for dead, nor the next writer.
    living = start("live")
    with start("die") as dead:
        assert dead.wait() == -signal.SIGKILL
    instances = os.listdir(tmp_path / ".asyncstore/tmp")
    assert sorted(name.split("-")[0] for name in instances) == sorted([str(living.pid), str(dead.pid)])
    storage = LocalStorage(tmp_path, runtime=runtime, durability="fast")
    await storage.put("next", b"1")
    owners = {name.split("-")[0] for name in os.listdir(tmp_path / ".asyncstore/tmp")}
    assert owners == {str(living.pid), str(os.getpid())}
    with living:
        await anyio.to_thread.run_sync(living.communicate, b"")
        assert living.returncode == 0
    meta = await storage.head("lost")
    assert meta is not None
    assert meta.size == 1000
    await storage.aclose()
    assert os.listdir(tmp_path / ".asyncstore/tmp") == []


async def test_a_storage_works_on_both_sides_of_a_fork(tmp_path: Path, runtime: Runtime) -> None:
    storage = LocalStorage(tmp_path, runtime=runtime, durability="fast")
    await storage.put("before", b"1", attributes={"n": 1})
    upload = await storage.create_multipart("parent", part_size=10)
    script = f"""
import asyncio, os, sys
from asyncstore.runtime import Runtime
from asyncstore.storage.local import LocalStorage

storage = LocalStorage({str(tmp_path)!r}, runtime=Runtime(), durability="fast")

async def work(name):
    await storage.put(name, name.encode(), attributes={{"by": name}})
    assert (await storage.head("before")).attributes == {{"n": 1}}

asyncio.run(work("a"))
children = []
for name in ("b", "c"):
    pid = os.fork()
    if pid == 0:
        asyncio.run(work(name))
        asyncio.run(storage.aclose())
        os._exit(0)
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
asyncio.run(work("d"))
"""
    await anyio.run_process([sys.executable, "-W", "error", "-c", script], check=True)
    await upload.put_part(0, b"mine")
    await upload.complete()
    found = await storage.get_batch(["a", "b", "c", "d", "parent"], max_bytes=100)
    assert [stored and stored.data for stored in found] == [b"a", b"b", b"c", b"d", b"mine"]
    await storage.aclose()
    # The script did not close its storage; the end of its process did.
    assert os.listdir(tmp_path / ".asyncstore/tmp") == []


async def test_a_child_forked_while_a_lock_is_held_does_not_keep_it(tmp_path: Path, runtime: Runtime) -> None:
    children: list[subprocess.Popen[bytes]] = []

    class Forking(OsCalls):
        def rename(self, source: str, source_fd: int, name: str, dir_fd: int) -> None:
            if not children:
                children.append(subprocess.Popen(["sleep", "60"], pass_fds=(dir_fd,)))
            super().rename(source, source_fd, name, dir_fd)

    storage = LocalStorage(tmp_path, runtime=runtime, durability="fast", calls=Forking())
    try:
        await storage.put("d/a", b"1")
        assert children
        with anyio.fail_after(10):
            await LocalStorage(tmp_path, runtime=runtime, durability="fast").put("d/b", b"2")
    finally:
        for child in children:
            child.kill()
            await anyio.to_thread.run_sync(child.wait)
        await storage.aclose()


async def test_who_holds_a_lock_for_too_long_is_an_error_that_names_the_directory(
    tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_lock, "LOCK_SECONDS", 0.05)
    storage = LocalStorage(tmp_path, runtime=runtime, durability="fast")
    await storage.put("d/a", b"1", attributes={"n": 1})
    calls = OsCalls()
    fd = calls.open_directory(str(tmp_path / "d"), None, follow=False)
    assert calls.lock(fd, shared=False)
    try:
        with pytest.raises(StorageTimeoutError, match=f"{tmp_path}/d/a: another writer.* stopped"):
            await storage.put("d/a", b"2")
        assert await storage.head("d/a") is not None
    finally:
        calls.close(fd)
    await storage.put("d/a", b"2")
    await storage.aclose()


async def test_lock_files_do_where_directories_cannot_be_locked(
    scratch: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context("spawn")
    turn = context.Barrier(2)
    writers = [
        context.Process(target=run_writer_without_flock, args=(str(scratch / "root"), writer, turn))
        for writer in range(2)
    ]
    for process in writers:
        process.start()
    for process in writers:
        await anyio.to_thread.run_sync(process.join)
        assert process.exitcode == 0
    storage = LocalStorage(scratch / "root", runtime=runtime)
    for found in await storage.get_batch([f"0/{path}" for path in PATHS], max_bytes=1 << 20):
        assert found is not None
        check_pair(found.data, found.meta.attributes)
    assert os.listdir(scratch / "root/.asyncstore/locks") == []


class NoDirectoryLocks(OsCalls):
    """A file system that answers a lock on a directory as NFS does."""

    def lock(self, fd: int, *, shared: bool) -> bool:
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            raise OSError(9, "Bad file descriptor")
        return super().lock(fd, shared=shared)


def run_writer_without_flock(root: str, writer: int, turn: Barrier) -> None:
    async def work() -> None:
        async with Runtime() as runtime:
            storage = LocalStorage(root, runtime=runtime, durability="fast", calls=NoDirectoryLocks())
            turn.wait(60)
            for _ in range(3):
                items = [PutItem(f"0/{path}", b"%d" % writer * 50, {"writer": writer}) for path in PATHS]
                await storage.put_batch(items)
            await storage.aclose()

    anyio.run(work)
