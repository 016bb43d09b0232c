"""A storage that tries failed requests again: the one layer that does."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from random import Random, SystemRandom
from typing import Any, TypeVar, cast

import anyio

from asyncstore.errors import AlreadyExistsError, AsyncStoreError
from asyncstore.retry import is_retryable
from asyncstore.storage.attempts import Attempts, Pacing
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
from asyncstore.storage.resuming import ResumingBody, ResumingListing
from asyncstore.storage.settling import find_copy, find_object
from asyncstore.storage.wrapper import StorageWrapper
from asyncstore.types import Attributes, Buffer, ByteRange, ListEntry, ObjectMeta, RetryPolicy, WriteMode

P = TypeVar("P")


class Retrying(StorageWrapper):
    """Repeat what fails with a retryable error, within ``policy``; each wait is logged.

    A body that breaks off goes on by range, pinned to the first etag; its attempts and deadline count anew after each
    MiB. A listing that breaks off begins again without repetitions. A write that fails after an attempt whose reply
    may have been lost is settled by what is stored; who created the same object at the same moment counts as us.
    Put it around `Limited`, so that a sleeping retry holds no request's place.
    """

    def __init__(
        self,
        inner: DataStoreStorage,
        policy: RetryPolicy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
        random: Random | None = None,
    ) -> None:
        super().__init__(inner)
        # The system's dice have no state that forked processes would share and so roll alike.
        self._pacing = Pacing(policy or RetryPolicy(), clock, sleep, random or SystemRandom())

    def __reduce__(self) -> tuple[Any, ...]:
        return Retrying, (self._inner, self._pacing.policy)

    def attempts(self, operation: str, where: str) -> Attempts:
        """Begin to count the attempts of one call."""
        return Attempts(self._pacing, self.runtime.requests, operation, where)

    async def head(self, path: str) -> ObjectMeta | None:
        return await self.attempts("head", path).run(partial(self._inner.head, path))

    def get(
        self, path: str, *, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AbstractAsyncContextManager[ObjectReader]:
        def open_block(wanted: ByteRange | None, etag: str | None) -> AbstractAsyncContextManager[ObjectReader]:
            return self._inner.get(path, byte_range=wanted, if_match=etag)

        return ResumingBody(open_block, path, byte_range, if_match, self.attempts("get", path))

    async def put(
        self, path: str, data: Buffer, *, attributes: Attributes | None = None, mode: WriteMode = "overwrite"
    ) -> ObjectMeta:
        return await _settled(
            self.attempts("put", path),
            lambda: self._inner.put(path, data, attributes=attributes, mode=mode),
            lambda: find_copy(self._inner, path, data, attributes),
        )

    async def create_multipart(
        self, path: str, *, part_size: int, attributes: Attributes | None = None, mode: WriteMode = "overwrite"
    ) -> MultipartUpload:
        upload = await self.attempts("create_multipart", path).run(
            lambda: self._inner.create_multipart(path, part_size=part_size, attributes=attributes, mode=mode)
        )
        return _RetryingUpload(upload, self, self._inner, path, attributes)

    def list(self, prefix: str, *, recursive: bool = False) -> AbstractAsyncContextManager[AsyncIterator[ListEntry]]:
        return ResumingListing(lambda: self._inner.list(prefix, recursive=recursive), self.attempts("list", prefix))

    async def delete(self, path: str) -> None:
        attempts = self.attempts("delete", path)

        async def delete() -> None:
            # Not simply once more: an object that somebody wrote after our delete is not ours to remove.
            if not attempts.failures or await self._inner.head(path) is not None:
                await self._inner.delete(path)

        await attempts.run(delete)

    def power(self, kind: type[P]) -> P | None:
        if kind is SupportsBatch and (batch := self._inner.power(SupportsBatch)) is not None:
            return cast("P", _RetryingBatch(batch, self, self._inner))
        if kind is SupportsBareReads and (bare := self._inner.power(SupportsBareReads)) is not None:
            return cast("P", _RetryingBareReads(bare, self))
        if kind is SupportsCopy and (copy := self._inner.power(SupportsCopy)) is not None:
            return cast("P", _RetryingCopy(copy, self))
        if kind is SupportsOpenUploads and (uploads := self._inner.power(SupportsOpenUploads)) is not None:
            return cast("P", _RetryingOpenUploads(uploads, self))
        return None


async def _settled(
    attempts: Attempts,
    write: Callable[[], Awaitable[ObjectMeta]],
    find: Callable[[], Awaitable[ObjectMeta | None]],
) -> ObjectMeta:
    """Repeat a write; if it is refused after an attempt whose reply may have been lost, look for what that stored."""
    refusal: AsyncStoreError | None = None
    while True:
        try:
            if refusal is None:
                return await write()
            meta = await find()
        except AsyncStoreError as error:
            if is_retryable(error) or not attempts.failures:
                await attempts.wait(error)
            elif refusal is None:
                refusal = error
            else:
                raise refusal from error
        else:
            if meta is None:
                raise refusal
            return meta


class _RetryingUpload:
    def __init__(
        self,
        inner: MultipartUpload,
        retrying: Retrying,
        storage: DataStoreStorage,
        path: str,
        attributes: Attributes | None,
    ) -> None:
        self._inner = inner
        self._retrying = retrying
        self._storage = storage
        self._path = path
        self._attributes = attributes
        self._sizes: dict[int, int] = {}

    async def put_part(self, number: int, data: Buffer) -> None:
        await self._retrying.attempts("put_part", self._path).run(partial(self._inner.put_part, number, data))
        self._sizes[number] = memoryview(data).nbytes

    async def complete(self) -> ObjectMeta:
        # Completed twice, most servers say that the upload is gone, others that the object exists.
        return await _settled(
            self._retrying.attempts("complete", self._path),
            self._inner.complete,
            lambda: find_object(self._storage, self._path, sum(self._sizes.values()), self._attributes),
        )

    async def abort(self) -> None:
        await self._retrying.attempts("abort", self._path).run(self._inner.abort)


class _RetryingBatch:
    def __init__(self, inner: SupportsBatch, retrying: Retrying, storage: DataStoreStorage) -> None:
        self._inner = inner
        self._retrying = retrying
        self._storage = storage

    async def head_batch(self, paths: Sequence[str]) -> list[ObjectMeta | None]:
        return await self._attempts("head_batch", paths).run(partial(self._inner.head_batch, paths))

    async def get_batch(self, paths: Sequence[str], *, max_bytes: int) -> list[StoredObject | None]:
        attempts = self._attempts("get_batch", paths)
        return await attempts.run(partial(self._inner.get_batch, paths, max_bytes=max_bytes))

    async def put_batch(self, items: Sequence[PutItem], *, mode: WriteMode = "overwrite") -> list[ObjectMeta | None]:
        attempts = self._attempts("put_batch", [item.path for item in items])
        results = await attempts.run(partial(self._inner.put_batch, items, mode=mode))
        if attempts.failures:
            for index, item in enumerate(items):
                if results[index] is None:
                    find = partial(find_copy, self._storage, item.path, item.data, item.attributes)
                    results[index] = await self._retrying.attempts("put_batch", item.path).run(find)
        return results

    def _attempts(self, operation: str, paths: Sequence[str]) -> Attempts:
        return self._retrying.attempts(operation, _several(paths))


def _several(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{paths[0]}{more}" if paths else "nothing"


class _RetryingBareReads:
    def __init__(self, inner: SupportsBareReads, retrying: Retrying) -> None:
        self._inner = inner
        self._retrying = retrying

    async def read_bodies(self, paths: Sequence[str], *, max_bytes: int) -> list[bytes | int | None]:
        attempts = self._retrying.attempts("read_bodies", _several(paths))
        return await attempts.run(partial(self._inner.read_bodies, paths, max_bytes=max_bytes))


class _RetryingCopy:
    def __init__(self, inner: SupportsCopy, retrying: Retrying) -> None:
        self._inner = inner
        self._retrying = retrying

    def copy_source(self, path: str) -> CopySource:
        return self._inner.copy_source(path)

    async def copy_from(self, source: CopySource, path: str, *, mode: WriteMode = "overwrite") -> ObjectMeta | None:
        attempts = self._retrying.attempts("copy_from", path)
        try:
            return await attempts.run(partial(self._inner.copy_from, source, path, mode=mode))
        except AlreadyExistsError as error:
            if attempts.failures:
                error.add_note("the object may come from an earlier attempt of this copy; compare before you overwrite")
            raise


class _RetryingOpenUploads:
    def __init__(self, inner: SupportsOpenUploads, retrying: Retrying) -> None:
        self._inner = inner
        self._retrying = retrying

    async def open_uploads(self) -> list[OpenUpload]:
        return await self._retrying.attempts("open_uploads", "").run(self._inner.open_uploads)

    async def abort_upload(self, upload: OpenUpload) -> None:
        attempts = self._retrying.attempts("abort_upload", upload.path)
        await attempts.run(partial(self._inner.abort_upload, upload))
