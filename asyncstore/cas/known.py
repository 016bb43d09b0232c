"""What one store object has learnt about its blobs, and which of them are on their way."""

from __future__ import annotations

from collections.abc import Iterable

import anyio

from asyncstore.types import Key

MAX_KNOWN = 1_000_000
"""About 150 MB of keys; beyond it the oldest is forgotten, which costs one request when it is saved again."""


class KnownBlobs:
    """Keys known to be stored whole, keys found damaged, and keys that somebody is saving now."""

    def __init__(self) -> None:
        self._stored: dict[Key, int | None] = {}
        self._damaged: set[Key] = set()
        self._flights: dict[Key, anyio.Event] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._stored

    def stored_size(self, key: Key) -> int | None:
        return self._stored.get(key)

    def add(self, key: Key, stored_size: int | None) -> None:
        """Note that a blob is stored whole."""
        self._damaged.discard(key)
        if len(self._stored) >= MAX_KNOWN and key not in self._stored:
            del self._stored[next(iter(self._stored))]
        self._stored[key] = self._stored.get(key) if stored_size is None else stored_size

    def forget(self, key: Key, *, damaged: bool = False) -> None:
        """Note that a blob is not there, or damaged so that the next save of it must overwrite."""
        self._stored.pop(key, None)
        if damaged:
            self._damaged.add(key)

    def is_damaged(self, key: Key) -> bool:
        return key in self._damaged

    def claim(self, keys: Iterable[Key]) -> list[Key]:
        """Take on the saving of all ``keys`` that nobody saves now, and return them. `release` them on every path."""
        mine = [key for key in keys if key not in self._flights]
        # One event for all: a batch lands together, and an event costs as much as the rest of this.
        self._flights.update(dict.fromkeys(mine, anyio.Event()))
        return mine

    def release(self, keys: Iterable[Key]) -> None:
        """Let those go on who wait for these keys, whether they were stored or not."""
        for key in keys:
            self._flights.pop(key).set()

    async def landed(self, key: Key) -> None:
        """Wait until nobody is saving ``key``."""
        while (flight := self._flights.get(key)) is not None:
            await flight.wait()
