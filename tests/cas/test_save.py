from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.errors import SourceChangedError
from asyncstore.layout import blob_path
from asyncstore.runtime import Runtime
from asyncstore.storage.memory import MemoryStorage
from asyncstore.types import BlobSource, Limits
from tests.cas.content import SIZES, Chunks, compressible, key_of, random_bytes
from tests.cas.plain import PlainStorage


@pytest.mark.parametrize("make", [compressible, random_bytes])
@pytest.mark.parametrize("codec", ["gzip", "lz4"])
async def test_content_of_every_size_comes_back_from_every_kind_of_source(
    storage: MemoryStorage, tmp_path: Path, codec: str, make: type
) -> None:
    store = ContentAddressedStore("F/data", storage, codec=codec)
    for size in SIZES:
        content = make(size, seed=size)
        path = tmp_path / str(size)
        path.write_bytes(content)
        fresh = ContentAddressedStore("F/data", storage, codec=codec)
        for source in (content, bytearray(content), memoryview(content), path, Chunks(content)):
            saved = await fresh.save_blob(source)
            assert saved.key == key_of(content)
            assert saved.size == size
        assert await store.load_blob(saved.key) == content
        async with store.open_blob(saved.key) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == content


async def test_results_are_in_the_order_of_the_input_and_repeats_are_stored_once(store: ContentAddressedStore) -> None:
    blobs = [compressible(size, seed=size) for size in (10, 5_000_000, 10, 300_000, 2000, 5_000_000, 0, 300_000)]
    saved = await store.save_blobs(blobs)
    assert [one.key for one in saved] == [key_of(blob) for blob in blobs]
    written = [one.key for one in saved if not one.existed]
    assert sorted(written) == sorted({key_of(blob) for blob in blobs})


@pytest.mark.parametrize(("kind", "count"), [(MemoryStorage, 100_000), (PlainStorage, 20_000)])
async def test_a_generator_of_many_blobs_needs_few_tasks_and_is_not_run_ahead_of(
    runtime: Runtime, kind: type[MemoryStorage], count: int
) -> None:
    storage = kind("many", runtime=runtime)
    store = ContentAddressedStore("F/data", storage)
    most_tasks = most_ahead = 0

    def blobs() -> Iterator[bytes]:
        nonlocal most_tasks, most_ahead
        for number in range(count):
            most_tasks = max(most_tasks, len(asyncio.all_tasks()))
            if isinstance(storage, PlainStorage):
                most_ahead = max(most_ahead, number - storage.calls["put"])
            yield b"%0100d" % number

    saved = await store.save_blobs(blobs())
    assert len({one.key for one in saved}) == count
    assert most_tasks < runtime.limits.requests + 20
    assert most_ahead < 1500


async def test_an_asynchronous_iterable_is_consumed_and_closed(store: ContentAddressedStore) -> None:
    closed = False

    async def blobs() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            for number in range(200):
                await anyio.lowlevel.checkpoint()
                yield b"%d" % number
        finally:
            closed = True

    saved = await store.save_blobs(blobs())
    assert [one.key for one in saved] == [key_of(b"%d" % number) for number in range(200)]
    assert closed


@pytest.mark.parametrize("wrong", ["text", 1, None, ["list"]])
async def test_what_is_no_blob_is_a_type_error(store: ContentAddressedStore, wrong: BlobSource) -> None:
    with pytest.raises(TypeError, match="a blob is bytes-like"):
        await store.save_blob(wrong)


async def test_a_directory_or_a_missing_file_is_refused(store: ContentAddressedStore, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not a regular file"):
        await store.save_blob(tmp_path)
    with pytest.raises(FileNotFoundError):
        await store.save_blob(tmp_path / "nothing")


async def test_a_named_pipe_is_refused_at_once(store: ContentAddressedStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    # Where the save waits for a writer, one comes too late: the test fails and does not hang.
    writer = threading.Timer(5, lambda: os.close(os.open(tmp_path / "pipe", os.O_RDWR)))
    writer.start()
    try:
        with pytest.raises(TypeError, match="is not a regular file"):
            await store.save_blob(tmp_path / "pipe")
        assert writer.is_alive(), "the save waited for the writer"
    finally:
        writer.cancel()


async def test_raw_blobs_are_stored_as_they_are_and_have_a_uri(
    store: ContentAddressedStore, storage: MemoryStorage
) -> None:
    content = compressible(1000)
    saved = await store.save_blob(content, raw=True)
    path = blob_path("Flow/data", saved.key)
    assert saved.uri == f"{storage.root}/{path}"
    async with storage.get(path) as reader:
        assert b"".join([chunk async for chunk in reader]) == content
        assert reader.meta.attributes == {"cas_raw": True, "cas_version": 1, "cas_size": 1000}
    assert (await store.save_blob(content)).uri is None


async def test_the_first_form_of_a_blob_stays(storage: MemoryStorage) -> None:
    content = compressible(1000)
    await ContentAddressedStore("F/data", storage).save_blob(content, raw=True)
    saved = await ContentAddressedStore("F/data", storage, codec="lz4").save_blob(content)
    assert saved.existed
    assert saved.stored_size == 1000


async def test_a_new_small_blob_is_one_request_and_one_in_place_two(plain: PlainStorage) -> None:
    content = compressible(1000)
    store = ContentAddressedStore("F/data", plain)
    await store.save_blob(content)
    assert plain.calls == {"put": 1}
    await store.save_blob(content)
    assert plain.calls == {"put": 1}, "a known blob needs no request"
    await ContentAddressedStore("F/data", plain).save_blob(content)
    assert plain.calls == {"put": 2, "head": 1}


async def test_a_longer_blob_is_looked_for_before_it_is_sent(plain: PlainStorage) -> None:
    content = random_bytes(300_000)
    await ContentAddressedStore("F/data", plain).save_blob(content)
    assert plain.calls == {"head": 1, "put": 1}
    assert (await ContentAddressedStore("F/data", plain).save_blob(content)).existed
    assert plain.calls == {"head": 2, "put": 1}


async def test_identical_blobs_in_flight_share_one_upload(plain: PlainStorage) -> None:
    store = ContentAddressedStore("F/data", plain)
    saved = []

    async def save() -> None:
        saved.append(await store.save_blob(random_bytes(300_000)))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(save)
    assert plain.calls == {"head": 1, "put": 1}
    assert [one.existed for one in saved].count(False) == 1


async def test_a_file_that_changes_between_the_passes_publishes_nothing(storage: MemoryStorage, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(compressible(9_000_000))

    class Touching(PlainStorage):
        async def head(self, path_: str) -> None:
            os.utime(path, ns=(1, 1))

    store = ContentAddressedStore("F/data", Touching("touching", runtime=storage.runtime))
    with pytest.raises(SourceChangedError, match="changed while it was being saved"):
        await store.save_blob(path)
    async with store.storage.list("", recursive=True) as entries:
        assert [entry async for entry in entries] == []


@pytest.mark.parametrize("again", [lambda c: c[:-1], lambda c: c + b"x", lambda c: c[:-1] + b"x", lambda c: b""])
async def test_chunks_that_differ_between_the_passes_publish_nothing(store: ContentAddressedStore, again) -> None:
    with pytest.raises(SourceChangedError, match="other bytes"):
        await store.save_blob(Chunks(compressible(6_000_000), again=again))
    async with store.storage.list("", recursive=True) as entries:
        assert [entry async for entry in entries] == []


async def test_the_first_failure_cancels_the_rest_and_comes_out_as_itself(store: ContentAddressedStore) -> None:
    def blobs() -> Iterator[bytes]:
        yield from (b"%d" % number for number in range(100))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.save_blobs(blobs())


async def test_the_memory_of_blobs_under_way_stays_within_the_budget() -> None:
    async with Runtime(Limits(memory=4_000_000, threads=2)) as runtime:
        storage = PlainStorage("small", runtime=runtime)
        most = 0

        def blobs() -> Iterator[bytes]:
            nonlocal most
            for number in range(60):
                most = max(most, runtime.memory.used)
                yield random_bytes(400_000, seed=number)

        await ContentAddressedStore("F/data", storage).save_blobs(blobs())
        assert runtime.memory.used == 0
        assert 800_000 <= most <= 4_000_000 + 800_000


@pytest.mark.parametrize(("memory", "requests"), [(1, 1), (1, 64), (1 << 20, 1), (1 << 20, 2)])
async def test_blobs_of_all_sizes_are_saved_with_little_memory_and_few_requests(memory: int, requests: int) -> None:
    small = [random_bytes(1000, seed=number) for number in range(600)]
    large: list[BlobSource] = [random_bytes(300_000), random_bytes(5_000_000), Chunks(random_bytes(5))]
    async with Runtime(Limits(memory=memory, requests=requests, threads=2)) as runtime:
        for storage in (PlainStorage("tight", runtime=runtime), MemoryStorage("tight too", runtime=runtime)):
            store = ContentAddressedStore("F/data", storage)
            with anyio.fail_after(60):
                assert len(await store.save_blobs([*small[:300], *large, *small[300:]])) == 603
        assert runtime.memory.used == 0
