"""The small JSON document stored with an object."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from asyncstore.errors import ConfigError, StorageError
from asyncstore.testing.conformance.helpers import names, read, upload
from asyncstore.testing.harness import Harness
from asyncstore.types import Attributes, Json

_DOCUMENTS: dict[str, dict[str, Any]] = {
    "as a blob has them": {"cas_raw": False, "cas_version": 1, "cas_codec": "lz4-frame", "cas_size": 2**40},
    "every kind of value": {
        "n": None,
        "t": True,
        "f": False,
        "i": -7,
        "x": 0.1,
        "s": "text",
        "l": [1, [2]],
        "o": {"a": {}},
    },
    "numbers at their ends": {
        "big": 2**64,
        "small": -(2**64),
        "tiny": 5e-324,
        "huge": 1.7976931348623157e308,
        "zero": -0.0,
    },
    "not ascii": {"ä": "ö", "日本": "語", "emoji": "🧪", "mixed": "a\u0301"},
    "not printable": {"controls": "\x00\x01\x1f\x7f", "lines": "a\r\nb\tc", "surrogate": "\ud800"},
    "quoting": {"quote\"'": "back\\slash", "semi;colon": "a=b&c, d", "percent%20": "%41+ ", "": ""},
    "spaces at the ends": {" key ": "  value  ", "trailing": "x "},
    "html": {"<b>": "&amp;</b>"},
}


def _filled(size: int) -> dict[str, Any]:
    return {"k": "x" * (size - len(json.dumps({"k": ""})))}


class AttributeCases:
    """Attributes come back equal, belong to one object, and have a limit."""

    @pytest.mark.parametrize("document", _DOCUMENTS)
    async def test_any_json_object_comes_back_equal(self, harness: Harness, document: str) -> None:
        attributes = _DOCUMENTS[document]
        put = await harness.storage.put("d/object", b"x", attributes=attributes)
        head = await harness.storage.head("d/object")
        async with harness.storage.get("d/object") as reader:
            got = reader.meta
        assert head is not None
        assert dict(put.attributes) == dict(head.attributes) == dict(got.attributes) == attributes

    async def test_none_and_empty_attributes_are_the_same(self, harness: Harness) -> None:
        cases: list[tuple[str, Attributes | None]] = [("none", None), ("empty", {})]
        for path, attributes in cases:
            meta = await harness.storage.put(path, b"x", attributes=attributes)
            head = await harness.storage.head(path)
            assert head is not None
            assert dict(meta.attributes) == dict(head.attributes) == {}
            raw = await harness.raw.read(path)
            assert raw is not None
            assert raw.attributes is None

    async def test_2000_bytes_are_allowed(self, harness: Harness) -> None:
        attributes = _filled(2000)
        if not harness.traits.can("large attributes"):
            with pytest.raises(StorageError):
                await harness.storage.put("object", b"x", attributes=attributes)
            attributes = _filled(1500)
        await harness.storage.put("object", b"x", attributes=attributes)
        head = await harness.storage.head("object")
        assert head is not None
        assert dict(head.attributes) == attributes

    @pytest.mark.parametrize(
        "attributes", [_filled(2001), {"k": "ä" * 400}, {"k": math.nan}, {"k": {1: 2}}, {"k": b""}]
    )
    async def test_larger_ones_and_what_is_no_json_are_refused_before_anything_is_stored(
        self, harness: Harness, attributes: Any
    ) -> None:
        with pytest.raises(ConfigError):
            await harness.storage.put("object", b"x", attributes=attributes)
        with pytest.raises(ConfigError):
            await upload(harness.storage, "object", b"x", attributes=attributes)
        assert await harness.raw.paths() == set()
        assert await harness.raw.leftovers() == set()

    async def test_an_overwrite_replaces_the_attributes(self, harness: Harness) -> None:
        await harness.storage.put("object", b"x", attributes={"a": 1, "b": 2})
        await harness.storage.put("object", b"x", attributes={"b": 3})
        head = await harness.storage.head("object")
        assert head is not None
        assert dict(head.attributes) == {"b": 3}

    async def test_an_overwrite_without_attributes_drops_them(self, harness: Harness) -> None:
        await harness.storage.put("object", b"x", attributes={"a": 1})
        await harness.storage.put("object", b"y")
        head = await harness.storage.head("object")
        assert head is not None
        assert dict(head.attributes) == {}
        raw = await harness.raw.read("object")
        assert raw is not None
        assert (raw.data, raw.attributes) == (b"y", None)

    async def test_a_new_object_does_not_inherit_the_attributes_of_a_deleted_one(self, harness: Harness) -> None:
        await harness.storage.put("object", b"x", attributes={"a": 1})
        await harness.storage.delete("object")
        await harness.storage.put("object", b"y")
        head = await harness.storage.head("object")
        assert head is not None
        assert dict(head.attributes) == {}

    async def test_attributes_are_no_objects_of_their_own(self, harness: Harness) -> None:
        await harness.storage.put("d/object", b"x", attributes={"a": 1})
        assert await names(harness.storage, "d") == [("object", "d/object")]
        assert await names(harness.storage, recursive=True) == [("object", "d/object")]

    async def test_an_empty_object_has_attributes_too(self, harness: Harness) -> None:
        await harness.storage.put("object", b"", attributes={"a": 1})
        head = await harness.storage.head("object")
        assert head is not None
        assert dict(head.attributes) == {"a": 1}

    async def test_two_objects_do_not_share_attributes(self, harness: Harness) -> None:
        await harness.storage.put("d/a", b"x", attributes={"k": 1})
        await harness.storage.put("d/b", b"x", attributes={"k": 2})
        heads = [await harness.storage.head(path) for path in ("d/a", "d/b")]
        assert [head and head.attributes["k"] for head in heads] == [1, 2]

    async def test_attributes_are_those_of_the_moment_of_the_put(self, harness: Harness) -> None:
        value: list[Json] = [1]
        await harness.storage.put("object", b"x", attributes={"k": value})
        value.append(2)
        await read(harness.storage, "object")
        head = await harness.storage.head("object")
        assert head is not None
        assert dict(head.attributes) == {"k": [1]}
