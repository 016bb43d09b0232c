"""What many operations share and may run out of: bytes of memory and requests in flight."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from weakref import WeakKeyDictionary

import anyio
import anyio.lowlevel


class MemoryBudget:
    """Bytes of blobs that may be under way at once, handed out first come, first served."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._ledger = _Ledger(limit)

    @property
    def used(self) -> int:
        """Bytes taken now; above `limit` while operations hold their one item beyond the budget."""
        return self._ledger.used

    @property
    def waiting(self) -> int:
        """How many wait for bytes."""
        return len(self._ledger.waiting)

    def account(self) -> MemoryAccount:
        """Open an account for one operation."""
        return MemoryAccount(self._ledger)

    def take_now(self, size: int) -> None:
        """Take bytes without waiting, beyond the limit if need be."""
        self._ledger.used += size

    async def take(self, size: int) -> None:
        """Wait for ``size`` bytes. More than the whole budget is granted when nothing else is taken."""
        if self._ledger.has_room(size):
            self._ledger.used += size
        else:
            await self._ledger.wait(_Claim(size, None))

    def give(self, size: int) -> None:
        """Return bytes and wake those who wait for them."""
        self._ledger.give(size)


class MemoryAccount:
    """What one operation has taken from a budget.

    An operation that holds nothing gets its next item at once, so that saving inside ``async for … load_blobs``
    makes progress even when the prefetched blobs fill the whole budget. That holds too for an item that began to
    wait while the operation still held another one.
    """

    def __init__(self, ledger: _Ledger) -> None:
        self._ledger = ledger
        self._held = 0
        self._waiting: OrderedDict[_Claim, None] = OrderedDict()

    @property
    def held(self) -> int:
        """Bytes of this operation; counted from the moment of the grant, not from when the waiting task wakes."""
        return self._held

    async def take(self, size: int) -> None:
        """Wait for ``size`` bytes and add them to this account."""
        first = self._held == 0 and not self._waiting
        if first or self._ledger.has_room(size):
            # Counted before any await: two tasks of one operation must not both go beyond the budget.
            self._held += size
            self._ledger.used += size
            return
        claim = _Claim(size, self)
        self._waiting[claim] = None
        try:
            await self._ledger.wait(claim)
        finally:
            self._waiting.pop(claim, None)

    def granted(self, claim: _Claim) -> None:
        """Count a claim of this account that the budget has met."""
        del self._waiting[claim]
        self._held += claim.size

    def give(self, size: int) -> None:
        """Return ``size`` of the bytes held."""
        self._held -= size
        self._ledger.give(size)
        while self._held == 0 and self._waiting:
            self._ledger.grant(next(iter(self._waiting)))

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


class _Claim:
    """Bytes that somebody waits for; compared by identity."""

    __slots__ = ("account", "granted", "size")

    def __init__(self, size: int, account: MemoryAccount | None) -> None:
        self.size = size
        self.account = account
        self.granted = anyio.Event()


class _Ledger:
    """What is taken of a budget and who waits for it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        # By arrival; not a deque, from which a claim in the middle is removed in linear time.
        self.waiting: OrderedDict[_Claim, None] = OrderedDict()

    def has_room(self, size: int) -> bool:
        """Say whether a newcomer gets ``size`` bytes at once."""
        return not self.waiting and self._fits(size)

    async def wait(self, claim: _Claim) -> None:
        self.waiting[claim] = None
        try:
            await claim.granted.wait()
        except BaseException:
            if claim.granted.is_set():
                (claim.account or self).give(claim.size)
            else:
                del self.waiting[claim]
                # It may have been the one that was too large, with smaller ones behind it.
                self._grant_next()
            raise

    def give(self, size: int) -> None:
        self.used -= size
        self._grant_next()

    def grant(self, claim: _Claim) -> None:
        del self.waiting[claim]
        self.used += claim.size
        if claim.account is not None:
            claim.account.granted(claim)
        claim.granted.set()

    def _grant_next(self) -> None:
        while self.waiting and self._fits((claim := next(iter(self.waiting))).size):
            self.grant(claim)

    def _fits(self, size: int) -> bool:
        return self.used + size <= self.limit or self.used == 0


class RequestLimiter:
    """Requests that may be in flight at once, over all storages of a runtime."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._places = MemoryBudget(limit)
        self._waited: WeakKeyDictionary[asyncio.Task[object], float] = WeakKeyDictionary()

    @property
    def available(self) -> int:
        """Places that are free."""
        return self.limit - self._places.used

    def request(self) -> AbstractAsyncContextManager[None]:
        """Hold one request's place inside the block, first come, first served.

        Ask for no second place inside the block: where all who hold one wait for another, nobody goes on.
        """
        return self  # holds nothing of the block's own, so that all blocks can share it

    def waited(self) -> float:
        """Return the seconds that the current task has waited for places so far, in all.

        A retry counts the time of its attempts, but not the time in the queue before them.
        """
        if not self._waited:
            return 0.0
        task = asyncio.current_task()
        return 0.0 if task is None else self._waited.get(task, 0.0)

    async def acquire(self) -> None:
        """Wait for a place; who was given it must `release` it."""
        # As it costs microseconds on every request, the usual case is kept short.
        await anyio.lowlevel.checkpoint_if_cancelled()
        if self._places.used < self.limit and not self._places.waiting:
            self._places.take_now(1)
            return
        task = asyncio.current_task()
        began = time.monotonic()
        try:
            await self._places.take(1)
        finally:
            if task is not None:
                self._waited[task] = self._waited.get(task, 0.0) + time.monotonic() - began

    def release(self) -> None:
        """Return a place to the one who waits longest."""
        self._places.give(1)

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
