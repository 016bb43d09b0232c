"""asyncstore's storage alone: one put or get for each blob, with its limits and retries; no compression."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import asyncstore
from asyncstore.concurrency import run_all
from asyncstore.storage.registry import open_storage

AT_ONCE = 64


class Rival:
    def __init__(self, **storage: Any) -> None:
        self._storage = storage
        self._runner = asyncio.Runner()

    def save(self, root: str, blobs: list[bytes]) -> list[str]:
        keys = [hashlib.sha1(blob).hexdigest() for blob in blobs]
        self._runner.run(self._save(root, list(zip(keys, blobs, strict=True))))
        return keys

    async def _save(self, root: str, items: list[tuple[str, bytes]]) -> None:
        async with open_storage(root, **self._storage) as storage:

            async def put(item: tuple[str, bytes]) -> None:
                await storage.put(item[0], item[1])

            await run_all(items, put, width=AT_ONCE)

    def load(self, root: str, keys: list[str]) -> list[bytes]:
        loaded: dict[str, bytes] = {}
        self._runner.run(self._load(root, keys, loaded))
        return [loaded[key] for key in keys]

    async def _load(self, root: str, keys: list[str], loaded: dict[str, bytes]) -> None:
        async with open_storage(root, **self._storage) as storage:

            async def get(key: str) -> None:
                async with storage.get(key) as reader:
                    loaded[key] = b"".join([chunk async for chunk in reader])

            await run_all(keys, get, width=AT_ONCE)


def versions() -> dict[str, str]:
    return {"asyncstore": asyncstore.__version__}
