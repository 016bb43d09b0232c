"""Temporary files of one process: named by nobody else, and removed by the next writer if the process dies."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import threading
import weakref
from typing import Any

from asyncstore.layout import TEMPORARY_DIRECTORY
from asyncstore.storage.local_dirs import Directories
from asyncstore.storage.local_lock import Locks
from asyncstore.storage.local_os import OsCalls, same_inode


class Temporaries:
    """The directory ``.asyncstore/tmp/<instance>``; who lives holds its lock.

    Made at the first use, which also removes what the dead have left. A forked child needs one of its own.
    """

    def __init__(self, calls: OsCalls, root: str, locks: Locks, *, follow: bool) -> None:
        self._calls = calls
        self._root = root
        self._locks = locks
        self._follow = follow
        self._lock = threading.Lock()
        self._names = itertools.count()
        self._fd: int | None = None
        self._path = ""
        self._end: weakref.finalize[..., Any] | None = None

    def name(self) -> str:
        """Return a name that no other temporary of this instance has or had."""
        return f"{next(self._names):x}"

    def open(self) -> int:
        """Return the directory's descriptor, which stays open until `close`."""
        fd = self._fd
        if fd is None:
            with self._lock:
                fd = self._begin() if self._fd is None else self._fd
                self._fd = fd
        return fd

    def renew(self) -> None:
        """Forget the directory if somebody removed it, so that the next use makes another."""
        with self._lock:
            if self._fd is not None and not self._in_place(self._fd):
                self._close()

    def close(self) -> None:
        """Remove the directory and all that is in it. A later use makes another."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._fd = None
        if self._end is not None:
            self._end()
            self._end = None

    def _begin(self) -> int:
        with Directories(self._calls, self._root, follow=self._follow, operation="write") as directories:
            parent = directories.make(TEMPORARY_DIRECTORY)
            self._sweep(parent)
            while True:
                instance = f"{os.getpid()}-{secrets.token_hex(8)}"
                self._calls.mkdir(instance, parent)
                fd, held = self._adopt(instance, parent)
                if fd is not None and held is not None:  # else another process took it for one of the dead
                    break
            self._path = os.path.join(self._root, TEMPORARY_DIRECTORY, instance)
            self._end = weakref.finalize(self, _finish, os.getpid(), self._calls, self._path, self._locks, fd, held)
            return fd

    def _in_place(self, fd: int) -> bool:
        try:
            return same_inode(os.stat(self._path), self._calls.fstat(fd))
        except FileNotFoundError:
            return False

    def _sweep(self, parent: int) -> None:
        for instance in os.listdir(parent):
            try:
                fd, held = self._adopt(instance, parent)
                if fd is None or held is None:
                    continue
                try:
                    for name in os.listdir(fd):
                        self._calls.unlink(name, fd)
                    self._calls.rmdir(instance, parent)
                finally:
                    self._locks.give(fd, held)
                    self._calls.close(fd)
            except PermissionError:
                # What another user's process left is for a writer of that user to remove.
                continue

    def _adopt(self, instance: str, parent: int) -> tuple[int, int] | tuple[None, None]:
        """Open and lock a directory; None if somebody has its lock, or removed it."""
        try:
            fd = self._calls.open_directory(instance, parent, follow=False)
        except (FileNotFoundError, NotADirectoryError):
            return None, None
        held = self._locks.try_take(fd, f"{TEMPORARY_DIRECTORY}/{instance}")
        if held is not None:
            try:
                if same_inode(self._calls.stat(instance, parent, follow=False), self._calls.fstat(fd)):
                    return fd, held
            except FileNotFoundError:
                pass
            self._locks.give(fd, held)
        self._calls.close(fd)
        return None, None


def _finish(pid: int, calls: OsCalls, path: str, locks: Locks, fd: int, held: int) -> None:
    """End an instance; also when a store was dropped without closing it, and at the end of the process."""
    if pid != os.getpid():
        return  # in a forked child, where the directory is the parent's
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(fd):
            calls.unlink(name, fd)
        os.rmdir(path)
    locks.give(fd, held)
    calls.close(fd)
