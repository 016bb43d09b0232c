"""Storage on local disk, in the files that Metaflow's local datastore has.

Follows Metaflow 2.19, ``plugins/datastores/local_storage.py``: an object is a file, its attributes the JSON file
``<path>_meta`` beside it. What Metaflow does not do: locks, durability, order of body and sidecar.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, Literal, TypeAlias, TypeVar, cast

from asyncstore.concurrency import ThreadPool
from asyncstore.errors import ConfigError
from asyncstore.layout import check_path
from asyncstore.runtime import Runtime
from asyncstore.storage.base import (
    CopySource,
    MultipartUpload,
    ObjectReader,
    PutItem,
    StoredObject,
    SupportsBareReads,
    SupportsBatch,
    SupportsCopy,
)
from asyncstore.storage.local_bare import BareReads
from asyncstore.storage.local_copy import LocalCopy
from asyncstore.storage.local_get import LocalReads, Opening
from asyncstore.storage.local_list import LocalListing
from asyncstore.storage.local_lock import Locks
from asyncstore.storage.local_multipart import MULTIPART_LIMITS, LocalUpload
from asyncstore.storage.local_os import OsCalls
from asyncstore.storage.local_put import LocalWrites
from asyncstore.storage.local_reader import PIECE_BYTES, FileReader, MemoryReader
from asyncstore.types import MIB, Attributes, Buffer, ByteRange, Durability, ListEntry, ObjectMeta, WriteMode

P = TypeVar("P")
LocalType: TypeAlias = Literal["local", "spin"]
Metas: TypeAlias = list[ObjectMeta | None]
Objects: TypeAlias = list[StoredObject | None]
Bodies: TypeAlias = list[bytes | int | None]

_LOCAL_TYPES = frozenset({"local", "spin"})
_LIST_PIECE = 500
_WHOLE_BYTES = 8 * MIB
"""Largest object written in one thread hop; above, cancellation takes effect between pieces."""


class LocalStorage:
    """Objects below a directory, which is created at the first write. Opens nothing before its first use.

    ``durability``: "fast" outlasts the death of the process, "safe" of the machine, "paranoid" also reads back what
    it wrote before it publishes it. ``file_mode`` is given to every file; by default the umask decides (Metaflow's
    files have 0600, which breaks shared stores). Symbolic links below the root are refused unless
    ``follow_symlinks``. Pickles by its configuration; what comes back has a runtime of its own. Usable after a fork.
    """

    multipart_limits = MULTIPART_LIMITS

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        runtime: Runtime,
        durability: Durability = "safe",
        file_mode: int | None = None,
        follow_symlinks: bool = False,
        type_name: LocalType = "local",
        calls: OsCalls | None = None,
    ) -> None:
        if durability not in {"fast", "safe", "paranoid"}:
            raise ConfigError(f"durability {durability!r} is unknown: choose fast, safe or paranoid")
        if file_mode is not None and not 0 <= file_mode <= 0o777:
            raise ConfigError(f"file mode {file_mode:o} is not within 000 and 777 (octal)")
        self.TYPE: str = type_name
        self.root: str = os.path.abspath(os.fspath(root))
        self.runtime = runtime
        self._durability: Durability = durability
        self._file_mode = file_mode
        self._follow = follow_symlinks
        self._calls = calls or OsCalls()
        self._locks = Locks(self._calls, self.root, follow=follow_symlinks)
        self._reads = LocalReads(self._calls, self.root, self._locks, follow=follow_symlinks)
        self._bare = BareReads(self._calls, self.root, self._reads, follow=follow_symlinks)
        self._writes: dict[int, LocalWrites] = {}

    def __repr__(self) -> str:
        return f"LocalStorage({self.root!r}, durability={self._durability!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (
            self.root,
            self.runtime,
            self._durability,
            self._file_mode,
            self._follow,
            self.TYPE,
        )

    async def head(self, path: str) -> ObjectMeta | None:
        """See `DataStoreStorage.head`."""
        return (await self.runtime.pool.run(self._reads.heads, (path,)))[0]

    @asynccontextmanager
    async def get(
        self, path: str, *, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AsyncGenerator[ObjectReader]:
        """See `DataStoreStorage.get`. A large body is read while it is consumed, from the file that was opened."""
        pool = self.runtime.pool
        opening = Opening(self._reads, path, byte_range, if_match)
        try:
            data = await pool.run(opening.begin, PIECE_BYTES)
            body = opening.body
            if data is not None:
                yield MemoryReader(body.meta, data)
            else:
                yield FileReader(pool, body, os.path.join(self.root, path))
        finally:
            if opening.is_open:
                await pool.clean_up(opening.close)

    async def put(
        self, path: str, data: Buffer, *, attributes: Attributes | None = None, mode: WriteMode = "overwrite"
    ) -> ObjectMeta:
        """See `DataStoreStorage.put`."""
        if memoryview(data).nbytes > _WHOLE_BYTES:
            return await self._put_large(path, memoryview(data).cast("B"), attributes, mode)
        meta = (await self.put_batch((PutItem(path, data, attributes),), mode=mode))[0]
        if meta is None:
            raise self._writer.exists(path)
        return meta

    async def create_multipart(
        self, path: str, *, part_size: int, attributes: Attributes | None = None, mode: WriteMode = "overwrite"
    ) -> MultipartUpload:
        """See `DataStoreStorage.create_multipart`."""
        upload = LocalUpload(
            self.runtime,
            self._calls,
            self._writer,
            self.root,
            path,
            part_size=part_size,
            attributes=attributes,
            mode=mode,
        )
        try:
            await self.runtime.pool.run(upload.begin)
        except BaseException:
            await upload.abort()
            raise
        return upload

    @asynccontextmanager
    async def list(self, prefix: str, *, recursive: bool = False) -> AsyncGenerator[AsyncIterator[ListEntry]]:
        """See `DataStoreStorage.list`. Other writers' changes under way may or may not appear."""
        entries = _Entries(
            self.runtime.pool, LocalListing(self._calls, self.root, follow=self._follow), prefix, recursive=recursive
        )
        try:
            yield entries
        finally:
            await entries.aclose()

    async def delete(self, path: str) -> None:
        """See `DataStoreStorage.delete`."""
        await self.runtime.pool.run(self._writer.delete, path)

    async def head_batch(self, paths: Sequence[str]) -> Metas:
        """See `SupportsBatch.head_batch`."""
        return await self.runtime.pool.run(self._reads.heads, paths)

    async def get_batch(self, paths: Sequence[str], *, max_bytes: int) -> Objects:
        """See `SupportsBatch.get_batch`."""
        return await self.runtime.pool.run(self._reads.get, paths, max_bytes)

    async def read_bodies(self, paths: Sequence[str], *, max_bytes: int) -> Bodies:
        """See `SupportsBareReads.read_bodies`."""
        return await self.runtime.pool.run(self._bare.read, paths, max_bytes)

    async def put_batch(self, items: Sequence[PutItem], *, mode: WriteMode = "overwrite") -> Metas:
        """See `SupportsBatch.put_batch`."""
        return await self.runtime.pool.run(self._writer.put, items, mode)

    def copy_source(self, path: str) -> CopySource:
        """See `SupportsCopy.copy_source`."""
        return CopySource(self.TYPE, os.path.join(self.root, check_path(path)))

    async def copy_from(self, source: CopySource, path: str, *, mode: WriteMode = "overwrite") -> ObjectMeta | None:
        """See `SupportsCopy.copy_from`. Links if source and target are on one file system and may share a mode."""
        check_path(path)
        if source.type not in _LOCAL_TYPES:
            return None
        copy = LocalCopy(self.runtime, self._calls, self._reads, self._writer, self.root, path, source=source.address)
        return await copy.run(mode)

    def power(self, kind: type[P]) -> P | None:
        """See `DataStoreStorage.power`."""
        return cast("P", self) if kind in (SupportsBareReads, SupportsBatch, SupportsCopy) else None

    async def aclose(self) -> None:
        """Remove this process's temporary files. A later use works."""
        writer = self._writes.pop(os.getpid(), None)
        if writer is not None:
            await self.runtime.pool.clean_up(writer.temporaries.close)

    @property
    def _writer(self) -> LocalWrites:
        # A forked child has a copy of its parent's locks and temporary directory, which it must not use.
        writer = self._writes.get(os.getpid())
        if writer is None:
            writer = LocalWrites(
                self._calls,
                self.root,
                self._locks,
                durability=self._durability,
                file_mode=self._file_mode,
                follow=self._follow,
            )
            self._writes.setdefault(os.getpid(), writer)
        return writer

    async def _put_large(
        self, path: str, data: memoryview, attributes: Attributes | None, mode: WriteMode
    ) -> ObjectMeta:
        if mode == "create" and await self.head(path) is not None:
            raise self._writer.exists(path)
        upload = await self.create_multipart(path, part_size=len(data), attributes=attributes, mode=mode)
        try:
            await upload.put_part(0, data)
            return await upload.complete()
        except BaseException:
            await upload.abort()
            raise


class _Entries:
    """A listing, fetched from a thread in pieces as it is consumed."""

    def __init__(self, pool: ThreadPool, listing: LocalListing, prefix: str, *, recursive: bool) -> None:
        self._pool = pool
        self._source = listing.entries(prefix, recursive=recursive)
        self._piece: deque[ListEntry] = deque()

    def __aiter__(self) -> AsyncIterator[ListEntry]:
        return self

    async def __anext__(self) -> ListEntry:
        if not self._piece:
            await self._pool.run(lambda: self._piece.extend(islice(self._source, _LIST_PIECE)))
            if not self._piece:
                raise StopAsyncIteration
        return self._piece.popleft()

    async def aclose(self) -> None:
        await self._pool.clean_up(self._source.close)


def _restore(
    root: str,
    runtime: Runtime,
    durability: Durability,
    file_mode: int | None,
    follow_symlinks: bool,  # noqa: FBT001  # called by pickle, by position
    type_name: LocalType,
) -> LocalStorage:
    return LocalStorage(
        root,
        runtime=runtime,
        durability=durability,
        file_mode=file_mode,
        follow_symlinks=follow_symlinks,
        type_name=type_name,
    )
