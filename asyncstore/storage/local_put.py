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
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

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

_TRIES = 5
_TOGETHER_ITEMS = 16
_TOGETHER_DIRECTORIES = 64
_EARLY_BYTES = 64 * 1024
_MAX_SETTLED = 1 << 16


def placement(path: str, data: Buffer | None, attributes: Attributes | None) -> Placement:
    """Return a write that is to be done, or raise for an illegal path or attributes."""
    text = encode_attributes(attributes)
    return Placement(
        path=check_path(path),
        data=data,
        text=None if text is None else text.encode(),
        attributes={} if attributes is None else dict(attributes),
        name=path.rpartition("/")[2],
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
        self._together = threading.Lock()
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
            # A path that comes twice in a batch is written twice, one after the other.
            groups: dict[str, dict[str, Placement]] = {}
            again: list[Placement] = []
            for item in waiting:
                group = groups.setdefault(item.path.rpartition("/")[0], {})
                if group.setdefault(item.name, item) is not item:
                    again.append(item)
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

    def _place(self, groups: dict[str, dict[str, Placement]], mode: WriteMode) -> None:
        items = [item for group in groups.values() for item in group.values()]
        sync = self._sync(len(items))
        placer = Placer(
            self._calls,
            self._root,
            self.temporaries,
            sync,
            file_mode=self.file_mode,
            follow=self._follow,
            mode=mode,
        )
        try:
            with Directories(self._calls, self._root, follow=self._follow, operation="put") as directories:
                for chosen in self._rounds(groups, sync):
                    self._try(directories, placer, {name: groups[name] for name in chosen}, sync)
                if sync.durable:
                    self._settle(directories, groups, sync)
        except OSError as error:
            raise translate(error, "put", os.path.join(self._root, placer.at)) from error
        finally:
            for item in items:
                placer.discard(item)

    def _sync(self, count: int) -> Sync:
        if self._durability == "fast":
            return NoSync()
        # Where links are followed two paths may be one directory, whose lock cannot be taken twice.
        if self._durability == "safe" and count >= _TOGETHER_ITEMS and self._calls.has_syncfs and not self._follow:
            return SyncTogether(self._calls)
        return SyncEach(self._calls, compare=self._durability == "paranoid")

    def _rounds(self, groups: dict[str, dict[str, Placement]], sync: Sync) -> Iterator[Sequence[str]]:
        """Give the directories that are locked at once, in an order that all writers keep."""
        width = _TOGETHER_DIRECTORIES if sync.everything else 1
        names = sorted(groups)
        return (names[start : start + width] for start in range(0, len(names), width))

    def _try(
        self, directories: Directories, placer: Placer, groups: dict[str, dict[str, Placement]], sync: Sync
    ) -> None:
        """Write into directories that somebody may remove meanwhile."""
        for left in reversed(range(_TRIES)):
            pending = {
                directory: items
                for directory, group in groups.items()
                if (items := [item for item in group.values() if not (item.done or item.written)])
            }
            try:
                with contextlib.ExitStack() as stack:
                    self._enter(stack, directories, placer, pending, sync)
                    self._commit(placer, [item for group in pending.values() for item in group], sync)
            except FileNotFoundError:
                if not left:
                    raise
                directories.reset()
                self._settled.clear()
                self.temporaries.renew()
                for group in pending.values():
                    for item in group:
                        placer.discard(item)
            else:
                return

    def _enter(
        self,
        stack: contextlib.ExitStack,
        directories: Directories,
        placer: Placer,
        groups: dict[str, list[Placement]],
        sync: Sync,
    ) -> None:
        """Open and lock directories, and write beforehand what would keep others waiting for the lock."""
        if len(groups) > 1:
            # Two threads in here would put the same file system on the disk twice, and hold twice the descriptors.
            stack.enter_context(self._together)
        opened: list[tuple[str, int]] = []
        for directory, items in groups.items():
            placer.at = items[0].path
            fd = directories.make(directory)
            if len(groups) > 1:
                stack.callback(self._calls.close, directories.detach())
            opened.append((directory, fd))
            for item in items:
                item.directory = fd
                if (sync.durable or item.size > _EARLY_BYTES) and not (placer.create and placer.present(item)):
                    placer.stage(item)
        for directory, fd in opened:
            placer.at = groups[directory][0].path
            stack.callback(self._locks.give, fd, self._locks.take(fd, directory))

    def _commit(self, placer: Placer, items: Sequence[Placement], sync: Sync) -> None:
        """Take all items' steps side by side, so that they share what puts them on the disk."""
        admitted = [item for item in items if placer.admit(item)]
        found = [item for item in items if item.found_fresh] if sync.durable else []
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
        for item in admitted:
            item.done = True

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
