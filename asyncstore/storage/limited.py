"""A storage that takes one of the runtime's places for each request under way."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Self, TypeVar, cast

from asyncstore.runtime import Runtime
from asyncstore.storage.base import (
    CopySource,
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

PAGE = 1000
"""Entries of a listing pulled while one place is held: as many as a cloud sends in one reply."""


class Limited(StorageWrapper):
    """Hold a place of ``runtime.requests`` for each request.

    A body holds one until its block is left: read what you need, leave the block, then ask for the next. A listing
    holds one while it pulls a page, not while its entries are looked at. ``abort`` takes none, since a clean-up
    under a deadline must not queue.
    """

    def _place(self) -> AbstractAsyncContextManager[None]:
        return self.runtime.requests.request()

    async def head(self, path: str) -> ObjectMeta | None:
        async with self._place():
            return await self._inner.head(path)

    @asynccontextmanager
    async def get(
        self, path: str, *, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AsyncGenerator[ObjectReader]:
        async with self._place(), self._inner.get(path, byte_range=byte_range, if_match=if_match) as reader:
            yield reader

    async def put(
        self, path: str, data: Buffer, *, attributes: Attributes | None = None, mode: WriteMode = "overwrite"
    ) -> ObjectMeta:
        async with self._place():
            return await self._inner.put(path, data, attributes=attributes, mode=mode)

    async def create_multipart(
        self, path: str, *, part_size: int, attributes: Attributes | None = None, mode: WriteMode = "overwrite"
    ) -> MultipartUpload:
        async with self._place():
            upload = await self._inner.create_multipart(path, part_size=part_size, attributes=attributes, mode=mode)
        return _LimitedUpload(upload, self.runtime)

    def list(self, prefix: str, *, recursive: bool = False) -> AbstractAsyncContextManager[AsyncIterator[ListEntry]]:
        return _LimitedListing(self._inner.list(prefix, recursive=recursive), self.runtime)

    async def delete(self, path: str) -> None:
        async with self._place():
            await self._inner.delete(path)

    def power(self, kind: type[P]) -> P | None:
        if kind is SupportsBatch and (batch := self._inner.power(SupportsBatch)) is not None:
            return cast("P", _LimitedBatch(batch, self.runtime))
        if kind is SupportsBareReads and (bare := self._inner.power(SupportsBareReads)) is not None:
            return cast("P", _LimitedBareReads(bare, self.runtime))
        if kind is SupportsCopy and (copy := self._inner.power(SupportsCopy)) is not None:
            return cast("P", _LimitedCopy(copy, self.runtime))
        if kind is SupportsOpenUploads and (uploads := self._inner.power(SupportsOpenUploads)) is not None:
            return cast("P", _LimitedOpenUploads(uploads, self.runtime))
        return None


class _LimitedUpload:
    def __init__(self, inner: MultipartUpload, runtime: Runtime) -> None:
        self._inner = inner
        self._runtime = runtime

    async def put_part(self, number: int, data: Buffer) -> None:
        async with self._runtime.requests.request():
            await self._inner.put_part(number, data)

    async def complete(self) -> ObjectMeta:
        async with self._runtime.requests.request():
            return await self._inner.complete()

    async def abort(self) -> None:
        await self._inner.abort()


class _LimitedListing:
    def __init__(self, inner: AbstractAsyncContextManager[AsyncIterator[ListEntry]], runtime: Runtime) -> None:
        self._inner = inner
        self._runtime = runtime
        self._page: deque[ListEntry] = deque()
        self._ended = False

    async def __aenter__(self) -> Self:
        async with self._runtime.requests.request():
            self._entries = await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, trace)

    def __aiter__(self) -> _LimitedListing:
        return self

    async def __anext__(self) -> ListEntry:
        if not self._page and not self._ended:
            await self._pull()
        if not self._page:
            raise StopAsyncIteration
        return self._page.popleft()

    async def _pull(self) -> None:
        # A place for each entry would wait in the queue a thousand times for one reply of the server.
        async with self._runtime.requests.request():
            async for entry in self._entries:
                self._page.append(entry)
                if len(self._page) >= PAGE:
                    return
        self._ended = True


class _LimitedBatch:
    def __init__(self, inner: SupportsBatch, runtime: Runtime) -> None:
        self._inner = inner
        self._runtime = runtime

    async def head_batch(self, paths: Sequence[str]) -> list[ObjectMeta | None]:
        async with self._runtime.requests.request():
            return await self._inner.head_batch(paths)

    async def get_batch(self, paths: Sequence[str], *, max_bytes: int) -> list[StoredObject | None]:
        async with self._runtime.requests.request():
            return await self._inner.get_batch(paths, max_bytes=max_bytes)

    async def put_batch(self, items: Sequence[PutItem], *, mode: WriteMode = "overwrite") -> list[ObjectMeta | None]:
        async with self._runtime.requests.request():
            return await self._inner.put_batch(items, mode=mode)


class _LimitedBareReads:
    def __init__(self, inner: SupportsBareReads, runtime: Runtime) -> None:
        self._inner = inner
        self._runtime = runtime

    async def read_bodies(self, paths: Sequence[str], *, max_bytes: int) -> list[bytes | int | None]:
        async with self._runtime.requests.request():
            return await self._inner.read_bodies(paths, max_bytes=max_bytes)


class _LimitedCopy:
    def __init__(self, inner: SupportsCopy, runtime: Runtime) -> None:
        self._inner = inner
        self._runtime = runtime

    def copy_source(self, path: str) -> CopySource:
        return self._inner.copy_source(path)

    async def copy_from(self, source: CopySource, path: str, *, mode: WriteMode = "overwrite") -> ObjectMeta | None:
        async with self._runtime.requests.request():
            return await self._inner.copy_from(source, path, mode=mode)


class _LimitedOpenUploads:
    def __init__(self, inner: SupportsOpenUploads, runtime: Runtime) -> None:
        self._inner = inner
        self._runtime = runtime

    async def open_uploads(self) -> list[OpenUpload]:
        async with self._runtime.requests.request():
            return await self._inner.open_uploads()

    async def abort_upload(self, upload: OpenUpload) -> None:
        async with self._runtime.requests.request():
            await self._inner.abort_upload(upload)
