"""Listings go by directory, never by string prefix."""

from __future__ import annotations

import anyio
import pytest

from asyncstore.testing.conformance.helpers import entries, names
from asyncstore.testing.harness import Harness, RawObject

_TREE = ["a/x", "a/y", "a/b/z", "a/b/c/deep", "ab/x", "a.b/x", "a-", "a0", "b", "z/only/below"]


async def _plant(harness: Harness) -> None:
    for path in _TREE:
        await harness.storage.put(path, path.encode(), attributes={"k": path})


class ListingCases:
    """What a directory holds, and what a tree holds."""

    async def test_the_root_lists_its_objects_and_directories(self, harness: Harness) -> None:
        await _plant(harness)
        directories = [("directory", name) for name in ("a", "a.b", "ab", "z")]
        assert await names(harness.storage) == directories + [("object", name) for name in ("a-", "a0", "b")]

    async def test_a_directory_lists_what_is_in_it_and_not_its_neighbours(self, harness: Harness) -> None:
        await _plant(harness)
        assert await names(harness.storage, "a") == [("directory", "a/b"), ("object", "a/x"), ("object", "a/y")]
        assert await names(harness.storage, "a/b") == [("directory", "a/b/c"), ("object", "a/b/z")]
        assert await names(harness.storage, "ab") == [("object", "ab/x")]
        assert await names(harness.storage, "z") == [("directory", "z/only")]

    async def test_a_tree_lists_its_objects_only(self, harness: Harness) -> None:
        await _plant(harness)
        assert await names(harness.storage, recursive=True) == [("object", path) for path in sorted(_TREE)]
        below = [("object", path) for path in sorted(_TREE) if path.startswith("a/")]
        assert await names(harness.storage, "a", recursive=True) == below
        assert await names(harness.storage, "z/only", recursive=True) == [("object", "z/only/below")]

    @pytest.mark.parametrize("recursive", [False, True])
    @pytest.mark.parametrize("path", ["missing", "a/missing", "a/x", "b", "b/below", "a/x/below", "z/on", "A", "a/b_"])
    async def test_a_missing_path_and_an_object_list_nothing(
        self,
        harness: Harness,
        path: str,
        recursive: bool,  # noqa: FBT001
    ) -> None:
        await _plant(harness)
        assert await names(harness.storage, path, recursive=recursive) == []

    @pytest.mark.parametrize("recursive", [False, True])
    async def test_entries_say_what_head_says(self, harness: Harness, recursive: bool) -> None:  # noqa: FBT001
        await harness.storage.put("d/empty", b"")
        await harness.storage.put("d/object", b"12345", attributes={"k": 1})
        await harness.storage.put("d/sub/object", b"1")
        for entry in await entries(harness.storage, "d", recursive=recursive):
            if entry.kind == "directory":
                assert (entry.path, entry.size, entry.etag, entry.modified) == ("d/sub", None, None, None)
                continue
            head = await harness.storage.head(entry.path)
            assert head is not None
            assert entry.size == head.size
            assert entry.etag in {None, head.etag}

    async def test_no_path_begins_or_ends_with_a_slash(self, harness: Harness) -> None:
        await _plant(harness)
        for recursive in (False, True):
            for prefix in ("", "a", "z"):
                for entry in await entries(harness.storage, prefix, recursive=recursive):
                    assert entry.path == entry.path.strip("/")
                    assert entry.path.startswith(f"{prefix}/" if prefix else "")

    async def test_a_directory_goes_with_its_last_object(self, harness: Harness) -> None:
        await harness.storage.put("d/e/f/object", b"x", attributes={"k": 1})
        await harness.storage.put("d/stays", b"x")
        await harness.storage.delete("d/e/f/object")
        assert await names(harness.storage, "d") == [("object", "d/stays")]
        await harness.storage.delete("d/stays")
        assert await names(harness.storage) == []
        assert await names(harness.storage, recursive=True) == []

    async def test_a_long_listing_is_complete_and_without_repetitions(self, harness: Harness) -> None:
        count = harness.traits.listed
        paths = [f"{number:05d}" for number in range(count)]
        await harness.raw.seed("long/data", paths)
        expected = [("object", f"long/data/{path}") for path in paths]
        assert await names(harness.storage, "long/data") == expected
        assert await names(harness.storage, "long", recursive=True) == expected
        assert await names(harness.storage, "long") == [("directory", "long/data")]

    async def test_many_directories_are_listed_each_once(self, harness: Harness) -> None:
        for number in range(12):
            for name in ("a", "b"):
                await harness.storage.put(f"shards/{number:02d}/{name}", b"")
        expected = [("directory", f"shards/{number:02d}") for number in range(12)]
        assert await names(harness.storage, "shards") == expected

    async def test_what_is_reserved_is_hidden(self, harness: Harness) -> None:
        await harness.storage.put("object", b"x", attributes={"k": 1})
        await harness.raw.write(".asyncstore/tmp/instance/leftover", RawObject(b"x"))
        assert await names(harness.storage) == [("object", "object")]
        assert await names(harness.storage, recursive=True) == [("object", "object")]
        await harness.raw.remove(".asyncstore/tmp/instance/leftover")

    async def test_a_directory_may_be_called_as_a_sidecar_is(self, harness: Harness) -> None:
        await harness.storage.put("a_meta/object", b"x", attributes={"k": 1})
        assert await names(harness.storage) == [("directory", "a_meta")]
        assert await names(harness.storage, "a_meta") == [("object", "a_meta/object")]
        assert await names(harness.storage, recursive=True) == [("object", "a_meta/object")]

    async def test_a_listing_may_be_left_early(self, harness: Harness) -> None:
        await _plant(harness)
        for recursive in (False, True):
            async with harness.storage.list("", recursive=recursive) as found:
                async for entry in found:
                    assert entry.path
                    break
            async with harness.storage.list("", recursive=recursive):
                pass
        assert len(await entries(harness.storage, recursive=True)) == len(_TREE)

    async def test_the_storage_works_while_a_listing_is_read(self, harness: Harness) -> None:
        await _plant(harness)
        deleted: set[str] = set()
        with anyio.fail_after(60):
            async with harness.storage.list("", recursive=True) as found:
                async for entry in found:
                    assert await harness.storage.head(entry.path) is not None
                    await harness.storage.delete(entry.path)
                    deleted.add(entry.path)
        assert deleted == set(_TREE)
        assert await names(harness.storage) == []

    async def test_two_listings_run_side_by_side(self, harness: Harness) -> None:
        await _plant(harness)
        async with harness.storage.list("a") as one, harness.storage.list("", recursive=True) as two:
            pairs = [(await anext(one)).path, (await anext(two)).path]
            rest = [entry.path async for entry in two], [entry.path async for entry in one]
        assert {pairs[0], *rest[1]} == {"a/b", "a/x", "a/y"}
        assert {pairs[1], *rest[0]} == set(_TREE)
