"""Locks on directories: who writes a body and its sidecar holds the one of their directory across both."""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import Callable
from typing import TypeVar

from asyncstore.layout import LOCKS_DIRECTORY
from asyncstore.storage.local_dirs import Directories
from asyncstore.storage.local_os import UNSUPPORTED, LockTimeoutError, OsCalls, same_inode

T = TypeVar("T")

LOCK_SECONDS = 30.0
"""Longest wait for another writer; one holds a lock for as long as a batch takes to reach the disk."""

_FIRST_SLEEP = 0.0002
_LONGEST_SLEEP = 0.01


class Locks:
    """flock(2) on the directory itself; on a lock file where the file system cannot lock directories (NFS).

    Waiting polls: a blocking flock has no deadline.
    """

    def __init__(self, calls: OsCalls, root: str, *, follow: bool) -> None:
        self._calls = calls
        self._root = root
        self._follow = follow
        self._paths: dict[int, str] = {}

    def take(self, fd: int, path: str) -> int:
        """Wait for the lock of the directory ``path``, open as ``fd``; return the descriptor that holds it."""
        held = self.try_take(fd, path)
        return _poll(lambda: self.try_take(fd, path)) if held is None else held

    def give(self, fd: int, held: int) -> None:
        """Release what `take` returned for ``fd``."""
        if held == fd:
            self._calls.unlock(fd)
            return
        with self._lock_files() as directories:
            locks = directories.enter(LOCKS_DIRECTORY)
            if locks is not None:
                self._calls.unlink(_lock_name(self._paths.pop(held)), locks)
        self._calls.unlock(held)
        self._calls.close(held)

    def try_take(self, fd: int, path: str) -> int | None:
        """As `take`, but return None at once if somebody else has the lock."""
        try:
            return fd if self._calls.lock(fd, shared=False) else None
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
        return self._try_file(path)

    def take_shared(self, fd: int) -> bool:
        """Wait until nobody writes in a directory, to read there; False if it cannot be locked for reading.

        Readers make no lock file: they may have no right to write.
        """
        try:
            _poll(lambda: self._calls.lock(fd, shared=True) or None)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            return False
        return True

    def _try_file(self, path: str) -> int | None:
        with self._lock_files() as directories:
            locks = directories.make(LOCKS_DIRECTORY)
            while True:
                held = self._calls.open_or_create(name := _lock_name(path), locks)
                if not self._calls.lock(held, shared=False):
                    self._calls.close(held)
                    return None
                # Who gave it back removed the file: a lock on what has no name excludes nobody.
                if self._calls.exists(name, locks) and same_inode(
                    self._calls.stat(name, locks, follow=False), self._calls.fstat(held)
                ):
                    self._paths[held] = path
                    return held
                self._calls.close(held)

    def _lock_files(self) -> Directories:
        return Directories(self._calls, self._root, follow=self._follow, operation="lock")


def _lock_name(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:40]


def _poll(attempt: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + LOCK_SECONDS
    sleep = _FIRST_SLEEP
    while (result := attempt()) is None:
        if time.monotonic() + sleep > deadline:
            raise LockTimeoutError(
                errno.ETIMEDOUT, f"another writer has held its directory's lock for {LOCK_SECONDS:g} s"
            )
        time.sleep(sleep)
        sleep = min(sleep * 1.5, _LONGEST_SLEEP)
    return result
