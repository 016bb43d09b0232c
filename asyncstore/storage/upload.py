"""Writes one large object in concurrent parts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import asynccontextmanager

import anyio

from asyncstore.concurrency import CLEANUP_SECONDS
from asyncstore.errors import SourceChangedError
from asyncstore.storage.base import DataStoreStorage, MultipartUpload
from asyncstore.storage.part_group import part_group
from asyncstore.storage.plan import DIRECT_PART, DIRECT_WIDTH, Plan, plan_parts, plan_upload
from asyncstore.storage.window import Window
from asyncstore.types import Attributes, Buffer, ObjectMeta, WriteMode


def upload_window(storage: DataStoreStorage, max_size: int) -> int:
    """Return the bytes of memory that `upload` uses."""
    return _plan(storage, max_size).window


async def upload(
    storage: DataStoreStorage,
    path: str,
    pieces: AsyncIterable[Buffer],
    *,
    max_size: int,
    attributes: Attributes | None = None,
    mode: WriteMode = "overwrite",
) -> ObjectMeta:
    """Write one object from pieces that come one after the other, of at most ``max_size`` bytes in all.

    The caller has reserved `upload_window`; a piece is copied before the next one is asked for. One request if all
    fits into one part, otherwise one for each part and two more. The object appears at the end, whole; a failure or a
    cancellation leaves nothing behind. Raises `SourceChangedError` if more bytes come, and what ``put`` and
    ``complete`` raise. If cancelled during the last request, the object is there whole or not at all.
    """
    plan = _plan(storage, max_size)
    window = Window(plan, max_size)
    source = _Source(pieces, path, max_size)
    buffer = await window.take()
    size = await source.fill(buffer)
    if not await source.more():
        return await storage.put(path, buffer[:size], attributes=attributes, mode=mode)
    async with _multipart(storage, path, plan, attributes, mode) as parts:

        async def send(number: int, part: memoryview) -> None:
            await parts.put_part(number, part)
            window.used(part)

        async with part_group() as group:
            number = 0
            while size:
                group.start_soon(send, number, buffer[:size])
                number += 1
                buffer = await window.take()
                size = await source.fill(buffer)
        return await parts.complete()


async def upload_buffer(
    storage: DataStoreStorage,
    path: str,
    data: Buffer,
    *,
    attributes: Attributes | None = None,
    mode: WriteMode = "overwrite",
) -> ObjectMeta:
    """Write one object from the caller's memory, without a copy; otherwise as `upload`."""
    view = memoryview(data).cast("B")
    plan = Plan(plan_parts(storage.multipart_limits, len(view), preferred=DIRECT_PART), DIRECT_WIDTH)
    if len(view) <= plan.part_size:
        return await storage.put(path, view, attributes=attributes, mode=mode)
    async with _multipart(storage, path, plan, attributes, mode) as parts:
        numbers = iter(range(plan.count(len(view))))

        async def send() -> None:
            for number in numbers:
                part = plan.part(number, len(view))
                await parts.put_part(number, view[part.start : part.stop])

        async with part_group() as group:
            for _ in range(plan.width):
                group.start_soon(send)
        return await parts.complete()


def _plan(storage: DataStoreStorage, max_size: int) -> Plan:
    return plan_upload(storage.multipart_limits, max_size, memory=storage.runtime.memory.limit)


@asynccontextmanager
async def _multipart(
    storage: DataStoreStorage, path: str, plan: Plan, attributes: Attributes | None, mode: WriteMode
) -> AsyncGenerator[MultipartUpload]:
    """Begin an upload, which ends with this block: completed inside it, or aborted."""
    parts = await storage.create_multipart(path, part_size=plan.part_size, attributes=attributes, mode=mode)
    try:
        yield parts
    except BaseException as error:
        with anyio.move_on_after(CLEANUP_SECONDS, shield=True) as scope:
            try:
                await parts.abort()
            except Exception as failure:  # noqa: BLE001  # the first failure is what the caller has to know
                error.add_note(f"the parts of {path} could not be removed either: {failure}")
        if scope.cancelled_caught:
            error.add_note(f"the parts of {path} were not removed within {CLEANUP_SECONDS} seconds")
        raise


class _Source:
    """Fills buffers from pieces of any size."""

    def __init__(self, pieces: AsyncIterable[Buffer], path: str, max_size: int) -> None:
        self._pieces = aiter(pieces)
        self._rest = memoryview(b"")
        self._room = max_size
        self._path = path

    async def more(self) -> bool:
        """Wait for bytes; False at the end."""
        while not self._rest:
            try:
                piece = await anext(self._pieces)
            except StopAsyncIteration:
                return False
            self._rest = memoryview(piece).cast("B")
            self._room -= len(self._rest)
            if self._room < 0:
                raise SourceChangedError(
                    f"more bytes came for {self._path} than there were to come; nothing was published, try again when "
                    "the source is at rest",
                    operation="put",
                    where=self._path,
                )
        return True

    async def fill(self, buffer: memoryview) -> int:
        """Copy what comes, until the buffer is full or nothing comes any more; return the number of bytes."""
        filled = 0
        while filled < len(buffer) and await self.more():
            count = min(len(buffer) - filled, len(self._rest))
            buffer[filled : filled + count] = self._rest[:count]
            self._rest = self._rest[count:]
            filled += count
        return filled
