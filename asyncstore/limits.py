"""What many operations share and may run out of: bytes of memory and requests in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel


class MemoryBudget:
    """Bytes of blobs that may be under way at once, handed out first come, first served."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self._waiting: deque[tuple[int, anyio.Event]] = deque()

    @property
    def used(self) -> int:
        """Bytes taken now; above `limit` while operations hold their one item beyond the budget."""
        return self._used

    def account(self) -> MemoryAccount:
        """Open an account for one operation."""
        return MemoryAccount(self)

    def take_now(self, size: int) -> None:
        """Take bytes without waiting, beyond the limit if need be."""
        self._used += size

    async def take(self, size: int) -> None:
        """Wait for ``size`` bytes. More than the whole budget is granted when nothing else is taken."""
        if not self._waiting and self._fits(size):
            self._used += size
            await anyio.lowlevel.cancel_shielded_checkpoint()
            return
        granted = anyio.Event()
        entry = (size, granted)
        self._waiting.append(entry)
        try:
            await granted.wait()
        except BaseException:
            if granted.is_set():
                self.give(size)
            else:
                self._waiting.remove(entry)
                self._grant()
            raise

    def give(self, size: int) -> None:
        """Return bytes and wake those who wait for them."""
        self._used -= size
        self._grant()

    def _fits(self, size: int) -> bool:
        return self._used + size <= self.limit or self._used == 0

    def _grant(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size, granted = self._waiting.popleft()
            self._used += size
            granted.set()


class MemoryAccount:
    """What one operation has taken from a budget.

    An operation that holds nothing gets its next item at once, so that saving inside ``async for … load_blobs``
    makes progress even when the prefetched blobs fill the whole budget.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._held = 0

    @property
    def held(self) -> int:
        return self._held

    async def take(self, size: int) -> None:
        """Wait for ``size`` bytes and add them to this account."""
        if self._held == 0:
            # Counted before any await: two tasks of one operation must not both go beyond the budget.
            self._held = size
            self._budget.take_now(size)
            return
        await self._budget.take(size)
        self._held += size

    def give(self, size: int) -> None:
        """Return ``size`` of the bytes held."""
        self._held -= size
        self._budget.give(size)

    def close(self) -> None:
        """Return all that is still held."""
        self.give(self._held)

    @asynccontextmanager
    async def reserve(self, size: int) -> AsyncGenerator[None]:
        """Hold ``size`` bytes inside the block."""
        await self.take(size)
        try:
            yield
        finally:
            self.give(size)


class RequestLimiter:
    """Requests that may be in flight at once, over all storages of a runtime."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._semaphore = anyio.Semaphore(limit, max_value=limit, fast_acquire=True)

    @property
    def available(self) -> int:
        return self._semaphore.value

    @asynccontextmanager
    async def request(self) -> AsyncGenerator[None]:
        """Hold one request's place inside the block, first come, first served."""
        async with self._semaphore:
            yield
