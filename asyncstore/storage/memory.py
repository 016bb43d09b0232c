"""Objects in the memory of this process: an honest backend for tests, examples and short-lived stores."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

from anyio.lowlevel import checkpoint

from asyncstore.errors import AlreadyExistsError, ConfigError, ObjectNotFoundError, PreconditionFailedError
from asyncstore.layout import check_directory, check_path
from asyncstore.runtime import Runtime
from asyncstore.storage.attributes import encode_attributes
from asyncstore.storage.base import (
    CopySource,
    MultipartLimits,
    MultipartUpload,
    ObjectReader,
    PutItem,
    StoredObject,
    SupportsBatch,
    SupportsCopy,
)
from asyncstore.storage.parts import check_complete, check_part, check_part_size, upload_ended
from asyncstore.storage.shelf import Shelf, Shelves, StoredBytes
from asyncstore.types import MIB, Attributes, Buffer, ByteRange, ListEntry, ObjectMeta, WriteMode

P = TypeVar("P")

CHUNK = 256 * 1024


class MemoryStorage:
    """Objects that live as long as their runtime.

    Two storages with one name and one runtime hold the same objects. There is no table for the whole process, since
    nobody would own it: to share objects, share the runtime. A pickled storage comes back with a runtime of its own,
    hence empty.
    """

    def __init__(self, name: str, *, runtime: Runtime) -> None:
        if not name:
            raise ConfigError("a memory storage needs a name: memory://NAME")
        self.name = name
        self._runtime = runtime
        self._shelves = runtime.shared("memory", Shelves)
        self._shelf = self._shelves.named(name)

    @property
    def TYPE(self) -> str:  # noqa: N802  # Metaflow's name
        return "memory"

    @property
    def root(self) -> str:
        return f"memory://{self.name}"

    @property
    def runtime(self) -> Runtime:
        return self._runtime

    @property
    def multipart_limits(self) -> MultipartLimits:
        return MultipartLimits(min_part=1, max_part=64 * MIB, max_parts=100_000)

    def __repr__(self) -> str:
        return f"MemoryStorage({self.name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.name, self._runtime)

    async def head(self, path: str) -> ObjectMeta | None:
        check_path(path)
        await checkpoint()
        stored = self._shelf.find(path)
        return None if stored is None else stored.meta(path)

    @asynccontextmanager
    async def get(
        self, path: str, *, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AsyncGenerator[ObjectReader]:
        check_path(path)
        await checkpoint()
        stored = self._shelf.find(path)
        if stored is None:
            raise ObjectNotFoundError(f"no object at {path} in {self.root}", operation="get", where=path)
        if if_match is not None and if_match != stored.etag:
            raise PreconditionFailedError(
                f"{path} in {self.root} is no longer the object with etag {if_match}; read it anew",
                operation="get",
                where=path,
            )
        yield _Reader(stored, stored.meta(path), byte_range or ByteRange(0))

    async def put(
        self, path: str, data: Buffer, *, attributes: Attributes | None = None, mode: WriteMode = "overwrite"
    ) -> ObjectMeta:
        check_path(path)
        text = encode_attributes(attributes)
        await checkpoint()
        return self._shelf.put(path, bytes(data), text, mode).meta(path)

    async def create_multipart(
        self, path: str, *, part_size: int, attributes: Attributes | None = None, mode: WriteMode = "overwrite"
    ) -> MultipartUpload:
        check_path(path)
        check_part_size(self.multipart_limits, part_size, path)
        text = encode_attributes(attributes)
        await checkpoint()
        return _Upload(self._shelf, self.multipart_limits, path, part_size, text, mode)

    @asynccontextmanager
    async def list(self, prefix: str, *, recursive: bool = False) -> AsyncGenerator[AsyncIterator[ListEntry]]:
        check_directory(prefix)
        await checkpoint()
        yield _Listing(self._shelf.entries(prefix, recursive=recursive))

    async def delete(self, path: str) -> None:
        check_path(path)
        await checkpoint()
        self._shelf.delete(path)

    def power(self, kind: type[P]) -> P | None:
        if kind is SupportsBatch:
            return cast("P", _Batch(self))
        if kind is SupportsCopy:
            return cast("P", _Copy(self, self._shelf, self._shelves))
        return None

    async def aclose(self) -> None:
        """Do nothing: the objects belong to the runtime."""
        await checkpoint()


def _restore(name: str, runtime: Runtime) -> MemoryStorage:
    return MemoryStorage(name, runtime=runtime)


class _Reader:
    def __init__(self, stored: StoredBytes, meta: ObjectMeta, byte_range: ByteRange) -> None:
        self.meta = meta
        self._rest = memoryview(stored.data)[byte_range.start : byte_range.stop]

    def __aiter__(self) -> _Reader:
        return self

    async def __anext__(self) -> bytes:
        await checkpoint()
        if not self._rest:
            raise StopAsyncIteration
        chunk, self._rest = bytes(self._rest[:CHUNK]), self._rest[CHUNK:]
        return chunk

    async def read_into(self, target: memoryview) -> int:
        await checkpoint()
        size = min(len(target), len(self._rest))
        target[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


class _Listing:
    def __init__(self, entries: Iterator[ListEntry]) -> None:
        self._entries = entries

    def __aiter__(self) -> _Listing:
        return self

    async def __anext__(self) -> ListEntry:
        await checkpoint()
        for entry in self._entries:
            return entry
        raise StopAsyncIteration


class _Upload:
    def __init__(
        self, shelf: Shelf, limits: MultipartLimits, path: str, part_size: int, attributes: str | None, mode: WriteMode
    ) -> None:
        self._shelf = shelf
        self._limits = limits
        self._path = path
        self._part_size = part_size
        self._attributes = attributes
        self._mode: WriteMode = mode
        self._number = shelf.begin_upload()

    async def put_part(self, number: int, data: Buffer) -> None:
        size = memoryview(data).nbytes
        check_part(self._limits, number, size, self._part_size, self._path)
        await checkpoint()
        self._parts("put_part")[number] = bytes(data)

    async def complete(self) -> ObjectMeta:
        await checkpoint()
        parts = self._parts("complete")
        check_complete({number: len(part) for number, part in parts.items()}, self._part_size, self._path)
        data = b"".join(parts[number] for number in sorted(parts))
        stored = self._shelf.put(self._path, data, self._attributes, self._mode)
        del self._shelf.uploads[self._number]
        return stored.meta(self._path)

    async def abort(self) -> None:
        await checkpoint()
        self._shelf.uploads.pop(self._number, None)

    def _parts(self, operation: str) -> dict[int, bytes]:
        parts = self._shelf.uploads.get(self._number)
        if parts is None:
            raise upload_ended(operation, self._path)
        return parts


class _Batch:
    def __init__(self, storage: MemoryStorage) -> None:
        self._storage = storage

    async def head_batch(self, paths: Sequence[str]) -> list[ObjectMeta | None]:
        return [await self._storage.head(path) for path in paths]

    async def get_batch(self, paths: Sequence[str], *, max_bytes: int) -> list[StoredObject | None]:
        results: list[StoredObject | None] = []
        room = max_bytes
        for path in paths:
            try:
                async with self._storage.get(path) as reader:
                    data = None
                    if reader.meta.size <= room:
                        data = bytearray(reader.meta.size)
                        room -= await reader.read_into(memoryview(data))
                    results.append(StoredObject(reader.meta, None if data is None else bytes(data)))
            except ObjectNotFoundError:
                results.append(None)
        return results

    async def put_batch(self, items: Sequence[PutItem], *, mode: WriteMode = "overwrite") -> list[ObjectMeta | None]:
        results: list[ObjectMeta | None] = []
        for item in items:
            try:
                results.append(await self._storage.put(item.path, item.data, attributes=item.attributes, mode=mode))
            except AlreadyExistsError:
                results.append(None)
        return results


class _Copy:
    def __init__(self, storage: MemoryStorage, shelf: Shelf, shelves: Shelves) -> None:
        self._storage = storage
        self._shelf = shelf
        self._shelves = shelves

    def copy_source(self, path: str) -> CopySource:
        return CopySource("memory", f"{self._shelf.identity}/{check_path(path)}")

    async def copy_from(self, source: CopySource, path: str, *, mode: WriteMode = "overwrite") -> ObjectMeta | None:
        check_path(path)
        await checkpoint()
        identity, _, source_path = source.address.partition("/")
        shelf = self._shelves.identified(identity) if source.type == "memory" else None
        if shelf is None:
            return None
        stored = shelf.find(source_path)
        if stored is None:
            raise ObjectNotFoundError(
                f"no object at {source_path} to copy from", operation="copy_from", where=source_path
            )
        return self._shelf.put(path, stored.data, stored.attributes, mode).meta(path)
