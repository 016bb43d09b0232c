"""Two processes that save the same blobs in different forms: no body ever has the other's attributes."""

from __future__ import annotations

import hashlib
import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.layout import blob_path
from asyncstore.runtime import Runtime
from asyncstore.storage.local import LocalStorage
from asyncstore.types import Key, Limits
from tests.compat.metaflow_store import MetaflowStore

ROUNDS = 20
BLOBS = 200
PREFIX = "F/data"


def blobs_of(number: int) -> list[bytes]:
    # Two thousand bytes that shrink well, so that gzip is what the one writes.
    return [b"%d %d " % (number, n) * 300 for n in range(BLOBS)]


KEYS = [Key(hashlib.sha1(blob).hexdigest()) for number in range(ROUNDS) for blob in blobs_of(number)]


def save(root: str, form: str, turn: Barrier) -> None:
    async def work() -> None:
        async with Runtime(Limits(threads=2)) as runtime:
            storage = LocalStorage(root, runtime=runtime, durability="fast")
            store = ContentAddressedStore(PREFIX, storage, codec="gzip" if form == "raw" else form)
            for number in range(ROUNDS):
                blobs = blobs_of(number)
                turn.wait(60)
                await store.save_blobs(blobs, raw=form == "raw")
            await storage.aclose()

    anyio.run(work)


async def race(root: Path, forms: tuple[str, str]) -> None:
    context = multiprocessing.get_context("spawn")
    turn = context.Barrier(2)
    savers = [context.Process(target=save, args=(str(root), form, turn)) for form in forms]
    for process in savers:
        process.start()
    for process in savers:
        await anyio.to_thread.run_sync(process.join)
        assert process.exitcode == 0


async def won(root: Path) -> set[str]:
    """Read all blobs back, verified; return the forms that were found."""
    async with Runtime() as runtime:
        storage = LocalStorage(root, runtime=runtime)
        store = ContentAddressedStore(PREFIX, storage)
        async with store.load_blobs(KEYS) as loaded:
            assert {key async for key, _ in loaded} == set(KEYS)
        forms: set[str] = set()
        for found in await storage.get_batch([blob_path(PREFIX, key) for key in KEYS], max_bytes=1 << 30):
            assert found is not None
            assert found.data is not None
            form = (
                "gzip" if found.data[:2] == b"\x1f\x8b" else "lz4" if found.data[:4] == b"\x04\x22\x4d\x18" else "raw"
            )
            # Not left to the store, which tries the other reading before it gives up.
            assert found.meta.attributes["cas_raw"] == (form == "raw")
            assert found.meta.attributes["cas_version"] == {"gzip": 1, "raw": 1, "lz4": 1001}[form]
            forms.add(form)
        return forms


@pytest.mark.servers
async def test_metaflow_reads_what_two_processes_saved_at_once_packed_and_raw(
    scratch: Path, metaflow_python: Path
) -> None:
    root = scratch / "root"
    await race(root, ("gzip", "raw"))
    assert await won(root) == {"gzip", "raw"}, "the savers never met; this shows nothing"
    theirs = MetaflowStore(metaflow_python, str(root), PREFIX)
    expected = {Key(hashlib.sha1(blob).hexdigest()): blob for number in range(ROUNDS) for blob in blobs_of(number)}
    assert await anyio.to_thread.run_sync(theirs.load, KEYS) == expected


async def test_the_same_with_gzip_and_lz4(scratch: Path) -> None:
    await race(scratch / "root", ("gzip", "lz4"))
    assert await won(scratch / "root") == {"gzip", "lz4"}, "the savers never met; this shows nothing"
