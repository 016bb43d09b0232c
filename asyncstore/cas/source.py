"""Where the content of a blob comes from: memory, a file, or an object that gives chunks. Walked in threads."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from typing import Protocol, cast

from asyncstore.errors import SourceChangedError
from asyncstore.types import Buffer, ChunkSource

# Without O_NONBLOCK the open of a named pipe would wait for a writer for ever, and no cancellation would end it.
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


class Source(Protocol):
    """Content that can be walked more than once."""

    @property
    def name(self) -> str:
        """What error messages call it."""
        ...

    @property
    def size(self) -> int | None:
        """Bytes of content, where that is known without a walk."""
        ...

    @property
    def rehash(self) -> bool:
        """Whether only another hash can tell that a second walk gave the same bytes as the first."""
        ...

    def walk(self, piece_size: int) -> Generator[Buffer]:
        """Give the content in pieces of ``piece_size`` bytes, the last one shorter, none empty.

        Raises `SourceChangedError` where it is seen that an earlier walk gave something else. Close it to release
        what it holds.
        """
        ...


class MemorySource:
    """A bytes-like object."""

    def __init__(self, data: Buffer) -> None:
        self.view = memoryview(data).cast("B")
        self.size: int = self.view.nbytes
        self.name = f"a {type(data).__name__} of {self.size} bytes"
        # What others can write to may change between two walks.
        self.rehash = not self.view.readonly

    def walk(self, piece_size: int) -> Generator[Buffer]:
        for start in range(0, self.size, piece_size):
            yield self.view[start : start + piece_size]


class FileSource:
    """A regular file, recognised by inode, size and time of modification."""

    rehash = False

    def __init__(self, path: os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.name = self.path
        self.size: int | None = None
        self._seen: tuple[int, int, int, int] | None = None

    def walk(self, piece_size: int) -> Generator[Buffer]:
        descriptor = os.open(self.path, _FLAGS)
        try:
            self._check(os.fstat(descriptor))
            while piece := _read_full(descriptor, piece_size):
                yield piece
            self._check(os.fstat(descriptor))
        finally:
            os.close(descriptor)

    def read_small(self, limit: int) -> bytes | None:
        """Return the whole content, or None if it has more than ``limit`` bytes."""
        descriptor = os.open(self.path, _FLAGS)
        try:
            size = self._check(os.fstat(descriptor))
            if size > limit:
                return None
            content = _read_full(descriptor, size + 1)
            if len(content) != size:
                raise self._changed()
            return content
        finally:
            os.close(descriptor)

    def _check(self, status: os.stat_result) -> int:
        if not stat.S_ISREG(status.st_mode):
            raise TypeError(f"{self.path} is not a regular file; only regular files can be saved as blobs")
        seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if self._seen is not None and seen != self._seen:
            raise self._changed()
        self._seen = seen
        self.size = status.st_size
        return status.st_size

    def _changed(self) -> SourceChangedError:
        return SourceChangedError(
            f"{self.path} changed while it was being saved; nothing was published, save it again when it is at rest",
            operation="save_blob",
            where=self.path,
        )


def _read_full(descriptor: int, size: int) -> bytes:
    data = os.read(descriptor, size)
    # Some file systems cut a read short in the middle of a file; pieces must not be.
    while 0 < len(data) < size and (rest := os.read(descriptor, size - len(data))):
        data += rest
    return data


class ChunkedSource:
    """An object of the caller's that gives chunks."""

    rehash = True

    def __init__(self, chunks: ChunkSource) -> None:
        self._chunks = chunks
        self.name = f"the chunks of a {type(chunks).__name__}"
        self.size: int | None = None

    def walk(self, piece_size: int) -> Generator[Buffer]:
        # Chunks may be views of one buffer that the caller fills again, so they are copied on the way.
        pending = bytearray()
        for chunk in self._chunks.chunks():
            pending += chunk
            while len(pending) >= piece_size:
                yield bytes(memoryview(pending)[:piece_size])
                del pending[:piece_size]
        if pending:
            yield bytes(pending)


def open_source(blob: object) -> Source:
    """Return the source for a `BlobSource`, or raise TypeError for anything else."""
    if isinstance(blob, bytes | bytearray | memoryview):
        return MemorySource(cast("Buffer", blob))
    if isinstance(blob, os.PathLike):
        return FileSource(cast("os.PathLike[str]", blob))
    if isinstance(blob, ChunkSource):
        return ChunkedSource(blob)
    hint = "; wrap a path in pathlib.Path, or encode text" if isinstance(blob, str) else ""
    raise TypeError(f"a blob is bytes-like, a path object, or has chunks(), not {type(blob).__name__}{hint}")
