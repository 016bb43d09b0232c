"""Moves one large object, in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from asyncstore.limits import MemoryAccount
from asyncstore.storage.base import DataStoreStorage, ObjectReader
from asyncstore.types import MIB, Attributes, Buffer, ObjectMeta, WriteMode

WINDOW = 32 * MIB


class Download:
    """The body of one object on its way, to be iterated once, in order."""

    def __init__(self, path: str, reader: ObjectReader) -> None:
        self.path = path
        self.meta = reader.meta
        self._reader = reader

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._reader)


def download_window(storage: DataStoreStorage, size: int) -> int:  # noqa: ARG001
    """Return the memory that downloading ``size`` bytes takes at once."""
    return min(size, WINDOW)


def upload_window(storage: DataStoreStorage, max_size: int) -> int:  # noqa: ARG001
    """Return the memory that uploading at most ``max_size`` bytes takes at once."""
    return min(max_size, WINDOW)


@asynccontextmanager
async def download(
    storage: DataStoreStorage,
    path: str,
    *,
    memory: MemoryAccount | None = None,  # noqa: ARG001
) -> AsyncGenerator[Download]:
    """Open an object for reading in order. Reserves its window in ``memory``, unless the caller has done so (None)."""
    async with storage.get(path) as reader:
        yield Download(path, reader)


async def upload(
    storage: DataStoreStorage,
    path: str,
    pieces: AsyncIterator[Buffer],
    *,
    max_size: int,  # noqa: ARG001
    attributes: Attributes,
    mode: WriteMode,
    memory: MemoryAccount | None = None,  # noqa: ARG001
) -> ObjectMeta:
    """Write an object that comes in pieces. Reserves its window in ``memory``, unless the caller has (None)."""
    data = b"".join([bytes(piece) async for piece in pieces])
    return await storage.put(path, data, attributes=attributes, mode=mode)
