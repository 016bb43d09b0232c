"""Three ways to make a write outlast a power failure, or not to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from asyncstore.errors import IntegrityError
from asyncstore.storage.local_os import OsCalls, read_all
from asyncstore.types import Buffer

_COMPARE_BYTES = 4 << 20


class Sync(Protocol):
    """Called at the points where the order of a write must hold on the disk, too."""

    durable: bool
    everything: bool
    """Whether `names` puts the whole file system on the disk, not only the directories it is given."""

    def file(self, fd: int, data: Buffer | None, where: str) -> None:
        """A file is written and will soon have its name; ``data`` is what it should hold, if that is known."""
        ...

    def names(self, directories: Iterable[int]) -> None:
        """Names in these directories changed; what comes next must not reach the disk before them."""
        ...


class NoSync:
    """Durability "fast": outlasts the death of the process, not of the machine."""

    durable = False
    everything = False

    def file(self, fd: int, data: Buffer | None, where: str) -> None: ...

    def names(self, directories: Iterable[int]) -> None: ...


class SyncEach:
    """Durability "safe" for few files, and "paranoid" (``compare``): a file is read back before it has its name."""

    durable = True
    everything = False

    def __init__(self, calls: OsCalls, *, compare: bool = False) -> None:
        self._calls = calls
        self._compare = compare

    def file(self, fd: int, data: Buffer | None, where: str) -> None:
        self._calls.fsync(fd)
        if self._compare and data is not None:
            self._read_back(fd, memoryview(data).cast("B"), where)

    def names(self, directories: Iterable[int]) -> None:
        for fd in set(directories):
            self._calls.fsync(fd)

    def _read_back(self, fd: int, data: memoryview, where: str) -> None:
        self._calls.drop_cached(fd)
        for offset in range(0, len(data), _COMPARE_BYTES):
            piece = data[offset : offset + _COMPARE_BYTES]
            if read_all(self._calls, fd, len(piece), offset) != bytes(piece):
                raise IntegrityError(
                    f"cannot put {where}: the disk gives back other bytes than were written; nothing was published. "
                    "Check the disk and the memory of this machine",
                    operation="put",
                    where=where,
                )


class SyncTogether:
    """Durability "safe" for many files: one call for the whole file system in place of one for each file."""

    durable = True
    everything = True

    def __init__(self, calls: OsCalls) -> None:
        self._calls = calls

    def file(self, fd: int, data: Buffer | None, where: str) -> None: ...

    def names(self, directories: Iterable[int]) -> None:
        for fd in directories:
            self._calls.syncfs(fd)
            return
