"""The directories that one thread hop works in, opened from the root down without following symbolic links."""

from __future__ import annotations

import contextlib
import os
import stat
from types import TracebackType
from typing import Self

from asyncstore.storage.local_errors import refused_link, under_object
from asyncstore.storage.local_os import OsCalls


class Directories:
    """Descriptors of one directory and of all above it, up to the root.

    Going from directory to directory reopens only what differs; going in sorted order opens each once. Never more
    descriptors than the path is deep, whatever the number of directories.
    """

    def __init__(self, calls: OsCalls, root: str, *, follow: bool, operation: str) -> None:
        self._calls = calls
        self._root = root
        self._follow = follow
        self._operation = operation
        self._names: list[str] = []
        self._fds: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reset()

    def reset(self) -> None:
        """Close all; the next use begins at the root again."""
        self._leave(0)
        while self._fds:
            self._calls.close(self._fds.pop())

    def enter(self, path: str) -> int | None:
        """Return the descriptor of a directory ("" is the root), or None if there is none.

        It belongs to this object and is good until the next call.
        """
        return self._go(path, make=False)

    def make(self, path: str) -> int:
        """Return the descriptor of a directory, created with all above it if need be."""
        fd = self._go(path, make=True)
        assert fd is not None
        return fd

    def detach(self) -> int:
        """Give the descriptor of the present directory to the caller, who closes it."""
        if self._names:
            self._names.pop()
        return self._fds.pop()

    def _go(self, path: str, *, make: bool) -> int | None:
        if not self._fds:
            fd = self._open_root(make=make)
            if fd is None:
                return None
            self._fds.append(fd)
        names = path.split("/") if path else []
        common = 0
        for mine, wanted in zip(self._names, names, strict=False):
            if mine != wanted:
                break
            common += 1
        self._leave(common)
        for name in names[common:]:
            fd = self._open(name, make=make)
            if fd is None:
                return None
            self._names.append(name)
            self._fds.append(fd)
        return self._fds[-1]

    def _leave(self, depth: int) -> None:
        while len(self._names) > depth:
            self._names.pop()
            self._calls.close(self._fds.pop())

    def _open(self, name: str, *, make: bool) -> int | None:
        parent = self._fds[-1]
        try:
            return self._calls.open_directory(name, parent, follow=self._follow)
        except FileNotFoundError:
            if not make:
                return None
        except NotADirectoryError:
            # The kernel's answer to a link that must not be followed is the same as to a file.
            where = os.path.join(self._root, *self._names, name)
            if not self._follow and stat.S_ISLNK(self._calls.stat(name, parent, follow=False).st_mode):
                raise refused_link(self._operation, where) from None
            if make:
                raise under_object(self._operation, where) from None
            return None
        with contextlib.suppress(FileExistsError):  # somebody else was faster
            self._calls.mkdir(name, parent)
        return self._calls.open_directory(name, parent, follow=self._follow)

    def _open_root(self, *, make: bool) -> int | None:
        # Links above the root, and the root itself, are the user's own choice.
        try:
            return self._calls.open_directory(self._root, None, follow=True)
        except FileNotFoundError:
            if not make:
                return None
        missing = [self._root]
        while not os.path.isdir(parent := os.path.dirname(missing[-1])) and parent != missing[-1]:
            missing.append(parent)
        for directory in reversed(missing):
            with contextlib.suppress(FileExistsError):
                self._calls.mkdir(directory, None)
        return self._calls.open_directory(self._root, None, follow=True)
