"""Verifies every blob below a root."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from anyio.abc import ObjectSendStream

from asyncstore.cas.result import BlobStatus
from asyncstore.cas.store import ContentAddressedStore
from asyncstore.concurrency import feed
from asyncstore.errors import AsyncStoreError, BlobNotFoundError, CorruptBlobError, IntegrityError, NotFoundError
from asyncstore.layout import split_blob_path
from asyncstore.storage.base import DataStoreStorage
from asyncstore.types import Key

BATCH_KEYS = 10_000
"""Keys that are in memory at once."""


@dataclass(slots=True)
class BlobDirectory:
    """A content-addressed store that was found: its prefix, and its blobs and their stored bytes as listed."""

    prefix: str
    blobs: int = 0
    stored_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Checked:
    """One blob and what verifying it showed; see `BlobStatus`."""

    path: str
    key: Key
    size: int | None
    error: AsyncStoreError | None

    @property
    def damaged(self) -> bool:
        """Whether the bytes are wrong, not merely out of reach."""
        return isinstance(self.error, IntegrityError)

    @property
    def cause(self) -> str:
        """What is wrong, without path and key."""
        return cause_of(self.error)


def cause_of(error: AsyncStoreError | None) -> str:
    """Return what is wrong with a blob, for a line that names path and key already."""
    if isinstance(error, BlobNotFoundError):
        return f"there is no blob at {error.where}"
    if not isinstance(error, CorruptBlobError):
        return str(error)
    if error.actual is None:
        return "it cannot be decoded"
    return f"its content hashes to {error.actual}"


@dataclass(slots=True)
class CheckTotals:
    """What a check has seen so far; ``size`` in bytes of the content of whole blobs."""

    blobs: int = 0
    size: int = 0
    damaged: int = 0
    unreadable: int = 0
    unanswered: int = 0

    def add(self, checked: Checked) -> None:
        """Count one blob. One that may be readable later, since the storage gave no answer, is not damaged."""
        self.blobs += 1
        if checked.error is None:
            self.size += checked.size or 0
        elif checked.damaged:
            self.damaged += 1
        elif checked.error.retryable:
            self.unanswered += 1
        else:
            self.unreadable += 1


async def find_blob_directories(storage: DataStoreStorage) -> list[BlobDirectory]:
    """Find every content-addressed store below the root, wherever it is, by the names of its blobs.

    One recursive listing. Raises `NotFoundError` if there is none: a check that had nothing to check proves nothing.
    """
    found: dict[str, BlobDirectory] = {}
    async with storage.list("", recursive=True) as entries:
        async for entry in entries:
            split = split_blob_path(entry.path)
            if split is not None:
                directory = found.setdefault(split[0], BlobDirectory(split[0]))
                directory.blobs += 1
                directory.stored_bytes += entry.size or 0
    if not found:
        raise NotFoundError(
            f"there is no blob below {storage.root}, so nothing was checked: give the root of a datastore",
            operation="check",
            where=storage.root,
        )
    return sorted(found.values(), key=lambda directory: directory.prefix)


@asynccontextmanager
async def check_blobs(
    storage: DataStoreStorage, directories: list[BlobDirectory]
) -> AsyncGenerator[AsyncIterator[Checked]]:
    """Read and hash every blob of these stores, and feed the outcome of each, in no promised order.

    A blob that is damaged or unreadable is an outcome; a listing that fails raises from the block. Blobs saved or
    deleted meanwhile may be seen or not.
    """

    async def produce(sender: ObjectSendStream[Checked]) -> None:
        for directory in directories:
            store = ContentAddressedStore(directory.prefix, storage)
            async with storage.list(directory.prefix, recursive=True) as entries:
                paths: dict[Key, str] = {}
                async for entry in entries:
                    split = split_blob_path(entry.path)
                    if split is None or split[0] != directory.prefix:
                        continue
                    paths[split[1]] = entry.path
                    if len(paths) == BATCH_KEYS:
                        await _verify(store, paths, sender)
                        paths = {}
                await _verify(store, paths, sender)

    async with feed(produce) as checked:
        yield checked


async def _verify(store: ContentAddressedStore, paths: dict[Key, str], sender: ObjectSendStream[Checked]) -> None:
    async with store.verify_blobs(paths) as statuses:
        async for status in statuses:
            await sender.send(_checked(paths, status))


def _checked(paths: dict[Key, str], status: BlobStatus) -> Checked:
    return Checked(paths[status.key], status.key, status.size, status.error)
