"""The directory that files are restored to: nothing is written outside of it, and no file is seen half-written."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from uuid import uuid4

from asyncstore.errors import AsyncStoreError, StorageError
from asyncstore.storage.local_errors import translate
from asyncstore.types import Buffer

_NOT_THROUGH_LINKS = getattr(os, "O_NOFOLLOW", 0)


class Target:
    """Writes below ``root``, which is made if it is missing. Blocks, so it is used in threads, from several at once.

    Names are checked by the manifest. What is in place already is never followed: a symbolic link on the way to a
    file is an error, one in a file's place is replaced. Not synced to disk.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.fspath(root)
        self._directories: set[str] = set()

    def directory(self, name: str) -> str:
        """Make a directory with those above it, and return its path."""
        path = os.path.join(self.root, name) if name else self.root
        if name in self._directories:
            return path
        with _translated("create", path):
            if not name:
                os.makedirs(path, exist_ok=True)
            else:
                self.directory(os.path.dirname(name))
                try:
                    os.mkdir(path)
                except FileExistsError:
                    self._refuse_link(path)
        self._directories.add(name)
        return path

    def write(self, name: str, data: Buffer, mode: int | None) -> None:
        """Write a whole file."""
        file = self.partial(name, mode)
        try:
            file.open()
            file.write(data)
            file.publish()
        finally:
            file.close()

    def partial(self, name: str, mode: int | None) -> PartialFile:
        """Return a file to be opened, that appears when it is published. Does not block yet.

        ``mode`` None leaves the permissions to the umask.
        """
        return PartialFile(self, name, mode)

    def link(self, name: str, target: str) -> None:
        """Make a symbolic link, in place of a file or link of that name."""
        path = os.path.join(self.directory(os.path.dirname(name)), os.path.basename(name))
        temporary = _temporary(path)
        with _translated("create", path):
            os.symlink(target, temporary)
            try:
                os.replace(temporary, path)
            except OSError:
                os.unlink(temporary)
                raise

    def _refuse_link(self, path: str) -> None:
        if os.path.islink(path):
            raise StorageError(
                f"{path} is a symbolic link, and nothing is restored through one: remove it, or restore elsewhere",
                operation="restore",
                where=path,
            )
        if not os.path.isdir(path):
            raise StorageError(
                f"{path} is a file where a directory has to be: remove it, or restore elsewhere",
                operation="restore",
                where=path,
            )


class PartialFile:
    """A file under a temporary name in its own directory. `close` removes it unless it was published."""

    def __init__(self, target: Target, name: str, mode: int | None) -> None:
        self._target = target
        self._name = name
        self._path = os.path.join(target.root, name)
        self._mode = mode
        self._temporary = ""
        self._descriptor: int | None = None

    def open(self) -> None:
        self._target.directory(os.path.dirname(self._name))
        temporary = _temporary(self._path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOT_THROUGH_LINKS | getattr(os, "O_BINARY", 0)
        with _translated("write", self._path):
            self._descriptor = os.open(temporary, flags, 0o666 if self._mode is None else self._mode | 0o200)
        self._temporary = temporary

    def write(self, data: Buffer) -> None:
        assert self._descriptor is not None
        view = memoryview(data).cast("B")
        with _translated("write", self._path):
            while view:
                view = view[os.write(self._descriptor, view) :]

    def publish(self) -> None:
        """Give the file its permissions and its name, in place of a file or link of that name."""
        assert self._descriptor is not None
        with _translated("write", self._path):
            if self._mode is not None:
                os.chmod(self._temporary, self._mode)
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)
            os.replace(self._temporary, self._path)
            self._temporary = ""

    def close(self) -> None:
        """Remove what was not published. A second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._temporary:
            os.unlink(self._temporary)
            self._temporary = ""


def _temporary(path: str) -> str:
    return os.path.join(os.path.dirname(path), f".{uuid4().hex}.asyncstore-part")


@contextmanager
def _translated(operation: str, path: str) -> Generator[None]:
    try:
        yield
    except AsyncStoreError:
        raise
    except OSError as error:
        raise translate(error, operation, path) from error
