"""The stacks of wrappers that a backend is tested through, and the loops it is tested on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asyncstore.storage.base import DataStoreStorage
from asyncstore.storage.limited import Limited
from asyncstore.storage.retrying import Retrying
from asyncstore.testing.faulty import Faulty
from asyncstore.testing.latency import Latency

Stack = Callable[[DataStoreStorage], DataStoreStorage]


def bare(storage: DataStoreStorage) -> DataStoreStorage:
    return storage


def retrying_limited(storage: DataStoreStorage) -> DataStoreStorage:
    return Retrying(Limited(storage))


def latency(storage: DataStoreStorage) -> DataStoreStorage:
    return Latency(storage, 0)


ASYNCIO = ("asyncio", {"use_uvloop": False})
UVLOOP = ("asyncio", {"use_uvloop": True})

# Loop and stack: every wrapper alone and stacked; what is used, on uvloop too.
RUNS: dict[str, tuple[tuple[str, dict[str, Any]], Stack]] = {
    "bare": (ASYNCIO, bare),
    "limited": (ASYNCIO, Limited),
    "retrying": (ASYNCIO, Retrying),
    "retrying-limited": (ASYNCIO, retrying_limited),
    "bare-uvloop": (UVLOOP, bare),
    "retrying-limited-uvloop": (UVLOOP, retrying_limited),
}

# The wrappers for tests keep the contract too, when they have no fault to play and no delay to add.
TEST_RUNS: dict[str, tuple[tuple[str, dict[str, Any]], Stack]] = {
    "faulty": (ASYNCIO, Faulty),
    "latency": (ASYNCIO, latency),
}
