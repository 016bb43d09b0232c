"""Objects are listed by directory, by tree, or one alone."""

from __future__ import annotations

import pytest

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.errors import ObjectNotFoundError
from asyncstore.maintain.objects import list_objects
from asyncstore.storage.base import DataStoreStorage


async def names(storage: DataStoreStorage, path: str = "", *, recursive: bool = False) -> list[tuple[str, str]]:
    async with list_objects(storage, path, recursive=recursive) as entries:
        return [(entry.path, entry.kind) async for entry in entries]


async def test_a_directory_is_listed_sorted_and_a_tree_whole(store: ContentAddressedStore) -> None:
    storage = store.storage
    assert await names(storage) == []
    for path in ("d/z", "b", "a", "d/e/f"):
        await storage.put(path, b"12")
    assert await names(storage) == [("a", "object"), ("b", "object"), ("d", "directory")]
    assert await names(storage, "/d/") == [("d/e", "directory"), ("d/z", "object")]
    assert sorted(await names(storage, "d", recursive=True)) == [("d/e/f", "object"), ("d/z", "object")]


async def test_a_single_object_is_listed_with_what_is_known_of_it(store: ContentAddressedStore) -> None:
    await store.storage.put("d/a", b"12")
    async with list_objects(store.storage, "d/a") as entries:
        (entry,) = [entry async for entry in entries]
    assert (entry.path, entry.kind, entry.size) == ("d/a", "object", 2)
    assert entry.modified is not None


async def test_a_path_with_nothing_at_it_is_an_error(store: ContentAddressedStore) -> None:
    with pytest.raises(ObjectNotFoundError, match="there is no object or directory 'd/a' in memory://test"):
        await names(store.storage, "d/a")
