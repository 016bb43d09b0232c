"""Tells a service that a run or task is alive, from the event loop that does the work.

Metaflow starts a process for each; here one task serves all that share a wheel. All times are the event loop's.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from random import Random
from types import TracebackType
from typing import Final, Self, TypeAlias

import anyio

from asyncstore.errors import ConfigError, TaskStateError
from asyncstore.metadata.records import BeatReply
from asyncstore.metadata.wheel import Ticket, TimerWheel

_LOG = logging.getLogger(__name__)

Beat: TypeAlias = Callable[[], Awaitable[BeatReply]]

LONGEST_WAIT: Final = 30.0
"""Most seconds between two beats, whatever the service asks for: Metaflow's UI takes a task for dead after 60."""

_LARGEST_POWER: Final = 10
"""Of 1.5: more seconds than `LONGEST_WAIT`."""


class MetadataHeartBeat:
    """Beats while the block runs: before it, every ``interval`` seconds or as the service asks, and once after it.

    ``beat`` sends one heartbeat, such as ``lambda: provider.beat(flow, run)``. A failure is logged and tried again
    within the interval; it is never raised. That the service does not take a beat because it is early is no failure.
    Where heartbeats are not kept at all, none follow the first.

    ``timeout`` seconds bound each beat. Beginning and end of the block are each held up for at most ``grace``
    seconds, also when it is cancelled. Many may share one ``wheel``; without one this opens its own. ``name`` is for
    the log.
    """

    def __init__(
        self,
        beat: Beat,
        *,
        interval: float = 10.0,
        wheel: TimerWheel | None = None,
        timeout: float = 5.0,
        grace: float = 2.0,
        name: str = "",
    ) -> None:
        if not (0 < interval <= LONGEST_WAIT and timeout > 0 and grace > 0):
            raise ConfigError(f"a heartbeat's interval is at most {LONGEST_WAIT:g} s; timeout and grace are positive")
        self.failures = 0
        """Failed beats in a row."""
        self._beat = beat
        self._wait = interval
        self._shared = wheel
        self._timeout = timeout
        self._grace = grace
        self._name = f"heartbeat of {name}" if name else "heartbeat"
        self._random = Random()
        self._running: AsyncExitStack | None = None
        self._ticket: Ticket | None = None

    async def __aenter__(self) -> Self:
        if self._running is not None:
            raise TaskStateError(f"the {self._name} runs already; make one for each block")
        stack = self._running = AsyncExitStack()
        try:
            wheel = self._shared
            if wheel is None:
                wheel = await stack.enter_async_context(TimerWheel())
            delay = await self._send(min(self._grace, self._timeout))
            self._ticket = None if delay is None else wheel.start(self._again, delay)
        except BaseException:
            self._running = None
            await stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stack, self._running = self._running, None
        ticket, self._ticket = self._ticket, None
        try:
            if ticket is not None:
                with anyio.move_on_after(self._grace, shield=True):
                    await ticket.stop()
                    await self._send(self._grace)
        finally:
            if stack is not None:
                await stack.aclose()

    async def _again(self) -> float | None:
        return await self._send(self._timeout)

    async def _send(self, seconds: float) -> float | None:
        """Send a beat; return the seconds until the next one, or None if heartbeats are not kept."""
        try:
            with anyio.fail_after(seconds):
                wait = (await self._beat()).wait
        except Exception as error:  # noqa: BLE001  # watching must not kill the work, whatever the fault
            return self._failed(error)
        if self.failures:
            _LOG.info("%s is taken again after %d failures", self._name, self.failures)
        self.failures = 0
        if wait is None:
            return None
        if wait > 0:  # else it says nothing: a beat right after each other would be an attack on the service
            self._wait = min(wait, LONGEST_WAIT)
        return self._wait

    def _failed(self, error: Exception) -> float:
        self.failures += 1
        # Soon at first, and never later than a beat would be due anyway; apart from others that failed with it.
        # The power is bounded: after 1750 failures, some hours, it would be no float any more.
        delay = min(self._wait, 1.5 ** min(self.failures, _LARGEST_POWER)) * self._random.uniform(0.5, 1.0)
        if self.failures & (self.failures - 1) == 0:  # 1, 2, 4, 8, …: an outage of hours does not fill the log
            _LOG.warning("%s failed, %d in a row: %s: %s", self._name, self.failures, type(error).__name__, error)
        return delay
