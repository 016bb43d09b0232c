"""Streams one stored blob: download, decoding and hashing overlap, in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from io import BytesIO
from itertools import islice

from anyio.abc import ObjectSendStream

from asyncstore.cas.context import CasContext
from asyncstore.cas.pack import absent, corrupt
from asyncstore.codec.base import Codec
from asyncstore.codec.registry import GZIP, LZ4, RAW, codec_of
from asyncstore.concurrency import ThreadPool, feed
from asyncstore.errors import CodecError, CorruptBlobError, ObjectNotFoundError
from asyncstore.layout import old_raw_blob_path
from asyncstore.limits import MemoryAccount
from asyncstore.storage.transfer import Download, download
from asyncstore.types import Buffer, Key

PIECES_PER_HOP = 4
"""Decoded pieces (of at most 1 MiB each) that one thread hop makes or hashes."""


@asynccontextmanager
async def open_decoded(
    context: CasContext, key: Key, account: MemoryAccount | None, codec: Codec | None = None
) -> AsyncGenerator[AsyncIterator[list[Buffer]]]:
    """Give a blob's content in groups of pieces, handed out before it is verified.

    Read as ``codec``, or as its attributes say. At the end, content that cannot be decoded or does not hash to
    ``key`` raises `CorruptBlobError`, from the iteration or from the block.
    """
    pool = context.runtime.pool
    async with AsyncExitStack() as stack:
        body, stated = await _open_download(context, key, account, stack)

        async def decode(sender: ObjectSendStream[list[Buffer]]) -> None:
            decoder = (codec or stated).decoder()
            try:
                async for chunk in body:
                    decoded = decoder.decode(chunk)
                    while pieces := await pool.run(_take, decoded):
                        await sender.send(pieces)
                decoder.finish()
            except CodecError as error:
                raise corrupt(key, None, body.path) from error

        groups = await stack.enter_async_context(feed(decode))
        yield _verified(groups, pool, key, body.path)


async def read_streamed(context: CasContext, key: Key, *, keep: bool) -> tuple[int, bytes | None, bool]:
    """Return size, with ``keep`` content, and whether the attributes fit, of a blob too large to be decoded at once.

    The caller has reserved the memory. Where the attributes do not fit the bytes, the other readings are tried.
    """
    failure: CorruptBlobError | None = None
    for codec in (None, GZIP, RAW, LZ4):
        try:
            return *await _read_as(context, key, codec, keep=keep), codec is None
        except CorruptBlobError as error:
            failure = failure or error
    assert failure is not None
    raise failure


async def _read_as(context: CasContext, key: Key, codec: Codec | None, *, keep: bool) -> tuple[int, bytes | None]:
    # BytesIO hands its buffer over as bytes without a copy, and grows in place.
    content = BytesIO()
    size = 0
    async with open_decoded(context, key, None, codec) as groups:
        async for pieces in groups:
            size += sum(len(piece) for piece in pieces)
            if size > context.runtime.limits.max_blob_bytes:
                raise CodecError(
                    f"blob {key} has more than the {context.runtime.limits.max_blob_bytes} bytes that "
                    "Limits.max_blob_bytes allows",
                    operation="load_blob",
                    where=key,
                )
            if keep:
                await context.runtime.pool.run(content.writelines, pieces)
    return size, content.getvalue() if keep else None


async def _open_download(
    context: CasContext, key: Key, account: MemoryAccount | None, stack: AsyncExitStack
) -> tuple[Download, Codec]:
    try:
        body = await stack.enter_async_context(download(context.storage, context.path(key), memory=account))
        return body, codec_of(body.meta.attributes)
    except ObjectNotFoundError as error:
        missing = error
    try:
        old = old_raw_blob_path(context.prefix, key)
        body = await stack.enter_async_context(download(context.storage, old, memory=account))
    except ObjectNotFoundError:
        raise absent(key, context.path(key)) from missing
    return body, codec_of(body.meta.attributes) if body.meta.attributes else RAW


def _take(decoded: Iterator[Buffer]) -> list[Buffer]:
    # Raw content comes as views of the download's memory, which the next part will be received into.
    return [bytes(piece) if isinstance(piece, memoryview) else piece for piece in islice(decoded, PIECES_PER_HOP)]


async def _verified(
    groups: AsyncIterator[list[Buffer]], pool: ThreadPool, key: Key, path: str
) -> AsyncGenerator[list[Buffer]]:
    sha1 = hashlib.sha1(usedforsecurity=False)

    def update(pieces: list[Buffer]) -> None:
        for piece in pieces:
            sha1.update(piece)

    async for pieces in groups:
        await pool.run(update, pieces)
        yield pieces
    actual = Key(sha1.hexdigest())
    if actual != key:
        raise corrupt(key, actual, path)
