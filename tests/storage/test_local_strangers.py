"""Local storage beside programs that take no locks: Metaflow's own writer, and people who remove directories."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from asyncstore.errors import AlreadyExistsError, StorageUnavailableError
from asyncstore.runtime import Runtime
from asyncstore.storage.base import ObjectReader
from asyncstore.storage.local import LocalStorage
from asyncstore.storage.local_os import OsCalls
from asyncstore.types import Attributes, Durability

OURS: Attributes = {"writer": "ours"}


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    async with Runtime() as runtime:
        yield runtime


class Between(OsCalls):
    """Does something else before the calls of one name, as often as ``times`` says."""

    def __init__(self, name: str, act: Callable[[], None], times: int = 1) -> None:
        super().__init__()
        self.left = times
        call = getattr(self, name)

        def wrapped(*args: object, **options: object) -> object:
            if self.left:
                self.left -= 1
                act()
            return call(*args, **options)

        setattr(self, name, wrapped)


def write_as_metaflow_does(directory: Path, *, sidecar: str | None) -> None:
    """Body first, then the sidecar, each by a rename; no lock."""
    for name, text in (("a", "theirs"), ("a_meta", sidecar)):
        if text is not None:
            (directory / "their.tmp").write_text(text)
            os.rename(directory / "their.tmp", directory / name)


@pytest.mark.parametrize("durability", ["fast", "safe"])
@pytest.mark.parametrize("stale", [None, '{"writer": "stale"}'])
@pytest.mark.parametrize("theirs", [None, '{"writer": "theirs"}'])
@pytest.mark.parametrize("attributes", [None, OURS])
@pytest.mark.parametrize("moment", ["exists", "create", "write", "link"])
async def test_a_create_that_meets_a_writer_without_locks_loses_and_leaves_that_object_its_attributes(
    tmp_path: Path,
    runtime: Runtime,
    durability: Durability,
    stale: str | None,
    theirs: str | None,
    attributes: Attributes | None,
    moment: str,
) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    if stale is not None:
        (directory / "a_meta").write_text(stale)
    calls = Between(moment, lambda: write_as_metaflow_does(directory, sidecar=theirs))
    storage = LocalStorage(tmp_path, runtime=runtime, durability=durability, calls=calls)
    with pytest.raises(AlreadyExistsError):
        await storage.put("d/a", b"ours", attributes=attributes, mode="create")
    assert calls.left == 0
    assert (directory / "a").read_text() == "theirs"
    found = (directory / "a_meta").read_text() if (directory / "a_meta").exists() else None
    # A stale sidecar was there before them; a writer without attributes leaves it, as Metaflow's does.
    assert found == (theirs or stale)
    assert [name for name in os.listdir(directory) if name not in {"a", "a_meta"}] == []
    await storage.aclose()


async def test_writing_goes_on_after_somebody_removed_the_whole_root(tmp_path: Path, runtime: Runtime) -> None:
    for durability in ("fast", "safe"):
        root = tmp_path / durability
        storage = LocalStorage(root, runtime=runtime, durability=durability)
        await storage.put("d/a", b"1", attributes=OURS)
        shutil.rmtree(root)
        assert await storage.head("d/a") is None
        await storage.put("d/a", b"2", attributes=OURS)
        shutil.rmtree(root)
        upload = await storage.create_multipart("d/b", part_size=3)
        await upload.put_part(0, b"3")
        await upload.complete()
        assert (root / "d/b").read_bytes() == b"3"
        await storage.aclose()
        assert os.listdir(root / ".asyncstore/tmp") == []


@pytest.mark.parametrize("moment", ["open_directory", "lock", "exists", "create", "write", "link", "close"])
async def test_a_directory_that_is_removed_during_a_write_is_made_again(
    tmp_path: Path, runtime: Runtime, moment: str
) -> None:
    calls = Between(moment, lambda: shutil.rmtree(tmp_path / "root/d", ignore_errors=True), times=2)
    storage = LocalStorage(tmp_path / "root", runtime=runtime, durability="fast", calls=calls)
    for name in ("a", "b", "c"):
        await storage.put(f"d/{name}", b"1", attributes=OURS, mode="create")
    assert calls.left == 0
    assert (tmp_path / "root/d/c").read_bytes() == b"1"
    await storage.aclose()


async def test_who_always_removes_the_directory_is_named_in_the_end(tmp_path: Path, runtime: Runtime) -> None:
    calls = Between("link", lambda: shutil.rmtree(tmp_path / "root/d"), times=1000)
    storage = LocalStorage(tmp_path / "root", runtime=runtime, durability="fast", calls=calls)
    with pytest.raises(StorageUnavailableError, match=r"root/d/a: .*somebody removes directories"):
        await storage.put("d/a", b"1", mode="create")
    await storage.aclose()


async def test_an_upload_whose_temporary_file_is_gone_says_so(tmp_path: Path, runtime: Runtime) -> None:
    storage = LocalStorage(tmp_path / "root", runtime=runtime, durability="fast")
    upload = await storage.create_multipart("d/a", part_size=3)
    await upload.put_part(0, b"1")
    shutil.rmtree(tmp_path / "root")
    with pytest.raises(StorageUnavailableError, match=r"root/d/a: .*somebody removes"):
        await upload.complete()
    await upload.abort()
    assert await storage.head("d/a") is None
    await storage.aclose()


async def test_a_file_that_is_cut_short_while_it_is_read_is_an_error(tmp_path: Path, runtime: Runtime) -> None:
    storage = LocalStorage(tmp_path, runtime=runtime, durability="fast")
    await storage.put("a", bytes(5 << 20))
    async with storage.get("a") as reader:
        os.truncate(tmp_path / "a", 2 << 20)
        with pytest.raises(Exception, match="ended before its size"):
            await read_on(reader)
    await storage.aclose()


async def read_on(reader: ObjectReader) -> None:
    async for _ in reader:
        pass
