"""A storage that answers as late as a distant one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar, cast

import anyio

from asyncstore.storage.base import (
    CopySource,
    DataStoreStorage,
    MultipartUpload,
    ObjectReader,
    OpenUpload,
    PutItem,
    StoredObject,
    SupportsBareReads,
    SupportsBatch,
    SupportsCopy,
    SupportsOpenUploads,
)
from asyncstore.storage.wrapper import StorageWrapper
from asyncstore.types import Attributes, Buffer, ByteRange, ListEntry, ObjectMeta, WriteMode

P = TypeVar("P")


class Latency(StorageWrapper):
    """Delay each request by ``delay`` seconds, and bytes to ``rate`` bytes per second of each request.

    A listing is delayed once, a batch as one request: say so beside a number measured through this.
    """

    def __init__(
        self,
        inner: DataStoreStorage,
        delay: float,
        *,
        rate: float = float("inf"),
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
    ) -> None:
        super().__init__(inner)
        self._delay = delay
        self._rate = rate
        self._sleep = sleep

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._inner, self._delay, self._rate)

    async def request(self, size: int = 0) -> None:
        """Wait as long as one request with ``size`` bytes takes on its way."""
        await self._sleep(self._delay + size / self._rate)

    async def body(self, size: int) -> None:
        """Wait as long as ``size`` bytes take, in a request that is under way."""
        await self._sleep(size / self._rate)

    async def head(self, path: str) -> ObjectMeta | None:
        await self.request()
        return await self._inner.head(path)

    @asynccontextmanager
    async def get(
        self, path: str, *, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AsyncGenerator[ObjectReader]:
        await self.request()
        async with self._inner.get(path, byte_range=byte_range, if_match=if_match) as reader:
            yield _SlowReader(reader, self)

    async def put(
        self, path: str, data: Buffer, *, attributes: Attributes | None = None, mode: WriteMode = "overwrite"
    ) -> ObjectMeta:
        await self.request(len(data))
        return await self._inner.put(path, data, attributes=attributes, mode=mode)

    async def create_multipart(
        self, path: str, *, part_size: int, attributes: Attributes | None = None, mode: WriteMode = "overwrite"
    ) -> MultipartUpload:
        await self.request()
        upload = await self._inner.create_multipart(path, part_size=part_size, attributes=attributes, mode=mode)
        return _SlowUpload(upload, self)

    @asynccontextmanager
    async def list(self, prefix: str, *, recursive: bool = False) -> AsyncGenerator[AsyncIterator[ListEntry]]:
        await self.request()
        async with self._inner.list(prefix, recursive=recursive) as entries:
            yield entries

    async def delete(self, path: str) -> None:
        await self.request()
        await self._inner.delete(path)

    def power(self, kind: type[P]) -> P | None:
        if kind is SupportsBatch and (batch := self._inner.power(SupportsBatch)) is not None:
            return cast("P", _SlowBatch(batch, self))
        if kind is SupportsBareReads and (bare := self._inner.power(SupportsBareReads)) is not None:
            return cast("P", _SlowBareReads(bare, self))
        if kind is SupportsCopy and (copy := self._inner.power(SupportsCopy)) is not None:
            return cast("P", _SlowCopy(copy, self))
        if kind is SupportsOpenUploads and (uploads := self._inner.power(SupportsOpenUploads)) is not None:
            return cast("P", _SlowOpenUploads(uploads, self))
        return None


def _restore(inner: DataStoreStorage, delay: float, rate: float) -> Latency:
    return Latency(inner, delay, rate=rate)


class _SlowReader:
    def __init__(self, inner: ObjectReader, latency: Latency) -> None:
        self.meta = inner.meta
        self._inner = inner
        self._chunks = aiter(inner)
        self._latency = latency

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self._chunks)
        await self._latency.body(len(chunk))
        return chunk

    async def read_into(self, target: memoryview) -> int:
        size = await self._inner.read_into(target)
        await self._latency.body(size)
        return size


class _SlowUpload:
    def __init__(self, inner: MultipartUpload, latency: Latency) -> None:
        self._inner = inner
        self._latency = latency

    async def put_part(self, number: int, data: Buffer) -> None:
        await self._latency.request(len(data))
        await self._inner.put_part(number, data)

    async def complete(self) -> ObjectMeta:
        await self._latency.request()
        return await self._inner.complete()

    async def abort(self) -> None:
        await self._latency.request()
        await self._inner.abort()


class _SlowBatch:
    def __init__(self, inner: SupportsBatch, latency: Latency) -> None:
        self._inner = inner
        self._latency = latency

    async def head_batch(self, paths: Sequence[str]) -> list[ObjectMeta | None]:
        await self._latency.request()
        return await self._inner.head_batch(paths)

    async def get_batch(self, paths: Sequence[str], *, max_bytes: int) -> list[StoredObject | None]:
        await self._latency.request()
        found = await self._inner.get_batch(paths, max_bytes=max_bytes)
        await self._latency.body(sum(len(one.data) for one in found if one is not None and one.data is not None))
        return found

    async def put_batch(self, items: Sequence[PutItem], *, mode: WriteMode = "overwrite") -> list[ObjectMeta | None]:
        await self._latency.request(sum(len(item.data) for item in items))
        return await self._inner.put_batch(items, mode=mode)


class _SlowBareReads:
    def __init__(self, inner: SupportsBareReads, latency: Latency) -> None:
        self._inner = inner
        self._latency = latency

    async def read_bodies(self, paths: Sequence[str], *, max_bytes: int) -> list[bytes | int | None]:
        await self._latency.request()
        bodies = await self._inner.read_bodies(paths, max_bytes=max_bytes)
        await self._latency.body(sum(len(body) for body in bodies if isinstance(body, bytes)))
        return bodies


class _SlowCopy:
    def __init__(self, inner: SupportsCopy, latency: Latency) -> None:
        self._inner = inner
        self._latency = latency

    def copy_source(self, path: str) -> CopySource:
        return self._inner.copy_source(path)

    async def copy_from(self, source: CopySource, path: str, *, mode: WriteMode = "overwrite") -> ObjectMeta | None:
        await self._latency.request()
        return await self._inner.copy_from(source, path, mode=mode)


class _SlowOpenUploads:
    def __init__(self, inner: SupportsOpenUploads, latency: Latency) -> None:
        self._inner = inner
        self._latency = latency

    async def open_uploads(self) -> list[OpenUpload]:
        await self._latency.request()
        return await self._inner.open_uploads()

    async def abort_upload(self, upload: OpenUpload) -> None:
        await self._latency.request()
        await self._inner.abort_upload(upload)
