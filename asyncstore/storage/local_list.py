"""Listing a local directory, synchronously and bit by bit."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from asyncstore.errors import InvalidNameError
from asyncstore.layout import check_directory, is_hidden
from asyncstore.storage.local_dirs import Directories
from asyncstore.storage.local_errors import refused_link, translate
from asyncstore.storage.local_get import etag_of
from asyncstore.storage.local_os import OsCalls, is_object
from asyncstore.types import ListEntry


class LocalListing:
    """The listings of one storage; each is a generator that one thread at a time advances.

    What other writers add, remove or replace meanwhile may or may not appear.
    """

    def __init__(self, calls: OsCalls, root: str, *, follow: bool) -> None:
        self._calls = calls
        self._root = root
        self._follow = follow

    def entries(self, prefix: str, *, recursive: bool) -> Generator[ListEntry]:
        """Give what `DataStoreStorage.list` promises."""
        check_directory(prefix)
        try:
            yield from self._below(prefix) if recursive else self._children(prefix)
        except OSError as error:
            raise translate(error, "list", os.path.join(self._root, prefix)) from error

    def _children(self, prefix: str) -> Iterator[ListEntry]:
        for entry, path in self._scan(prefix):
            if not entry.is_dir(follow_symlinks=self._follow):
                yield from self._object(entry, path)
            elif any(True for _ in self._below(path)):
                yield ListEntry(path, "directory")

    def _below(self, prefix: str) -> Iterator[ListEntry]:
        waiting: list[tuple[str, _Above | None]] = [(prefix, None)]
        while waiting:
            directory, above = waiting.pop()
            for entry, path in self._scan(directory):
                if entry.is_dir(follow_symlinks=self._follow):
                    waiting.append((path, self._enter(entry, path, above)))
                else:
                    yield from self._object(entry, path)

    def _scan(self, directory: str) -> Iterator[tuple[os.DirEntry[str], str]]:
        with Directories(self._calls, self._root, follow=self._follow, operation="list") as directories:
            fd = directories.enter(directory)
            if fd is None:
                return
            with os.scandir(fd) as entries:
                for entry in entries:
                    path = f"{directory}/{entry.name}" if directory else entry.name
                    if not is_hidden(entry.name, directory=entry.is_dir()) and _can_be_named(path):
                        yield entry, path

    def _object(self, entry: os.DirEntry[str], path: str) -> Iterator[ListEntry]:
        if entry.is_symlink() and not self._follow:
            # Left out silently, a part of a store that lives behind a link would look as if it were gone.
            raise refused_link("list", os.path.join(self._root, path))
        try:
            status = entry.stat(follow_symlinks=self._follow)
        except FileNotFoundError:
            return  # removed meanwhile, or a link that leads nowhere
        if is_object(status):
            modified = datetime.fromtimestamp(status.st_mtime, UTC)
            yield ListEntry(path, "object", status.st_size, etag_of(status), modified)

    def _enter(self, entry: os.DirEntry[str], path: str, above: _Above | None) -> _Above | None:
        """Return the chain of directories that lead to this one, kept only where links may close a circle."""
        if not self._follow:
            return None
        status = entry.stat()
        here = _Above((status.st_dev, status.st_ino), above)
        while above is not None:
            if above.identity == here.identity:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            above = above.above
        return here


@dataclass(frozen=True, slots=True)
class _Above:
    identity: tuple[int, int]
    above: _Above | None


def _can_be_named(path: str) -> bool:
    """Say whether a file's path is one of an object; others are not ours to show."""
    try:
        check_directory(path)
    except InvalidNameError:
        return False
    return True
