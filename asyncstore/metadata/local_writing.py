"""Writes records of the local provider: each file appears whole or not at all, and existing ones stay.

Synchronous; called in threads. A process killed in between leaves at most hidden temporary files.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final

from asyncstore.errors import IntegrityError
from asyncstore.types import Durability, Json

_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def encode(document: Json) -> bytes:
    """Return a record's bytes as Metaflow writes them: one line, default separators, ASCII escapes."""
    return json.dumps(document).encode("ascii")


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A file to be created.

    ``name(n)`` is its name at try ``n`` from 0; a name that is taken leads to the next try, and None gives up: the
    file that is there stays.
    """

    content: bytes
    name: Callable[[int], str | None]


@dataclass(frozen=True, slots=True)
class RecordWriter:
    """Creates and replaces records below one root.

    ``file_mode`` None leaves it to the umask; Metaflow's is 0600. ``durability`` "fast" survives the death of the
    process, "safe" also that of the machine, "paranoid" reads back what it wrote.
    """

    root: str
    durability: Durability = "safe"
    file_mode: int | None = None

    def absolute(self, path: str) -> str:
        """Return the path on disk of a '/'-separated path below the root."""
        return os.path.join(self.root, *path.split("/"))

    def make_directory(self, path: str) -> str:
        """Create a directory and those above it, and return its path on disk."""
        directory = above = self.absolute(path)
        missing: list[str] = []
        while not os.path.isdir(above):
            missing.append(above)
            above = os.path.dirname(above)
        if missing:
            os.makedirs(directory, exist_ok=True)
            for child in reversed(missing):
                self._sync_directory(os.path.dirname(child))
        return directory

    def claim_directory(self, path: str) -> bool:
        """Create a directory in an existing one; return False if it was there: of two callers one gets True."""
        try:
            os.mkdir(self.absolute(path))
        except FileExistsError:
            return False
        self._sync_directory(os.path.dirname(self.absolute(path)))
        return True

    def create(self, path: str, records: Iterable[NewRecord]) -> list[bool]:
        """Create files in one directory; return for each whether it is new. All are written before one is visible."""
        directory = self.make_directory(path)
        created: list[bool] = []
        with ExitStack() as temporaries:
            ready = [(self._temporary(directory, record.content, temporaries), record) for record in records]
            for temporary, record in ready:
                name = _publish(temporary, directory, record)
                created.append(name is not None)
                if name is not None:
                    self._read_back(f"{directory}/{name}", record.content)
        if any(created):
            self._sync_directory(directory)
        return created

    def replace(self, path: str, name: str, content: bytes, *, modified: float | None = None) -> None:
        """Put a file in place of what is there; ``modified`` is its time in seconds since 1970, None is now."""
        directory = self.make_directory(path)
        target = f"{directory}/{name}"
        with ExitStack() as temporaries:
            temporary = self._temporary(directory, content, temporaries)
            if modified is not None:
                os.utime(temporary, (modified, modified))
            os.replace(temporary, target)
        self._read_back(target, content)
        self._sync_directory(directory)

    def _temporary(self, directory: str, content: bytes, cleanup: ExitStack) -> str:
        path = f"{directory}/.{secrets.token_hex(8)}.tmp"
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o666 if self.file_mode is None else self.file_mode)
        cleanup.callback(_remove, path)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            if self.file_mode is not None:
                os.chmod(path, self.file_mode)  # whatever the umask
            rest = memoryview(content)
            while rest:
                rest = rest[file.write(rest) :]
            if self.durability != "fast":
                os.fsync(file.fileno())
        return path

    def _sync_directory(self, directory: str) -> None:
        if self.durability == "fast":
            return
        descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _read_back(self, path: str, content: bytes) -> None:
        if self.durability != "paranoid":
            return
        with open(path, "rb") as file:
            if file.read() != content:
                raise IntegrityError(
                    f"{path} does not hold what was just written to it; check the disk", operation="write", where=path
                )


def _publish(temporary: str, directory: str, record: NewRecord) -> str | None:
    attempt = 0
    while (name := record.name(attempt)) is not None:
        if _move_to_new(temporary, f"{directory}/{name}"):
            return name
        attempt += 1
    return None


def _move_to_new(temporary: str, target: str) -> bool:
    """Give a finished file its name unless that is taken; unlike a rename, a link decides that atomically."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # No hard links here: what remains is Metaflow's own way, with its race between the check and the rename.
        if os.path.lexists(target):
            return False
        os.rename(temporary, target)
    return True


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):  # renamed
        os.unlink(path)
