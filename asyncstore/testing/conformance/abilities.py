"""Optional abilities: the same through every wrapper, or honestly not there."""

from __future__ import annotations

from typing import Protocol, TypeVar

import pytest

from asyncstore.errors import AlreadyExistsError, ObjectNotFoundError, StorageError
from asyncstore.storage.base import (
    CopySource,
    PutItem,
    SupportsBareReads,
    SupportsBatch,
    SupportsCopy,
    SupportsOpenUploads,
)
from asyncstore.testing.conformance.helpers import noise, part_size, read
from asyncstore.testing.harness import Harness
from asyncstore.testing.traits import Ability

P = TypeVar("P")


class _Unheard(Protocol):
    def unheard_of(self) -> None: ...


def _power(harness: Harness, kind: type[P], ability: Ability) -> P | None:
    power = harness.storage.power(kind)
    assert (power is not None) == (ability in harness.traits.abilities), "the storage and the table of traits disagree"
    return power


class BatchCases:
    """Many small objects in one call, as if one after the other."""

    async def test_an_unknown_ability_is_not_there(self, harness: Harness) -> None:
        assert harness.storage.power(_Unheard) is None

    async def test_a_batch_is_stored_in_order(self, harness: Harness) -> None:
        if batch := _power(harness, SupportsBatch, "batch"):
            items = [
                PutItem(f"d/{number}", noise(number), {"n": number} if number % 2 else None) for number in range(40)
            ]
            metas = await batch.put_batch(items)
            heads = await batch.head_batch([item.path for item in items])
            assert metas == heads
            for item, head in zip(items, heads, strict=True):
                assert head is not None
                assert head == await harness.storage.head(item.path)
                assert dict(head.attributes) == (item.attributes or {})
                assert await read(harness.storage, item.path) == item.data

    async def test_a_batch_of_reads_says_what_is_missing(self, harness: Harness) -> None:
        await harness.storage.put("d/there", b"1234", attributes={"k": 1})
        await harness.storage.put("empty", b"")
        if batch := _power(harness, SupportsBatch, "batch"):
            paths = ["missing", "d/there", "d", "empty", "d/there", "d/there/below"]
            assert [head and head.size for head in await batch.head_batch(paths)] == [None, 4, None, 0, 4, None]
            found = await batch.get_batch(paths, max_bytes=100)
            assert [one and one.data for one in found] == [None, b"1234", None, b"", b"1234", None]
            assert found[1] is not None
            assert found[1].meta == await harness.storage.head("d/there")

    async def test_a_batch_of_reads_keeps_to_its_bytes(self, harness: Harness) -> None:
        for path, size in (("a", 10), ("b", 20), ("c", 5), ("e", 0)):
            await harness.storage.put(path, noise(size))
        if batch := _power(harness, SupportsBatch, "batch"):
            for room, expected in ((35, [10, 20, 5, 0]), (34, [10, 20, None, 0]), (15, [10, None, 5, 0])):
                found = await batch.get_batch(["a", "b", "c", "e"], max_bytes=room)
                sizes = [None if one is None or one.data is None else len(one.data) for one in found]
                assert sizes == expected
                assert [one and one.meta.size for one in found] == [10, 20, 5, 0]

    async def test_a_batch_that_creates_leaves_objects_alone(self, harness: Harness) -> None:
        await harness.storage.put("old", b"old", attributes={"k": 1})
        if batch := _power(harness, SupportsBatch, "batch"):
            results = await batch.put_batch(
                [PutItem("new", b"1"), PutItem("old", b"2"), PutItem("d/x", b"3")], mode="create"
            )
            assert [result and result.size for result in results] == [1, None, 1]
            head = await harness.storage.head("old")
            assert head is not None
            assert dict(head.attributes) == {"k": 1}
            assert await read(harness.storage, "old") == b"old"

    async def test_a_batch_overwrites_objects_and_their_attributes(self, harness: Harness) -> None:
        await harness.storage.put("old", b"old", attributes={"k": 1})
        if batch := _power(harness, SupportsBatch, "batch"):
            await batch.put_batch([PutItem("old", memoryview(b"new"))])
            head = await harness.storage.head("old")
            assert head is not None
            assert dict(head.attributes) == {}
            assert await read(harness.storage, "old") == b"new"

    async def test_an_empty_batch_is_no_error(self, harness: Harness) -> None:
        if batch := _power(harness, SupportsBatch, "batch"):
            assert await batch.head_batch([]) == []
            assert await batch.get_batch([], max_bytes=1) == []
            assert await batch.put_batch([]) == []

    async def test_a_failing_batch_names_the_path(self, harness: Harness) -> None:
        await harness.storage.put("object", b"x")
        batch = _power(harness, SupportsBatch, "batch")
        if batch and harness.traits.can("exclusive names"):
            with pytest.raises(StorageError) as caught:
                await batch.put_batch([PutItem("good", b"x"), PutItem("object/below", b"x")])
            assert "object" in str(caught.value)


class BareReadCases:
    """Bodies without their attributes."""

    async def test_bare_reads_give_bodies_in_order(self, harness: Harness) -> None:
        for path, size in (("d/a", 10), ("b", 20), ("empty", 0)):
            await harness.storage.put(path, noise(size), attributes={"k": path})
        if bare := _power(harness, SupportsBareReads, "bare reads"):
            paths = ["b", "missing", "d/a", "d", "empty", "b/below", "b"]
            bodies = await bare.read_bodies(paths, max_bytes=1000)
            assert bodies == [noise(20), None, noise(10), None, b"", None, noise(20)]

    async def test_bare_reads_keep_to_their_bytes(self, harness: Harness) -> None:
        for path, size in (("a", 10), ("b", 20), ("c", 5)):
            await harness.storage.put(path, noise(size))
        if bare := _power(harness, SupportsBareReads, "bare reads"):
            assert await bare.read_bodies(["a", "b", "c"], max_bytes=34) == [noise(10), noise(20), 5]
            assert await bare.read_bodies(["a", "b", "c"], max_bytes=15) == [noise(10), 20, noise(5)]


class OpenUploadCases:
    """What dead processes left behind."""

    async def test_an_open_upload_is_found_and_aborted(self, harness: Harness) -> None:
        handle = await harness.storage.create_multipart("d/large", part_size=part_size(harness.storage))
        await handle.put_part(0, b"x")
        if uploads := _power(harness, SupportsOpenUploads, "open uploads"):
            found = await uploads.open_uploads()
            assert [upload.path for upload in found] == ["d/large"]
            for _ in range(2):
                await uploads.abort_upload(found[0])
            assert await uploads.open_uploads() == []
            assert await harness.raw.leftovers() == set()
        await handle.abort()
        assert await harness.storage.head("d/large") is None


class CopyCases:
    """Objects that move inside one cloud without passing through this process."""

    async def test_a_copy_has_content_and_attributes(self, harness: Harness) -> None:
        await harness.storage.put("a/original", noise(100_000), attributes={"k": "ä"})
        if copy := _power(harness, SupportsCopy, "copy"):
            meta = await copy.copy_from(copy.copy_source("a/original"), "b/copy")
            assert meta is not None
            head = await harness.storage.head("b/copy")
            assert head is not None
            assert (head.size, head.etag, dict(head.attributes)) == (100_000, meta.etag, {"k": "ä"})
            assert await read(harness.storage, "b/copy") == noise(100_000)

    async def test_a_copy_lives_on_its_own(self, harness: Harness) -> None:
        await harness.storage.put("original", b"first", attributes={"k": 1})
        if copy := _power(harness, SupportsCopy, "copy"):
            await copy.copy_from(copy.copy_source("original"), "copy")
            await harness.storage.put("original", b"second", attributes={"k": 2})
            assert await read(harness.storage, "copy") == b"first"
            await harness.storage.delete("original")
            head = await harness.storage.head("copy")
            assert head is not None
            assert dict(head.attributes) == {"k": 1}

    async def test_a_copy_overwrites_unless_it_creates(self, harness: Harness) -> None:
        await harness.storage.put("original", b"new")
        await harness.storage.put("target", b"old", attributes={"k": 1})
        if copy := _power(harness, SupportsCopy, "copy"):
            source = copy.copy_source("original")
            with pytest.raises(AlreadyExistsError) as caught:
                await copy.copy_from(source, "target", mode="create")
            assert "target" in str(caught.value)
            assert await read(harness.storage, "target") == b"old"
            await copy.copy_from(source, "target")
            assert await read(harness.storage, "target") == b"new"
            head = await harness.storage.head("target")
            assert head is not None
            assert dict(head.attributes) == {}
            await copy.copy_from(source, "fresh", mode="create")
            assert await read(harness.storage, "fresh") == b"new"

    async def test_a_missing_source_is_not_found(self, harness: Harness) -> None:
        if copy := _power(harness, SupportsCopy, "copy"):
            with pytest.raises(ObjectNotFoundError) as caught:
                await copy.copy_from(copy.copy_source("missing"), "copy")
            assert "missing" in str(caught.value)
            assert await harness.storage.head("copy") is None

    async def test_a_source_of_another_kind_is_not_copied(self, harness: Harness) -> None:
        if copy := _power(harness, SupportsCopy, "copy"):
            assert await copy.copy_from(CopySource("elsewhere", "x"), "copy") is None
            assert await harness.storage.head("copy") is None
