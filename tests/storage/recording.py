"""A storage that records what a transfer does to it and fails where a test says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from asyncstore.runtime import Runtime
from asyncstore.storage.base import MultipartLimits
from asyncstore.storage.memory import MemoryStorage
from asyncstore.types import KIB, Limits

PART = 64 * KIB
WIDTH = 4


def runtime() -> Runtime:
    """Make a runtime whose transfers go in parts of 64 KiB, four at once."""
    return Runtime(Limits(memory=PART * WIDTH))


def recording(rt: Runtime | None = None, *, limits: MultipartLimits | None = None) -> Any:
    """Make a `RecordingStorage`; untyped, since tests replace its methods."""
    return RecordingStorage(rt, limits=limits)


class RecordingStorage:
    """Objects in memory. ``faults`` maps (verb, how many calls of it before) to what that call raises."""

    def __init__(self, rt: Runtime | None = None, *, limits: MultipartLimits | None = None) -> None:
        self.inner = MemoryStorage("recording", runtime=rt or runtime())
        self.runtime = self.inner.runtime
        self.multipart_limits = limits or self.inner.multipart_limits
        self.calls: Counter[str] = Counter()
        self.faults: dict[tuple[str, int], BaseException] = {}
        self.hooks: dict[tuple[str, int], Callable[[], Awaitable[object]]] = {}
        self.log: list[tuple[str, object]] = []
        self.uploads: set[RecordingUpload] = set()
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    async def enter(self, verb, detail=None):
        number = self.calls[verb]
        self.calls[verb] += 1
        self.log.append((verb, detail))
        self.running[verb] += 1
        self.most[verb] = max(self.most[verb], self.running[verb])
        try:
            for _ in range(1 + number % 3):  # the order of completion differs from the order of start
                await checkpoint()
            hook = self.hooks.get((verb, number))
            if hook is not None:
                await hook()
            fault = self.faults.pop((verb, number), None)
            if fault is not None:
                raise fault
        except BaseException:
            self.running[verb] -= 1
            raise

    @asynccontextmanager
    async def call(self, verb, detail=None):
        await self.enter(verb, detail)
        try:
            yield
        finally:
            self.running[verb] -= 1

    async def put(self, path, data, *, attributes=None, mode="overwrite"):
        async with self.call("put", len(data)):
            return await self.inner.put(path, data, attributes=attributes, mode=mode)

    async def create_multipart(self, path, *, part_size, attributes=None, mode="overwrite"):
        async with self.call("create_multipart", part_size):
            inner = await self.inner.create_multipart(path, part_size=part_size, attributes=attributes, mode=mode)
        upload = RecordingUpload(self, inner)
        self.uploads.add(upload)
        return upload

    @asynccontextmanager
    async def get(self, path, *, byte_range=None, if_match=None):
        async with (
            self.call("get", (byte_range, if_match)),
            self.inner.get(path, byte_range=byte_range, if_match=if_match) as reader,
        ):
            yield RecordingReader(self, reader)

    def gather(self, verb, count) -> None:
        """Hold the first calls of a verb back until ``count`` of them are under way."""
        here = anyio.Event()

        async def wait():
            if self.running[verb] == count:
                here.set()
            with anyio.fail_after(5):
                await here.wait()

        for number in range(count):
            self.hooks[verb, number] = wait

    def quiet(self) -> bool:
        """Say whether nothing is open, under way or reserved."""
        return not self.uploads and not +self.running and self.runtime.memory.used == 0


class RecordingReader:
    def __init__(self, storage, inner) -> None:
        self.storage = storage
        self.inner = inner
        self.meta = inner.meta

    async def read_into(self, target):
        async with self.storage.call("read_into", len(target)):
            return await self.inner.read_into(target)


class RecordingUpload:
    def __init__(self, storage, inner) -> None:
        self.storage = storage
        self.inner = inner

    async def put_part(self, number, data):
        async with self.storage.call("put_part", (number, len(data))):
            await self.inner.put_part(number, data)
            await checkpoint()

    async def complete(self):
        async with self.storage.call("complete"):
            meta = await self.inner.complete()
            self.storage.uploads.discard(self)
            return meta

    async def abort(self):
        async with self.storage.call("abort"):
            await self.inner.abort()
            self.storage.uploads.discard(self)
