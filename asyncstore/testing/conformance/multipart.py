"""Objects that come in parts: invisible until they are complete."""

from __future__ import annotations

import random

import anyio
import pytest

from asyncstore.errors import AlreadyExistsError, ConfigError, StorageError
from asyncstore.storage.base import DataStoreStorage, MultipartUpload
from asyncstore.testing.conformance.helpers import names, noise, part_size, read, upload
from asyncstore.testing.harness import Harness


async def _begin(storage: DataStoreStorage, path: str = "d/large") -> tuple[MultipartUpload, list[bytes]]:
    """Begin an upload and return it with three parts, the last one short."""
    size = part_size(storage)
    handle = await storage.create_multipart(path, part_size=size, attributes={"k": "ä"})
    return handle, [noise(size, 1), noise(size, 2), noise(7, 3)]


class MultipartCases:
    """Parts in any order, one object or none."""

    @pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]])
    async def test_parts_come_in_any_order(self, harness: Harness, order: list[int]) -> None:
        handle, parts = await _begin(harness.storage)
        for number in order:
            await handle.put_part(number, parts[number])
        meta = await handle.complete()
        head = await harness.storage.head("d/large")
        assert head is not None
        assert (head.size, dict(head.attributes)) == (meta.size, {"k": "ä"})
        if harness.traits.can("etag by parts"):
            assert head.etag == meta.etag
        assert meta.size == sum(map(len, parts))
        assert await read(harness.storage, "d/large") == b"".join(parts)

    async def test_parts_come_in_parallel(self, harness: Harness) -> None:
        handle, _ = await _begin(harness.storage)
        size = part_size(harness.storage)
        parts = [noise(size, number) for number in range(7)] + [noise(1, 7)]
        async with anyio.create_task_group() as group:
            for number in random.Random(1).sample(range(8), 8):
                group.start_soon(handle.put_part, number, parts[number])
        await handle.complete()
        assert await read(harness.storage, "d/large") == b"".join(parts)

    async def test_one_part_makes_an_object(self, harness: Harness) -> None:
        for size in (1, part_size(harness.storage)):
            await upload(harness.storage, f"{size}", noise(size))
            assert await read(harness.storage, f"{size}") == noise(size)

    async def test_a_whole_number_of_parts_makes_an_object(self, harness: Harness) -> None:
        data = noise(2 * part_size(harness.storage))
        await upload(harness.storage, "object", data)
        assert await read(harness.storage, "object") == data

    async def test_a_part_may_come_again_and_the_last_one_counts(self, harness: Harness) -> None:
        handle, parts = await _begin(harness.storage)
        await handle.put_part(0, noise(len(parts[0]), 9))
        await handle.put_part(2, noise(9, 9))
        if not harness.traits.can("replaceable parts"):
            with pytest.raises(StorageError):
                await handle.put_part(0, parts[0])
            await handle.abort()
            return
        for number, part in enumerate(parts):
            await handle.put_part(number, part)
        meta = await handle.complete()
        assert meta.size == sum(map(len, parts))
        assert await read(harness.storage, "d/large") == b"".join(parts)

    async def test_a_buffer_is_the_callers_again_when_put_part_returns(self, harness: Harness) -> None:
        handle, parts = await _begin(harness.storage)
        buffer = bytearray(parts[0])
        await handle.put_part(0, memoryview(buffer))
        buffer[:] = bytes(len(buffer))
        await handle.complete()
        assert await read(harness.storage, "d/large") == parts[0]

    async def test_nothing_is_visible_before_complete(self, harness: Harness) -> None:
        handle, parts = await _begin(harness.storage)
        for number, part in enumerate(parts):
            await handle.put_part(number, part)
        assert await harness.storage.head("d/large") is None
        assert await names(harness.storage, recursive=True) == []
        if harness.traits.can("hidden uploads"):
            assert await names(harness.storage) == []
        await handle.complete()
        assert await names(harness.storage, recursive=True) == [("object", "d/large")]

    async def test_a_missing_part_is_an_error_that_can_be_mended(self, harness: Harness) -> None:
        handle, parts = await _begin(harness.storage)
        for number in (0, 2):
            await handle.put_part(number, parts[number])
        with pytest.raises(StorageError) as caught:
            await handle.complete()
        assert "d/large" in str(caught.value)
        assert not caught.value.retryable
        assert await harness.storage.head("d/large") is None
        await handle.put_part(1, parts[1])
        await handle.complete()
        assert await read(harness.storage, "d/large") == b"".join(parts)

    async def test_a_short_part_before_the_last_is_an_error(self, harness: Harness) -> None:
        handle, parts = await _begin(harness.storage)
        await handle.put_part(0, parts[2])
        await handle.put_part(1, parts[1])
        with pytest.raises(StorageError):
            await handle.complete()
        assert await harness.storage.head("d/large") is None
        await handle.abort()

    async def test_an_upload_without_parts_is_not_complete(self, harness: Harness) -> None:
        handle, _ = await _begin(harness.storage)
        with pytest.raises(StorageError):
            await handle.complete()
        await handle.abort()
        assert await harness.storage.head("d/large") is None

    async def test_parts_of_wrong_number_or_size_are_refused(self, harness: Harness) -> None:
        handle, parts = await _begin(harness.storage)
        limits = harness.storage.multipart_limits
        for number, data in ((-1, b"x"), (limits.max_parts, b"x"), (0, b""), (0, parts[0] + b"x")):
            with pytest.raises(ConfigError) as caught:
                await handle.put_part(number, data)
            assert "d/large" in str(caught.value)
        await handle.abort()

    async def test_a_part_size_outside_the_limits_is_refused(self, harness: Harness) -> None:
        limits = harness.storage.multipart_limits
        assert 0 < limits.min_part <= limits.max_part
        assert limits.max_parts >= 1000
        for size in (limits.min_part - 1, limits.max_part + 1, 0, -1):
            with pytest.raises(ConfigError) as caught:
                await harness.storage.create_multipart("d/large", part_size=size)
            assert "d/large" in str(caught.value)

    async def test_abort_leaves_nothing(self, harness: Harness) -> None:
        handle, parts = await _begin(harness.storage)
        for number, part in enumerate(parts):
            await handle.put_part(number, part)
        await handle.abort()
        assert await harness.storage.head("d/large") is None
        assert await harness.raw.paths() == set()
        assert await harness.raw.leftovers() == set()

    async def test_abort_without_parts_and_abort_again_are_no_errors(self, harness: Harness) -> None:
        handle, _ = await _begin(harness.storage)
        await handle.abort()
        await handle.abort()
        assert await harness.raw.leftovers() == set()

    async def test_abort_after_complete_leaves_the_object(self, harness: Harness) -> None:
        handle, parts = await _begin(harness.storage)
        await handle.put_part(0, parts[0])
        await handle.complete()
        await handle.abort()
        assert await read(harness.storage, "d/large") == parts[0]

    async def test_an_upload_that_has_ended_takes_no_more_calls(self, harness: Harness) -> None:
        handle, parts = await _begin(harness.storage)
        await handle.abort()
        with pytest.raises(StorageError):
            await handle.put_part(0, parts[0])
        with pytest.raises(StorageError):
            await handle.complete()
        assert await harness.storage.head("d/large") is None

    async def test_abort_leaves_an_older_object_alone(self, harness: Harness) -> None:
        await harness.storage.put("d/large", b"old", attributes={"k": "old"})
        handle, parts = await _begin(harness.storage)
        await handle.put_part(0, parts[0])
        await handle.abort()
        assert await read(harness.storage, "d/large") == b"old"

    async def test_complete_overwrites_with_new_attributes(self, harness: Harness) -> None:
        await harness.storage.put("d/large", b"old", attributes={"old": 1})
        handle, parts = await _begin(harness.storage)
        await handle.put_part(0, parts[0])
        assert await read(harness.storage, "d/large") == b"old"
        await handle.complete()
        head = await harness.storage.head("d/large")
        assert head is not None
        assert dict(head.attributes) == {"k": "ä"}
        assert await read(harness.storage, "d/large") == parts[0]

    async def test_complete_without_attributes_drops_older_ones(self, harness: Harness) -> None:
        await harness.storage.put("d/large", b"old", attributes={"old": 1})
        await upload(harness.storage, "d/large", b"new")
        head = await harness.storage.head("d/large")
        assert head is not None
        assert (head.size, dict(head.attributes)) == (3, {})

    async def test_create_by_parts_stores_what_is_not_there(self, harness: Harness) -> None:
        await upload(harness.storage, "d/large", b"new", mode="create")
        assert await read(harness.storage, "d/large") == b"new"

    async def test_create_by_parts_leaves_an_object_alone(self, harness: Harness) -> None:
        size = part_size(harness.storage)
        handle = await harness.storage.create_multipart("d/large", part_size=size, mode="create")
        await handle.put_part(0, b"late")
        await harness.storage.put("d/large", b"first", attributes={"k": 1})
        if harness.traits.can("atomic create by parts"):
            with pytest.raises(AlreadyExistsError) as caught:
                await handle.complete()
            assert "d/large" in str(caught.value)
            assert await read(harness.storage, "d/large") == b"first"
        await handle.abort()
        assert await harness.raw.leftovers() == set()

    async def test_two_uploads_of_one_path_do_not_mix(self, harness: Harness) -> None:
        one, _ = await _begin(harness.storage)
        two, _ = await _begin(harness.storage)
        size = part_size(harness.storage)
        for number in range(2):
            await one.put_part(number, noise(size, 10 + number))
            await two.put_part(number, noise(size, 20 + number))
        await one.complete()
        assert await read(harness.storage, "d/large") == noise(size, 10) + noise(size, 11)
        await two.complete()
        assert await read(harness.storage, "d/large") == noise(size, 20) + noise(size, 21)
