"""Moves blobs to S3 and back and tells what it took: ``bounded.py URL ENDPOINT large BYTES`` or ``… small COUNT``.

Run as a process of its own, whose memory is nobody else's. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import anyio

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.storage.registry import open_storage
from asyncstore.types import MIB, Limits

REQUESTS = 32


class Noise:
    """A blob of random bytes that is never in memory whole."""

    def __init__(self, size: int) -> None:
        self.size = size

    def chunks(self) -> Iterator[bytes]:
        random = Random(self.size)
        for _ in range(self.size // MIB):
            yield random.randbytes(MIB)


class Watch:
    """The most tasks and sockets seen, and the most memory above what was held at the start."""

    def __init__(self) -> None:
        self.tasks = 0
        self.sockets = 0
        Path("/proc/self/clear_refs").write_text("5")
        self._before = _memory("VmRSS")

    async def run(self) -> None:
        while True:
            self.tasks = max(self.tasks, len(asyncio.all_tasks()))
            links = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
            self.sockets = max(
                self.sockets, sum("socket" in os.readlink(link) for link in links if os.path.islink(link))
            )
            await anyio.sleep(0.02)

    @property
    def peak(self) -> int:
        return _memory("VmHWM") - self._before


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


async def large(store: ContentAddressedStore, size: int) -> dict[str, int]:
    saved = await store.save_blob(Noise(size))
    digest = hashlib.sha1()
    async with store.open_blob(saved.key) as chunks:
        async for chunk in chunks:
            digest.update(chunk)
    assert digest.hexdigest() == saved.key
    return {"moved": saved.size}


async def small(store: ContentAddressedStore, count: int) -> dict[str, int]:
    saved = await store.save_blobs(b"blob %d" % number for number in range(count))
    loaded = 0
    async with store.load_blobs(one.key for one in saved) as blobs:
        async for _ in blobs:
            loaded += 1
    return {"moved": loaded}


async def main(url: str, endpoint: str, what: str, amount: int) -> None:
    limits = Limits(requests=REQUESTS, threads=2)
    async with open_storage(url, endpoint_url=endpoint, limits=limits, transport="sdk") as storage:
        await storage.head("warm/up")
        watch = Watch()
        async with anyio.create_task_group() as group:
            group.start_soon(watch.run)
            store = ContentAddressedStore("F/data", storage)
            result = await (large if what == "large" else small)(store, amount)
            group.cancel_scope.cancel()
    print(json.dumps({**result, "peak": watch.peak, "tasks": watch.tasks, "sockets": watch.sockets}))


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
