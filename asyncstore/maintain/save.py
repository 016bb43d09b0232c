"""Saves files and trees of files as blobs, and tells what a manifest needs to restore them."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from anyio.abc import ObjectSendStream

from asyncstore.cas.result import SavedBlob
from asyncstore.cas.store import ContentAddressedStore
from asyncstore.concurrency import feed
from asyncstore.maintain.manifest import Entry, FileEntry
from asyncstore.maintain.walk import Found, FoundFile, LeftOut, name_paths, walk
from asyncstore.types import MIB

# Between two batches the store has nothing to do for a moment; within one, nothing is reported.
BATCH_ENTRIES = 512
BATCH_BYTES = 256 * MIB


@dataclass(frozen=True, slots=True)
class SavedEntry:
    """One entry of a tree that is saved; ``blob`` is None for what is no file."""

    entry: Entry
    blob: SavedBlob | None


@asynccontextmanager
async def save_paths(
    store: ContentAddressedStore,
    paths: Iterable[str | os.PathLike[str]],
    *,
    raw: bool = False,
    verify_existing: bool = False,
) -> AsyncGenerator[AsyncIterator[SavedEntry | LeftOut]]:
    """Save files and whole directories, and feed each entry once it is stored, in the order of the names.

    Sockets, pipes, devices and the root of a store on local disk are fed as what is left out.

    Entries are named by the last component of the path given, with what is below it. Raises what
    `asyncstore.maintain.walk.walk` refuses, when it comes to it, and what `save_blobs` raises; blobs saved by then
    stay. If cancelled, the same.
    """
    named = name_paths(paths)
    pool = store.storage.runtime.pool
    root = store.storage.root  # a path on local disk, else a URL

    async def produce(sender: ObjectSendStream[SavedEntry | LeftOut]) -> None:
        found = walk(named, store=root if os.path.isabs(root) else None)
        while batch := await pool.run(_take, found):
            files = (Path(item.path) for item in batch if isinstance(item, FoundFile))
            blobs = iter(await store.save_blobs(files, raw=raw, verify_existing=verify_existing))
            for item in batch:
                if isinstance(item, FoundFile):
                    blob = next(blobs)
                    await sender.send(SavedEntry(FileEntry(item.name, blob.key, blob.size, item.mode), blob))
                elif isinstance(item, LeftOut):
                    await sender.send(item)
                else:
                    await sender.send(SavedEntry(item, None))

    async with feed(produce) as saved:
        yield saved


def _take(found: Iterator[Found]) -> list[Found]:
    batch: list[Found] = []
    size = 0
    while len(batch) < BATCH_ENTRIES and size < BATCH_BYTES and (item := next(found, None)) is not None:
        batch.append(item)
        size += item.size if isinstance(item, FoundFile) else 0
    return batch
