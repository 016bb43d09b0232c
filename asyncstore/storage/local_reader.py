"""Bodies on local disk, given piece by piece to one reader."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

from aiofiles.threadpool import wrap
from anyio.lowlevel import checkpoint_if_cancelled

from asyncstore.concurrency import ThreadPool, settle
from asyncstore.storage.local_get import OpenBody, shrunk
from asyncstore.types import MIB, ObjectMeta

T = TypeVar("T")
A = ParamSpec("A")

PIECE_BYTES = MIB
"""A thread hop costs as much as reading a tenth of this."""

_FILL_BYTES = 8 * MIB


class MemoryReader:
    """A body that was read when it was opened."""

    def __init__(self, meta: ObjectMeta, data: bytes) -> None:
        self._meta = meta
        self._data = data

    @property
    def meta(self) -> ObjectMeta:
        return self._meta

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await checkpoint_if_cancelled()
        data, self._data = self._data, b""
        if not data:
            raise StopAsyncIteration
        return data

    async def read_into(self, target: memoryview) -> int:
        """Fill ``target``; see `ObjectReader`."""
        await checkpoint_if_cancelled()
        size = min(len(target), len(self._data))
        target[:size] = self._data[:size]
        self._data = self._data[size:]
        return size


class _Threads(Executor):
    """The store's threads, lent to aiofiles, which would abandon a thread when it is cancelled."""

    def __init__(self, pool: ThreadPool) -> None:
        self._pool = pool
        self._last: Future[Any] | None = None

    def submit(self, fn: Callable[A, T], /, *args: A.args, **kwargs: A.kwargs) -> Future[T]:
        self._last = future = self._pool.executor.submit(fn, *args, **kwargs)
        return future

    async def wait_for(self, result: Awaitable[T]) -> T:
        """Await a call of aiofiles; if cancelled, raise once its thread has let go of file and buffer."""
        try:
            return await result
        except asyncio.CancelledError:
            if self._last is not None:
                rest = asyncio.wrap_future(self._last)
                await settle(rest)
                if not rest.cancelled():
                    rest.exception()  # seen: nobody is left to hear of it
            raise


class FileReader:
    """A body that is read from its file while it is consumed."""

    def __init__(self, pool: ThreadPool, body: OpenBody, where: str) -> None:
        self._threads = _Threads(pool)
        file = io.FileIO(body.fd, "rb", closefd=False)
        file.seek(body.start)
        self._file = wrap(file, executor=self._threads)
        self._meta = body.meta
        self._left = body.length
        self._where = where

    @property
    def meta(self) -> ObjectMeta:
        return self._meta

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        piece: bytes = await self._threads.wait_for(self._file.read(min(PIECE_BYTES, self._left)))
        self._took(len(piece))
        return piece

    async def read_into(self, target: memoryview) -> int:
        """Fill ``target``; see `ObjectReader`."""
        filled = 0
        size = min(len(target), self._left)
        while filled < size:
            piece = target[filled : min(filled + _FILL_BYTES, size)]
            count = await self._threads.wait_for(self._file.readinto(piece))
            self._took(count)
            filled += count
        return filled

    def _took(self, count: int) -> None:
        if not count:
            raise shrunk(self._where)
        self._left -= count
