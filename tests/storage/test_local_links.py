"""Symbolic and hard links in and around local storage."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from asyncstore.errors import AlreadyExistsError, ObjectNotFoundError, StorageError
from asyncstore.runtime import Runtime
from asyncstore.storage.base import CopySource
from asyncstore.storage.local import LocalStorage
from asyncstore.types import Durability


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    async with Runtime() as runtime:
        yield runtime


async def names(storage: LocalStorage, prefix: str = "") -> set[str]:
    async with storage.list(prefix, recursive=True) as entries:
        return {entry.path async for entry in entries}


async def read(storage: LocalStorage, path: str) -> bytes:
    async with storage.get(path) as reader:
        return b"".join([piece async for piece in reader])


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A root with a link to a directory elsewhere, and one to a file in it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a").write_bytes(b"secret")
    (elsewhere / "a_meta").write_text('{"x": 1}')
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (root / "d" / "directory").symlink_to(elsewhere)
    (root / "d" / "file").symlink_to(elsewhere / "a")
    return root


@pytest.mark.parametrize("path", ["d/file", "d/directory/a", "d/directory/sub/b"])
async def test_a_link_is_refused_wherever_it_is_in_a_path(linked: Path, runtime: Runtime, path: str) -> None:
    storage = LocalStorage(linked, runtime=runtime, durability="safe")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: storage.head(path),
        lambda: read(storage, path),
        lambda: storage.put(path, b"1"),
        lambda: storage.put(path, b"1", mode="create"),
        lambda: storage.copy_from(CopySource("local", f"{linked}/../elsewhere/a"), path),
    ]
    for call in calls:
        with pytest.raises(StorageError, match="symbolic link; open the storage with follow_symlinks=True"):
            await call()
    if path != "d/file":
        with pytest.raises(StorageError, match="symbolic link"):
            await storage.delete(path)
    assert sorted(os.listdir(linked / "../elsewhere")) == ["a", "a_meta"]
    await storage.aclose()


async def test_a_listing_does_not_leave_out_what_is_behind_a_link_in_silence(linked: Path, runtime: Runtime) -> None:
    storage = LocalStorage(linked, runtime=runtime)
    for prefix in ("", "d", "d/directory"):
        with pytest.raises(StorageError, match="symbolic link"):
            await names(storage, prefix)


async def test_links_are_followed_when_asked_for(linked: Path, runtime: Runtime) -> None:
    storage = LocalStorage(linked, runtime=runtime, follow_symlinks=True)
    assert await names(storage) == {"d/directory/a", "d/file"}
    for path in ("d/directory/a", "d/file"):
        assert await read(storage, path) == b"secret"
    meta = await storage.head("d/directory/a")
    assert meta is not None
    assert meta.attributes == {"x": 1}
    await storage.put("d/directory/b", b"1", attributes={"y": 2})
    assert (linked / "../elsewhere/b").read_bytes() == b"1"
    (linked / "gone").symlink_to("nowhere")
    assert await names(storage) == {"d/directory/a", "d/directory/b", "d/file"}
    await storage.aclose()


async def test_links_that_lead_in_a_circle_are_an_error(tmp_path: Path, runtime: Runtime) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / one).mkdir()
        (tmp_path / one / "on").symlink_to(tmp_path / other)
    storage = LocalStorage(tmp_path, runtime=runtime, follow_symlinks=True)
    with pytest.raises(StorageError, match="circle"):
        await names(storage)


async def test_the_root_itself_may_be_a_link(tmp_path: Path, runtime: Runtime) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to("real")
    storage = LocalStorage(tmp_path / "root", runtime=runtime, durability="safe")
    await storage.put("a/b", b"1")
    assert (tmp_path / "real/a/b").read_bytes() == b"1"
    await storage.aclose()


async def test_a_named_pipe_or_a_socket_is_no_object_and_keeps_nobody_waiting(tmp_path: Path, runtime: Runtime) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.mknod(tmp_path / "socket", stat.S_IFSOCK | 0o600)
    storage = LocalStorage(tmp_path, runtime=runtime)
    for path in ("pipe", "socket"):
        assert await storage.head(path) is None
        with pytest.raises(ObjectNotFoundError):
            await read(storage, path)
    assert await names(storage) == set()


@pytest.mark.parametrize("durability", ["fast", "safe"])
async def test_a_copy_is_a_link_that_later_writes_leave_alone(
    tmp_path: Path, runtime: Runtime, durability: Durability
) -> None:
    source = LocalStorage(tmp_path / "source", runtime=runtime, durability=durability)
    target = LocalStorage(tmp_path / "target", runtime=runtime, durability=durability)
    await source.put("a", b"first", attributes={"n": 1})
    meta = await target.copy_from(source.copy_source("a"), "d/b")
    assert meta == await target.head("d/b")
    assert meta is not None
    assert meta.attributes == {"n": 1}
    assert os.path.samefile(tmp_path / "source/a", tmp_path / "target/d/b")
    await source.put("a", b"second", attributes={"n": 1})
    upload = await source.create_multipart("a", part_size=10)
    await upload.put_part(0, b"third")
    await upload.complete()
    assert await read(target, "d/b") == b"first"
    with pytest.raises(AlreadyExistsError):
        await target.copy_from(source.copy_source("a"), "d/b", mode="create")
    await target.copy_from(source.copy_source("a"), "d/b")
    assert await read(target, "d/b") == b"third"
    again = await target.copy_from(target.copy_source("d/b"), "d/b")
    assert again is not None
    assert again.attributes == {}
    with pytest.raises(ObjectNotFoundError):
        await target.copy_from(source.copy_source("missing"), "d/c")
    with pytest.raises(ObjectNotFoundError):
        await target.copy_from(CopySource("local", str(tmp_path / "no/such")), "d/c")
    assert await target.copy_from(CopySource("s3", "s3://bucket/a"), "d/c") is None
    assert await names(target) == {"d/b"}
    for storage in (source, target):
        await storage.aclose()
    assert os.listdir(tmp_path / "target/.asyncstore/tmp") == []


async def test_a_copy_into_a_store_with_another_file_mode_is_no_link(tmp_path: Path, runtime: Runtime) -> None:
    source = LocalStorage(tmp_path / "source", runtime=runtime, durability="fast", file_mode=0o600)
    target = LocalStorage(tmp_path / "target", runtime=runtime, durability="fast", file_mode=0o640)
    await source.put("a", b"body", attributes={"n": 1})
    await target.copy_from(source.copy_source("a"), "a")
    assert stat.S_IMODE(os.stat(tmp_path / "source/a").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(tmp_path / "target/a").st_mode) == 0o640
    assert await read(target, "a") == b"body"
    for storage in (source, target):
        await storage.aclose()
