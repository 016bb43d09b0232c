"""What a failing disk does to local storage: one clear error, and nothing half-written."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from asyncstore.errors import AccessDeniedError, StorageError, StorageFullError, StorageUnavailableError
from asyncstore.runtime import Runtime
from asyncstore.storage.base import PutItem
from asyncstore.storage.local import LocalStorage
from asyncstore.types import Durability
from tests.storage.failing import FailingCalls

OLD = (b"old", {"form": "old"})
NEW = (b"newer", {"form": "new"})


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    async with Runtime() as runtime:
        yield runtime


async def write_one(storage: LocalStorage) -> None:
    await storage.put("d/a", NEW[0], attributes=NEW[1])


async def write_many(storage: LocalStorage) -> None:
    await storage.put_batch([PutItem(f"d{n}/a", NEW[0], NEW[1]) for n in range(3)] + [PutItem("d/a", NEW[0], NEW[1])])


async def write_parts(storage: LocalStorage) -> None:
    upload = await storage.create_multipart("d/a", part_size=3, attributes=NEW[1])
    try:
        await upload.put_part(1, NEW[0][3:])
        await upload.put_part(0, NEW[0][:3])
        await upload.complete()
    finally:
        await upload.abort()


async def write_copy(storage: LocalStorage) -> None:
    await storage.copy_from(storage.copy_source("source"), "d/a")


async def fill(storage: LocalStorage, size: int) -> None:
    for number in range(3):
        await storage.put("d/a", bytes(size), attributes={"number": number})


async def state(storage: LocalStorage) -> tuple[bytes, object] | None:
    found = (await storage.get_batch(["d/a"], max_bytes=100))[0]
    return None if found is None else (found.data or b"", found.meta.attributes)


def temporaries(root: str) -> list[str]:
    below = os.path.join(root, ".asyncstore", "tmp")
    return [name for _, _, files in os.walk(below) for name in files]


@pytest.mark.parametrize("durability", ["fast", "safe", "paranoid"])
@pytest.mark.parametrize("write", [write_one, write_many, write_parts, write_copy])
async def test_a_call_that_fails_leaves_the_old_object_or_the_new_or_none_and_no_temporary_file(
    scratch: Path, runtime: Runtime, durability: Durability, write: Callable[[LocalStorage], Awaitable[None]]
) -> None:
    failed: set[str | None] = set()
    for at in range(1000):
        root = scratch / str(at)
        before = LocalStorage(root, runtime=runtime, durability="fast")
        await before.put("d/a", OLD[0], attributes=OLD[1])
        await before.put("source", NEW[0], attributes=NEW[1])
        await before.aclose()
        calls = FailingCalls(at)
        storage = LocalStorage(root, runtime=runtime, durability=durability, calls=calls)
        error: StorageFullError | None = None
        try:
            await write(storage)
        except StorageFullError as raised:
            error = raised
        if error is not None:
            assert "free space" in str(error)
            assert str(root) in str(error)
            assert await state(storage) in (OLD, NEW, None)
            if calls.failed not in {"rename", "link", "unlink", "fsync", "syncfs"}:
                # A full disk shows when something is written, and then the old object is still there.
                assert await state(storage) in (OLD, NEW)
            if calls.failed != "unlink":
                assert temporaries(storage.root) == []
        else:
            assert calls.failed in {None, "unlink"}
        if calls.failed is not None:
            await write(storage)
        assert await state(storage) == NEW
        assert temporaries(storage.root) == []
        await storage.aclose()
        if calls.failed is None:
            break
        failed.add(calls.failed)
    assert failed >= {"create", "rename"}


async def test_a_deletion_that_fails_leaves_the_object_with_its_attributes_or_none(
    scratch: Path, runtime: Runtime
) -> None:
    for at, code in enumerate([errno.EIO] * 4):
        storage = LocalStorage(scratch / str(at), runtime=runtime, durability="safe")
        await storage.put("d/a", OLD[0], attributes=OLD[1])
        failing = LocalStorage(storage.root, runtime=runtime, durability="safe", calls=FailingCalls(at, code))
        with pytest.raises(StorageError, match="check the disk"):
            await failing.delete("d/a")
        assert await state(storage) in (OLD, None)
        await failing.delete("d/a")
        assert os.listdir(os.path.join(storage.root, "d")) == []
        await storage.aclose()


@pytest.fixture
def small_disk(scratch: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    mount = scratch / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)


# Mounting needs root; for others the limit on file sizes and the scripted errors show the same.
if os.geteuid() == 0 and sys.platform == "linux":

    async def test_a_full_disk_is_named_and_keeps_what_it_holds(small_disk: Path, runtime: Runtime) -> None:
        storage = LocalStorage(small_disk / "root", runtime=runtime, durability="safe")
        await storage.put("d/a", OLD[0], attributes=OLD[1])
        for size in (900 << 10, 2 << 20, 20 << 20):
            with pytest.raises(StorageFullError, match="d/a: No space left on device; free space"):
                await fill(storage, size)
            await storage.put("d/a", OLD[0], attributes=OLD[1])
        assert await state(storage) == OLD
        assert temporaries(storage.root) == []
        await storage.aclose()

    async def test_a_read_only_file_system_is_named(small_disk: Path, runtime: Runtime) -> None:
        storage = LocalStorage(small_disk / "root", runtime=runtime, durability="fast")
        await storage.put("d/a", OLD[0], attributes=OLD[1])
        await storage.aclose()
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        assert await state(storage) == OLD
        assert await storage.head("d/missing") is None
        writes: list[Callable[[], Awaitable[object]]] = [
            lambda: storage.put("d/b", b"1"),
            lambda: storage.delete("d/a"),
            lambda: storage.create_multipart("d/b", part_size=1),
        ]
        for write in writes:
            with pytest.raises(AccessDeniedError, match=f"{storage.root}/d/[ab]: .*writable"):
                await write()


async def test_a_limit_on_file_sizes_is_named(scratch: Path, runtime: Runtime) -> None:
    storage = LocalStorage(scratch, runtime=runtime, durability="fast")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        for size in (2 << 20, 20 << 20):
            with pytest.raises(StorageFullError, match=r"d/a: File too large; .*ulimit -f"):
                await storage.put("d/a", bytes(size))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert temporaries(storage.root) == []
    await storage.aclose()


async def test_a_file_in_place_of_the_root_is_named(scratch: Path, runtime: Runtime) -> None:
    (scratch / "root").write_bytes(b"")
    storage = LocalStorage(scratch / "root", runtime=runtime)
    for call in (storage.put("a", b"1"), storage.head("a"), storage.delete("a")):
        with pytest.raises(StorageError, match="root"):
            await call


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.EACCES, AccessDeniedError),
        (errno.EPERM, AccessDeniedError),
        (errno.EROFS, AccessDeniedError),
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.ENAMETOOLONG, StorageError),
        (errno.EMFILE, StorageUnavailableError),
        (errno.ESTALE, StorageUnavailableError),
        (errno.EIO, StorageError),
        (errno.EXDEV, StorageError),
    ],
)
async def test_an_error_of_the_system_is_translated_once(
    scratch: Path, runtime: Runtime, code: int, kind: type[StorageError]
) -> None:
    calls = FailingCalls(0, code, frozenset({"rename"}))
    storage = LocalStorage(scratch, runtime=runtime, durability="fast", calls=calls)
    with pytest.raises(StorageError) as caught:
        await storage.put("d/a", b"1")
    assert type(caught.value) is kind
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.where == f"{scratch}/d/a"
    assert f"cannot put {scratch}/d/a: {os.strerror(code)}; " in str(caught.value)
    await storage.aclose()


async def test_where_there_are_no_hard_links_a_create_still_finds_what_is_there(
    scratch: Path, runtime: Runtime
) -> None:
    for at in range(2):
        storage = LocalStorage(
            scratch, runtime=runtime, durability="fast", calls=FailingCalls(0, errno.EPERM, frozenset({"link"}))
        )
        wrote = await storage.put_batch([PutItem("a", b"%d" % at, {"at": at})], mode="create")
        assert (wrote[0] is not None) == (at == 0)
        await storage.aclose()
    assert temporaries(str(scratch)) == []


async def test_a_copy_without_hard_links_has_bytes_of_its_own(scratch: Path, runtime: Runtime) -> None:
    for code in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
        calls = FailingCalls(0, code, frozenset({"link"}))
        storage = LocalStorage(scratch, runtime=runtime, durability="fast", calls=calls)
        await storage.put("a", b"1" * 100_000, attributes=OLD[1])
        meta = await storage.copy_from(storage.copy_source("a"), f"copy{code}")
        assert meta is not None
        assert calls.failed == "link"
        assert os.stat(scratch / "a").st_nlink == 1
        assert (scratch / f"copy{code}").read_bytes() == b"1" * 100_000
        assert meta.attributes == OLD[1]
        await storage.aclose()


async def test_a_disk_that_gives_back_other_bytes_publishes_nothing_when_paranoid(
    scratch: Path, runtime: Runtime
) -> None:
    class Forgetful(FailingCalls):
        def pread(self, fd: int, size: int, offset: int) -> bytes:
            return super().pread(fd, size, offset)[:-1] + b"?"

    storage = LocalStorage(scratch, runtime=runtime, durability="paranoid", calls=Forgetful(-1))
    for write in (write_one, write_parts):
        with pytest.raises(Exception, match="gives back other bytes"):
            await write(storage)
        assert await storage.head("d/a") is None
    assert temporaries(str(scratch)) == []
    await storage.aclose()
