"""Restores files from blobs: each is verified before it gets its name."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import anyio
from anyio.abc import ObjectSendStream

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.concurrency import CLEANUP_SECONDS, feed, run_all
from asyncstore.errors import AsyncStoreError, BlobNotFoundError, IntegrityError
from asyncstore.maintain.manifest import Entry, FileEntry, LinkEntry
from asyncstore.maintain.target import Target
from asyncstore.types import MIB, Key

T = TypeVar("T")

LOST = (IntegrityError, BlobNotFoundError)
"""What is wrong with one blob and says nothing about the others; other failures end a restore."""

BATCH_ENTRIES = 512
SMALL = 4 * MIB
"""Files up to this size come whole, in batches; larger ones are streamed, a few at a time."""
STREAMS = 4
HOP_FILES = 64
HOP_BYTES = MIB
"""Small files that one thread hop writes."""


@dataclass(frozen=True, slots=True)
class Restored(Generic[T]):
    """What was asked for and its bytes in place, or the error of its damaged or missing blob: then nothing is there."""

    item: T
    size: int
    error: AsyncStoreError | None = None


@asynccontextmanager
async def restore(
    store: ContentAddressedStore, entries: Iterable[Entry], target: str | os.PathLike[str]
) -> AsyncGenerator[AsyncIterator[Restored[Entry]]]:
    """Restore a manifest's entries below a directory, and feed the outcome of each.

    Entries are consumed lazily, in threads. A file appears whole, verified, with its permissions, in place of one of
    that name; symbolic links are made last. A blob that is damaged or missing is an outcome, and the rest is restored.
    The first other failure ends it; what is in place by then stays.
    """
    directory = Target(target)
    pool = store.storage.runtime.pool

    async def produce(sender: ObjectSendStream[Restored[Entry]]) -> None:
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
                    await sender.send(Restored(entry, 0))
            await _restore_files(store, files, directory, sender)
        for link in links:
            # No file can be written through a link of this manifest, since there is none before all files are there.
            await pool.run(directory.link, link.name, link.target)
            await sender.send(Restored(link, 0))

    async with feed(produce) as restored:
        yield restored


@asynccontextmanager
async def fetch(
    store: ContentAddressedStore, keys: Iterable[Key], target: str | os.PathLike[str]
) -> AsyncGenerator[AsyncIterator[Restored[Key]]]:
    """Write each blob to a file below a directory that is called by its key, and feed the outcome of each.

    Ends as `restore` does.
    """
    directory = Target(target)

    async def produce(sender: ObjectSendStream[Restored[Key]]) -> None:
        async def one(key: Key) -> None:
            try:
                size = await _stream(store, key, key, None, directory)
            except LOST as error:
                await sender.send(Restored(key, 0, error))
            else:
                await sender.send(Restored(key, size))

        await run_all(keys, one, width=STREAMS)

    async with feed(produce) as restored:
        yield restored


async def _restore_files(
    store: ContentAddressedStore, files: list[FileEntry], directory: Target, sender: ObjectSendStream[Restored[Entry]]
) -> None:
    small: dict[Key, list[FileEntry]] = {}
    large: list[FileEntry] = []
    for file in files:
        if file.size <= SMALL:
            small.setdefault(file.key, []).append(file)
        else:
            large.append(file)
    if small:
        await _restore_small(store, small, directory, sender)

    async def one(file: FileEntry) -> None:
        try:
            size = await _stream(store, file.key, file.name, file.mode, directory)
        except LOST as error:
            await sender.send(Restored(file, 0, error))
        else:
            await sender.send(Restored(file, size))

    await run_all(large, one, width=STREAMS)


async def _restore_small(
    store: ContentAddressedStore,
    files: dict[Key, list[FileEntry]],
    directory: Target,
    sender: ObjectSendStream[Restored[Entry]],
) -> None:
    async def write(batch: list[tuple[Key, bytes]]) -> None:
        written = [(file, data) for key, data in batch for file in files[key]]
        await store.storage.runtime.pool.run(_write_all, directory, written)
        for file, data in written:
            await sender.send(Restored(file, len(data)))

    # Grouped by number and bytes: a thread hop for each file would cost as much as writing it.
    batch: list[tuple[Key, bytes]] = []
    size = 0
    async with store.load_outcomes(files) as outcomes:
        async for key, outcome in outcomes:
            if isinstance(outcome, LOST):
                for file in files[key]:
                    await sender.send(Restored(file, 0, outcome))
                continue
            if isinstance(outcome, AsyncStoreError):
                raise outcome
            batch.append((key, outcome))
            size += len(outcome)
            if len(batch) >= HOP_FILES or size >= HOP_BYTES:
                await write(batch)
                batch, size = [], 0
        await write(batch)


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
