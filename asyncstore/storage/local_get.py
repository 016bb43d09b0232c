"""Reading from local disk, synchronously: body and sidecar are two files, given back as one object."""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from asyncstore.errors import IntegrityError, ObjectNotFoundError, PreconditionFailedError, StorageUnavailableError
from asyncstore.layout import check_path, sidecar_path
from asyncstore.storage.attributes import decode_attributes
from asyncstore.storage.base import StoredObject
from asyncstore.storage.local_dirs import Directories
from asyncstore.storage.local_errors import refused_link, translate
from asyncstore.storage.local_lock import Locks
from asyncstore.storage.local_os import OsCalls, is_object, read_all, same_file
from asyncstore.types import Attributes, ByteRange, Json, ObjectMeta

_TRIES_UNDER_LOCK = 10
_SIDECAR_BYTES = 4096  # more than attributes may have, so that one read is enough


def etag_of(status: os.stat_result) -> str:
    """Return the etag of a body: every write of ours makes a new file."""
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


def meta_of(status: os.stat_result, attributes: Attributes) -> ObjectMeta:
    return ObjectMeta(
        size=status.st_size,
        etag=etag_of(status),
        modified=datetime.fromtimestamp(status.st_mtime, UTC),
        attributes=attributes,
    )


@dataclass(slots=True)
class OpenBody:
    """An open body with its attributes, and the bytes asked for: from ``start``, ``length`` of them."""

    fd: int
    meta: ObjectMeta
    start: int
    length: int


class LocalReads:
    """The reads of one storage; safe in any number of threads."""

    def __init__(self, calls: OsCalls, root: str, locks: Locks, *, follow: bool) -> None:
        self._calls = calls
        self._root = root
        self._locks = locks
        self._follow = follow

    def heads(self, paths: Sequence[str]) -> list[ObjectMeta | None]:
        with self._directories("head") as directories:
            return [self._head(directories, path) for path in paths]

    def get(self, paths: Sequence[str], max_bytes: int) -> list[StoredObject | None]:
        """Read whole objects, as `SupportsBatch.get_batch`."""
        results: list[StoredObject | None] = []
        with self._directories("get") as directories:
            for path in paths:
                found = self._find(directories, path, "get", body=True)
                if found is None:
                    results.append(None)
                    continue
                fd, meta = found
                try:
                    fits = meta.size <= max_bytes
                    data = self._read(path, fd, meta.size, 0) if fits else None
                finally:
                    self._calls.close(fd)
                if data is not None:
                    max_bytes -= len(data)
                results.append(StoredObject(meta, data))
        return results

    def open(self, path: str, byte_range: ByteRange | None, if_match: str | None) -> OpenBody:
        """Open a body for reading; the caller closes it."""
        with self._directories("get") as directories:
            found = self._find(directories, path, "get", body=True)
        where = os.path.join(self._root, path)
        if found is None:
            raise ObjectNotFoundError(f"there is no object at {where}", operation="get", where=where)
        fd, meta = found
        if if_match is not None and if_match != meta.etag:
            self._calls.close(fd)
            raise PreconditionFailedError(
                f"the object at {where} has changed: its etag is {meta.etag}, not {if_match}; read it again",
                operation="get",
                where=where,
            )
        start, stop = 0, meta.size
        if byte_range is not None:
            start = min(byte_range.start, meta.size)
            stop = meta.size if byte_range.stop is None else min(byte_range.stop, meta.size)
        return OpenBody(fd, meta, start, stop - start)

    def read(self, path: str, body: OpenBody) -> bytes:
        """Read all the bytes asked for at once."""
        return self._read(path, body.fd, body.length, body.start)

    def close(self, fd: int) -> None:
        self._calls.close(fd)

    def _read(self, path: str, fd: int, size: int, start: int) -> bytes:
        where = os.path.join(self._root, path)
        try:
            data = read_all(self._calls, fd, size, start)
        except OSError as error:
            raise translate(error, "get", where) from error
        if len(data) < size:
            raise shrunk(where)
        return data

    def _head(self, directories: Directories, path: str) -> ObjectMeta | None:
        found = self._find(directories, path, "head", body=False)
        return None if found is None else found[1]

    def _directories(self, operation: str) -> Directories:
        return Directories(self._calls, self._root, follow=self._follow, operation=operation)

    def _find(
        self, directories: Directories, path: str, operation: str, *, body: bool
    ) -> tuple[int, ObjectMeta] | None:
        check_path(path)
        directory, _, name = path.rpartition("/")
        where = os.path.join(self._root, path)
        try:
            fd = directories.enter(directory)
            return None if fd is None else self.find(fd, name, where, operation, body=body)
        except OSError as error:
            raise translate(error, operation, where) from error

    def find(
        self, directory: int, name: str, where: str, operation: str, *, body: bool
    ) -> tuple[int, ObjectMeta] | None:
        """Return an object's meta and, if ``body``, its open body (else -1); None if there is no object.

        Body and sidecar belong together if the body's name leads to the same file before and after the sidecar was
        read, since a writer changes a sidecar only while there is no body. A writer that changes attributes takes
        the body away for a moment: whatever is not found is looked for once more while no writer is at work.
        """
        with contextlib.suppress(IntegrityError):  # a sidecar in the middle of being written: look again
            found = self._look(directory, name, where, operation, body=body)
            if not isinstance(found, _Unsettled):
                return found
        locked = self._locks.take_shared(directory)
        try:
            for _ in range(_TRIES_UNDER_LOCK):
                found = self._look(directory, name, where, operation, body=body)
                if found is _Unsettled.ABSENT:
                    return None
                if not isinstance(found, _Unsettled):
                    return found
        finally:
            if locked:
                self._locks.give(directory, directory)
        raise changing(operation, where)

    def _look(
        self, directory: int, name: str, where: str, operation: str, *, body: bool
    ) -> tuple[int, ObjectMeta] | _Unsettled | None:
        calls = self._calls
        fd = -1
        try:
            if body:
                fd = calls.open_file(name, directory, follow=self._follow)
                before = calls.fstat(fd)
            else:
                before = calls.stat(name, directory, follow=self._follow)
            if not is_object(before):
                if stat.S_ISLNK(before.st_mode):
                    raise refused_link(operation, where)
                _close(calls, fd)
                return None
            attributes = self._attributes(directory, name, where)
            if same_file(before, calls.stat(name, directory, follow=self._follow)):
                return fd, meta_of(before, attributes)
        except FileNotFoundError:
            _close(calls, fd)
            return _Unsettled.ABSENT
        except OSError as error:
            _close(calls, fd)
            if error.errno == errno.ELOOP and not self._follow:
                raise refused_link(operation, where) from None
            if error.errno == errno.ENXIO:  # a socket, which is no object
                return None
            raise
        except BaseException:
            _close(calls, fd)
            raise
        _close(calls, fd)
        return _Unsettled.CHANGED

    def _attributes(self, directory: int, name: str, where: str) -> dict[str, Json]:
        text = read_sidecar(self._calls, directory, name, follow=self._follow)
        if text is None:
            return {}
        try:
            return decode_attributes(text)
        except IntegrityError as error:
            raise IntegrityError(
                f"{sidecar_path(where)}: {error}; write the object again, or delete this file if it has no attributes",
                operation="read attributes",
                where=where,
            ) from error


class Opening:
    """The opening of a body in a thread, which leaves nothing open if nobody waits for its result any more."""

    def __init__(self, reads: LocalReads, path: str, byte_range: ByteRange | None, if_match: str | None) -> None:
        self._reads = reads
        self._path = path
        self._byte_range = byte_range
        self._if_match = if_match
        self._body: OpenBody | None = None
        self.is_open = False

    @property
    def body(self) -> OpenBody:
        assert self._body is not None
        return self._body

    def begin(self, whole_bytes: int) -> bytes | None:
        """Open the body; return the bytes asked for if they are at most ``whole_bytes``."""
        self._body = body = self._reads.open(self._path, self._byte_range, self._if_match)
        self.is_open = True
        if body.length > whole_bytes:
            return None
        try:
            return self._reads.read(self._path, body)
        finally:
            self.close()

    def close(self) -> None:
        self.is_open = False
        self._reads.close(self.body.fd)


class _Unsettled(enum.Enum):
    ABSENT = enum.auto()
    CHANGED = enum.auto()


def _close(calls: OsCalls, fd: int) -> None:
    if fd >= 0:
        calls.close(fd)


def read_sidecar(calls: OsCalls, directory: int, name: str, *, follow: bool) -> bytes | None:
    """Return the text in which an object's attributes are stored, or None if there is none."""
    try:
        fd = calls.open_file(sidecar_path(name), directory, follow=follow)
    except FileNotFoundError:
        return None
    try:
        text = calls.read(fd, _SIDECAR_BYTES)
        while len(text) % _SIDECAR_BYTES == 0 and (more := calls.read(fd, _SIDECAR_BYTES)):
            text += more
    except IsADirectoryError:
        return None  # a directory of that name is legal, and says nothing of the object
    else:
        return text
    finally:
        calls.close(fd)


def shrunk(where: str) -> IntegrityError:
    return IntegrityError(
        f"{where} ended before its size: another program cut it short while it was read",
        operation="get",
        where=where,
    )


def changing(operation: str, where: str) -> StorageUnavailableError:
    return StorageUnavailableError(
        f"cannot {operation} {where}: another program keeps replacing it; try again", operation=operation, where=where
    )
