"""Writing to local disk, synchronously: what is visible is whole, and has its own attributes.

The order of a write, under the lock of its directory: sidecar first, then the body's link or rename, which is the
commit. Where attributes change, the old body goes first: a crash leaves absence, never a body with another's
attributes. Bodies come from temporary files and are never changed in place: other names may be links to them.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TypeAlias, TypeVar

from asyncstore.errors import AlreadyExistsError
from asyncstore.layout import check_path, sidecar_path
from asyncstore.storage.attributes import encode_attributes
from asyncstore.storage.base import PutItem
from asyncstore.storage.local_dirs import Directories
from asyncstore.storage.local_errors import translate
from asyncstore.storage.local_get import meta_of
from asyncstore.storage.local_lock import Locks
from asyncstore.storage.local_os import OsCalls, written_lately
from asyncstore.storage.local_place import Placement, Placer
from asyncstore.storage.local_sync import NoSync, Sync, SyncEach, SyncTogether
from asyncstore.storage.local_tmp import Temporaries
from asyncstore.types import Attributes, Buffer, Durability, ObjectMeta, WriteMode

T = TypeVar("T")
_Write: TypeAlias = Callable[[Directories, Placer, list[list[Placement]], Sync], None]

_TRIES = 5
_TOGETHER_ITEMS = 16
_TOGETHER_DIRECTORIES = 64
_EARLY_BYTES = 64 * 1024
_MAX_SETTLED = 1 << 16


def placement(path: str, data: Buffer | None, attributes: Attributes | None) -> Placement:
    """Return a write that is to be done, or raise for an illegal path or attributes."""
    text = encode_attributes(attributes)
    return Placement(
        check_path(path), data, None if text is None else text.encode(), {} if attributes is None else dict(attributes)
    )


class LocalWrites:
    """The writes of one storage in one process; safe in any number of threads."""

    def __init__(
        self,
        calls: OsCalls,
        root: str,
        locks: Locks,
        *,
        durability: Durability,
        file_mode: int | None,
        follow: bool,
    ) -> None:
        self._calls = calls
        self._root = root
        self._locks = locks
        self._durability = durability
        self.file_mode = file_mode
        self._follow = follow
        self._settled: set[str] = set()
        self._one_at_a_time = threading.Lock()
        self.temporaries = Temporaries(calls, root, locks, follow=follow)

    def put(self, items: Sequence[PutItem], mode: WriteMode) -> list[ObjectMeta | None]:
        """Write objects, as `SupportsBatch.put_batch`."""
        wanted = [placement(item.path, item.data, item.attributes) for item in items]
        self.place(wanted, mode)
        return [
            meta_of(item.body_status, item.attributes) if item.written and item.body_status else None for item in wanted
        ]

    @property
    def compares(self) -> bool:
        """Whether what was written is read back before it is published."""
        return self._durability == "paranoid"

    def new_body(self) -> tuple[str, int]:
        """Create a temporary file for a body that comes in parts; return its name and open descriptor."""

        def create(name: str, directory: int) -> int:
            fd = self._calls.create(name, directory, 0o666 if self.file_mode is None else self.file_mode)
            if self.file_mode is not None:
                self._calls.chmod(fd, self.file_mode)
            return fd

        return self._in_temporaries(create)

    def link_body(self, source: str, source_fd: int) -> tuple[str, os.stat_result]:
        """Link a file to a temporary name; return the name and what it leads to."""

        def link(name: str, directory: int) -> os.stat_result:
            self._calls.link(source, source_fd, name, directory)
            return self._calls.stat(name, directory, follow=False)

        return self._in_temporaries(link)

    def _in_temporaries(self, make: Callable[[str, int], T]) -> tuple[str, T]:
        name = self.temporaries.name()
        try:
            return name, make(name, self.temporaries.open())
        except FileNotFoundError:
            self.temporaries.renew()
            return name, make(name, self.temporaries.open())

    def finish_body(self, item: Placement, fd: int) -> None:
        """Take note of a body that is whole, and put it on the disk if it is to outlast a power failure."""
        self._sync(1).file(fd, None, os.path.join(self._root, item.path))
        if self.compares:
            self._calls.drop_cached(fd)
        item.body_status = self._calls.fstat(fd)

    def drop_body(self, item: Placement) -> None:
        """Remove a body that did not get its name."""
        if item.body is not None:
            with contextlib.suppress(FileNotFoundError):
                self._calls.unlink(item.body, self.temporaries.open())
            item.body = None

    def exists(self, path: str) -> AlreadyExistsError:
        where = os.path.join(self._root, path)
        return AlreadyExistsError(f"there is an object at {where} already", operation="put", where=where)

    def place(self, wanted: Sequence[Placement], mode: WriteMode) -> None:
        """Give each its name in turn; ``written`` tells which got it."""
        waiting = wanted
        while waiting:
            groups: dict[str, list[Placement]] = {}
            seen: set[str] = set()
            again: list[Placement] = []
            for item in waiting:
                if item.path in seen:
                    again.append(item)  # once the one before is written
                    continue
                seen.add(item.path)
                groups.setdefault(item.parent, []).append(item)
            self._place(groups, mode)
            waiting = again

    def delete(self, path: str) -> None:
        """Remove body, then sidecar."""
        directory, _, name = check_path(path).rpartition("/")
        sidecar = sidecar_path(name)
        sync = self._sync(1)
        try:
            with Directories(self._calls, self._root, follow=self._follow, operation="delete") as directories:
                fd = directories.enter(directory)
                if fd is None:
                    return
                held = self._locks.take(fd, directory)
                try:
                    with contextlib.suppress(FileNotFoundError):
                        if stat.S_ISDIR(self._calls.stat(name, fd, follow=False).st_mode):
                            return
                        self._calls.unlink(name, fd)
                    if self._calls.exists(sidecar, fd):
                        sync.names((fd,))
                        with contextlib.suppress(IsADirectoryError):
                            self._calls.unlink(sidecar, fd)
                    sync.names((fd,))
                finally:
                    self._locks.give(fd, held)
        except OSError as error:
            raise translate(error, "delete", os.path.join(self._root, path)) from error

    def _place(self, groups: dict[str, list[Placement]], mode: WriteMode) -> None:
        sync = self._sync(sum(map(len, groups.values())))
        placer = Placer(
            self._calls,
            self._root,
            self.temporaries,
            sync,
            file_mode=self.file_mode,
            follow=self._follow,
            mode=mode,
        )
        # Locks are taken in this order by all writers.
        names = sorted(groups)
        try:
            with Directories(self._calls, self._root, follow=self._follow, operation="put") as directories:
                if sync.everything:
                    for start in range(0, len(names), _TOGETHER_DIRECTORIES):
                        chosen = [groups[name] for name in names[start : start + _TOGETHER_DIRECTORIES]]
                        self._try(self._together, directories, placer, chosen, sync)
                else:
                    for name in names:
                        self._try(self._alone, directories, placer, [groups[name]], sync)
                if sync.durable:
                    self._settle(directories, names, sync)
        except OSError as error:
            raise translate(error, "put", os.path.join(self._root, placer.at)) from error
        finally:
            for group in groups.values():
                for item in group:
                    if not item.written or item.old_sidecar is not None:
                        placer.discard(item)

    def _sync(self, count: int) -> Sync:
        if self._durability == "fast":
            return NoSync()
        # Where links are followed two paths may be one directory, whose lock cannot be taken twice.
        if self._durability == "safe" and count >= _TOGETHER_ITEMS and self._calls.has_syncfs and not self._follow:
            return SyncTogether(self._calls)
        return SyncEach(self._calls, compare=self._durability == "paranoid")

    def _try(
        self, write: _Write, directories: Directories, placer: Placer, groups: list[list[Placement]], sync: Sync
    ) -> None:
        """Write into directories that somebody may remove meanwhile."""
        for _ in range(_TRIES):
            try:
                write(directories, placer, groups, sync)
            except FileNotFoundError:
                directories.reset()
                self._settled.clear()
                self.temporaries.renew()
                groups = [left for group in groups if (left := [item for item in group if not item.finished])]
                for item in chain.from_iterable(groups):
                    placer.discard(item)
            else:
                return
        write(directories, placer, groups, sync)

    def _alone(self, directories: Directories, placer: Placer, groups: list[list[Placement]], sync: Sync) -> None:
        """Write into one directory."""
        for items in groups:
            directory = items[0].parent
            placer.at = items[0].path
            fd = directories.make(directory)
            self._prepare(placer, items, fd, sync)
            held = self._locks.take(fd, directory)
            try:
                if sync.durable:
                    self._commit_durably(placer, items, sync)
                else:
                    for item in items:
                        placer.put(item)
            finally:
                self._locks.give(fd, held)

    def _together(self, directories: Directories, placer: Placer, groups: list[list[Placement]], sync: Sync) -> None:
        """Write into several directories, with one wait for the disk for all of them."""
        with contextlib.ExitStack() as stack:
            # Two threads in here would put the same file system on the disk twice, and hold twice the descriptors.
            stack.enter_context(self._one_at_a_time)
            opened: list[int] = []
            for items in groups:
                placer.at = items[0].path
                fd = directories.make(items[0].parent)
                stack.callback(self._calls.close, directories.detach())
                opened.append(fd)
                self._prepare(placer, items, fd, sync)
            for fd, items in zip(opened, groups, strict=True):
                placer.at = items[0].path
                stack.callback(self._locks.give, fd, self._locks.take(fd, items[0].parent))
            self._commit_durably(placer, list(chain.from_iterable(groups)), sync)

    def _prepare(self, placer: Placer, items: list[Placement], fd: int, sync: Sync) -> None:
        """Write beforehand what would keep others waiting for the lock."""
        for item in items:
            item.directory = fd
            if (sync.durable or item.size > _EARLY_BYTES) and not (placer.create and placer.present(item)):
                placer.stage(item)

    def _commit_durably(self, placer: Placer, items: Sequence[Placement], sync: Sync) -> None:
        """Take the steps of `Placer.put` for all items side by side, so that they share their waits for the disk."""
        admitted = [item for item in items if placer.admit(item)]
        found = [item for item in items if item.found_fresh]
        for item in found:
            placer.keep(item)
        if found:
            sync.names(item.directory for item in found)
        replaced = [item for item in admitted if item.replaces]
        for item in replaced:
            placer.clear(item)
        if replaced:
            sync.names(item.directory for item in replaced)
        touched = [item for item in admitted if not item.keeps_sidecar and placer.place_sidecar(item)]
        if touched or (admitted and sync.everything):  # else the bodies' own bytes are on the disk already
            sync.names(item.directory for item in admitted)
        for item in admitted:
            placer.publish(item)
        if admitted:
            sync.names(item.directory for item in admitted)

    def _settle(self, directories: Directories, paths: Iterable[str], sync: Sync) -> None:
        """Put the directories' own names on the disk, whoever made them, once in the life of this object."""
        fresh: set[str] = set()
        for path in paths:
            while path not in self._settled and path not in fresh:
                fresh.add(path)
                path = path.rpartition("/")[0]  # noqa: PLW2901  # up to the root, whose parent is itself
        if not sync.everything:
            for parent in sorted({path.rpartition("/")[0] for path in fresh if path}):
                sync.names((directories.make(parent),))
            if "" in fresh:
                self._settle_root()
        if len(self._settled) > _MAX_SETTLED:
            self._settled.clear()
        self._settled |= fresh

    def _settle_root(self) -> None:
        """Do the same for the root and those above it that may be new."""
        path = self._root
        while path != (above := os.path.dirname(path)) and written_lately(os.stat(path)):
            with contextlib.suppress(PermissionError):  # somebody else's, who did not let this user make anything
                fd = self._calls.open_directory(above, None, follow=True)
                try:
                    self._calls.fsync(fd)
                finally:
                    self._calls.close(fd)
            path = above
