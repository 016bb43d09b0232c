"""Runs the local provider's file work in the store's threads: deadlines of locks, errors in our own words."""

from __future__ import annotations

import errno
from collections.abc import Callable
from random import Random
from typing import Final, ParamSpec, TypeVar

import anyio

from asyncstore.concurrency import ThreadPool
from asyncstore.errors import MetadataError, MetadataUnavailableError
from asyncstore.metadata.local_locks import LockBusyError

A = ParamSpec("A")
T = TypeVar("T")

LOCK_SECONDS: Final = 30.0
"""Longest wait for the lock of a run, which others hold for milliseconds."""

_ADVICE: Final = (
    (frozenset({errno.EACCES, errno.EPERM, errno.EROFS}), "check owner and permissions of the directory"),
    (frozenset({errno.ENOSPC, errno.EDQUOT}), "free some space"),
    (frozenset({errno.EMFILE, errno.ENFILE}), "raise the limit of open files"),
    (frozenset({errno.ENAMETOOLONG}), "shorten the name"),
)


async def run_locked(pool: ThreadPool, function: Callable[A, T], *args: A.args, **kwargs: A.kwargs) -> T:
    """Call ``function``, again and again while it raises `LockBusyError`, for at most `LOCK_SECONDS`.

    The wait is here and not in the thread: it can be cancelled, and holds no thread.
    """
    random = Random()
    deadline = anyio.current_time() + LOCK_SECONDS
    while True:
        try:
            return await run_files(pool, function, *args, **kwargs)
        except LockBusyError:
            if anyio.current_time() > deadline:
                raise MetadataUnavailableError(
                    f"another process held the lock of a run for {LOCK_SECONDS:g} s; look for one that is stopped",
                ) from None
        await anyio.sleep(random.uniform(0.001, 0.02))


async def run_files(pool: ThreadPool, function: Callable[A, T], *args: A.args, **kwargs: A.kwargs) -> T:
    """Call ``function`` in a thread; what the operating system refuses becomes a `MetadataError`."""
    try:
        return await pool.run(function, *args, **kwargs)
    except OSError as error:
        advice = next((text for numbers, text in _ADVICE if error.errno in numbers), "check the file system")
        where = str(error.filename or "a metadata file")
        raise MetadataError(f"{where}: {error.strerror or error}; {advice}", where=where) from error
