"""Saves blobs to S3 until it is killed: ``kill_writer.py URL ENDPOINT SEED``; credentials come from the environment."""

from __future__ import annotations

import random
import sys

import anyio

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.storage.registry import open_storage
from asyncstore.types import MIB, Limits


async def save(url: str, endpoint: str, seed: int) -> None:
    numbers = random.Random(seed)
    async with open_storage(url, endpoint_url=endpoint, region="us-east-1", limits=Limits(requests=8)) as storage:
        store = ContentAddressedStore("F/data", storage)
        await storage.head("nothing")
        print("ready", flush=True)
        while True:
            blobs = [numbers.randbytes(numbers.randrange(40)) * numbers.randrange(50) for _ in range(20)]
            blobs.append(numbers.randbytes(20 * MIB))
            await store.save_blobs(blobs)


if __name__ == "__main__":
    anyio.run(save, sys.argv[1], sys.argv[2], int(sys.argv[3]))
