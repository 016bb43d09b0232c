"""What is really stored, seen by none of the storage's own code."""

from __future__ import annotations

import json

import pytest

from asyncstore.errors import IntegrityError
from asyncstore.testing.conformance.helpers import names, noise, part_size, read, upload
from asyncstore.testing.harness import Harness, RawObject
from asyncstore.types import Attributes


class BehindCases:
    """The store's back is looked behind in both directions."""

    async def test_what_was_put_lies_there_as_it_is(self, harness: Harness) -> None:
        attributes: Attributes = {"cas_raw": False, "cas_version": 1, "name": "ä"}
        await harness.storage.put("d/object", noise(70_000), attributes=attributes)
        raw = await harness.raw.read("d/object")
        assert raw is not None
        assert raw.data == noise(70_000)
        assert raw.attributes == json.dumps(attributes)

    async def test_what_came_in_parts_lies_there_as_one(self, harness: Harness) -> None:
        data = noise(2 * part_size(harness.storage) + 1)
        await upload(harness.storage, "d/large", data, attributes={"k": 1})
        assert await harness.raw.read("d/large") == RawObject(data, '{"k": 1}')
        assert await harness.raw.paths() == {"d/large"}

    async def test_what_others_wrote_is_read(self, harness: Harness) -> None:
        await harness.raw.write("d/object", RawObject(b"foreign", '{"cas_raw":true,"x":"\\u00e4"}'))
        head = await harness.storage.head("d/object")
        assert head is not None
        assert (head.size, dict(head.attributes)) == (7, {"cas_raw": True, "x": "ä"})
        assert await read(harness.storage, "d/object") == b"foreign"
        assert await names(harness.storage, "d") == [("object", "d/object")]

    async def test_what_others_wrote_without_attributes_has_none(self, harness: Harness) -> None:
        await harness.raw.write("old", RawObject(b"x"))
        head = await harness.storage.head("old")
        assert head is not None
        assert dict(head.attributes) == {}

    async def test_what_others_removed_is_gone(self, harness: Harness) -> None:
        await harness.storage.put("object", b"x", attributes={"k": 1})
        await harness.raw.remove("object")
        assert await harness.storage.head("object") is None
        assert await names(harness.storage) == []

    async def test_what_others_replaced_has_another_etag(self, harness: Harness) -> None:
        before = await harness.storage.put("object", b"ours")
        await harness.raw.write("object", RawObject(b"theirs"))
        head = await harness.storage.head("object")
        assert head is not None
        assert head.etag != before.etag
        assert await read(harness.storage, "object") == b"theirs"

    @pytest.mark.parametrize("text", ["{", "[1]", "null", "no json"])
    async def test_attributes_that_are_no_json_object_are_an_integrity_error(self, harness: Harness, text: str) -> None:
        await harness.raw.write("d/damaged", RawObject(b"x", text))
        with pytest.raises(IntegrityError) as caught:
            await harness.storage.head("d/damaged")
        assert "d/damaged" in str(caught.value)
        assert caught.value.where is not None
        with pytest.raises(IntegrityError):
            await read(harness.storage, "d/damaged")
        assert await names(harness.storage, "d") == [("object", "d/damaged")]

    async def test_damaged_attributes_are_mended_by_an_overwrite(self, harness: Harness) -> None:
        await harness.raw.write("damaged", RawObject(b"x", "{"))
        await harness.storage.put("damaged", b"y", attributes={"k": 1})
        assert await harness.raw.read("damaged") == RawObject(b"y", '{"k": 1}')

    async def test_a_delete_leaves_nothing_behind(self, harness: Harness) -> None:
        await harness.storage.put("d/object", b"x", attributes={"k": 1})
        await harness.storage.delete("d/object")
        assert await harness.raw.read("d/object") is None
        assert await harness.raw.paths() == set()
        assert await harness.raw.leftovers() == set()
