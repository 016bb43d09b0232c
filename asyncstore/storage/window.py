"""Where the parts of a transfer wait: a fixed number of buffers that are used again, or memory of the caller's."""

from __future__ import annotations

from typing import Protocol

import anyio

from asyncstore.storage.plan import Plan
from asyncstore.types import ByteRange


class Room(Protocol):
    """Memory for the parts of one download."""

    async def take(self, part: ByteRange) -> memoryview:
        """Wait for memory for one part."""
        ...

    def arrived(self) -> None:
        """Say that a part that took memory is complete."""
        ...

    def used(self, view: memoryview) -> None:
        """Say that a complete part is not looked at any more."""
        ...


class Window:
    """At most ``plan.width`` buffers of ``plan.part_size`` bytes, made when they are first needed."""

    def __init__(self, plan: Plan, size: int) -> None:
        self._bytes = min(plan.part_size, size)
        self._free = anyio.Semaphore(plan.width, fast_acquire=True)
        self._idle: list[memoryview] = []

    async def take(self, part: ByteRange | None = None) -> memoryview:
        """Wait for a buffer, cut to the size of ``part``."""
        await self._free.acquire()
        buffer = self._idle.pop() if self._idle else memoryview(bytearray(self._bytes))
        return buffer if part is None or part.stop is None else buffer[: part.stop - part.start]

    def arrived(self) -> None:
        """Do nothing: the buffer is still in use."""

    def used(self, view: memoryview) -> None:
        """Take a buffer back."""
        self._idle.append(memoryview(view.obj))
        self._free.release()


class Target:
    """Memory of the caller's, which takes the whole object; ``plan.width`` parts of it at once."""

    def __init__(self, plan: Plan, target: memoryview) -> None:
        self._target = target
        self._free = anyio.Semaphore(plan.width, fast_acquire=True)

    async def take(self, part: ByteRange) -> memoryview:
        await self._free.acquire()
        return self._target[part.start : part.stop]

    def arrived(self) -> None:
        self._free.release()

    def used(self, view: memoryview) -> None:
        """Do nothing: each part has its own place."""
