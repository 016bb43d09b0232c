"""asyncstore's content-addressed store. The loop lives as long as the worker; storage and threads are made in each
call, and measured with it."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

import asyncstore
from asyncstore.cas.store import ContentAddressedStore
from asyncstore.storage.registry import open_storage
from asyncstore.types import Key


class Rival:
    def __init__(self, codec: str, prefix: str = "Bench/data", **storage: Any) -> None:
        self._codec = codec
        self._prefix = prefix
        self._storage = storage
        self._runner = asyncio.Runner()

    def save(self, root: str, blobs: list[bytes]) -> list[str]:
        return self._runner.run(self._save(root, blobs))

    async def _save(self, root: str, blobs: list[bytes]) -> list[str]:
        async with open_storage(root, **self._storage) as storage:
            store = ContentAddressedStore(self._prefix, storage, codec=self._codec)
            return [saved.key for saved in await store.save_blobs(blobs)]

    def load(self, root: str, keys: list[str]) -> list[bytes]:
        loaded: dict[Key, bytes] = {}
        self._runner.run(self._load(root, keys, loaded))
        return [loaded[Key(key)] for key in keys]

    async def _load(self, root: str, keys: list[str], loaded: dict[Key, bytes]) -> None:
        # The blobs are not the task's result: when a Runner restores its signal handler, CPython 3.11 makes the repr of
        # the task, and with it that of every byte of the result.
        async with open_storage(root, **self._storage) as storage:
            store = ContentAddressedStore(self._prefix, storage, codec=self._codec)
            async with store.load_blobs([Key(key) for key in keys]) as blobs:
                loaded.update({key: blob async for key, blob in blobs})


def versions() -> dict[str, str]:
    return {"asyncstore": asyncstore.__version__, **{name: version(name) for name in ("anyio", "isal", "lz4")}}
