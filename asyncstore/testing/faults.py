"""Scripts of faults: what goes wrong in which call, and the proof that it did."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Literal, TypeAlias, TypeVar

import anyio

from asyncstore.errors import AsyncStoreError, StorageUnavailableError

T = TypeVar("T")

Verb: TypeAlias = Literal[
    "head", "get", "put", "create_multipart", "put_part", "complete", "abort", "list", "delete",
    "head_batch", "get_batch", "put_batch", "read_bodies", "copy_from", "open_uploads", "abort_upload",
]  # fmt: skip

Kind: TypeAlias = Literal[
    "pass",  # nothing: the call works
    "refuse",  # fails before the storage acts
    "lose",  # the storage acts, then its reply is lost
    "hang",  # the storage never answers and does not act
    "hang after",  # the storage acts and never answers
    "break",  # a body or a listing fails when `at` bytes or entries were handed out
    "stall",  # a body or a listing hangs there
    "cut",  # a body or a listing ends there as if it were complete
    "damage",  # the byte at `at` of a body is another one
]


def _outage() -> AsyncStoreError:
    return StorageUnavailableError("scripted outage")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, once: in the first call of ``verb`` that no earlier fault of the script took.

    ``path`` restricts it to calls on that path. ``error`` is what "refuse", "lose" and "break" raise.
    """

    verb: Verb
    kind: Kind
    at: int = 0
    path: str | None = None
    error: AsyncStoreError = field(default_factory=_outage)


class FaultScript:
    """Hands each fault to the call that it is for, and knows which ones have happened."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._planned = list(faults)
        self._armed: list[Fault] = []

    def take(self, verb: Verb, path: str) -> Fault | None:
        """Return the fault that this call suffers, if any."""
        for fault in self._planned:
            if fault.verb == verb and fault.path in {None, path}:
                self._planned.remove(fault)
                if fault.kind == "pass":
                    return None
                self._armed.append(fault)
                return fault
        return None

    def fire(self, fault: Fault) -> AsyncStoreError:
        """Note that a fault happens now, and return its error."""
        self._armed.remove(fault)
        return copy.copy(fault.error)

    def check_fired(self) -> None:
        """Raise `AssertionError` if a fault has not happened: the test did not test what it says."""
        missing = [*self._planned, *self._armed]
        if missing:
            raise AssertionError(f"these faults never happened: {missing}")

    async def call(self, verb: Verb, path: str, act: Callable[[], Awaitable[T]]) -> T:
        """Make a call, with its fault."""
        fault = self.take(verb, path)
        await self.before(fault)
        result = await act()
        await self.after(fault)
        return result

    async def before(self, fault: Fault | None) -> None:
        """Fail or hang before the storage acts."""
        if fault is not None and fault.kind == "refuse":
            raise self.fire(fault)
        if fault is not None and fault.kind == "hang":
            self.fire(fault)
            await anyio.sleep_forever()

    async def after(self, fault: Fault | None) -> None:
        """Fail or hang when the storage has acted."""
        if fault is not None and fault.kind == "lose":
            raise self.fire(fault)
        if fault is not None and fault.kind == "hang after":
            self.fire(fault)
            await anyio.sleep_forever()

    async def midway(self, fault: Fault) -> bool:
        """Fail or hang midway; return whether the stream ends here as if complete."""
        error = self.fire(fault)
        if fault.kind == "break":
            raise error
        if fault.kind == "stall":
            await anyio.sleep_forever()
        return fault.kind == "cut"


_TRANSIENT: Mapping[Verb, tuple[Kind, ...]] = MappingProxyType(
    {
        "get": ("refuse", "lose", "break", "cut"),
        "list": ("refuse", "lose", "break"),
        "create_multipart": ("refuse",),
        "copy_from": ("refuse",),
    }
)


class RandomFaults(FaultScript):
    """Let a share of all calls fail in ways that another attempt mends; the same ones for the same seed and calls.

    What a server leaves behind when the reply to a beginning upload is lost, and a copy that was made twice, no client
    can settle: these two are only refused.
    """

    def __init__(self, seed: int, share: float) -> None:
        super().__init__([])
        self.fired: Counter[tuple[Verb, Kind]] = Counter()
        self._random = Random(seed)
        self._share = share

    def take(self, verb: Verb, path: str) -> Fault | None:
        if self._random.random() >= self._share:
            return None
        kinds = _TRANSIENT.get(verb, ("refuse", "lose"))
        kind = self._random.choice(kinds)
        return Fault(verb, kind, at=self._random.choice((0, 1, 7, 1000, 70_000)), path=path)

    def fire(self, fault: Fault) -> AsyncStoreError:
        self.fired[fault.verb, fault.kind] += 1
        return fault.error
