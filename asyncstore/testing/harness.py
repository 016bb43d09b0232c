"""What a backend gives to the conformance suite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from asyncstore.storage.base import DataStoreStorage
from asyncstore.testing.traits import Traits


@dataclass(frozen=True, slots=True)
class RawObject:
    """One object as it is stored: its bytes, and the text of its attributes, None if it has none."""

    data: bytes
    attributes: str | None = None


class RawAccess(Protocol):
    """Reads and writes behind the storage's back, by none of its code: else bugs of reading and writing cancel."""

    async def read(self, path: str) -> RawObject | None: ...

    async def write(self, path: str, raw: RawObject) -> None: ...

    async def seed(self, directory: str, names: Sequence[str]) -> None:
        """Write many empty objects in the way that is fastest."""
        ...

    async def remove(self, path: str) -> None: ...

    async def paths(self) -> set[str]:
        """Return the paths of all objects below the root, ``.asyncstore`` included, sidecars not."""
        ...

    async def leftovers(self) -> set[str]:
        """Return what is neither an object nor its attributes: open uploads, temporary files and objects."""
        ...


@dataclass(frozen=True, slots=True)
class Harness:
    """One empty storage under test, its raw hooks, and what its server can do.

    ``storage`` may be wrapped; ``raw`` goes to the same root.
    """

    storage: DataStoreStorage
    raw: RawAccess
    traits: Traits
