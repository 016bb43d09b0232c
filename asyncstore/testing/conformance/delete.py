"""``delete`` leaves nothing of an object, and nothing else alone."""

from __future__ import annotations

import pytest

from asyncstore.errors import ObjectNotFoundError, StorageError
from asyncstore.testing.conformance.helpers import names, read
from asyncstore.testing.harness import Harness


class DeleteCases:
    """What is gone, and what is still there."""

    async def test_deleting_what_is_not_there_is_no_error(self, harness: Harness) -> None:
        await harness.storage.delete("missing")
        await harness.storage.delete("no/such/directory/object")
        await harness.storage.put("object", b"x")
        if harness.traits.can("exact deletes"):
            await harness.storage.delete("object/below")
        assert await read(harness.storage, "object") == b"x"

    async def test_a_deleted_object_is_gone_for_every_verb(self, harness: Harness) -> None:
        await harness.storage.put("d/object", b"x", attributes={"k": 1})
        await harness.storage.delete("d/object")
        assert await harness.storage.head("d/object") is None
        with pytest.raises(ObjectNotFoundError):
            await read(harness.storage, "d/object")
        assert await names(harness.storage, "d") == []
        assert await harness.raw.read("d/object") is None
        assert await harness.raw.paths() == set()

    async def test_deleting_twice_is_no_error(self, harness: Harness) -> None:
        await harness.storage.put("object", b"x")
        await harness.storage.delete("object")
        await harness.storage.delete("object")
        assert await harness.storage.head("object") is None

    async def test_a_directory_is_not_deleted(self, harness: Harness) -> None:
        await harness.storage.put("d/e/object", b"x", attributes={"k": 1})
        for directory in ("d", "d/e"):
            try:
                await harness.storage.delete(directory)
            except StorageError:
                assert not harness.traits.can("exact deletes")
        assert await read(harness.storage, "d/e/object") == b"x"

    async def test_neighbours_stay(self, harness: Harness) -> None:
        for path in ("d/object", "d/object.json", "d/objects", "d/other/object", "object"):
            await harness.storage.put(path, path.encode(), attributes={"k": path})
        await harness.storage.delete("d/object")
        for path in ("d/object.json", "d/objects", "d/other/object", "object"):
            head = await harness.storage.head(path)
            assert head is not None
            assert dict(head.attributes) == {"k": path}

    async def test_an_open_body_outlives_its_object_or_fails(self, harness: Harness) -> None:
        data = bytes(300_000)
        await harness.storage.put("object", data)
        async with harness.storage.get("object") as reader:
            await harness.storage.delete("object")
            try:
                body = b"".join([chunk async for chunk in reader])
            except ObjectNotFoundError:
                return
        assert body == data
