"""Local calls of which one fails, to see what a write leaves behind."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from asyncstore.storage.local_os import OsCalls

EFFECTS = frozenset(
    {"mkdir", "create", "write", "pwrite", "truncate", "chmod", "fsync", "syncfs", "link", "rename", "unlink", "rmdir"}
)


class FailingCalls(OsCalls):
    """Fails the call with number ``at`` among those that change something, from 0."""

    def __init__(self, at: int, code: int = errno.ENOSPC, only: frozenset[str] = EFFECTS) -> None:
        super().__init__()
        self.failed: str | None = None
        self.count = 0
        for name in only:
            setattr(self, name, self._wrapped(name, getattr(self, name), at, code))

    def _wrapped(self, name: str, call: Callable[..., Any], at: int, code: int) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == at + 1:
                self.failed = name
                raise OSError(code, os.strerror(code))
            return call(*args, **options)

        return wrapped
