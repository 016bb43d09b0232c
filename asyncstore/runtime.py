"""The one owner of what all storages and stores of a program share."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from asyncstore.concurrency import ThreadPool
from asyncstore.limits import MemoryBudget, RequestLimiter
from asyncstore.types import Limits

T = TypeVar("T")


class Runtime:
    """Thread pool, memory budget and request limiter, within ``limits``.

    An async context manager: leaving it ends the threads. Pickles as its limits; what comes back has resources of
    its own, and so has a forked process. Give one runtime to several storages to bound them together.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.pool = ThreadPool(self.limits.threads)
        self._shared: dict[str, Any] = {}
        self._renew()

    def __repr__(self) -> str:
        return f"Runtime({self.limits!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Runtime, (self.limits,)

    @property
    def memory(self) -> MemoryBudget:
        if self._pid != os.getpid():
            self._renew()
        return self._memory

    @property
    def requests(self) -> RequestLimiter:
        if self._pid != os.getpid():
            self._renew()
        return self._requests

    def _renew(self) -> None:
        # What tasks of the parent process had borrowed at the fork is never given back in the child.
        self._pid = os.getpid()
        self._memory = MemoryBudget(self.limits.memory)
        self._requests = RequestLimiter(self.limits.requests)

    def shared(self, name: str, make: Callable[[], T]) -> T:
        """Return what the storages of this runtime share under a name; ``make`` makes it at the first call."""
        if name not in self._shared:
            self._shared[name] = make()
        return cast("T", self._shared[name])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the threads. A second call does nothing; a later use starts them anew."""
        self.pool.close()
