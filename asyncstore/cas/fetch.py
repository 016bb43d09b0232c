"""Loads one blob, whatever its size, place and form, and verifies it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from asyncstore.cas.context import WHOLE, WHOLE_CONTENT, CasContext
from asyncstore.cas.pack import absent, hash_of, unpack_unlabelled, unpack_verified
from asyncstore.cas.stream import read_streamed
from asyncstore.codec.registry import RAW, codec_of, declared_size
from asyncstore.errors import BlobNotFoundError, CorruptBlobError, IntegrityError, ObjectNotFoundError, TooLargeError
from asyncstore.layout import old_raw_blob_path
from asyncstore.limits import MemoryAccount
from asyncstore.storage.transfer import download_window
from asyncstore.types import MIB, Attributes, Buffer, Key, ObjectMeta

FIRST_READ = 2 * MIB
"""Memory reserved before a blob's size is known; larger ones are asked for again, with their size reserved."""

TYPICAL_RATIO = 4
"""Content bytes per stored byte that are reserved for a packed blob that does not tell its size."""


@dataclass(frozen=True, slots=True)
class Content:
    """A verified blob; ``data`` is None where only its verification was asked for.

    ``as_stated`` says that the object is what its attributes state; False that only another reading of it gave the
    content, and None that they were not looked at (a cache gave it, or the bare body).
    """

    size: int
    data: bytes | None
    as_stated: bool | None


def expected_bytes(meta: ObjectMeta) -> int:
    """Return the memory to reserve for an object and its content."""
    declared = declared_size(meta.attributes)
    if declared is None:
        is_raw = meta.attributes.get("cas_raw") is True
        declared = meta.size if is_raw else meta.size * TYPICAL_RATIO
    return meta.size + declared


async def fetch(context: CasContext, key: Key, account: MemoryAccount, *, keep: bool) -> Content:
    """Load and verify one blob.

    One request; two for blobs above 2 MiB as stored; parts in parallel above 4 MiB. Raises `BlobNotFoundError`,
    `CorruptBlobError`, or `CodecError` for a form that is not known here.
    """
    cache = context.cache if keep else None
    cached = await cache.load_key(key) if cache else None
    if cached is not None and await context.runtime.pool.run(hash_of, cached) == key:
        return Content(len(cached), cached, None)
    try:
        content = await _fetch_at(context, key, context.path(key), account, keep=keep, default={})
    except ObjectNotFoundError as missing:
        old = old_raw_blob_path(context.prefix, key)
        try:
            content = await _fetch_at(context, key, old, account, keep=keep, default=RAW.attributes(0))
        except ObjectNotFoundError:
            raise absent(key, context.path(key)) from missing
    except IntegrityError as error:
        proven = None if isinstance(error, CorruptBlobError) or not keep else await _fetch_body(context, key, account)
        if proven is None:
            raise
        content = proven
    if cache is not None and content.data is not None:
        await cache.store_key(key, content.data)
    return content


async def is_whole(context: CasContext, key: Key) -> bool:
    """Read a blob back and say whether it is what its key and its attributes say."""
    account = context.runtime.memory.account()
    try:
        content = await fetch(context, key, account, keep=False)
    except (IntegrityError, BlobNotFoundError):
        return False
    finally:
        account.close()
    return content.as_stated is True


async def _fetch_body(context: CasContext, key: Key, account: MemoryAccount) -> Content | None:
    """Load a blob whose attributes cannot be used, by its body alone: a torn sidecar is no lost content."""
    if context.bare is None:
        return None
    async with account.reserve(WHOLE * (1 + TYPICAL_RATIO)):
        [body] = await context.bare.read_bodies([context.path(key)], max_bytes=WHOLE)
        if not isinstance(body, bytes):
            return None
        limit = min(WHOLE_CONTENT, context.runtime.limits.max_blob_bytes)
        data = await context.runtime.pool.run(unpack_unlabelled, key, body, max_size=limit)
    return None if data is None else Content(len(data), data, as_stated=False)


async def _fetch_at(
    context: CasContext, key: Key, path: str, account: MemoryAccount, *, keep: bool, default: Attributes
) -> Content:
    async with account.reserve(FIRST_READ):
        meta, stored = await _read(context, path, limit=FIRST_READ)
    # Memory is reserved anew, never on top of what is held: two that wait for each other's would wait for ever.
    expected = expected_bytes(meta)
    if meta.size <= WHOLE and expected <= WHOLE + WHOLE_CONTENT:
        with suppress(TooLargeError):
            async with account.reserve(expected):
                if stored is None:
                    meta, stored = await _read(context, path, limit=WHOLE)
                content, as_stated = await context.runtime.pool.run(
                    unpack_verified,
                    key,
                    stored or b"",
                    meta.attributes or default,
                    where=path,
                    max_size=min(WHOLE_CONTENT, context.runtime.limits.max_blob_bytes),
                )
                return Content(len(content), content if keep else None, as_stated)
    codec_of(meta.attributes or default)  # an unknown form is told before anything is read
    async with account.reserve((expected if keep else 0) + download_window(context.storage, meta.size)):
        return Content(*await read_streamed(context, key, keep=keep))


async def _read(context: CasContext, path: str, *, limit: int) -> tuple[ObjectMeta, Buffer | None]:
    """Read an object whole unless it has more than ``limit`` bytes."""
    async with context.storage.get(path) as reader:
        size = reader.meta.size
        if size > limit:
            return reader.meta, None
        first = await anext(aiter(reader), b"")
        if len(first) == size:
            return reader.meta, first  # a copy would cost more than the rest of the load: its pages are fresh
        stored = bytearray(size)
        stored[: len(first)] = first
        filled = len(first) + await reader.read_into(memoryview(stored)[len(first) :])
        return reader.meta, memoryview(stored)[:filled]
