"""A lock between processes, held for a few milliseconds while one run's record or counter is rewritten."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

LOCK_FILE: Final = ".lock"
STALE_SECONDS: Final = 10.0
"""Age after which a lock file's owner is taken for dead: well before those who wait give up."""

_UNSUPPORTED: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF})


class LockBusyError(Exception):
    """Somebody else holds the lock; internal, the caller tries again later."""


@contextmanager
def directory_lock(directory: str) -> Generator[None]:
    """Hold the lock of an existing directory, or raise `LockBusyError` at once; never waits.

    The kernel's lock on the directory goes away with its process. Where the file system has none, a lock file does,
    and one left by a dead process is broken by its age.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _flock(descriptor):
            yield  # closing the descriptor lets go
            return
    finally:
        os.close(descriptor)
    path = f"{directory}/{LOCK_FILE}"
    _create(path)
    try:
        yield
    finally:
        os.unlink(path)


def _flock(descriptor: int) -> bool:
    """Take the kernel's lock; return False where there is none."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LockBusyError(descriptor) from None
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True


def _create(path: str) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
    except FileExistsError:
        try:
            stale = time.time() - os.stat(path).st_mtime > STALE_SECONDS
            if stale:
                os.unlink(path)
        except FileNotFoundError:
            pass
        raise LockBusyError(path) from None
