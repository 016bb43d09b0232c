"""A check names each damaged blob and no other, and never passes over what it could not see."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.errors import AccessDeniedError, NotFoundError, StorageUnavailableError
from asyncstore.maintain.check import Checked, CheckTotals, check_blobs, find_blob_directories
from asyncstore.storage.base import DataStoreStorage
from asyncstore.storage.memory import MemoryStorage
from asyncstore.storage.registry import open_storage
from tests.golden import expected, extract


async def check(storage: DataStoreStorage) -> tuple[dict[str, Checked], CheckTotals]:
    totals = CheckTotals()
    seen: dict[str, Checked] = {}
    async with check_blobs(storage, await find_blob_directories(storage)) as blobs:
        async for blob in blobs:
            totals.add(blob)
            seen[blob.path] = blob
    return seen, totals


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extract(tmp_path_factory.mktemp("golden"), below="TourFlow/data")


@pytest.mark.parametrize("above", [".metaflow", "", ".metaflow/TourFlow", ".metaflow/TourFlow/data"])
async def test_every_blob_that_metaflow_wrote_is_verified_from_any_root_above_it(golden: Path, above: str) -> None:
    async with open_storage(golden.parent / above) as storage:
        seen, totals = await check(storage)
    assert {blob.key for blob in seen.values()} == set(expected()["blobs"])
    assert all(blob.error is None for blob in seen.values())
    assert (totals.blobs, totals.damaged, totals.unreadable, totals.unanswered) == (132, 0, 0, 0)
    # Sizes are of stored pickles; files that were included are stored as they are.
    sizes = {key: blob["pickle_size"] for key, blob in expected()["blobs"].items() if blob.get("pickle_size")}
    assert {blob.key: blob.size for blob in seen.values() if blob.key in sizes} == sizes


async def test_exactly_the_three_damaged_blobs_are_named_with_their_cause(golden: Path, tmp_path: Path) -> None:
    root = shutil.copytree(golden, tmp_path / "copy")
    keys = sorted(key for key, blob in expected()["blobs"].items())
    flipped, emptied, replaced = (root / expected()["blobs"][keys[number]]["stored_file"] for number in (3, 50, 100))
    body = bytearray(flipped.read_bytes())
    body[len(body) // 2] ^= 1
    flipped.write_bytes(body)
    emptied.write_bytes(b"")
    replaced.write_bytes(gzip.compress(b"another content"))
    async with open_storage(root) as storage:
        seen, totals = await check(storage)
    damaged = {path: blob.cause for path, blob in seen.items() if blob.damaged}
    assert damaged.keys() == {path.relative_to(root).as_posix() for path in (flipped, emptied, replaced)}
    assert damaged[replaced.relative_to(root).as_posix()].startswith("its content hashes to ")
    assert (totals.blobs, totals.damaged, totals.unreadable) == (132, 3, 0)


async def test_stores_at_any_depth_are_found_and_other_objects_are_not_taken_for_blobs(
    store: ContentAddressedStore,
) -> None:
    storage = store.storage
    for prefix in ("files/data", "files/old/deep/data", ""):
        await ContentAddressedStore(prefix, storage).save_blobs([prefix.encode(), b"both"])
    await storage.put("files/data/ab/not-a-key", b"x")
    await storage.put(f"files/data/ab/{'0' * 40}", b"x")
    directories = await find_blob_directories(storage)
    assert [(each.prefix, each.blobs) for each in directories] == [
        ("", 2),
        ("files/data", 2),
        ("files/old/deep/data", 2),
    ]
    assert all(each.stored_bytes > 0 for each in directories)
    seen, _ = await check(storage)
    assert len(seen) == 6


async def test_a_check_with_nothing_to_check_is_a_failure(store: ContentAddressedStore) -> None:
    await store.storage.put("files/a", b"x")
    with pytest.raises(NotFoundError, match="there is no blob below memory://test, so nothing was checked"):
        await find_blob_directories(store.storage)


async def test_keys_are_held_in_memory_a_bounded_number_at_a_time(
    store: ContentAddressedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.save_blobs([b"%d" % number for number in range(100)])
    asked: list[int] = []
    verify = ContentAddressedStore.verify_blobs

    def counted(self: ContentAddressedStore, keys: Any) -> Any:
        asked.append(len(list(keys)))
        return verify(self, keys)

    monkeypatch.setattr(ContentAddressedStore, "verify_blobs", counted)
    monkeypatch.setattr("asyncstore.maintain.check.BATCH_KEYS", 30)
    seen, _ = await check(store.storage)
    assert len(seen) == 100
    assert asked == [30, 30, 30, 10]


class Refusing(MemoryStorage):
    """Refuses what a test tells it to, by the script of a fault."""

    fault: Exception | None = None
    list_fault: Exception | None = None
    refused: str | None = None

    def power(self, kind: type[Any]) -> None:
        return None

    @asynccontextmanager
    async def get(self, path: str, **options: Any) -> AsyncIterator[Any]:
        if self.fault is not None and (self.refused is None or path == self.refused):
            raise self.fault
        async with super().get(path, **options) as reader:
            yield reader

    @asynccontextmanager
    async def list(self, prefix: str, *, recursive: bool = False) -> AsyncIterator[Any]:
        async with super().list(prefix, recursive=recursive) as entries:

            async def broken() -> AsyncIterator[Any]:
                async for entry in entries:
                    yield entry
                    if prefix and self.list_fault is not None:
                        raise self.list_fault

            yield broken()


async def test_what_cannot_be_read_is_told_from_what_is_damaged_and_from_what_gave_no_answer(
    store: ContentAddressedStore,
) -> None:
    storage = Refusing("refusing", runtime=store.storage.runtime)
    saved = await ContentAddressedStore("a/data", storage).save_blobs([b"1", b"2", b"3"])
    storage.refused = f"a/data/{saved[1].key[:2]}/{saved[1].key}"
    storage.fault = AccessDeniedError("may not be read", where=storage.refused)
    seen, totals = await check(storage)
    assert {path: blob.cause for path, blob in seen.items() if blob.error} == {storage.refused: "may not be read"}
    assert (totals.blobs, totals.damaged, totals.unreadable, totals.unanswered) == (3, 0, 1, 0)
    storage.refused, storage.fault = None, StorageUnavailableError("no answer")
    _, totals = await check(storage)
    assert (totals.blobs, totals.damaged, totals.unreadable, totals.unanswered) == (3, 0, 0, 3)


async def test_a_listing_that_breaks_off_is_a_failure_and_not_the_end_of_the_check(
    store: ContentAddressedStore,
) -> None:
    storage = Refusing("refusing", runtime=store.storage.runtime)
    await ContentAddressedStore("a/data", storage).save_blobs([b"1", b"2", b"3"])
    storage.list_fault = StorageUnavailableError("the listing broke off")
    with pytest.raises(StorageUnavailableError, match="the listing broke off"):
        await check(storage)
