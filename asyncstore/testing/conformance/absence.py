"""Absence is an answer to ``head`` and a failure of ``get``."""

from __future__ import annotations

import pytest

from asyncstore.errors import ObjectNotFoundError
from asyncstore.testing.conformance.helpers import entries, read
from asyncstore.testing.harness import Harness
from asyncstore.types import ByteRange


class AbsenceCases:
    """What a storage says of what is not there."""

    async def test_the_head_of_a_missing_object_is_none(self, harness: Harness) -> None:
        assert await harness.storage.head("missing") is None
        assert await harness.storage.head("no/such/directory") is None

    async def test_reading_a_missing_object_fails_and_names_it(self, harness: Harness) -> None:
        with pytest.raises(ObjectNotFoundError) as caught:
            await read(harness.storage, "no/such/object")
        assert caught.value.where is not None
        assert "no/such/object" in caught.value.where
        assert "no/such/object" in str(caught.value)
        assert caught.value.operation == "get"
        assert not caught.value.retryable

    async def test_reading_a_range_of_a_missing_object_fails(self, harness: Harness) -> None:
        with pytest.raises(ObjectNotFoundError):
            await read(harness.storage, "missing", byte_range=ByteRange(0, 1))

    async def test_a_missing_object_is_not_found_whatever_etag_is_asked_for(self, harness: Harness) -> None:
        with pytest.raises(ObjectNotFoundError):
            await read(harness.storage, "missing", if_match='"0123456789abcdef"')

    async def test_a_directory_is_no_object(self, harness: Harness) -> None:
        await harness.storage.put("directory/object", b"x")
        assert await harness.storage.head("directory") is None
        with pytest.raises(ObjectNotFoundError):
            await read(harness.storage, "directory")

    async def test_nothing_is_below_an_object(self, harness: Harness) -> None:
        await harness.storage.put("object", b"x")
        assert await harness.storage.head("object/below") is None
        with pytest.raises(ObjectNotFoundError):
            await read(harness.storage, "object/below")

    async def test_the_beginning_of_a_name_is_not_the_object(self, harness: Harness) -> None:
        await harness.storage.put("directory/name.json", b"x")
        assert await harness.storage.head("directory/name") is None
        assert await harness.storage.head("directory/name.json.gz") is None

    async def test_an_empty_storage_lists_nothing(self, harness: Harness) -> None:
        assert await entries(harness.storage) == []
        assert await entries(harness.storage, recursive=True) == []

    async def test_looking_leaves_no_trace(self, harness: Harness) -> None:
        await harness.storage.head("a/b")
        await entries(harness.storage, "a/b")
        await harness.storage.delete("a/b")
        assert await harness.raw.paths() == set()
