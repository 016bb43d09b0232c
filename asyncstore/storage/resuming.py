"""Bodies and listings that go on after a failure, without a gap and without a repetition."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Generic, Self, TypeVar

from asyncstore.errors import AsyncStoreError, PreconditionFailedError, StorageUnavailableError
from asyncstore.retry import is_retryable
from asyncstore.storage.attempts import Attempts
from asyncstore.storage.base import ObjectReader
from asyncstore.types import MIB, ByteRange, ListEntry, ObjectMeta

T = TypeVar("T")

PROGRESS_BYTES = MIB
"""Bytes after which a body's attempts and deadline count anew: a slow download is not a failing one."""
PROGRESS_ENTRIES = 1000
READ_BYTES = 4 * MIB
"""The most that one read asks of the backend, and so the most that a break fetches twice."""
REMEMBERED_ENTRIES = 250_000
"""A longer listing is not begun again: about 100 bytes are kept for each entry handed out."""


class _Reopenable(Generic[T]):
    """A block of the backend's that is left and entered again midway.

    That the backend's block holds no task group or cancel scope (`DataStoreStorage.get`) is what makes it possible.
    """

    def __init__(self) -> None:
        self._block: AbstractAsyncContextManager[T] | None = None

    async def enter(self, block: AbstractAsyncContextManager[T]) -> T:
        value = await block.__aenter__()
        self._block = block
        return value

    async def leave(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        block, self._block = self._block, None
        return None if block is None else await block.__aexit__(kind, error, trace)


class ResumingBody:
    """The body of one object, read on from the next byte of the same object after a break."""

    def __init__(
        self,
        open_block: Callable[[ByteRange | None, str | None], AbstractAsyncContextManager[ObjectReader]],
        path: str,
        byte_range: ByteRange | None,
        if_match: str | None,
        attempts: Attempts,
    ) -> None:
        self._open_block = open_block
        self._path = path
        self._range = byte_range
        self._if_match = if_match
        self._attempts = attempts
        self._block = _Reopenable[ObjectReader]()
        self._meta: ObjectMeta | None = None
        self._length = 0
        self._position = 0
        self._failed_at = 0

    @property
    def meta(self) -> ObjectMeta:
        assert self._meta is not None, "the body is read inside its block"
        return self._meta

    async def __aenter__(self) -> Self:
        await self._attempts.run(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._block.leave(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while True:
            try:
                chunk = await anext(self._chunks)
            except StopAsyncIteration:
                if self._position >= self._length:
                    raise
                await self._resume(self._short())
            except AsyncStoreError as error:
                if self._position >= self._length and is_retryable(error):
                    raise StopAsyncIteration from error  # broken off behind the last byte
                await self._resume(error)
            else:
                self._position += len(chunk)
                return chunk

    async def read_into(self, target: memoryview) -> int:
        filled = 0
        while filled < len(target) and self._position < self._length:
            wanted = min(len(target) - filled, READ_BYTES)
            try:
                size = await self._reader.read_into(target[filled : filled + wanted])
                self._position += size
                filled += size
                if size < wanted and self._position < self._length:
                    raise self._short()
            except AsyncStoreError as error:
                await self._resume(error)
        return filled

    async def _open(self) -> None:
        whole = self._range or ByteRange(0)
        wanted = ByteRange(whole.start + self._position, whole.stop) if self._position else self._range
        self._reader = reader = await self._block.enter(self._open_block(wanted, self._if_match))
        self._chunks: AsyncIterator[bytes] = aiter(reader)
        if self._meta is None:
            self._meta = meta = reader.meta
            end = meta.size if whole.stop is None else min(meta.size, whole.stop)
            self._length = max(0, end - whole.start)

    async def _resume(self, error: AsyncStoreError) -> None:
        await self._block.leave(type(error), error, error.__traceback__)
        if not self._attempts.failures or self._position - self._failed_at >= PROGRESS_BYTES:
            self._attempts.begin_anew()
        self._failed_at = self._position
        await self._attempts.wait(error)
        # The caller has seen this object's size, and perhaps bytes of it: no other object will do.
        self._if_match = self._if_match or self.meta.etag
        if self._if_match is None:
            raise PreconditionFailedError(
                f"{self._path} broke off and has no etag to go on by; read it anew", operation="get", where=self._path
            ) from error
        await self._attempts.run(self._open)

    def _short(self) -> StorageUnavailableError:
        return StorageUnavailableError(
            f"{self._path} ended after {self._position} of {self._length} bytes", operation="get", where=self._path
        )


class ResumingListing:
    """A listing that begins again after a break and leaves out what was handed out before."""

    def __init__(
        self,
        open_block: Callable[[], AbstractAsyncContextManager[AsyncIterator[ListEntry]]],
        attempts: Attempts,
    ) -> None:
        self._open_block = open_block
        self._attempts = attempts
        self._block = _Reopenable[AsyncIterator[ListEntry]]()
        self._seen: set[str] = set()
        self._seen_at_failure = 0

    async def __aenter__(self) -> Self:
        await self._attempts.run(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._block.leave(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ListEntry:
        while True:
            try:
                entry = await anext(self._entries)
            except AsyncStoreError as error:
                await self._restart(error)
                continue
            if len(self._seen) <= REMEMBERED_ENTRIES:
                if entry.path in self._seen:
                    continue
                self._seen.add(entry.path)
            return entry

    async def _open(self) -> None:
        self._entries = await self._block.enter(self._open_block())

    async def _restart(self, error: AsyncStoreError) -> None:
        await self._block.leave(type(error), error, error.__traceback__)
        if len(self._seen) > REMEMBERED_ENTRIES:
            error.add_note(f"the listing broke off after more than {REMEMBERED_ENTRIES} entries; begin it again")
            raise error
        if not self._attempts.failures or len(self._seen) - self._seen_at_failure >= PROGRESS_ENTRIES:
            self._attempts.begin_anew()
        self._seen_at_failure = len(self._seen)
        await self._attempts.wait(error)
        await self._attempts.run(self._open)
