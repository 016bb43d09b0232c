"""A tree that is saved is restored as it was, or not at all."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import anyio
import pytest

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.errors import (
    AccessDeniedError,
    AsyncStoreError,
    BlobNotFoundError,
    CorruptBlobError,
    InvalidNameError,
    NotFoundError,
    StorageError,
)
from asyncstore.layout import blob_path
from asyncstore.maintain import restore as restore_module
from asyncstore.maintain.manifest import DirectoryEntry, Entry, FileEntry, LinkEntry
from asyncstore.maintain.restore import fetch, restore
from asyncstore.maintain.save import SavedEntry, save_paths
from asyncstore.maintain.walk import LeftOut
from asyncstore.types import Key
from tests.maintain.conftest import picture

ABSENT = Key("0" * 40)


async def save(store: ContentAddressedStore, *paths: Path) -> list[SavedEntry]:
    async with save_paths(store, paths) as saved:
        found = [entry async for entry in saved]
    assert [item for item in found if isinstance(item, LeftOut)] == []
    return [item for item in found if isinstance(item, SavedEntry)]


async def bring_back(store: ContentAddressedStore, entries: list[Entry], target: Path) -> list[Entry]:
    async with restore(store, entries, target) as restored:
        done = [one async for one in restored]
    assert [one.error for one in done] == [None] * len(done)
    return [one.item for one in done]


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("*")}


def leftovers(directory: Path) -> list[Path]:
    return list(directory.rglob("*.asyncstore-part"))


async def test_a_restored_tree_equals_the_original(store: ContentAddressedStore, tree: Path, tmp_path: Path) -> None:
    entries = [item.entry for item in await save(store, tree)]
    restored = await bring_back(store, entries, tmp_path / "copy" / "here")
    assert picture(tmp_path / "copy" / "here" / "tree") == picture(tree)
    assert sorted(entry.name for entry in restored) == sorted(entry.name for entry in entries)
    assert leftovers(tmp_path / "copy") == []


async def test_entries_come_by_name_and_tell_what_was_new(
    store: ContentAddressedStore, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncstore.maintain.save.BATCH_ENTRIES", 3)
    first = await save(store, tree)
    assert [item.entry.name for item in first] == sorted(item.entry.name for item in first)
    blobs = {item.entry.name: item.blob for item in first}
    assert blobs["tree/empty"] is None
    assert blobs["tree/beside"] is None
    plain, same = blobs["tree/plain.txt"], blobs["tree/same"]
    assert plain is not None
    assert same is not None
    assert plain.key == same.key
    assert (plain.existed, same.existed) == (False, True)
    assert all(item.blob.existed for item in await save(store, tree) if item.blob is not None)


async def test_several_files_and_trees_are_saved_side_by_side(
    store: ContentAddressedStore, tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "one").write_bytes(b"1")
    names = [item.entry.name for item in await save(store, tmp_path / "one", tree / "deep")]
    assert names[0] == "one"
    assert "deep/up" in names
    with pytest.raises(InvalidNameError, match="would both be called 'deep'"):
        await save(store, tree / "deep", tmp_path / "deep")
    with pytest.raises(InvalidNameError, match="'/' has no name"):
        await save(store, Path("/"))


async def test_a_directory_named_by_a_dot_or_a_link_is_saved_under_its_name(
    store: ContentAddressedStore, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree / "deep" / "er")
    assert [item.entry.name for item in await save(store, Path())] == ["er/ümläut \n name"]
    (tmp_path / "alias").symlink_to(tree / "deep" / "er")
    assert [item.entry.name for item in await save(store, tmp_path / "alias")] == ["alias/ümläut \n name"]


async def test_a_link_out_of_the_tree_counts_as_the_file_it_leads_to(
    store: ContentAddressedStore, tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").write_bytes(b"from outside")
    (tree / "deep" / "out").symlink_to("../../../outside")
    (tree / "deep" / "absolute").symlink_to(tree / "plain.txt")
    entries = [item.entry for item in await save(store, tree)]
    await bring_back(store, entries, tmp_path / "copy")
    for name, content in (("out", b"from outside"), ("absolute", b"plain\n" * 1000)):
        path = tmp_path / "copy" / "tree" / "deep" / name
        assert (path.is_symlink(), path.read_bytes()) == (False, content)


@pytest.mark.parametrize("target", ["/nowhere/at/all", "../../elsewhere", ".."])
async def test_a_link_out_of_the_tree_to_anything_else_is_refused(
    store: ContentAddressedStore, tree: Path, target: str
) -> None:
    (tree / "link").symlink_to(target)
    with pytest.raises(InvalidNameError, match="leads out of the tree"):
        await save(store, tree)


async def test_what_is_no_file_is_left_out_and_told(store: ContentAddressedStore, tree: Path) -> None:
    whole = await save(store, tree)
    os.mkfifo(tree / "deep" / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "socket"))
        async with save_paths(store, [tree]) as saved:
            found = [item async for item in saved]
    left_out = [item for item in found if isinstance(item, LeftOut)]
    assert [item.path for item in left_out] == [str(tree / "deep" / "pipe"), str(tree / "socket")]
    assert [item.entry for item in found if isinstance(item, SavedEntry)] == [item.entry for item in whole]


async def test_a_file_that_is_not_there_is_an_error(store: ContentAddressedStore, tree: Path) -> None:
    with pytest.raises(NotFoundError, match=r"there is no file or directory .*missing"):
        await save(store, tree / "missing")


@pytest.mark.parametrize(("at", "name"), [("tree", "tree/a"), ("tree/deep", "tree/deep/er/a")])
async def test_nothing_is_written_through_a_link_that_is_in_place(
    store: ContentAddressedStore, tmp_path: Path, at: str, name: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "target"
    (target / at).parent.mkdir(parents=True)
    (target / at).symlink_to(outside)
    key = (await store.save_blob(b"x")).key
    with pytest.raises(StorageError, match="is a symbolic link, and nothing is restored through one"):
        await bring_back(store, [FileEntry(name, key, 1, 0o644)], target)
    assert list(outside.iterdir()) == []


async def test_a_file_or_link_in_place_is_replaced_and_not_followed(
    store: ContentAddressedStore, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"keep")
    target = tmp_path / "target"
    target.mkdir()
    (target / "a").symlink_to(outside)
    (target / "b").write_bytes(b"old")
    (target / "c").write_bytes(b"old")
    key = (await store.save_blob(b"new")).key
    entries: list[Entry] = [FileEntry(name, key, 3, 0o644) for name in "ab"]
    await bring_back(store, [*entries, LinkEntry("c", "a")], target)
    assert [(target / name).read_bytes() for name in "abc"] == [b"new"] * 3
    assert [(target / name).is_symlink() for name in "abc"] == [False, False, True]
    assert outside.read_bytes() == b"keep"


@pytest.mark.parametrize(
    ("entry", "in_place"),
    [
        (FileEntry("a", Key("11f6ad8ec52a2984abaafd7c3b516503785c2072"), 1, 0o644), "a/directory"),
        (FileEntry("a/b", Key("11f6ad8ec52a2984abaafd7c3b516503785c2072"), 1, 0o644), "a"),
        (DirectoryEntry("a"), "a"),
        (LinkEntry("a", "b"), "a/directory"),
    ],
)
async def test_a_directory_is_never_replaced_by_a_file_nor_a_file_by_a_directory(
    store: ContentAddressedStore, tmp_path: Path, entry: Entry, in_place: str
) -> None:
    path = tmp_path / in_place
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"keep")
    await store.save_blob(b"x")
    with pytest.raises(StorageError):
        await bring_back(store, [entry], tmp_path)
    assert path.read_bytes() == b"keep"
    assert leftovers(tmp_path) == []


async def damage(store: ContentAddressedStore, key: Key) -> None:
    path = blob_path(store.prefix, key)
    meta = await store.storage.head(path)
    assert meta is not None
    await store.storage.put(path, b"\x1f\x8bnot what it was", attributes=meta.attributes)


@pytest.mark.parametrize("size", [10, restore_module.SMALL + 1])
async def test_a_damaged_or_missing_blob_never_becomes_a_file(
    store: ContentAddressedStore, tmp_path: Path, size: int
) -> None:
    key = (await store.save_blob(bytes(size))).key
    await damage(store, key)
    whole = (await store.save_blob(b"whole")).key
    entries = [FileEntry("a", key, size, 0o644), FileEntry("b", ABSENT, size, 0o644), FileEntry("c", whole, 5, 0o644)]
    async with restore(store, [*entries, DirectoryEntry("d")], tmp_path / "copy") as restored:
        outcomes = {one.item.name: type(one.error) async for one in restored}
    nothing = type(None)
    assert outcomes == {"a": CorruptBlobError, "b": BlobNotFoundError, "c": nothing, "d": nothing}
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["c", "d"]
    async with fetch(store, [key, ABSENT, whole], tmp_path / "keys") as fetched:
        by_key = {one.item: type(one.error) async for one in fetched}
    assert by_key == {key: CorruptBlobError, ABSENT: BlobNotFoundError, whole: nothing}
    assert contents(tmp_path / "keys") == {whole: b"whole"}


@pytest.mark.parametrize("bad", [1, 700])
async def test_whatever_is_not_damaged_is_restored_wherever_the_damage_is(
    store: ContentAddressedStore, tmp_path: Path, bad: int
) -> None:
    blobs = await store.save_blobs(b"%d" % number for number in range(700))
    for blob in blobs[:: 700 // bad]:
        await damage(store, blob.key)
    entries = [FileEntry(f"{number}", blob.key, blob.size, 0o644) for number, blob in enumerate(blobs)]
    twins = [FileEntry(f"twin {entry.name}", entry.key, entry.size, 0o644) for entry in entries]
    async with restore(store, [*entries, *twins], tmp_path / "copy") as restored:
        outcomes = [(one.item.name, one.error is not None) async for one in restored]
    assert len(outcomes) == len(dict(outcomes)) == 1400
    assert sum(lost for _, lost in outcomes) == 2 * bad
    assert contents(tmp_path / "copy") == {
        name: name.removeprefix("twin ").encode() for name, lost in outcomes if not lost
    }


async def test_blobs_are_fetched_to_files_called_by_their_keys(store: ContentAddressedStore, tmp_path: Path) -> None:
    blobs = {(await store.save_blob(content)).key: content for content in (b"", b"1", os.urandom(3_000_000))}
    async with fetch(store, blobs, tmp_path / "new" / "place") as restored:
        sizes = {one.item: one.size async for one in restored}
    assert sizes == {key: len(content) for key, content in blobs.items()}
    assert contents(tmp_path / "new" / "place") == blobs


async def test_a_directory_that_may_not_be_read_or_written_is_an_error_with_its_path(
    store: ContentAddressedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "closed").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("os.listdir", deny)  # root may read everything, so the system's refusal is played
        with pytest.raises(AccessDeniedError, match=r"cannot read .*closed"):
            await save(store, tmp_path / "closed")
    with monkeypatch.context() as patch:
        patch.setattr("os.mkdir", deny)
        with pytest.raises(AccessDeniedError, match=r"cannot create .*new"):
            await bring_back(store, [DirectoryEntry("new")], tmp_path / "closed")


@pytest.mark.parametrize("milliseconds", [0, 1, 3, 10, 30, 100])
@pytest.mark.parametrize("native", [False, True])
async def test_a_cancelled_restore_leaves_no_partial_file(
    store: ContentAddressedStore, tmp_path: Path, milliseconds: int, native: bool
) -> None:
    content = os.urandom(restore_module.SMALL + 1)
    key = (await store.save_blob(content)).key
    entries: list[Entry] = [FileEntry(f"{number}", key, len(content), 0o600) for number in range(500)]
    if native:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(bring_back(store, entries, tmp_path / "copy"), milliseconds / 1000)
    else:
        with anyio.move_on_after(milliseconds / 1000) as scope:
            await bring_back(store, entries, tmp_path / "copy")
        assert scope.cancelled_caught
    assert leftovers(tmp_path) == []
    assert set(contents(tmp_path / "copy").values()) <= {content}
    assert store.storage.runtime.memory.used == 0


async def test_leaving_early_ends_a_save_and_a_restore(
    store: ContentAddressedStore, tree: Path, tmp_path: Path
) -> None:
    async with save_paths(store, [tree]) as saved:
        first = await anext(aiter(saved))
    assert isinstance(first, SavedEntry)
    assert first.entry.name == "tree/beside"
    entries = [item.entry for item in await save(store, tree)]
    async with restore(store, entries, tmp_path / "copy") as restored:
        await anext(aiter(restored))
    assert leftovers(tmp_path) == []
    assert store.storage.runtime.memory.used == 0


async def test_a_failure_of_the_entries_is_the_failure_of_the_restore(
    store: ContentAddressedStore, tmp_path: Path
) -> None:
    def entries():
        yield DirectoryEntry("made")
        raise AsyncStoreError("the manifest ends here")

    with pytest.raises(AsyncStoreError, match="the manifest ends here"):
        async with restore(store, entries(), tmp_path) as restored:
            assert [entry async for entry in restored] == []
