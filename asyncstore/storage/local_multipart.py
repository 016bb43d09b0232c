"""One object on its way to local disk in parts: written in place into a temporary file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Generator

from asyncstore.errors import IntegrityError
from asyncstore.runtime import Runtime
from asyncstore.storage.base import MultipartLimits
from asyncstore.storage.local_errors import translate
from asyncstore.storage.local_get import meta_of
from asyncstore.storage.local_os import OsCalls, pwrite_all
from asyncstore.storage.local_put import LocalWrites, placement
from asyncstore.storage.parts import check_complete, check_part, check_part_size, upload_ended
from asyncstore.types import GIB, MIB, Attributes, Buffer, ObjectMeta, WriteMode

MULTIPART_LIMITS = MultipartLimits(min_part=1, max_part=4 * GIB, max_parts=1 << 20)
_HOP_BYTES = 8 * MIB
_READ_BYTES = 4 * MIB


class LocalUpload:
    """Parts at their offsets (number x part_size) in one temporary file, which complete gives its name."""

    def __init__(
        self,
        runtime: Runtime,
        calls: OsCalls,
        writes: LocalWrites,
        root: str,
        path: str,
        *,
        part_size: int,
        attributes: Attributes | None,
        mode: WriteMode,
    ) -> None:
        self._pool = runtime.pool
        self._calls = calls
        self._writes = writes
        self._where = os.path.join(root, path)
        check_part_size(MULTIPART_LIMITS, part_size, self._where)
        self._item = placement(path, None, attributes)
        self._part_size = part_size
        self._mode: WriteMode = mode
        self._lock = threading.Lock()
        self._users = 0
        self._ended = False
        self._fd = -1
        self._sizes: dict[int, int] = {}
        self._digests: dict[int, bytes] = {}

    def begin(self) -> None:
        """Make the temporary file (in a thread)."""
        try:
            self._item.body, self._fd = self._writes.new_body()
        except OSError as error:
            raise translate(error, "create_multipart", self._where) from error

    async def put_part(self, number: int, data: Buffer) -> None:
        """Write one part; see `MultipartUpload`."""
        view = memoryview(data).cast("B")
        check_part(MULTIPART_LIMITS, number, len(view), self._part_size, self._where)
        # Until it is written again whole, an earlier copy of this part does not count.
        self._sizes.pop(number, None)
        for start in range(0, len(view), _HOP_BYTES):
            await self._pool.run(self._write, view[start : start + _HOP_BYTES], number * self._part_size + start)
        if self._writes.compares:
            self._digests[number] = await self._pool.run(_digest, view)
        self._sizes[number] = len(view)

    async def complete(self) -> ObjectMeta:
        """Give the object its name; see `MultipartUpload`."""
        return await self._pool.run(self._complete)

    async def abort(self) -> None:
        """Remove the temporary file; see `MultipartUpload`."""
        await self._pool.clean_up(self._abort)

    @contextlib.contextmanager
    def _file(self, operation: str) -> Generator[int]:
        """Keep the descriptor from being closed, and its number from meaning another file, inside the block."""
        with self._lock:
            if self._ended:
                raise upload_ended(operation, self._where)
            self._users += 1
        try:
            yield self._fd
        except OSError as error:
            raise translate(error, operation, self._where) from error
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            self._close_unused()

    def _close_unused(self) -> None:
        if self._ended and self._users == 0 and self._fd >= 0:
            self._calls.close(self._fd)
            self._fd = -1

    def _write(self, data: memoryview, offset: int) -> None:
        with self._file("put_part") as fd:
            pwrite_all(self._calls, fd, data, offset)

    def _complete(self) -> ObjectMeta:
        with self._file("complete") as fd:
            item = self._item
            self._calls.truncate(fd, check_complete(self._sizes, self._part_size, self._where))
            self._writes.finish_body(item, fd)
            for number, size in self._sizes.items() if self._writes.compares else ():
                self._compare(fd, number, size)
            self._writes.place([item], self._mode)
            if not item.written:
                raise self._writes.exists(item.path)
            assert item.body_status is not None
            self._end()
            return meta_of(item.body_status, item.attributes)

    def _compare(self, fd: int, number: int, size: int) -> None:
        digest = hashlib.sha1(usedforsecurity=False)
        position = number * self._part_size
        while size and (data := self._calls.pread(fd, min(size, _READ_BYTES), position)):
            digest.update(data)
            size -= len(data)
            position += len(data)
        if size or digest.digest() != self._digests[number]:
            raise IntegrityError(
                f"cannot complete {self._where}: the disk gives back other bytes than were written as part {number}; "
                "nothing was published. Check the disk and the memory of this machine",
                operation="complete",
                where=self._where,
            )

    def _end(self) -> None:
        with self._lock:
            self._ended = True
            self._close_unused()

    def _abort(self) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self._close_unused()
        self._writes.drop_body(self._item)


def _digest(data: memoryview) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()
