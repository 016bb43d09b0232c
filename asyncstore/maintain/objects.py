"""Lists what a storage holds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from anyio.abc import ObjectSendStream

from asyncstore.concurrency import feed
from asyncstore.errors import ObjectNotFoundError
from asyncstore.storage.base import DataStoreStorage
from asyncstore.types import ListEntry


@asynccontextmanager
async def list_objects(
    storage: DataStoreStorage, path: str = "", *, recursive: bool = False
) -> AsyncGenerator[AsyncIterator[ListEntry]]:
    """List a directory sorted by name, the tree below it as it comes, or a single object.

    Raises `ObjectNotFoundError` from the block if there is neither a directory nor an object at ``path``; the root
    may be empty.
    """
    path = path.strip("/")

    async def produce(sender: ObjectSendStream[ListEntry]) -> None:
        found = 0
        async with storage.list(path, recursive=recursive) as entries:
            if recursive:
                async for entry in entries:
                    found += 1
                    await sender.send(entry)
            else:
                for entry in sorted([entry async for entry in entries], key=lambda entry: entry.path):
                    found += 1
                    await sender.send(entry)
        if found or not path:
            return
        meta = await storage.head(path)
        if meta is None:
            raise ObjectNotFoundError(
                f"there is no object or directory {path!r} in {storage.root}: list the directory above it",
                operation="list",
                where=path,
            )
        await sender.send(ListEntry(path, "object", meta.size, meta.etag, meta.modified))

    async with feed(produce) as listed:
        yield listed
