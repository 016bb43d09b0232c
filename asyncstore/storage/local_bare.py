"""Reading bodies from local disk without their sidecars: the shortest way, which four system calls make."""

from __future__ import annotations

import stat
from collections.abc import Sequence

from asyncstore.layout import check_path
from asyncstore.storage.local_get import LocalReads
from asyncstore.storage.local_os import OsCalls, is_object, read_all

_MAX_PLAIN = 1 << 16


class BareReads:
    """Reads bodies; safe in any number of threads.

    A directory is looked at, that it is no link, the first time something in it is read; its bodies are opened by
    their whole path at once.
    """

    def __init__(self, calls: OsCalls, root: str, reads: LocalReads, *, follow: bool) -> None:
        self._calls = calls
        self._root = root
        self._reads = reads
        self._follow = follow
        self._plain: set[str] = {""}

    def read(self, paths: Sequence[str], max_bytes: int) -> list[bytes | int | None]:
        results: list[bytes | int | None] = []
        for path in paths:
            body = self._read(path, max_bytes)
            if isinstance(body, bytes):
                max_bytes -= len(body)
            results.append(body)
        return results

    def _read(self, path: str, max_bytes: int) -> bytes | int | None:
        check_path(path)
        directory = path.rpartition("/")[0]
        try:
            if directory in self._plain or self._is_plain(directory):
                return self._read_at_once(f"{self._root}/{path}", max_bytes)
        except OSError:
            # Whatever is wrong, the careful way tells it as every other read does.
            self._plain = {""}
        [found] = self._reads.get([path], max_bytes)
        if found is None:
            return None
        return found.meta.size if found.data is None else found.data

    def _is_plain(self, directory: str) -> bool:
        """Say whether neither a directory nor one above it, up to the root, is a link."""
        above = directory.rpartition("/")[0]
        if above not in self._plain and not self._is_plain(above):
            return False
        status = self._calls.stat(f"{self._root}/{directory}", None, follow=self._follow)
        if not stat.S_ISDIR(status.st_mode):
            return False
        if len(self._plain) < _MAX_PLAIN:
            self._plain.add(directory)
        return True

    def _read_at_once(self, where: str, max_bytes: int) -> bytes | int:
        calls = self._calls
        fd = calls.open_file(where, None, follow=self._follow)
        try:
            status = calls.fstat(fd)
            if not is_object(status):
                raise OSError
            if status.st_size > max_bytes:
                return status.st_size
            data = read_all(calls, fd, status.st_size)
            if len(data) < status.st_size:
                raise OSError
            return data
        finally:
            calls.close(fd)
