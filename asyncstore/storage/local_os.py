"""Every operating system call of the local backend, in one place that a test can replace.

Names are relative to a directory's descriptor: no path is walked twice, and a component that turns into a symbolic
link in between is never followed.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from asyncstore.errors import ConfigError
from asyncstore.types import Buffer

if TYPE_CHECKING:
    import fcntl
else:
    try:
        import fcntl
    except ImportError:  # Windows: the module can be imported there, the backend not used
        fcntl = None

UNSUPPORTED = frozenset({errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What file systems answer to a lock or a link that they do not know (NFS: EBADF for a directory)."""

_WRITTEN_BACK_SECONDS = 300.0
"""Age at which the system has put changes on the disk by itself (Linux: 30 s, and 5 s for names)."""

COPY_BYTES = 8 << 20


class LockTimeoutError(TimeoutError):
    """Another writer kept a lock for longer than anyone should wait."""


class OsCalls:
    """The calls of reads and writes. A subclass may record them, or script their failures."""

    def __init__(self) -> None:
        if fcntl is None:
            raise ConfigError(f"storage on local disk needs Linux or macOS, not {sys.platform}; use a cloud storage")
        self._syncfs: Callable[[int], int] | None = None
        self.has_syncfs = sys.platform == "linux"

    # Directories and names

    def open_directory(self, name: str, dir_fd: int | None, *, follow: bool) -> int:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | (0 if follow else os.O_NOFOLLOW), dir_fd=dir_fd)

    def mkdir(self, name: str, dir_fd: int | None) -> None:
        os.mkdir(name, dir_fd=dir_fd)

    def rmdir(self, name: str, dir_fd: int) -> None:
        os.rmdir(name, dir_fd=dir_fd)

    def exists(self, name: str, dir_fd: int) -> bool:
        return os.access(name, os.F_OK, dir_fd=dir_fd, follow_symlinks=False)

    def stat(self, name: str, dir_fd: int | None, *, follow: bool) -> os.stat_result:
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=follow)

    def link(self, source: str, source_fd: int, name: str, dir_fd: int) -> None:
        os.link(source, name, src_dir_fd=source_fd, dst_dir_fd=dir_fd, follow_symlinks=False)

    def rename(self, source: str, source_fd: int, name: str, dir_fd: int) -> None:
        os.rename(source, name, src_dir_fd=source_fd, dst_dir_fd=dir_fd)

    def unlink(self, name: str, dir_fd: int) -> None:
        os.unlink(name, dir_fd=dir_fd)

    # Files

    def open_file(self, name: str, dir_fd: int | None, *, follow: bool) -> int:
        # Without O_NONBLOCK the open of a named pipe would wait for a writer for ever.
        return os.open(name, os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW), dir_fd=dir_fd)

    def create(self, name: str, dir_fd: int, mode: int) -> int:
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode, dir_fd=dir_fd)

    def open_or_create(self, name: str, dir_fd: int) -> int:
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666, dir_fd=dir_fd)

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def read(self, fd: int, size: int) -> bytes:
        return os.read(fd, size)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def write(self, fd: int, data: Buffer) -> int:
        return os.write(fd, data)

    def pwrite(self, fd: int, data: Buffer, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def copy(self, source_fd: int, fd: int, size: int, offset: int) -> int:
        """Copy up to ``size`` bytes at ``offset`` between files, inside the kernel where that is possible."""
        if sys.platform == "linux":
            try:
                return os.copy_file_range(source_fd, fd, size, offset, offset)
            except OSError as error:
                if error.errno not in UNSUPPORTED | {errno.EXDEV, errno.EPERM}:
                    raise
        return os.pwrite(fd, os.pread(source_fd, min(size, COPY_BYTES), offset), offset)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def chmod(self, fd: int, mode: int) -> None:
        os.fchmod(fd, mode)

    def close(self, fd: int) -> None:
        os.close(fd)

    # Durability

    def fsync(self, fd: int) -> None:
        """Put a file's bytes, or a directory's entries, on the disk."""
        if sys.platform == "darwin":
            try:
                # fsync(2) of macOS leaves the data in the drive's cache.
                fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
            else:
                return
        os.fsync(fd)

    def syncfs(self, fd: int) -> None:
        """Put all of the file system that ``fd`` is on on the disk: one call for many files. Linux only."""
        if self._syncfs is None:
            import ctypes

            self._syncfs = ctypes.CDLL(None, use_errno=True).syncfs
        if self._syncfs(fd) != 0:
            import ctypes

            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def drop_cached(self, fd: int) -> None:
        """Let the next read come from the disk, where the system can be asked for that."""
        if sys.platform == "linux":
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    # Locks

    def lock(self, fd: int, *, shared: bool) -> bool:
        """Take the lock of an open file or directory; False if somebody else has it."""
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self, fd: int) -> None:
        # Closing is not enough: a child forked meanwhile shares the lock, and would keep it.
        fcntl.flock(fd, fcntl.LOCK_UN)


def size_of(data: Buffer) -> int:
    """Return the bytes of a buffer, whatever its items are."""
    return memoryview(data).nbytes if isinstance(data, memoryview) else len(data)


def write_all(calls: OsCalls, fd: int, data: Buffer) -> None:
    """Write the whole of ``data``; a kernel may take less than it is given."""
    written = calls.write(fd, data)
    if written < size_of(data):
        pwrite_all(calls, fd, memoryview(data).cast("B")[written:], written)


def pwrite_all(calls: OsCalls, fd: int, data: memoryview, offset: int) -> None:
    """Write the whole of ``data`` (bytes) at ``offset``."""
    while data:
        written = calls.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written


def read_all(calls: OsCalls, fd: int, size: int, offset: int = 0) -> bytes:
    """Read ``size`` bytes from ``offset``; fewer only at the end of the file."""
    data = calls.pread(fd, size, offset)
    if len(data) == size or not data:
        return data
    pieces = [data]
    rest = size - len(data)
    while rest and (data := calls.pread(fd, rest, offset + size - rest)):
        pieces.append(data)
        rest -= len(data)
    return b"".join(pieces)


def same_inode(one: os.stat_result, other: os.stat_result) -> bool:
    return one.st_ino == other.st_ino and one.st_dev == other.st_dev


def same_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Say whether two answers are about one file in one state (ctime tells links that came and went)."""
    return same_inode(one, other) and one.st_ctime_ns == other.st_ctime_ns


def written_lately(status: os.stat_result) -> bool:
    """Say whether a file or directory may have changes that are not on the disk yet."""
    return time.time() - status.st_ctime < _WRITTEN_BACK_SECONDS


def is_object(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode)
