"""Reading one S3 object: the request, and the body under its deadline."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.lowlevel

from asyncstore.errors import IntegrityError, PreconditionFailedError, StorageError, StorageUnavailableError
from asyncstore.storage.attributes import decode_attributes
from asyncstore.storage.s3_call import S3Caller
from asyncstore.storage.s3_errors import SDK_ERRORS, code_of, status_of, translate
from asyncstore.types import KIB, Attributes, ByteRange, ObjectMeta

ATTRIBUTES = "metaflow-user-attributes"
CHUNK = 256 * KIB
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def meta_of(answer: Any, path: str, size: int) -> ObjectMeta:
    """Return what the answer to a HEAD or GET tells of an object."""
    return ObjectMeta(
        size,
        plain_etag(answer.get("ETag")),
        in_utc(answer.get("LastModified")),
        _attributes(answer.get("Metadata") or {}, path),
    )


def plain_etag(etag: str | None) -> str | None:
    """Return an ETag without its quotes, which rclone leaves out in listings."""
    return None if etag is None else etag.strip('"')


def in_utc(moment: datetime | None) -> datetime | None:
    """Return a time of the SDK's, which may be in this machine's zone, in UTC."""
    return None if moment is None else moment.astimezone(UTC)


def _attributes(metadata: dict[str, str], path: str) -> Attributes:
    for name, value in metadata.items():
        if name.lower() == ATTRIBUTES:  # header names know no case, and rclone gives them back in another one
            try:
                return decode_attributes(value)
            except IntegrityError as error:
                raise IntegrityError(f"attributes of {path}: {error}", operation="head", where=path) from error
    return {}


@asynccontextmanager
async def open_object(
    caller: S3Caller, key: str, path: str, byte_range: ByteRange | None, if_match: str | None
) -> AsyncGenerator[S3Reader]:
    """Open an object for reading; its body is closed at the end of the block, read or not."""
    arguments: dict[str, Any] = {"Key": key}
    if if_match is not None:
        arguments["IfMatch"] = f'"{if_match}"'
    if byte_range is not None and (byte_range.start or byte_range.stop is not None):
        last = "" if byte_range.stop is None else byte_range.stop - 1
        arguments["Range"] = f"bytes={byte_range.start}-{last}"
    try:
        answer = await caller.call_raw("get_object", **arguments)
    except SDK_ERRORS as error:
        if code_of(error) != "InvalidRange" and status_of(error) != 416:
            raise translate(error, "get", path, caller.root) from error
        answer = None
    if answer is None:
        # The range starts at or beyond the end (of an empty object, every range does): no bytes, but still the meta.
        yield S3Reader(caller, path, await _meta_without_body(caller, key, path, if_match), None, 0)
        return
    body = answer["Body"]
    try:
        length: int = answer["ContentLength"]
        size = _whole_size(answer, path) if "Range" in arguments and length else length
        meta = meta_of(answer, path, size)
        _check_match(meta, path, if_match)
        yield S3Reader(caller, path, meta, body, length)
    finally:
        # Closes the connection of a body that was not read to its end; one that was has gone back to the pool.
        body.close()


async def _meta_without_body(caller: S3Caller, key: str, path: str, if_match: str | None) -> ObjectMeta:
    answer = await caller.call("head_object", "get", path, Key=key)
    meta = meta_of(answer, path, answer["ContentLength"])
    _check_match(meta, path, if_match)
    return meta


def _check_match(meta: ObjectMeta, path: str, if_match: str | None) -> None:
    # Asked of the server too, which then need not send the body; but rclone pays no heed to it.
    if if_match is not None and meta.etag != if_match:
        raise PreconditionFailedError(
            f"get of {path}: it is no longer the object with etag {if_match}; read it anew", operation="get", where=path
        )


def _whole_size(answer: Any, path: str) -> int:
    found = _CONTENT_RANGE.fullmatch(answer.get("ContentRange") or "")
    if found is None:
        raise StorageError(
            f"get of {path}: the server sent no range although one was asked for; it cannot be used for ranges",
            operation="get",
            where=path,
        )
    return int(found[3])


class S3Reader:
    """The body of one answer.

    Time counts against the deadline only while the server is waited for, so that a slow consumer is no timeout.
    """

    def __init__(self, caller: S3Caller, path: str, meta: ObjectMeta, body: Any, length: int) -> None:
        self._caller = caller
        self._path = path
        self._meta = meta
        self._body = body
        self._left = length
        self._seconds = caller.timeouts.for_bytes(length)

    @property
    def meta(self) -> ObjectMeta:
        return self._meta

    def __aiter__(self) -> S3Reader:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._read(CHUNK)
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def read_into(self, target: memoryview) -> int:
        filled = 0
        while filled < len(target):
            chunk = await self._read(min(CHUNK, len(target) - filled))
            if not chunk:
                break
            target[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        return filled

    async def _read(self, size: int) -> bytes:
        if self._left == 0:
            await anyio.lowlevel.checkpoint()
            return b""
        started = anyio.current_time()
        try:
            with anyio.fail_after(min(self._seconds, self._caller.timeouts.idle)):
                chunk: bytes = await self._body.read(size)
        except SDK_ERRORS as error:
            raise translate(error, "get", self._path, self._caller.root) from error
        self._seconds -= anyio.current_time() - started
        if not chunk:
            raise StorageUnavailableError(
                f"get of {self._path} in {self._caller.root}: the body ended {self._left} bytes early; try again",
                operation="get",
                where=self._path,
            )
        self._left -= len(chunk)
        return chunk
