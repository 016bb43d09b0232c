"""Every point at which the power may fail while blobs are saved: each blob that is found loads, verified."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.layout import split_blob_path
from asyncstore.runtime import Runtime
from asyncstore.storage.local import LocalStorage
from asyncstore.types import Key, Limits
from tests.crash.disk import RecordingCalls, Tree, build

BLOBS = [b"", b"small", b"shrinks " * 100, bytes(range(256)) * 3]


def key_of(blob: bytes) -> Key:
    return Key(hashlib.sha1(blob).hexdigest())


@pytest.mark.parametrize("codec", ["gzip", "lz4"])
async def test_each_blob_found_after_a_power_failure_loads_and_what_was_saved_is_found(
    scratch: Path, codec: str
) -> None:
    base = scratch / "real"
    base.mkdir()
    calls = RecordingCalls(str(base))
    async with Runtime(Limits(threads=1)) as runtime:
        storage = LocalStorage(base / "root", runtime=runtime, durability="safe", calls=calls)
        store = ContentAddressedStore("F/data", storage, codec=codec)
        saved: dict[int, int] = {}
        for number, blob in enumerate(BLOBS):
            await store.save_blobs([blob, b"beside " + blob])
            saved[len(calls.snapshots) - 1] = number + 1
        await storage.aclose()

        checked: set[tuple[Tree, int]] = set()
        must = 0
        for point, disk in enumerate(calls.snapshots):
            must = saved.get(point, must)
            for tree in disk.crashes():
                if (tree, must) in checked:
                    continue
                checked.add((tree, must))
                copy = scratch / f"crash{len(checked)}"
                build(tree, str(copy))
                after = LocalStorage(copy / "root", runtime=runtime)
                found = await load_all_that_is_listed(after)
                for blob in BLOBS[:must]:
                    assert found[key_of(blob)] == blob
                    assert found[key_of(b"beside " + blob)] == b"beside " + blob
    assert must == len(BLOBS)
    assert len(checked) > 50


async def load_all_that_is_listed(storage: LocalStorage) -> dict[Key, bytes]:
    async with storage.list("F/data", recursive=True) as entries:
        keys = [found[1] async for entry in entries if (found := split_blob_path(entry.path)) is not None]
    async with ContentAddressedStore("F/data", storage).load_blobs(keys) as loaded:
        return {key: content async for key, content in loaded}
