"""Finds what a tree of files holds. Blocks, so it runs in a thread."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from asyncstore.errors import InvalidNameError, NotFoundError
from asyncstore.maintain.manifest import PERMISSIONS, DirectoryEntry, LinkEntry, stays_inside
from asyncstore.storage.local_errors import translate


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file to be saved: where it is, and what the manifest calls it."""

    name: str
    path: str
    size: int
    mode: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that is not saved: where it is, and why."""

    path: str
    reason: str


Found: TypeAlias = FoundFile | DirectoryEntry | LinkEntry | LeftOut


def name_paths(paths: Iterable[str | os.PathLike[str]]) -> dict[str, str]:
    """Return the name in the manifest of each file or directory given, with its path: its last component.

    Raises `InvalidNameError` if two have the same.
    """
    named: dict[str, str] = {}
    for given in paths:
        path = os.fspath(given)
        name = os.path.basename(os.path.abspath(path))
        if name in named:
            raise InvalidNameError(
                f"{named[name]!r} and {path!r} would both be called {name!r}: save them one at a time", where=path
            )
        if not name:
            raise InvalidNameError(f"{path!r} has no name to be saved under: name what is below it", where=path)
        named[name] = path
    return named


def walk(named: dict[str, str], *, store: str | None = None) -> Iterator[Found]:
    """Find every file, empty directory and symbolic link, by name.

    A link that stays inside its tree is kept as a link. One that leads out of it, to a file, counts as that file; to
    anything else it is an `InvalidNameError`. What was named itself is followed. What is neither (a socket, a pipe, a
    device) is left out, as is the directory ``store``, where the files are saved to: both are told.
    """
    target = _identity(store)
    for name, path in named.items():
        yield from _walk_one(name, path, target, follow=True)


def _identity(directory: str | None) -> tuple[int, int] | None:
    """Return what a directory is known by, whatever it is called; None if it is not there yet."""
    try:
        status = None if directory is None else os.stat(directory)
    except OSError:
        return None
    return None if status is None else (status.st_dev, status.st_ino)


def _walk_one(name: str, path: str, target: tuple[int, int] | None, *, follow: bool) -> Iterator[Found]:
    try:
        status = os.stat(path) if follow else os.lstat(path)
        if target == (status.st_dev, status.st_ino):
            yield LeftOut(path, "it is the store itself")
            return
        children = sorted(os.listdir(path)) if stat.S_ISDIR(status.st_mode) else []
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no file or directory {path!r}: check the name", operation="save", where=path
        ) from None
    except OSError as error:
        raise translate(error, "read", path) from error
    if stat.S_ISREG(status.st_mode):
        yield FoundFile(name, path, status.st_size, status.st_mode & PERMISSIONS)
    elif stat.S_ISLNK(status.st_mode):
        yield _link(name, path)
    elif not stat.S_ISDIR(status.st_mode):
        yield LeftOut(path, "it is neither a file nor a directory nor a symbolic link")
    elif not children:
        yield DirectoryEntry(name)
    for child in children:
        yield from _walk_one(f"{name}/{child}", os.path.join(path, child), target, follow=False)


def _link(name: str, path: str) -> FoundFile | LinkEntry:
    target = os.readlink(path)
    if stays_inside(name, target):
        return LinkEntry(name, target)
    try:
        status = os.stat(path)
    except OSError:
        status = None
    if status is None or not stat.S_ISREG(status.st_mode):
        raise InvalidNameError(
            f"symbolic link {path!r} leads out of the tree, to {target!r}, which is no file: "
            "remove it, or save what it leads to by its own name",
            where=path,
        )
    return FoundFile(name, path, status.st_size, status.st_mode & PERMISSIONS)
