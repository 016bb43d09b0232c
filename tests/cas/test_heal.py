from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.errors import CorruptBlobError, IntegrityError
from asyncstore.layout import blob_path
from asyncstore.storage.base import DataStoreStorage
from asyncstore.storage.memory import MemoryStorage
from asyncstore.storage.registry import open_storage
from asyncstore.types import Attributes
from tests.cas.content import Chunks, compressible, key_of, random_bytes

PACKED: Attributes = {"cas_raw": False, "cas_version": 1}
RAW: Attributes = {"cas_raw": True, "cas_version": 1}

CONTENTS = [compressible(2000), random_bytes(300_000), compressible(6_000_000), random_bytes(6_000_000)]
SIZES = ["small", "middle", "large", "large raw"]


async def stored(storage: MemoryStorage, content: bytes) -> tuple[bytes, Attributes]:
    async with storage.get(blob_path("F/data", key_of(content))) as reader:
        return b"".join([chunk async for chunk in reader]), reader.meta.attributes


def damaged(data: bytes) -> bytes:
    # More than a bit: some bits of a deflate stream are padding that nobody reads.
    middle = len(data) // 2
    return data[:middle] + bytes(byte ^ 0xFF for byte in data[middle : middle + 16]) + data[middle + 16 :]


def store_over(storage: DataStoreStorage) -> ContentAddressedStore:
    return ContentAddressedStore("F/data", storage)


@pytest.mark.parametrize("content", CONTENTS, ids=SIZES)
@pytest.mark.parametrize("attributes", [RAW, PACKED, {**PACKED, "cas_size": 1}], ids=["raw", "gzip", "other size"])
async def test_a_save_overwrites_an_object_whose_size_or_attributes_cannot_be_right(
    storage: MemoryStorage, content: bytes, attributes: Attributes
) -> None:
    await storage.put(blob_path("F/data", key_of(content)), b"too short", attributes=attributes)
    saved = await store_over(storage).save_blob(content)
    assert not saved.existed
    assert await store_over(storage).load_blob(saved.key) == content


async def test_healing_keeps_the_form_that_the_object_claims_to_have(storage: MemoryStorage) -> None:
    content = compressible(2000)
    await storage.put(blob_path("F/data", key_of(content)), b"", attributes=RAW)
    await store_over(storage).save_blob(content)
    assert await stored(storage, content) == (content, RAW)


async def test_attributes_of_no_known_form_are_replaced(storage: MemoryStorage) -> None:
    content = compressible(2000)
    await storage.put(blob_path("F/data", key_of(content)), b"x", attributes={"cas_raw": False, "cas_version": 77})
    await store_over(storage).save_blob(content)
    assert await store_over(storage).load_blob(key_of(content)) == content


@pytest.mark.parametrize("content", CONTENTS, ids=SIZES)
async def test_a_blob_that_a_load_found_damaged_is_overwritten_by_the_next_save(
    storage: MemoryStorage, content: bytes
) -> None:
    store = store_over(storage)
    saved = await store.save_blob(content)
    data, attributes = await stored(storage, content)
    await storage.put(blob_path("F/data", saved.key), damaged(data), attributes=attributes)
    with pytest.raises(CorruptBlobError) as caught:
        await store.load_blob(saved.key)
    assert caught.value.key == saved.key
    again = await store.save_blob(Chunks(content) if len(content) > 4_000_000 else content)
    assert not again.existed
    assert await store.load_blob(saved.key) == content


@pytest.mark.parametrize("content", CONTENTS, ids=SIZES)
async def test_verify_existing_reads_back_and_heals_what_looks_right(storage: MemoryStorage, content: bytes) -> None:
    store = store_over(storage)
    await store.save_blob(content)
    data, attributes = await stored(storage, content)
    await storage.put(blob_path("F/data", key_of(content)), damaged(data), attributes=attributes)
    assert (await store_over(storage).save_blob(content)).existed, "its size and attributes can be right"
    assert not (await store.save_blob(content, verify_existing=True)).existed
    assert await stored(storage, content) == (data, attributes)
    assert (await store.save_blob(content, verify_existing=True)).existed


async def test_another_valid_gzip_in_place_is_found_and_healed(storage: MemoryStorage) -> None:
    content = compressible(2000)
    store = store_over(storage)
    other = gzip.compress(random_bytes(500))
    await storage.put(blob_path("F/data", key_of(content)), other, attributes=PACKED)
    with pytest.raises(CorruptBlobError) as caught:
        await store.load_blob(key_of(content))
    assert caught.value.actual == key_of(random_bytes(500))
    await store.save_blob(content)
    assert await store.load_blob(key_of(content)) == content


@pytest.mark.parametrize("content", CONTENTS, ids=SIZES)
async def test_attributes_that_do_not_fit_are_read_around_and_healed_by_a_verifying_save(
    storage: MemoryStorage, content: bytes
) -> None:
    path = blob_path("F/data", key_of(content))
    await storage.put(path, content)  # without attributes it counts as gzip, which it is not
    assert await store_over(storage).load_blob(key_of(content)) == content
    assert not (await store_over(storage).save_blob(content, verify_existing=True)).existed
    assert (await store_over(storage).save_blob(content, verify_existing=True)).existed


@pytest.mark.parametrize("content", CONTENTS, ids=SIZES)
async def test_a_load_that_had_to_guess_the_form_makes_the_next_save_heal(
    storage: MemoryStorage, content: bytes
) -> None:
    store = store_over(storage)
    await storage.put(blob_path("F/data", key_of(content)), content)
    assert await store.load_blob(key_of(content)) == content
    assert not (await store.save_blob(content)).existed


BROKEN = [b"", b"{", b"[]", b"\xff", b'{"cas_version": 2}', b'{"cas_raw": true}']


@pytest.mark.parametrize("text", BROKEN)
@pytest.mark.parametrize("size", [500, 300_000])
async def test_a_broken_sidecar_on_disk_costs_no_content_is_told_by_verification_and_healed_by_a_save(
    scratch: Path, text: bytes, size: int
) -> None:
    content = compressible(size)
    async with open_storage(scratch, durability="fast") as storage:
        key = (await store_over(storage).save_blob(content)).key
        sidecar = scratch / (blob_path("F/data", key) + "_meta")
        sidecar.write_bytes(text)
        assert await store_over(storage).load_blob(key) == content
        store = store_over(storage)
        async with store.load_blobs([key]) as blobs:
            assert [blob async for blob in blobs] == [(key, content)]
        async with store_over(storage).verify_blobs([key]) as statuses:
            [status] = [status async for status in statuses]
        assert isinstance(status.error, IntegrityError)
        assert not (await store.save_blob(content)).existed
        assert (await store_over(storage).save_blob(content, verify_existing=True)).existed
