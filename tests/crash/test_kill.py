"""kill -9 of a process that is saving, at any of its calls: what is listed afterwards is whole."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.layout import split_blob_path
from asyncstore.runtime import Runtime
from asyncstore.storage.base import PutItem
from asyncstore.storage.local import LocalStorage
from asyncstore.storage.local_os import OsCalls
from asyncstore.types import Key, Limits

EFFECTS = ("mkdir", "create", "write", "pwrite", "truncate", "fsync", "syncfs", "link", "rename", "unlink", "close")
LONGEST = 2500
"""About as many calls as a whole round of the writer makes."""


class DyingCalls(OsCalls):
    """Kills its process before the call with number ``at``."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._left = at
        for name in EFFECTS:
            setattr(self, name, self._counted(getattr(self, name)))

    def _counted(self, call: Any) -> Any:
        def counted(*args: Any, **options: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **options)

        return counted


def save_and_die(root: str, seed: int, at: int) -> None:
    anyio.run(save, root, seed, at)


async def save(root: str, seed: int, at: int) -> None:
    numbers = random.Random(seed)
    async with Runtime(Limits(threads=2)) as runtime:
        storage = LocalStorage(root, runtime=runtime, durability=numbers.choice(["fast", "safe"]), calls=DyingCalls(at))
        store = ContentAddressedStore("F/data", storage, codec=numbers.choice(["gzip", "lz4"]))
        while True:
            blobs = [numbers.randbytes(numbers.randrange(40)) * numbers.randrange(50) for _ in range(40)]
            blobs.append(numbers.randbytes(100_000))
            async with anyio.create_task_group() as group:
                group.start_soon(store.save_blobs, blobs)
                group.start_soon(change_objects, storage, numbers)


async def change_objects(storage: LocalStorage, numbers: random.Random) -> None:
    """Overwrite, delete and upload objects whose content says what attributes belong to them."""
    forms = [b"%d" % numbers.randrange(3) for _ in range(8)]
    await storage.put_batch([PutItem(f"objects/{n}", form * 100, attributes_of(form)) for n, form in enumerate(forms)])
    await storage.delete(f"objects/{numbers.randrange(8)}")
    upload = await storage.create_multipart("objects/parts", part_size=300, attributes=attributes_of(forms[0]))
    await upload.put_part(1, forms[0] * 50)
    await upload.put_part(0, forms[0] * 300)
    await upload.complete()


def attributes_of(form: bytes) -> dict[str, Any]:
    return {} if form == b"0" else {"form": form.decode()}


async def check(storage: LocalStorage) -> int:
    """Read all that is listed; return the number of blobs."""
    async with storage.list("", recursive=True) as entries:
        paths = [entry.path async for entry in entries]
    keys = [found[1] for path in paths if (found := split_blob_path(path)) is not None]
    store = ContentAddressedStore("F/data", storage)
    async with store.load_blobs(keys) as loaded:
        assert {key async for key, _ in loaded} == set[Key](keys)
    others = [path for path in paths if path.startswith("objects/")]
    assert len(keys) + len(others) == len(paths)
    for path, stored in zip(others, await storage.get_batch(others, max_bytes=1 << 20), strict=True):
        assert stored is not None
        assert stored.data
        assert stored.data == stored.data[:1] * (350 if path == "objects/parts" else 100)
        assert stored.meta.attributes == attributes_of(stored.data[:1])
    return len(keys)


def instances(root: Path) -> list[str]:
    below = root / ".asyncstore" / "tmp"
    return os.listdir(below) if below.exists() else []


async def kill_often(root: Path, points: int) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    numbers = random.Random(points)
    died = 0
    async with Runtime() as runtime:
        storage = LocalStorage(root, runtime=runtime, durability="fast")
        for seed in range(points):
            process = context.Process(target=save_and_die, args=(str(root), seed, numbers.randrange(LONGEST)))
            process.start()
            await anyio.to_thread.run_sync(process.join)
            assert process.exitcode == -signal.SIGKILL
            died += bool(instances(root))
            # Each writer has removed what the one before left.
            assert len(instances(root)) <= 1
            blobs = await check(storage)
        assert blobs > points
        assert died > points / 2
        await storage.put("last", b"")
        assert [name.split("-")[0] for name in instances(root)] == [str(os.getpid())]
        await storage.aclose()


async def test_what_is_listed_after_a_kill_is_whole_and_the_next_writer_cleans_up(scratch: Path) -> None:
    await kill_often(scratch / "root", 25)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_the_same_at_200_points(scratch: Path) -> None:
    await kill_often(scratch / "root", 200)
