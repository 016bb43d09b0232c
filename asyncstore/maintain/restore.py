"""Restores files from blobs: each is verified before it gets its name."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import islice

import anyio
from anyio.abc import ObjectSendStream

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.concurrency import CLEANUP_SECONDS, feed, run_all
from asyncstore.maintain.manifest import Entry, FileEntry, LinkEntry
from asyncstore.maintain.target import Target
from asyncstore.types import MIB, Key

BATCH_ENTRIES = 512
SMALL = 4 * MIB
"""Files up to this size come whole, in batches; larger ones are streamed, a few at a time."""
STREAMS = 4
HOP_FILES = 64
HOP_BYTES = MIB
"""Small files that one thread hop writes."""


@asynccontextmanager
async def restore(
    store: ContentAddressedStore, entries: Iterable[Entry], target: str | os.PathLike[str]
) -> AsyncGenerator[AsyncIterator[Entry]]:
    """Restore a manifest's entries below a directory, and feed each once it is in place.

    Entries are consumed lazily, in threads. A file appears whole, verified, with its permissions, in place of one of
    that name; symbolic links are made last. The first failure ends it; what is in place by then stays.
    """
    directory = Target(target)
    pool = store.storage.runtime.pool

    async def produce(sender: ObjectSendStream[Entry]) -> None:
        await pool.run(directory.directory, "")
        remaining = iter(entries)
        links: list[LinkEntry] = []
        while batch := await pool.run(lambda: list(islice(remaining, BATCH_ENTRIES))):
            files: list[FileEntry] = []
            for entry in batch:
                if isinstance(entry, FileEntry):
                    files.append(entry)
                elif isinstance(entry, LinkEntry):
                    links.append(entry)
                else:
                    await pool.run(directory.directory, entry.name)
                    await sender.send(entry)
            await _restore_files(store, files, directory, sender)
        for link in links:
            # No file can be written through a link of this manifest, since there is none before all files are there.
            await pool.run(directory.link, link.name, link.target)
            await sender.send(link)

    async with feed(produce) as restored:
        yield restored


@asynccontextmanager
async def fetch(
    store: ContentAddressedStore, keys: Iterable[Key], target: str | os.PathLike[str]
) -> AsyncGenerator[AsyncIterator[tuple[Key, int]]]:
    """Write each blob to a file below a directory that is called by its key, and feed key and bytes of each."""
    directory = Target(target)

    async def produce(sender: ObjectSendStream[tuple[Key, int]]) -> None:
        async def one(key: Key) -> None:
            await sender.send((key, await _stream(store, key, key, None, directory)))

        await run_all(keys, one, width=STREAMS)

    async with feed(produce) as restored:
        yield restored


async def _restore_files(
    store: ContentAddressedStore, files: list[FileEntry], directory: Target, sender: ObjectSendStream[Entry]
) -> None:
    small: dict[Key, list[FileEntry]] = {}
    large: list[FileEntry] = []
    for file in files:
        if file.size <= SMALL:
            small.setdefault(file.key, []).append(file)
        else:
            large.append(file)
    if small:
        async with store.load_blobs(small) as blobs:
            async for batch in _batches(blobs):
                written = [(file, data) for key, data in batch for file in small[key]]
                await store.storage.runtime.pool.run(_write_all, directory, written)
                for file, _ in written:
                    await sender.send(file)

    async def one(file: FileEntry) -> None:
        await _stream(store, file.key, file.name, file.mode, directory)
        await sender.send(file)

    await run_all(large, one, width=STREAMS)


async def _batches(blobs: AsyncIterator[tuple[Key, bytes]]) -> AsyncIterator[list[tuple[Key, bytes]]]:
    """Group blobs by number and bytes: a thread hop for each file would cost as much as writing it."""
    batch: list[tuple[Key, bytes]] = []
    size = 0
    async for key, data in blobs:
        batch.append((key, data))
        size += len(data)
        if len(batch) >= HOP_FILES or size >= HOP_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _write_all(directory: Target, files: list[tuple[FileEntry, bytes]]) -> None:
    for file, data in files:
        directory.write(file.name, data, file.mode)


async def _stream(store: ContentAddressedStore, key: Key, name: str, mode: int | None, directory: Target) -> int:
    pool = store.storage.runtime.pool
    partial = directory.partial(name, mode)
    size = 0
    try:
        await pool.run(partial.open)
        async with store.open_blob(key) as chunks:
            async for chunk in chunks:
                size += len(chunk)
                await pool.run(partial.write, chunk)
        await pool.run(partial.publish)
        return size
    finally:
        with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
            await pool.run(partial.close)
