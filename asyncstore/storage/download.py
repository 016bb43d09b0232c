"""Reads one large object in concurrent parts."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ObjectSendStream, TaskStatus

from asyncstore.concurrency import feed
from asyncstore.errors import PreconditionFailedError
from asyncstore.limits import MemoryAccount
from asyncstore.storage.base import DataStoreStorage, ObjectReader
from asyncstore.storage.part_group import part_group
from asyncstore.storage.plan import DIRECT_PART, DIRECT_WIDTH, Plan, plan_download
from asyncstore.storage.window import Room, Target, Window
from asyncstore.types import ByteRange, ObjectMeta


def download_window(storage: DataStoreStorage, size: int | None = None) -> int:
    """Return the bytes of memory that a `download` of ``size`` stored bytes uses (None: of any size)."""
    window = plan_download(memory=storage.runtime.memory.limit).window
    return window if size is None else min(window, size)


class Download:
    """One object on its way here, to be iterated once: its bytes in order, in pieces of some MiB, none empty.

    A piece is valid until the next one is asked for, unless the caller gave the memory.
    """

    def __init__(self, path: str, meta: ObjectMeta, parts: AsyncIterator[_Part], room: Room) -> None:
        self.path = path
        self.meta = meta
        self._parts = parts
        self._room = room
        self._current: memoryview | None = None

    def __aiter__(self) -> Download:
        return self

    async def __anext__(self) -> memoryview:
        if self._current is not None:
            self._room.used(self._current)
            self._current = None
        part = await anext(self._parts)
        await part.complete.wait()
        self._current = part.view
        return part.view


@asynccontextmanager
async def download(
    storage: DataStoreStorage,
    path: str,
    *,
    if_match: str | None = None,
    into: memoryview | None = None,
    memory: MemoryAccount | None = None,
) -> AsyncGenerator[Download]:
    """Read one object in parts that come in parallel, all of the same object (pinned by its etag).

    One request for each part; the first one tells what is known of the object and already brings data. ``into`` is
    memory of the object's size that the parts are received into, without a copy. Otherwise they come through
    `download_window` bytes: reserved here if ``memory`` is given, else by the caller.

    Raises, from the block, what ``get`` raises; `PreconditionFailedError` if the object changes meanwhile, or has not
    the size of ``into``.
    """
    window = download_window(storage) if memory is not None and into is None else 0
    if memory is not None:
        await memory.take(window)
    try:
        parts = _Parts(storage, path, if_match, into)
        async with feed(parts.fetch_all, capacity=math.inf) as arriving:
            await parts.opened.wait()
            if memory is not None:
                surplus = window - min(window, download_window(storage, parts.meta.size))
                window -= surplus
                memory.give(surplus)
            yield Download(path, parts.meta, arriving, parts.room)
    finally:
        if memory is not None:
            memory.give(window)


async def download_into(
    storage: DataStoreStorage, path: str, target: memoryview, *, if_match: str | None = None
) -> ObjectMeta:
    """Receive one object of exactly the size of ``target``, as `download`. If cancelled, what it holds is unknown."""
    async with download(storage, path, if_match=if_match, into=target) as body:
        async for _ in body:
            pass
        return body.meta


class _Part:
    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.complete = anyio.Event()


class _Parts:
    """Fetches all parts, in the order of their numbers, as there is room for them."""

    meta: ObjectMeta
    room: Room

    def __init__(self, storage: DataStoreStorage, path: str, if_match: str | None, into: memoryview | None) -> None:
        self.opened = anyio.Event()
        self._storage = storage
        self._path = path
        self._if_match = if_match
        self._into = into
        if into is None:
            self._plan = plan_download(memory=storage.runtime.memory.limit)
        else:
            self._plan = Plan(DIRECT_PART, DIRECT_WIDTH)

    async def fetch_all(self, sender: ObjectSendStream[_Part]) -> None:
        async with part_group() as group:
            first: _Part = await group.start(self._fetch_first)
            self.opened.set()
            if self.meta.size:
                await sender.send(first)
            for number in range(1, self._plan.count(self.meta.size)):
                place = self._plan.part(number, self.meta.size)
                part = _Part(await self.room.take(place))
                await sender.send(part)
                group.start_soon(self._fetch, part, place)

    async def _fetch_first(self, *, task_status: TaskStatus[_Part]) -> None:
        place = ByteRange(0, self._plan.part_size)
        async with self._storage.get(self._path, byte_range=place, if_match=self._if_match) as reader:
            self.meta = reader.meta
            self.room = self._room_for(reader.meta)
            part = _Part(await self.room.take(ByteRange(0, self._plan.part_size)))
            task_status.started(part)
            await self._receive(reader, part)

    async def _fetch(self, part: _Part, place: ByteRange) -> None:
        async with self._storage.get(self._path, byte_range=place, if_match=self.meta.etag) as reader:
            await self._receive(reader, part)

    async def _receive(self, reader: ObjectReader, part: _Part) -> None:
        filled = await reader.read_into(part.view)
        if filled < len(part.view) or reader.meta.size != self.meta.size:
            raise self._changed(f"its size went from {self.meta.size} to {reader.meta.size} bytes")
        self.room.arrived()
        part.complete.set()

    def _room_for(self, meta: ObjectMeta) -> Room:
        if self._into is None:
            return Window(self._plan, meta.size)
        if len(self._into) != meta.size:
            raise self._changed(f"it has {meta.size} bytes where {len(self._into)} were expected")
        return Target(self._plan, self._into)

    def _changed(self, how: str) -> PreconditionFailedError:
        return PreconditionFailedError(
            f"{self._path} changed while it was read: {how}; read it anew", operation="get", where=self._path
        )
