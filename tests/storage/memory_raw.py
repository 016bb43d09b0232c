"""Looks behind the back of a memory storage: straight into the table, by none of the storage's code."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from asyncstore.storage.memory import MemoryStorage
from asyncstore.storage.shelf import StoredBytes
from asyncstore.testing.harness import RawObject


class MemoryRaw:
    def __init__(self, storage: MemoryStorage) -> None:
        self._shelf = storage._shelf

    def _flat(self) -> dict[str, StoredBytes]:
        found: dict[str, StoredBytes] = {}

        def walk(node: Any, prefix: str) -> None:
            for name, child in node.items():
                if isinstance(child, StoredBytes):
                    found[prefix + name] = child
                else:
                    walk(child, f"{prefix}{name}/")

        walk(self._shelf._root, "")
        return found

    def _replace(self, flat: dict[str, StoredBytes]) -> None:
        root: dict[str, Any] = {}
        for path, stored in flat.items():
            node = root
            *parents, name = path.split("/")
            for parent in parents:
                node = node.setdefault(parent, {})
            node[name] = stored
        self._shelf._root = root

    async def read(self, path: str) -> RawObject | None:
        stored = self._flat().get(path)
        return None if stored is None else RawObject(stored.data, stored.attributes)

    async def write(self, path: str, raw: RawObject) -> None:
        stored = StoredBytes(raw.data, raw.attributes, uuid4().hex, datetime.now(UTC))
        self._replace(self._flat() | {path: stored})

    async def seed(self, directory: str, names: Sequence[str]) -> None:
        stored = StoredBytes(b"", None, uuid4().hex, datetime.now(UTC))
        self._replace(self._flat() | {f"{directory}/{name}": stored for name in names})

    async def remove(self, path: str) -> None:
        flat = self._flat()
        del flat[path]
        self._replace(flat)

    async def paths(self) -> set[str]:
        return set(self._flat())

    async def leftovers(self) -> set[str]:
        return {f"upload {number}" for number in self._shelf.uploads}
