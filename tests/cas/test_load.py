from __future__ import annotations

import gzip
import pickle
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio
import pytest

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.errors import AsyncStoreError, BlobNotFoundError, CodecError, CorruptBlobError
from asyncstore.layout import blob_path, old_raw_blob_path
from asyncstore.runtime import Runtime
from asyncstore.storage.memory import MemoryStorage
from asyncstore.types import Attributes, Key, Limits, parse_key
from tests.cas.content import SIZES, compressible, key_of, random_bytes
from tests.cas.plain import PlainStorage

ABSENT = parse_key("0" * 40)
PACKED: Attributes = {"cas_raw": False, "cas_version": 1}
RAW: Attributes = {"cas_raw": True, "cas_version": 1}


async def load_all(store: ContentAddressedStore, keys: list[Key]) -> list[tuple[Key, bytes]]:
    async with store.load_blobs(keys) as blobs:
        return [item async for item in blobs]


async def test_every_requested_occurrence_is_given_once(store: ContentAddressedStore) -> None:
    contents = {key_of(content): content for size in SIZES for content in [compressible(size, seed=size)]}
    await store.save_blobs(contents.values())
    keys = [*contents, *contents, *list(contents)[:3]] * 3
    loaded = await load_all(store, keys)
    assert sorted(key for key, _ in loaded) == sorted(keys)
    assert all(content == contents[key] for key, content in loaded)


@pytest.mark.parametrize("content", [compressible(5000), compressible(7_000_000)], ids=["small", "large"])
@pytest.mark.parametrize(
    ("pack", "attributes"),
    [
        (lambda c: gzip.compress(c, 3), PACKED),
        (lambda c: gzip.compress(c, 9), {}),
        (lambda c: gzip.compress(c[:1000]) + gzip.compress(c[1000:]), PACKED),
        (lambda c: c, RAW),
        (lambda c: c, {**RAW, "unknown": "field"}),
        # a writer died between body and sidecar: the other reading is tried
        (lambda c: c, PACKED),
        (lambda c: c, {}),
        (lambda c: gzip.compress(c), RAW),
        (lambda c: gzip.compress(c), {"cas_raw": False, "cas_version": 1001, "cas_codec": "lz4-frame"}),
    ],
)
async def test_all_that_metaflow_can_have_written_is_read(
    storage: MemoryStorage, content: bytes, pack, attributes: Attributes
) -> None:
    key = key_of(content)
    await storage.put(blob_path("F/data", key), pack(content), attributes=attributes)
    store = ContentAddressedStore("F/data", storage)
    assert await store.load_blob(key) == content
    assert await load_all(store, [key]) == [(key, content)]


@pytest.mark.parametrize("size", [1000, 6_000_000])
async def test_old_raw_names_are_read(storage: MemoryStorage, size: int) -> None:
    content = compressible(size)
    key = key_of(content)
    await storage.put(old_raw_blob_path("F/data", key), content)
    store = ContentAddressedStore("F/data", storage)
    assert await load_all(store, [key]) == [(key, content)]
    async with store.open_blob(key) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == content


async def test_a_missing_blob_is_an_error_that_names_it(store: ContentAddressedStore) -> None:
    for load in (store.load_blob(ABSENT), load_all(store, [ABSENT])):
        with pytest.raises(BlobNotFoundError) as caught:
            await load
        assert caught.value.key == ABSENT
        assert ABSENT in str(caught.value)
    with pytest.raises(BlobNotFoundError):
        await store.open_blob(ABSENT).__aenter__()


async def test_an_unknown_form_is_told_and_not_called_damage(storage: MemoryStorage) -> None:
    await storage.put(blob_path("F/data", ABSENT), b"x", attributes={"cas_raw": False, "cas_version": 2})
    with pytest.raises(CodecError, match="cas_version"):
        await ContentAddressedStore("F/data", storage).load_blob(ABSENT)


async def test_verify_blobs_gives_a_status_of_each_and_never_stops(
    store: ContentAddressedStore, storage: MemoryStorage
) -> None:
    contents = [compressible(size, seed=size) for size in (10, 3000, 300_000, 6_000_000)]
    saved = await store.save_blobs(contents)
    for bad, data in ((saved[1], b""), (saved[3], gzip.compress(b"other"))):
        await storage.put(blob_path("Flow/data", bad.key), data, attributes=PACKED)
    keys = [ABSENT, *(one.key for one in saved)]
    async with store.verify_blobs(keys) as statuses:
        found = {status.key: status async for status in statuses}
    assert [found[key].ok for key in keys] == [False, True, False, True, False]
    assert found[saved[0].key].size == 10
    assert isinstance(found[ABSENT].error, BlobNotFoundError)
    assert all(isinstance(found[saved[index].key].error, CorruptBlobError) for index in (1, 3))


async def test_the_first_failure_of_load_blobs_is_raised(store: ContentAddressedStore) -> None:
    saved = await store.save_blobs(b"%d" % number for number in range(300))
    with pytest.raises(BlobNotFoundError):
        await load_all(store, [*(one.key for one in saved), ABSENT])


async def test_leaving_the_iteration_early_leaves_nothing_borrowed(
    store: ContentAddressedStore, runtime: Runtime
) -> None:
    saved = await store.save_blobs(random_bytes(50_000, seed=number) for number in range(100))
    async with store.load_blobs(one.key for one in saved) as blobs:
        async for _ in blobs:
            break
    assert runtime.memory.used == 0


async def test_keys_are_consumed_lazily(store: ContentAddressedStore) -> None:
    saved = await store.save_blobs(random_bytes(10_000, seed=number) for number in range(3000))
    taken = 0

    def keys() -> Iterator[Key]:
        nonlocal taken
        for one in saved:
            taken += 1
            yield one.key

    async with store.load_blobs(keys()) as blobs:
        await anext(blobs)
        assert taken < 1500


async def test_concurrent_loads_of_one_key_share_one_request(plain: PlainStorage) -> None:
    store = ContentAddressedStore("F/data", plain)
    saved = await store.save_blob(random_bytes(1000))
    loaded: list[bytes] = []

    async def load() -> None:
        loaded.append(await store.load_blob(saved.key))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(load)
    assert loaded == [random_bytes(1000)] * 20
    assert plain.calls["get"] == 1


async def test_open_blob_raises_at_the_end_of_damaged_content(
    store: ContentAddressedStore, storage: MemoryStorage
) -> None:
    content = random_bytes(6_000_000)
    saved = await store.save_blob(content)
    await storage.put(blob_path("Flow/data", saved.key), content[:-1] + b"x", attributes=RAW)
    received = 0

    async def receive() -> None:
        nonlocal received
        async with store.open_blob(saved.key) as chunks:
            async for chunk in chunks:
                received += len(chunk)

    with pytest.raises(CorruptBlobError) as caught:
        await receive()
    assert received == len(content)
    assert caught.value.actual == key_of(content[:-1] + b"x")
    assert not (await store.save_blob(content)).existed


async def test_an_error_of_the_block_of_open_blob_is_no_finding(store: ContentAddressedStore) -> None:
    saved = await store.save_blob(b"fine")

    async def read_something_else() -> None:
        async with store.open_blob(saved.key):
            raise CorruptBlobError("of another store", key="1" * 40, actual=None)

    with pytest.raises(CorruptBlobError):
        await read_something_else()
    assert (await store.save_blob(b"fine")).existed


async def test_missing_says_what_has_no_object(storage: MemoryStorage) -> None:
    saved = await ContentAddressedStore("F/data", storage).save_blobs(b"%d" % number for number in range(200))
    store = ContentAddressedStore("F/data", storage)
    assert await store.missing([ABSENT, *(one.key for one in saved)]) == {ABSENT}
    assert await store.missing([]) == set()


class DictCache:
    def __init__(self) -> None:
        self.blobs: dict[Key, bytes] = {}

    async def load_key(self, key: Key) -> bytes | None:
        return self.blobs.get(key)

    async def store_key(self, key: Key, blob: bytes) -> None:
        self.blobs[key] = blob


async def test_a_cache_is_filled_asked_first_and_not_believed(plain: PlainStorage) -> None:
    cache = DictCache()
    store = ContentAddressedStore("F/data", plain, cache=cache)
    saved = await store.save_blob(b"content")
    assert await store.load_blob(saved.key) == b"content"
    assert cache.blobs == {saved.key: b"content"}
    assert await load_all(store, [saved.key, saved.key]) == [(saved.key, b"content")] * 2
    assert plain.calls["get"] == 1
    cache.blobs[saved.key] = b"wrong"
    assert await store.load_blob(saved.key) == b"content"
    assert cache.blobs == {saved.key: b"content"}


async def test_a_blob_that_only_the_cache_has_is_not_taken_for_stored(store: ContentAddressedStore) -> None:
    cache = DictCache()
    cache.blobs[key_of(b"content")] = b"content"
    store = ContentAddressedStore("F/data", store.storage, cache=cache)
    assert await store.load_blob(key_of(b"content")) == b"content"
    assert await load_all(store, [key_of(b"content")]) == [(key_of(b"content"), b"content")]
    assert await store.missing([key_of(b"content")]) == {key_of(b"content")}
    assert not (await store.save_blob(b"content")).existed
    assert await ContentAddressedStore("F/data", store.storage).load_blob(key_of(b"content")) == b"content"


@asynccontextmanager
async def tight(memory: int) -> AsyncIterator[ContentAddressedStore]:
    async with Runtime(Limits(memory=memory)) as runtime:
        yield ContentAddressedStore("F/data", PlainStorage("tight", runtime=runtime))
        assert runtime.memory.used == 0


@pytest.mark.parametrize("size", [100, 300_000, 5_000_000])
async def test_saving_inside_a_load_works_with_a_budget_of_one_blob(size: int) -> None:
    async with tight(size) as store:
        saved = await store.save_blobs(random_bytes(size, seed=number) for number in range(12))
        count = 0
        with anyio.fail_after(60):
            async with store.load_blobs([one.key for one in saved]) as blobs:
                async for _, content in blobs:
                    await store.save_blob(b"again " + content)
                    count += 1
        assert count == 12


@pytest.mark.parametrize("make", [random_bytes, compressible])
async def test_a_stream_many_times_its_window_gives_the_right_bytes_to_a_slow_reader(make) -> None:
    content = make(40_000_000)
    async with tight(2_000_000) as store:
        saved = await store.save_blob(content)
        received = []
        async with store.open_blob(saved.key) as chunks:
            async for chunk in chunks:
                await anyio.sleep(0.002)
                received.append(chunk)
        assert b"".join(received) == content
        assert await store.load_blob(saved.key) == content


async def test_a_blob_above_the_limit_is_refused_and_not_decoded() -> None:
    async with Runtime(Limits(max_blob_bytes=1_000_000)) as runtime:
        storage = PlainStorage("bomb", runtime=runtime)
        content = b"\0" * 500_000_000
        await storage.put(blob_path("F/data", key_of(content)), gzip.compress(content, 1), attributes=PACKED)
        with pytest.raises(AsyncStoreError):
            await ContentAddressedStore("F/data", storage).load_blob(key_of(content))


@pytest.mark.parametrize("codec", ["gzip", "lz4"])
async def test_little_that_expands_to_much_is_verified_in_bounded_memory(storage: MemoryStorage, codec: str) -> None:
    store = ContentAddressedStore("F/data", storage, codec=codec)
    keys = [(await store.save_blob(bytes(size))).key for size in (10_000_000, 10_000_001, 60_000_000, 100_000_000)]
    tracemalloc.start()
    try:
        async with store.verify_blobs(keys) as statuses:
            assert all([status.ok async for status in statuses])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 60_000_000
    async with store.load_blobs(keys) as blobs:
        assert {key: len(content) async for key, content in blobs} == dict(
            zip(keys, (10_000_000, 10_000_001, 60_000_000, 100_000_000), strict=True)
        )


async def test_a_store_travels_by_its_configuration(store: ContentAddressedStore) -> None:
    again = pickle.loads(pickle.dumps(store))
    assert again.prefix == store.prefix
    assert again.storage.root == store.storage.root
    saved = await again.save_blob(b"x")
    assert await again.load_blob(saved.key) == b"x"
    await again.storage.runtime.aclose()
