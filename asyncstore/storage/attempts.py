"""The attempts of one call: counts failures, and sleeps or gives up after each."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from asyncstore.errors import AsyncStoreError
from asyncstore.limits import RequestLimiter
from asyncstore.retry import next_delay
from asyncstore.types import RetryPolicy

T = TypeVar("T")

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pacing:
    """When attempts are made: the policy, and the clock, sleep and dice that it is kept with."""

    policy: RetryPolicy
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[object]]
    random: Random


class Attempts:
    """One call and its failures so far.

    The deadline counts from the beginning of the call, without the time that the current task spent in the queue
    for a request's place. An attempt under way is ended by the backend's own deadlines, not by this.
    """

    def __init__(self, pacing: Pacing, requests: RequestLimiter, operation: str, where: str) -> None:
        self.failures = 0
        self._pacing = pacing
        self._requests = requests
        self._operation = operation
        self._where = where
        self._began = self._now()

    def begin_anew(self) -> None:
        """Forget earlier failures, since the call has made progress."""
        self.failures = 0
        self._began = self._now()

    async def wait(self, error: AsyncStoreError) -> None:
        """Sleep before the next attempt, or raise ``error`` if there is to be none."""
        self.failures += 1
        elapsed = max(0.0, self._now() - self._began)
        policy = self._pacing.policy
        delay = next_delay(policy, self.failures, elapsed, error, self._pacing.random)
        if delay is None:
            if self.failures > 1:
                error.add_note(f"{self._operation} {self._where}: attempt {self.failures} after {elapsed:.1f} s")
            raise error
        _LOG.warning(
            "%s %s failed (%s: %s); attempt %d of at most %d follows in %.2f s",
            self._operation,
            self._where,
            type(error).__name__,
            error,
            self.failures + 1,
            policy.attempts,
            delay,
        )
        await self._pacing.sleep(delay)

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call, which may be repeated without harm, until it succeeds or there is no sense in it."""
        while True:
            try:
                return await call()
            except AsyncStoreError as error:
                await self.wait(error)

    def _now(self) -> float:
        return self._pacing.clock() - self._requests.waited()
