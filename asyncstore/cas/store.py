"""The content-addressed store: blobs under the SHA-1 of their content, as Metaflow keeps them.

Format: Metaflow 2.19 ``datastore/content_addressed_store.py``. SHA-1 identifies content; it is no defence against
somebody who crafts collisions.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, TypeVar

from anyio.abc import ObjectSendStream

from asyncstore.cas.cache import BlobCache
from asyncstore.cas.context import BATCH_ITEMS, CasContext
from asyncstore.cas.fetch import Content, fetch
from asyncstore.cas.load import LoadOperation, Outcome, Outcomes, note_outcome
from asyncstore.cas.pack import mislabelled
from asyncstore.cas.result import BlobStatus, SavedBlob
from asyncstore.cas.save import SaveOperation, memory_to_save
from asyncstore.cas.stream import open_decoded
from asyncstore.codec.base import Codec
from asyncstore.codec.registry import codec_named
from asyncstore.concurrency import feed, run_all
from asyncstore.errors import AsyncStoreError, BlobNotFoundError, CorruptBlobError
from asyncstore.layout import check_directory
from asyncstore.storage.base import DataStoreStorage
from asyncstore.types import BlobSource, Buffer, Key, ObjectMeta

T = TypeVar("T")


class ContentAddressedStore:
    """Blobs below ``prefix`` of a storage, each stored once under the SHA-1 of its content.

    ``codec`` is the form of new blobs: "gzip", which Metaflow reads, or "lz4", for stores that only asyncstore reads;
    content that does not shrink is stored raw. All that Metaflow 2.x wrote is read, whatever the codec. Memory,
    threads and requests are those of ``storage.runtime``. Pickles by configuration.
    """

    def __init__(
        self, prefix: str, storage: DataStoreStorage, *, codec: Codec | str = "gzip", cache: BlobCache | None = None
    ) -> None:
        chosen = codec_named(codec) if isinstance(codec, str) else codec
        self._context = CasContext(check_directory(prefix), storage, chosen, cache)

    @property
    def prefix(self) -> str:
        return self._context.prefix

    @property
    def storage(self) -> DataStoreStorage:
        return self._context.storage

    def __repr__(self) -> str:
        return f"ContentAddressedStore({self.prefix!r}, {self.storage!r}, codec={self._context.codec.name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        context = self._context
        return _rebuild, (context.prefix, context.storage, context.codec, context.cache)

    async def save_blob(self, blob: BlobSource, *, raw: bool = False, verify_existing: bool = False) -> SavedBlob:
        """Save one blob; see `save_blobs`."""
        [saved] = await self.save_blobs([blob], raw=raw, verify_existing=verify_existing)
        return saved

    async def save_blobs(
        self,
        blobs: Iterable[BlobSource] | AsyncIterable[BlobSource],
        *,
        raw: bool = False,
        verify_existing: bool = False,
        reserved: bool = False,
    ) -> list[SavedBlob]:
        """Save blobs and return one result each, in the order of the input.

        Blobs are bytes-like, path objects, or objects with ``chunks()``; they are consumed lazily, and a synchronous
        iterable is pulled on the loop and must not block. With ``raw`` they are stored uncompressed. A blob that is
        stored already is not written again: one request for a new small blob, two for one in place, none for one that
        this store knows. An object in place whose size or attributes cannot be right, and one that this store found
        damaged, is overwritten; with ``verify_existing`` every object in place is read back and healed if it must be.

        ``reserved`` says that the caller holds `memory_to_save` for these blobs, all of them in memory: no more is
        taken from the budget. A caller that holds part of the budget already and would wait for more needs it.

        The first failure cancels the rest and is raised; several at once come as a group. After a failure or a
        cancellation each blob is stored whole or not at all. Raises `SourceChangedError`, `StorageError`, and TypeError
        for what cannot be a blob.
        """
        operation = SaveOperation(self._context, raw=raw, verify_existing=verify_existing, reserved=reserved)
        return await operation.run(blobs)

    def memory_to_save(self, sizes: Iterable[int]) -> int:
        """Return the bytes of memory that saving blobs of these sizes at once takes, beside their content."""
        return sum(memory_to_save(self._context, size) for size in sizes)

    async def load_blob(self, key: Key) -> bytes:
        """Return the verified content of one blob. Concurrent loads of one key share one request.

        Raises `BlobNotFoundError`, `CorruptBlobError`, `CodecError`.
        """
        content, _ = await self._context.loads.run(key, lambda: self._load(key))
        return content

    async def _load(self, key: Key) -> bytes:
        account = self._context.runtime.memory.account()
        try:
            content = await fetch(self._context, key, account, keep=True)
        except AsyncStoreError as error:
            note_outcome(self._context, key, error)
            raise
        finally:
            account.close()
        note_outcome(self._context, key, content)
        return content.data or b""

    @asynccontextmanager
    async def load_blobs(self, keys: Iterable[Key]) -> AsyncGenerator[AsyncIterator[tuple[Key, bytes]]]:
        """Load blobs, verified, in the order of completion; each requested occurrence is given once.

        Keys are consumed lazily and must not block. The first failure cancels the rest. The memory of blobs leaves
        the budget when they are handed over.
        """

        async def produce(sender: ObjectSendStream[list[tuple[Key, bytes]]]) -> None:
            async def deliver(outcomes: Outcomes) -> None:
                await sender.send([(key, _content(outcome)) for key, outcome in outcomes])

            await LoadOperation(self._context, deliver, keep=True).run(keys)

        async with feed(produce) as groups:
            yield _flat(groups)

    @asynccontextmanager
    async def load_outcomes(
        self, keys: Iterable[Key]
    ) -> AsyncGenerator[AsyncIterator[tuple[Key, bytes | AsyncStoreError]]]:
        """Load blobs as `load_blobs` does, but give the error of each that cannot be loaded; never stops early."""

        async def produce(sender: ObjectSendStream[list[tuple[Key, bytes | AsyncStoreError]]]) -> None:
            async def deliver(outcomes: Outcomes) -> None:
                await sender.send([(key, _content_or_error(outcome)) for key, outcome in outcomes])

            await LoadOperation(self._context, deliver, keep=True).run(keys)

        async with feed(produce) as groups:
            yield _flat(groups)

    @asynccontextmanager
    async def verify_blobs(self, keys: Iterable[Key]) -> AsyncGenerator[AsyncIterator[BlobStatus]]:
        """Read and hash blobs and give the status of each, in the order of completion; never stops early.

        Content that is whole, but not in the form that the object's attributes state, is a `CodecError`: loads here get
        around that, Metaflow's do not.
        """

        async def produce(sender: ObjectSendStream[list[BlobStatus]]) -> None:
            async def deliver(outcomes: Outcomes) -> None:
                await sender.send([_status(self._context, key, outcome) for key, outcome in outcomes])

            await LoadOperation(self._context, deliver, keep=False).run(keys)

        async with feed(produce) as groups:
            yield _flat(groups)

    @asynccontextmanager
    async def open_blob(self, key: Key) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Stream one blob in bounded memory.

        Chunks are given before they are verified: content that does not hash to ``key`` raises `CorruptBlobError`
        only at the end, so publish what you made of it afterwards. Raises `BlobNotFoundError`.
        """
        account = self._context.runtime.memory.account()
        try:
            async with open_decoded(self._context, key, account) as groups:
                yield _pieces(groups)
        except (CorruptBlobError, BlobNotFoundError) as error:
            if error.key == key:  # the block may raise such an error for a blob of its own
                note_outcome(self._context, key, error)
            raise
        finally:
            account.close()

    async def missing(self, keys: Iterable[Key]) -> set[Key]:
        """Return those of ``keys`` for which there is no object. One request each, none for known ones."""
        known = self._context.known
        absent: set[Key] = set()

        async def look(group: list[Key]) -> None:
            paths = self._context.paths(group)
            batch = self._context.batch
            found = await (batch.head_batch(paths) if batch else _heads(self._context.storage, paths))
            absent.update(key for key, meta in zip(group, found, strict=True) if meta is None)

        unknown = (key for key in keys if key not in known)
        size = BATCH_ITEMS if self._context.batch else 1
        groups = iter(lambda: list(islice(unknown, size)), [])
        await run_all(groups, look, width=self._context.runtime.limits.requests)
        return absent


async def _heads(storage: DataStoreStorage, paths: list[str]) -> list[ObjectMeta | None]:
    return [await storage.head(path) for path in paths]


def _content(outcome: Outcome) -> bytes:
    content = _content_or_error(outcome)
    if isinstance(content, AsyncStoreError):
        raise content
    return content


def _content_or_error(outcome: Outcome) -> bytes | AsyncStoreError:
    return outcome.data or b"" if isinstance(outcome, Content) else outcome


def _status(context: CasContext, key: Key, outcome: Outcome) -> BlobStatus:
    if isinstance(outcome, Content):
        return BlobStatus(
            key, outcome.size, mislabelled(key, context.path(key)) if outcome.as_stated is False else None
        )
    return BlobStatus(key, None, outcome)


async def _flat(groups: AsyncIterator[list[T]]) -> AsyncGenerator[T]:
    async for group in groups:
        for item in group:
            yield item


async def _pieces(groups: AsyncIterator[list[Buffer]]) -> AsyncGenerator[bytes]:
    async for group in groups:
        for piece in group:
            yield bytes(piece)


def _rebuild(prefix: str, storage: DataStoreStorage, codec: Codec, cache: BlobCache | None) -> ContentAddressedStore:
    return ContentAddressedStore(prefix, storage, codec=codec, cache=cache)
