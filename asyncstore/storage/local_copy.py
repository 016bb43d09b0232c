"""Copies between local storages: a hard link where the file system allows it, else a copy inside the kernel."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from typing import TypeVar

from asyncstore.errors import IntegrityError, ObjectNotFoundError
from asyncstore.runtime import Runtime
from asyncstore.storage.local_errors import translate
from asyncstore.storage.local_get import LocalReads, changing, meta_of, shrunk
from asyncstore.storage.local_os import UNSUPPORTED, OsCalls, same_inode
from asyncstore.storage.local_place import Placement
from asyncstore.storage.local_put import LocalWrites, placement
from asyncstore.types import MIB, ObjectMeta, WriteMode

T = TypeVar("T")

_HOP_BYTES = 64 * MIB
_READ_BYTES = 4 * MIB
_TRIES = 10
_NO_LINK = UNSUPPORTED | {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EACCES}


class LocalCopy:
    """One copy from an absolute path of this machine."""

    def __init__(
        self,
        runtime: Runtime,
        calls: OsCalls,
        reads: LocalReads,
        writes: LocalWrites,
        root: str,
        path: str,
        source: str,
    ) -> None:
        self._pool = runtime.pool
        self._calls = calls
        self._reads = reads
        self._writes = writes
        self._path = path
        self._where = os.path.join(root, path)
        self._source = source
        self._source_fd = -1
        self._fd = -1
        self._item: Placement | None = None
        self._size = 0

    async def run(self, mode: WriteMode) -> ObjectMeta:
        """Copy, or raise as `SupportsCopy.copy_from`."""
        try:
            await self._pool.run(self._translated, self._open)
            copied = 0
            while self._fd >= 0 and copied < self._size:
                copied += await self._pool.run(self._translated, lambda done=copied: self._copy(done))
            return await self._pool.run(self._translated, lambda: self._finish(mode))
        finally:
            await self._pool.clean_up(self._close)

    def _translated(self, step: Callable[[], T]) -> T:
        try:
            return step()
        except OSError as error:
            raise translate(error, f"copy {self._source} to", self._where) from error

    def _open(self) -> None:
        directory, name = os.path.split(self._source)
        try:
            parent = self._calls.open_directory(directory, None, follow=True)
        except (FileNotFoundError, NotADirectoryError):
            raise self._missing() from None
        try:
            for _ in range(_TRIES):
                found = self._reads.find(parent, name, self._source, "copy", body=True)
                if found is None:
                    raise self._missing()
                self._source_fd, meta = found
                self._size = meta.size
                self._item = placement(self._path, None, meta.attributes)
                self._item.body_status = self._calls.fstat(self._source_fd)
                if not self._may_link():
                    break
                linked = self._link(parent, name, self._item)
                if linked is None:
                    break
                if linked:
                    return
                self._close()
            else:
                raise changing("copy", self._source)
        finally:
            self._calls.close(parent)
        self._item.body, self._fd = self._writes.new_body()

    def _may_link(self) -> bool:
        # All names of a file share its mode; and who compares what is on the disk wants bytes of his own.
        mode = self._writes.file_mode
        assert self._item is not None
        assert self._item.body_status is not None
        return not self._writes.compares and mode in {None, stat.S_IMODE(self._item.body_status.st_mode)}

    def _link(self, parent: int, name: str, item: Placement) -> bool | None:
        """Link the source to a temporary name; None if that cannot be done, False if the source was replaced."""
        try:
            item.body, status = self._writes.link_body(name, parent)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno in _NO_LINK:
                return None
            raise
        assert item.body_status is not None
        return same_inode(status, item.body_status)

    def _copy(self, done: int) -> int:
        count = self._calls.copy(self._source_fd, self._fd, min(_HOP_BYTES, self._size - done), done)
        if not count:
            raise shrunk(self._source)
        return count

    def _finish(self, mode: WriteMode) -> ObjectMeta:
        item = self._item
        assert item is not None
        self._writes.finish_body(item, self._source_fd if self._fd < 0 else self._fd)
        if self._writes.compares and self._digest(self._fd) != self._digest(self._source_fd):
            raise IntegrityError(
                f"cannot copy {self._source} to {self._where}: the disk gives back other bytes than were written; "
                "nothing was published. Check the disk and the memory of this machine",
                operation="copy",
                where=self._where,
            )
        self._writes.place([item], mode)
        if not item.written:
            raise self._writes.exists(item.path)
        assert item.body_status is not None
        return meta_of(item.body_status, item.attributes)

    def _digest(self, fd: int) -> bytes:
        digest = hashlib.sha1(usedforsecurity=False)
        position = 0
        while data := self._calls.pread(fd, _READ_BYTES, position):
            digest.update(data)
            position += len(data)
        return digest.digest()

    def _missing(self) -> ObjectNotFoundError:
        return ObjectNotFoundError(f"there is no object at {self._source}", operation="copy", where=self._source)

    def _close(self) -> None:
        if self._item is not None:
            self._writes.drop_body(self._item)
        for fd in (self._source_fd, self._fd):
            if fd >= 0:
                self._calls.close(fd)
        self._source_fd = self._fd = -1
