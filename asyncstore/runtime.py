"""The one owner of what all storages and stores of a program share."""

from __future__ import annotations

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
    its own. Give one runtime to several storages to bound them together.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.pool = ThreadPool(self.limits.threads)
        self.memory = MemoryBudget(self.limits.memory)
        self.requests = RequestLimiter(self.limits.requests)
        self._shared: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"Runtime({self.limits!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Runtime, (self.limits,)

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
