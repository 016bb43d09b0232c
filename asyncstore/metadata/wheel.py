"""Calls many things again and again at their own times, from one task."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count
from types import TracebackType
from typing import Final, Self, TypeAlias

import anyio
from anyio.abc import TaskGroup

from asyncstore.concurrency import task_group
from asyncstore.errors import TaskStateError

_LOG = logging.getLogger(__name__)

Call: TypeAlias = Callable[[], Awaitable[float | None]]
"""Called when due; returns the seconds until it is due again, None for never. It must not raise."""

NOTABLE_LATENESS: Final = 5.0
"""Seconds from which on a late turn is logged: something blocks the loop."""


class Ticket:
    """One thing that a wheel calls."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.stopped = False
        self.running: anyio.CancelScope | None = None
        self.idle = anyio.Event()
        self.idle.set()

    async def stop(self) -> None:
        """Never be called again; a call under way is cancelled and waited for."""
        self.stopped = True
        if self.running is not None:
            self.running.cancel()
        await self.idle.wait()


class TimerWheel:
    """An async context manager that owns the one task; calls run in tasks of its own, one of each ticket at most.

    Lateness is how long after its time a call began, in seconds: the event loop was busy with something else.
    """

    def __init__(self) -> None:
        self.lateness = 0.0
        """Of the latest call."""
        self.max_lateness = 0.0
        """The largest so far."""
        self._due: list[tuple[float, int, Ticket]] = []
        self._numbers = count()
        self._earlier = anyio.Event()
        self._stack: AsyncExitStack | None = None
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        if self._stack is not None:
            raise TaskStateError("the wheel turns already")
        self._stack = AsyncExitStack()
        self._group = await self._stack.enter_async_context(task_group())
        self._group.start_soon(self._turn)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stack, group = self._stack, self._group
        self._stack = self._group = None
        if stack is not None and group is not None:
            group.cancel_scope.cancel()
            # Not given the block's error, which the task group would wrap.
            await stack.aclose()

    def start(self, call: Call, delay: float) -> Ticket:
        """Call ``call`` in ``delay`` seconds for the first time."""
        if self._group is None:
            raise TaskStateError("the wheel does not turn; use it as an async context manager")
        ticket = Ticket(call)
        self._enter(ticket, delay)
        return ticket

    def _enter(self, ticket: Ticket, delay: float) -> None:
        due = anyio.current_time() + delay
        heapq.heappush(self._due, (due, next(self._numbers), ticket))
        if self._due[0][2] is ticket:
            self._earlier.set()

    async def _turn(self) -> None:
        while True:
            self._earlier = anyio.Event()
            wait = self._due[0][0] - anyio.current_time() if self._due else float("inf")
            if wait > 0:
                with anyio.move_on_after(wait):
                    await self._earlier.wait()
                continue
            due, _, ticket = heapq.heappop(self._due)
            if not ticket.stopped and self._group is not None:
                self._note(anyio.current_time() - due)
                ticket.idle = anyio.Event()
                ticket.running = anyio.CancelScope()  # from here on, so that `stop` reaches a call not yet begun
                self._group.start_soon(self._run, ticket, ticket.running)

    def _note(self, lateness: float) -> None:
        self.lateness = lateness
        self.max_lateness = max(self.max_lateness, lateness)
        if lateness >= NOTABLE_LATENESS:
            _LOG.warning("a heartbeat is %.1f s late: something blocks the event loop; move it to a thread", lateness)

    async def _run(self, ticket: Ticket, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                if ticket.stopped:
                    return
                delay = await ticket.call()
                if delay is not None and not ticket.stopped:
                    self._enter(ticket, delay)
        finally:
            ticket.running = None
            ticket.idle.set()
