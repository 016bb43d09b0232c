"""Saves a large blob in two passes, since its key must be known before its path exists: hash, then pack and send."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice

import anyio
from anyio.abc import ObjectSendStream

from asyncstore.cas.context import CasContext
from asyncstore.cas.source import Source
from asyncstore.codec.base import Codec
from asyncstore.codec.deflate import crc32
from asyncstore.codec.probe import Sampler, shrinks
from asyncstore.codec.registry import RAW
from asyncstore.concurrency import feed, task_group
from asyncstore.errors import SourceChangedError
from asyncstore.storage.transfer import upload, upload_window
from asyncstore.types import GIB, KIB, MIB, Attributes, Buffer, Key, ObjectMeta, WriteMode

HASH_PIECE = 512 * KIB  # what the sampler expects
HASH_STEP = 32
"""Pieces hashed in one thread hop: about 10 ms, the longest that a cancellation waits for."""

PACK_STEP = MIB
"""Bytes read, or packed, in one thread hop."""

UNKNOWN_SIZE = GIB
"""What a source that does not tell its size is taken for when memory is reserved."""


@dataclass(frozen=True, slots=True)
class Digest:
    """What the first pass finds out."""

    key: Key
    size: int
    crc32: int
    shrinks: bool


class _Hashing:
    """The first pass, in steps that each fit a thread hop."""

    def __init__(self, source: Source) -> None:
        self.walk = source.walk(HASH_PIECE)
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._crc32 = 0
        self._size = 0
        self._sampler = Sampler()

    def step(self) -> bool:
        """Hash some pieces; False at the end."""
        count = 0
        for piece in islice(self.walk, HASH_STEP):
            self._sha1.update(piece)
            self._crc32 = crc32(piece, self._crc32)
            self._size += len(piece)
            self._sampler.feed(piece)
            count += 1
        return count == HASH_STEP

    def digest(self, codec: Codec) -> Digest:
        return Digest(Key(self._sha1.hexdigest()), self._size, self._crc32, shrinks(self._sampler.samples, codec))


async def digest(context: CasContext, source: Source, codec: Codec) -> Digest:
    """Walk a source once, for its key and for whether it is worth packing."""
    hashing = _Hashing(source)
    try:
        while await context.runtime.pool.run(hashing.step):
            pass
        return await context.runtime.pool.run(hashing.digest, codec)
    finally:
        hashing.walk.close()


def save_window(context: CasContext, codec: Codec, size: int | None) -> int:
    """Return the memory that saving a large blob takes, in bytes: pieces being packed and parts being sent."""
    packing = 2 * PACK_STEP * context.workers
    return packing + upload_window(context.storage, codec.max_stored_size(UNKNOWN_SIZE if size is None else size))


class LargeBlob:
    """A hashed source that is walked again for each write; the caller has reserved `save_window`."""

    def __init__(self, context: CasContext, source: Source, found: Digest, codec: Codec) -> None:
        self._context = context
        self._source = source
        self._digest = found
        self._codec = codec

    @property
    def key(self) -> Key:
        return self._digest.key

    @property
    def size(self) -> int:
        return self._digest.size

    async def form(self) -> Codec:
        return self._codec if self._digest.shrinks else RAW

    async def write(self, codec: Codec, attributes: Attributes, mode: WriteMode) -> ObjectMeta:
        async with self._packed(codec) as pieces:
            return await upload(
                self._context.storage,
                self._context.path(self.key),
                pieces,
                max_size=codec.max_stored_size(self.size),
                attributes=attributes,
                mode=mode,
            )

    @asynccontextmanager
    async def _packed(self, codec: Codec) -> AsyncGenerator[AsyncIterator[Buffer]]:
        async def produce(sender: ObjectSendStream[Buffer]) -> None:
            packing = _Packing(self._source, codec, self._digest)
            try:
                if header := codec.header():
                    await sender.send(header)
                await self._pack_all(packing, sender)
                packing.check()
                if trailer := codec.trailer(self.size, self._digest.crc32):
                    await sender.send(trailer)
            finally:
                packing.walk.close()

        async with feed(produce) as pieces:
            yield pieces

    async def _pack_all(self, packing: _Packing, sender: ObjectSendStream[Buffer]) -> None:
        """Read in order, pack in parallel, send in order."""
        pool = self._context.runtime.pool
        turn = anyio.Lock()
        last_sent = anyio.Event()
        last_sent.set()

        async def worker() -> None:
            nonlocal last_sent
            while True:
                async with turn:
                    pieces = await pool.run(packing.read)
                    if not pieces:
                        return
                    before, mine = last_sent, anyio.Event()
                    last_sent = mine
                packed = await pool.run(packing.pack, pieces)
                await before.wait()
                for piece in packed:
                    await sender.send(piece)
                mine.set()

        async with task_group() as group:
            for _ in range(self._context.workers):
                group.start_soon(worker)


class _Packing:
    """The second pass; `read` by one thread at a time, `pack` by any."""

    def __init__(self, source: Source, codec: Codec, found: Digest) -> None:
        self.walk = source.walk(codec.piece_size)
        self._source = source
        self._codec = codec
        self._digest = found
        self._count = max(1, PACK_STEP // codec.piece_size)
        self._size = 0
        self._sha1 = hashlib.sha1(usedforsecurity=False) if source.rehash else None

    def read(self) -> list[Buffer]:
        pieces: list[Buffer] = []
        for piece in islice(self.walk, self._count):
            # A piece that others may write to is copied, so that what is hashed is what is packed.
            kept = bytes(piece) if self._sha1 else piece
            if self._sha1:
                self._sha1.update(kept)
            self._size += len(kept)
            pieces.append(kept)
        return pieces

    def pack(self, pieces: list[Buffer]) -> list[Buffer]:
        return [self._codec.piece(piece) for piece in pieces]

    def check(self) -> None:
        """Raise `SourceChangedError` unless this pass read what the first one hashed."""
        same_hash = self._sha1 is None or self._sha1.hexdigest() == self._digest.key
        if self._size != self._digest.size or not same_hash:
            raise SourceChangedError(
                f"{self._source.name} gave other bytes when it was read again; nothing was published, save it again "
                "when it is at rest",
                operation="save_blob",
                where=self._source.name,
            )
