"""The stacks of wrappers that a backend is tested through, and the loops it is tested on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asyncstore.storage.base import DataStoreStorage
from asyncstore.storage.limited import Limited
from asyncstore.storage.retrying import Retrying

Stack = Callable[[DataStoreStorage], DataStoreStorage]


def bare(storage: DataStoreStorage) -> DataStoreStorage:
    return storage


def retrying_limited(storage: DataStoreStorage) -> DataStoreStorage:
    return Retrying(Limited(storage))


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
