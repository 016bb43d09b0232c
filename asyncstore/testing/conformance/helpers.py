"""Short ways to say what the cases do again and again."""

from __future__ import annotations

import random
from typing import Any

from asyncstore.storage.base import DataStoreStorage
from asyncstore.testing.harness import Harness
from asyncstore.types import Attributes, ListEntry, ObjectMeta, WriteMode


async def read(storage: DataStoreStorage, path: str, **options: Any) -> bytes:
    """Return the body of an object, or of a range of it."""
    async with storage.get(path, **options) as reader:
        return b"".join([chunk async for chunk in reader])


async def entries(storage: DataStoreStorage, prefix: str = "", *, recursive: bool = False) -> list[ListEntry]:
    """Return a whole listing."""
    async with storage.list(prefix, recursive=recursive) as found:
        return [entry async for entry in found]


async def names(storage: DataStoreStorage, prefix: str = "", *, recursive: bool = False) -> list[tuple[str, str]]:
    """Return kind and path of a whole listing, sorted; what is listed twice stays twice."""
    return sorted((entry.kind, entry.path) for entry in await entries(storage, prefix, recursive=recursive))


def noise(size: int, seed: int = 0) -> bytes:
    """Return bytes that no two seeds share and that do not compress."""
    return random.Random(f"{size}/{seed}").randbytes(size)


def part_size(storage: DataStoreStorage) -> int:
    """Return a size that the backend takes for parts and that is small."""
    limits = storage.multipart_limits
    return min(max(limits.min_part, 4096), limits.max_part)


async def upload(
    storage: DataStoreStorage,
    path: str,
    data: bytes,
    *,
    attributes: Attributes | None = None,
    mode: WriteMode = "overwrite",
) -> ObjectMeta:
    """Store an object in parts, one after the other."""
    size = part_size(storage)
    handle = await storage.create_multipart(path, part_size=size, attributes=attributes, mode=mode)
    for number, start in enumerate(range(0, len(data), size)):
        await handle.put_part(number, data[start : start + size])
    return await handle.complete()


async def nothing_borrowed(harness: Harness) -> None:
    """Assert that no place, no memory and no upload is held any more."""
    runtime = harness.storage.runtime
    assert runtime.requests.available == runtime.limits.requests
    assert runtime.memory.used == 0
    assert await harness.raw.leftovers() == set()
