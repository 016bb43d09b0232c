"""What an operating system's error means, said once."""

from __future__ import annotations

import errno

from asyncstore.errors import (
    AccessDeniedError,
    AsyncStoreError,
    StorageError,
    StorageFullError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from asyncstore.storage.local_os import LockTimeoutError

_DENIED = "let this user write there (chmod, chown), or mount it writable"
_FULL = "free space or raise the quota, then try again"
_BOTH = "a path is never both object and directory: choose another path, or delete the object"
_FILES = "raise the limit of open files (ulimit -n), or lower Limits.threads"
_DISK = "check the disk and the system's log"

_MEANINGS: dict[int, tuple[type[StorageError], str]] = {
    errno.EACCES: (AccessDeniedError, "give this user the rights (chmod, chown) on it and on every directory above"),
    errno.EPERM: (AccessDeniedError, _DENIED),
    errno.EROFS: (AccessDeniedError, _DENIED),
    errno.ENOSPC: (StorageFullError, _FULL),
    errno.EDQUOT: (StorageFullError, _FULL),
    errno.EFBIG: (StorageFullError, "the file system or a limit (ulimit -f) allows no file of this size"),
    errno.ENOTDIR: (StorageError, _BOTH),
    errno.EISDIR: (StorageError, _BOTH),
    errno.ENAMETOOLONG: (StorageError, "the file system allows no name this long: use shorter names"),
    errno.EXDEV: (StorageError, "part of the root lies on another file system: open that part as a root of its own"),
    errno.ELOOP: (StorageError, "symbolic links lead in a circle: remove one of them"),
    errno.ENOENT: (StorageUnavailableError, "somebody removes directories of this storage while it is in use"),
    errno.EMFILE: (StorageUnavailableError, _FILES),
    errno.ENFILE: (StorageUnavailableError, _FILES),
    errno.ENOMEM: (StorageUnavailableError, "free memory, then try again"),
    errno.ESTALE: (StorageUnavailableError, "the network file system lost the file: try again"),
    errno.ETIMEDOUT: (StorageUnavailableError, "the network file system does not answer: try again"),
    errno.EIO: (StorageError, _DISK),
}


def translate(error: OSError, operation: str, where: str) -> AsyncStoreError:
    """Return the error to raise ``from`` an operating system's; ``where`` is the full path."""
    if isinstance(error, LockTimeoutError):
        return StorageTimeoutError(
            f"cannot {operation} {where}: {error.strerror}; look for a process that is stopped or hangs, and try again",
            operation=operation,
            where=where,
        )
    kind, advice = _MEANINGS.get(error.errno or 0, (StorageError, _DISK))
    return kind(f"cannot {operation} {where}: {error.strerror or error}; {advice}", operation=operation, where=where)


def refused_link(operation: str, where: str) -> StorageError:
    return StorageError(
        f"cannot {operation} {where}: it is a symbolic link; open the storage with follow_symlinks=True to follow it",
        operation=operation,
        where=where,
    )


def under_object(operation: str, where: str) -> StorageError:
    return StorageError(f"cannot {operation} below {where}: it is an object; {_BOTH}", operation=operation, where=where)


def is_directory(operation: str, where: str) -> StorageError:
    return StorageError(f"cannot {operation} {where}: it is a directory; {_BOTH}", operation=operation, where=where)
