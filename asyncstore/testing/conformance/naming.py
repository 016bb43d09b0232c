"""Names that may be stored, on every backend, and names that no verb accepts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from asyncstore.errors import InvalidNameError
from asyncstore.storage.base import DataStoreStorage, PutItem, SupportsBatch, SupportsCopy
from asyncstore.testing.conformance.helpers import entries, names, part_size, read
from asyncstore.testing.harness import Harness

_LEGAL = [
    "plain", "0.data.json", "with space", "two  spaces", "plus+sign", "a&b=c", "percent%20%2F",
    "hash#mark", "what?",
    "semi;colon,comma", "quote'\"", "<angle>", "[brackets]{braces}", "dollar$at@bang!", "star*pipe|", "~tilde", "-dash",
    "..dots", "...", "trailing.", ".hidden", "ab:c",
    "UPPER", "ä/ö/ü", "日本語", "🧪", "a\u0301 combined", "_meta_", "_metal",
    "meta", "_meta.json", "asyncstore",
    ".asyncstore2", "x" * 250, "ü" * 125, "d" * 250 + "/" + "e" * 250,
]  # fmt: skip
_ILLEGAL = [
    "", "/", "/absolute", "trailing/", "double//slash", ".", "..", "a/./b", "a/../b", "../outside", "nul\0",
    "back\\slash",
    "C:", "C:/x",
    "x" * 251, "ü" * 126, "_meta", "a/_meta/b", "a/_meta", "a_meta", "0_meta", ".asyncstore", ".asyncstore/tmp/x",
    "a/.asyncstore", "\ud800",
]  # fmt: skip
_ILLEGAL_DIRECTORIES = [path for path in _ILLEGAL if path not in {"", "a_meta", "0_meta"}]

_Verb = Callable[[DataStoreStorage, str], Awaitable[object]]


async def _create_multipart(storage: DataStoreStorage, path: str) -> object:
    return await storage.create_multipart(path, part_size=part_size(storage))


async def _head_batch(storage: DataStoreStorage, path: str) -> object:
    batch = storage.power(SupportsBatch)
    return await batch.head_batch(["good", path]) if batch else await storage.head(path)


async def _get_batch(storage: DataStoreStorage, path: str) -> object:
    batch = storage.power(SupportsBatch)
    return await batch.get_batch([path], max_bytes=1) if batch else await storage.head(path)


async def _put_batch(storage: DataStoreStorage, path: str) -> object:
    batch = storage.power(SupportsBatch)
    return await batch.put_batch([PutItem(path, b"x")]) if batch else await storage.head(path)


async def _copy_from(storage: DataStoreStorage, path: str) -> object:
    copy = storage.power(SupportsCopy)
    return await copy.copy_from(copy.copy_source("good"), path) if copy else await storage.head(path)


_VERBS: dict[str, _Verb] = {
    "head": lambda storage, path: storage.head(path),
    "get": read,
    "put": lambda storage, path: storage.put(path, b"x"),
    "create": lambda storage, path: storage.put(path, b"x", mode="create"),
    "delete": lambda storage, path: storage.delete(path),
    "create_multipart": _create_multipart,
    "head_batch": _head_batch,
    "get_batch": _get_batch,
    "put_batch": _put_batch,
    "copy_from": _copy_from,
}


class NameCases:
    """What may be a path is the same everywhere."""

    @pytest.mark.parametrize("path", _LEGAL)
    async def test_a_legal_name_is_stored_found_listed_and_deleted(self, harness: Harness, path: str) -> None:
        storage = harness.storage
        await storage.put(f"in/{path}", b"below", attributes={"k": 1})
        await storage.put(path, b"content", attributes={"name": path})
        head = await storage.head(path)
        assert head is not None
        assert dict(head.attributes) == {"name": path}
        assert await read(storage, path) == b"content"
        assert await read(storage, f"in/{path}") == b"below"
        assert await names(storage, recursive=True) == [("object", each) for each in sorted([f"in/{path}", path])]
        parent = path.rpartition("/")[0]
        assert path in {entry.path for entry in await entries(storage, parent)}
        assert await harness.raw.paths() == {path, f"in/{path}"}
        await storage.delete(path)
        assert await storage.head(path) is None
        assert await storage.head(f"in/{path}") is not None

    @pytest.mark.parametrize("verb", _VERBS)
    async def test_no_verb_takes_an_illegal_name(self, harness: Harness, verb: str) -> None:
        await harness.storage.put("good", b"x")
        for path in _ILLEGAL:
            with pytest.raises(InvalidNameError) as caught:
                await _VERBS[verb](harness.storage, path)
            assert caught.value.where == path
            assert not caught.value.retryable
        assert await harness.raw.paths() == {"good"}
        assert await harness.raw.leftovers() == set()

    @pytest.mark.parametrize("recursive", [False, True])
    async def test_no_listing_takes_an_illegal_name(self, harness: Harness, recursive: bool) -> None:  # noqa: FBT001
        for path in _ILLEGAL_DIRECTORIES:
            with pytest.raises(InvalidNameError) as caught:
                await entries(harness.storage, path, recursive=recursive)
            assert caught.value.where == path

    async def test_names_that_differ_by_little_are_different_objects(self, harness: Harness) -> None:
        paths = ["a b", "a+b", "a%20b", "a%2Bb", "a/b", "a%2Fb", "a.b", "a_b", "ab", "a", "A B"]
        paths = [path for path in paths if path != "a"]
        for path in paths:
            await harness.storage.put(path, path.encode())
        for path in paths:
            assert await read(harness.storage, path) == path.encode()
        assert await names(harness.storage, recursive=True) == [("object", path) for path in sorted(paths)]
