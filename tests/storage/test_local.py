"""What is particular to local disk; the contract that all backends share is the conformance suite's."""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from asyncstore.errors import AlreadyExistsError, ConfigError, IntegrityError, ObjectNotFoundError, StorageError
from asyncstore.runtime import Runtime
from asyncstore.storage.base import PutItem, SupportsBatch, SupportsCopy
from asyncstore.storage.local import LocalStorage
from asyncstore.types import ByteRange, Durability, WriteMode


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    async with Runtime() as runtime:
        yield runtime


@pytest.fixture
async def storage(tmp_path: Path, runtime: Runtime) -> AsyncIterator[LocalStorage]:
    storage = LocalStorage(tmp_path / "root", runtime=runtime, durability="fast")
    yield storage
    await storage.aclose()


async def read(storage: LocalStorage, path: str, **options: object) -> bytes:
    async with storage.get(path, **options) as reader:  # type: ignore[arg-type]  # options of one call
        return b"".join([piece async for piece in reader])


async def names(storage: LocalStorage, prefix: str = "", *, recursive: bool = True) -> set[str]:
    async with storage.list(prefix, recursive=recursive) as entries:
        return {entry.path async for entry in entries}


def open_files() -> set[str]:
    found: set[str] = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            continue
    return found


async def test_nothing_is_created_before_the_first_write(storage: LocalStorage) -> None:
    assert await storage.head("a/b") is None
    assert await names(storage) == set()
    await storage.delete("a/b")
    assert not os.path.exists(storage.root)


async def test_a_body_and_its_sidecar_are_the_files_that_metaflow_reads(storage: LocalStorage) -> None:
    await storage.put("F/data/ab/abc", b"body", attributes={"cas_raw": False, "näme": [1, None]})
    directory = Path(storage.root, "F/data/ab")
    assert (directory / "abc").read_bytes() == b"body"
    assert (directory / "abc_meta").read_text() == json.dumps({"cas_raw": False, "näme": [1, None]})
    assert sorted(os.listdir(directory)) == ["abc", "abc_meta"]


async def test_what_metaflow_wrote_comes_back_with_its_attributes(storage: LocalStorage) -> None:
    directory = Path(storage.root, "F/data/ab")
    directory.mkdir(parents=True)
    (directory / "abc").write_bytes(b"body")
    (directory / "abc_meta").write_text('{"cas_raw": true, "cas_version": 1}')
    meta = await storage.head("F/data/ab/abc")
    assert meta is not None
    assert meta.attributes == {"cas_raw": True, "cas_version": 1}
    assert await names(storage) == {"F/data/ab/abc"}


@pytest.mark.parametrize("durability", ["fast", "safe", "paranoid"])
async def test_every_durability_writes_replaces_and_deletes(
    tmp_path: Path, runtime: Runtime, durability: Durability
) -> None:
    storage = LocalStorage(tmp_path / "deep" / "root", runtime=runtime, durability=durability)
    items = [PutItem(f"d{n % 7}/{n}", b"%d" % n, {"n": n} if n % 2 else None) for n in range(40)]
    assert all(await storage.put_batch(items, mode="create"))
    assert not any(await storage.put_batch(items, mode="create"))
    await storage.put("d0/0", b"again", attributes={"n": 0})
    await storage.put("d1/1", b"plain")
    for n, (path, data, attributes) in enumerate([("d0/0", b"again", {"n": 0}), ("d1/1", b"plain", {})]):
        found = (await storage.get_batch([path], max_bytes=100))[0]
        assert found is not None, n
        assert (found.data, found.meta.attributes) == (data, attributes)
    for item in items:
        await storage.delete(item.path)
    assert await names(storage) == set()
    assert not [file for _, _, files in os.walk(storage.root) for file in files]
    await storage.aclose()


async def test_a_put_without_attributes_removes_a_stale_sidecar(storage: LocalStorage) -> None:
    await storage.put("a", b"1", attributes={"x": 1})
    os.unlink(os.path.join(storage.root, "a"))
    await storage.put("a", b"2", mode="create")
    meta = await storage.head("a")
    assert meta is not None
    assert meta.attributes == {}
    assert not os.path.exists(os.path.join(storage.root, "a_meta"))


async def test_a_stale_sidecar_is_replaced_by_a_create(storage: LocalStorage) -> None:
    await storage.put("a", b"1", attributes={"x": 1})
    os.unlink(os.path.join(storage.root, "a"))
    await storage.put("a", b"2", attributes={"x": 2}, mode="create")
    meta = await storage.head("a")
    assert meta is not None
    assert meta.attributes == {"x": 2}


async def test_one_path_twice_in_a_batch_is_written_in_turn(storage: LocalStorage) -> None:
    twice = [PutItem("a", b"1", {"n": 1}), PutItem("a", b"2", {"n": 2})]
    first, second = await storage.put_batch(twice, mode="create")
    assert first is not None
    assert second is None
    await storage.put_batch(twice)
    assert await read(storage, "a") == b"2"


async def test_a_sidecar_that_is_no_json_is_an_error_that_names_it(storage: LocalStorage) -> None:
    await storage.put("a", b"1", attributes={"x": 1})
    Path(storage.root, "a_meta").write_text("{")
    with pytest.raises(IntegrityError, match="a_meta"):
        await storage.head("a")
    await storage.put("a", b"1", attributes={"x": 1})
    assert await read(storage, "a") == b"1"


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 5_000_001])
async def test_ranges_of_small_and_of_streamed_bodies_have_their_ends(storage: LocalStorage, size: int) -> None:
    data = os.urandom(size)
    await storage.put("a", data)
    assert await read(storage, "a") == data
    for start, stop in [(0, 1), (1, None), (size // 2, size + 1), (size, None), (size + 5, size + 9), (0, size + 9)]:
        assert await read(storage, "a", byte_range=ByteRange(start, stop)) == data[start:stop]
    target = bytearray(size + 3)
    async with storage.get("a") as reader:
        assert await reader.read_into(memoryview(target)) == size
        assert await reader.read_into(memoryview(target)) == 0
    assert target[:size] == data


async def test_no_descriptor_stays_open(storage: LocalStorage) -> None:
    await storage.put("a", os.urandom(3 << 20))
    async with storage.get("a") as reader:
        async for _ in reader:
            break
    async with storage.list("", recursive=True) as entries:
        async for _ in entries:
            break
    upload = await storage.create_multipart("b", part_size=10)
    await upload.abort()
    await storage.aclose()
    assert not {name for name in open_files() if name.startswith(storage.root)}


async def test_file_mode_is_given_to_body_and_sidecar(tmp_path: Path, runtime: Runtime) -> None:
    old = os.umask(0o027)
    try:
        default = LocalStorage(tmp_path / "default", runtime=runtime, durability="fast")
        shared = LocalStorage(tmp_path / "shared", runtime=runtime, durability="fast", file_mode=0o664)
        for storage, mode in ((default, 0o640), (shared, 0o664)):
            await storage.put("a", b"1", attributes={"x": 1})
            upload = await storage.create_multipart("b", part_size=1)
            await upload.put_part(0, b"1")
            await upload.complete()
            for name in ("a", "a_meta", "b"):
                assert stat.S_IMODE(os.stat(os.path.join(storage.root, name)).st_mode) == mode, name
            await storage.aclose()
    finally:
        os.umask(old)


async def test_wrong_options_are_refused_when_the_storage_is_made(tmp_path: Path, runtime: Runtime) -> None:
    with pytest.raises(ConfigError, match="durability"):
        LocalStorage(tmp_path, runtime=runtime, durability="none")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="file mode"):
        LocalStorage(tmp_path, runtime=runtime, file_mode=0o1777)


async def test_a_pickled_storage_has_its_configuration_and_a_runtime_of_its_own(tmp_path: Path) -> None:
    async with Runtime() as runtime:
        storage = LocalStorage(tmp_path, runtime=runtime, durability="fast", file_mode=0o600, type_name="spin")
        await storage.put("a", b"1", attributes={"x": 1})
        copy: LocalStorage = pickle.loads(pickle.dumps(storage))
        async with copy.runtime:
            assert copy.runtime is not runtime
            assert (copy.root, copy.TYPE) == (storage.root, "spin")
            assert await read(copy, "a") == b"1"
            await copy.put("b", b"2")
            assert stat.S_IMODE(os.stat(tmp_path / "b").st_mode) == 0o600
            await copy.aclose()
        await storage.aclose()


async def test_abilities_are_reached_by_power(storage: LocalStorage) -> None:
    assert storage.power(SupportsBatch) is storage
    assert storage.power(SupportsCopy) is storage
    assert storage.power(LocalStorage) is None


async def test_a_path_is_never_both_object_and_directory(storage: LocalStorage) -> None:
    await storage.put("a", b"1")
    await storage.put("d/e", b"1")
    with pytest.raises(StorageError, match="never both"):
        await storage.put("a/b", b"2")
    modes: list[WriteMode] = ["create", "overwrite"]
    for mode in modes:
        with pytest.raises(StorageError, match="never both") as caught:
            await storage.put("d", b"2", mode=mode)
        assert not isinstance(caught.value, AlreadyExistsError)
    await storage.delete("d")
    assert await names(storage) == {"a", "d/e"}
    assert await storage.head("a/b") is None
    with pytest.raises(ObjectNotFoundError):
        await read(storage, "a/b")


async def test_directories_without_objects_give_way_to_an_object(storage: LocalStorage) -> None:
    await storage.put("d/e/f", b"1")
    await storage.delete("d/e/f")
    await storage.put("d", b"2", mode="create")
    assert await names(storage) == {"d"}


async def test_a_directory_that_ends_in_meta_is_listed_and_is_no_sidecar(storage: LocalStorage) -> None:
    await storage.put("a_meta/b", b"1")
    await storage.put("a", b"2")
    assert await names(storage) == {"a_meta/b", "a"}
    assert await names(storage, recursive=False) == {"a_meta", "a"}
    assert await read(storage, "a") == b"2"
    with pytest.raises(StorageError, match="a_meta"):
        await storage.put("a", b"2", attributes={"x": 1})


async def test_metadata_and_reserved_directories_are_hidden(storage: LocalStorage) -> None:
    await storage.put("F/1/a", b"1", attributes={"x": 1})
    os.makedirs(os.path.join(storage.root, "F/_meta"))
    os.makedirs(os.path.join(storage.root, "G/_meta"))
    for path in ("F/_meta/_self.json", "G/_meta/_self.json"):
        Path(storage.root, path).write_text("{}")
    assert os.path.exists(os.path.join(storage.root, ".asyncstore"))
    assert await names(storage) == {"F/1/a"}
    assert await names(storage, recursive=False) == {"F"}


async def test_large_and_small_writes_of_every_kind_keep_off_the_loop(tmp_path: Path, runtime: Runtime) -> None:
    # The fixture that watches all tests fails this one where a call blocks.
    storage = LocalStorage(tmp_path / "root", runtime=runtime, durability="paranoid")
    for size in (10, 3 << 20, 20 << 20):
        await storage.put("d/a", bytes(size), attributes={"size": size})
        assert await read(storage, "d/a") == bytes(size)
    await storage.put_batch([PutItem(f"d/{n}", b"1", {"n": n}) for n in range(30)])
    assert len(await names(storage)) == 31
    upload = await storage.create_multipart("e", part_size=10)
    await upload.put_part(0, b"1")
    await upload.complete()
    await storage.copy_from(storage.copy_source("e"), "f")
    await storage.delete("e")
    await storage.aclose()


async def test_a_delete_waits_for_the_writer_of_its_directory(storage: LocalStorage) -> None:
    await storage.put("d/object", b"content")
    directory = os.open(os.path.join(storage.root, "d"), os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        async with anyio.create_task_group() as group:
            group.start_soon(storage.delete, "d/object")
            await anyio.sleep(0.05)
            assert os.path.exists(os.path.join(storage.root, "d/object"))
            fcntl.flock(directory, fcntl.LOCK_UN)
        assert not os.path.exists(os.path.join(storage.root, "d/object"))
    finally:
        os.close(directory)
