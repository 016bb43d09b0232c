"""A storage that fails by a script."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Self, TypeVar, cast

from asyncstore.storage.base import (
    CopySource,
    DataStoreStorage,
    MultipartUpload,
    ObjectReader,
    OpenUpload,
    PutItem,
    StoredObject,
    SupportsBareReads,
    SupportsBatch,
    SupportsCopy,
    SupportsOpenUploads,
)
from asyncstore.storage.wrapper import StorageWrapper
from asyncstore.testing.faults import Fault, FaultScript
from asyncstore.types import Attributes, Buffer, ByteRange, ListEntry, ObjectMeta, WriteMode

P = TypeVar("P")


class Faulty(StorageWrapper):
    """Play a script of faults on the storage inside; calls that no fault is for go through.

    End a test with ``faulty.script.check_fired()``.
    """

    def __init__(self, inner: DataStoreStorage, faults: Iterable[Fault] | FaultScript = ()) -> None:
        super().__init__(inner)
        self.script = faults if isinstance(faults, FaultScript) else FaultScript(faults)

    async def head(self, path: str) -> ObjectMeta | None:
        return await self.script.call("head", path, partial(self._inner.head, path))

    @asynccontextmanager
    async def get(
        self, path: str, *, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AsyncGenerator[ObjectReader]:
        fault = self.script.take("get", path)
        await self.script.before(fault)
        async with self._inner.get(path, byte_range=byte_range, if_match=if_match) as reader:
            await self.script.after(fault)
            yield reader if fault is None else _FaultyReader(reader, self.script, fault)

    async def put(
        self, path: str, data: Buffer, *, attributes: Attributes | None = None, mode: WriteMode = "overwrite"
    ) -> ObjectMeta:
        act = partial(self._inner.put, path, data, attributes=attributes, mode=mode)
        return await self.script.call("put", path, act)

    async def create_multipart(
        self, path: str, *, part_size: int, attributes: Attributes | None = None, mode: WriteMode = "overwrite"
    ) -> MultipartUpload:
        act = partial(self._inner.create_multipart, path, part_size=part_size, attributes=attributes, mode=mode)
        return _FaultyUpload(await self.script.call("create_multipart", path, act), self.script, path)

    @asynccontextmanager
    async def list(self, prefix: str, *, recursive: bool = False) -> AsyncGenerator[AsyncIterator[ListEntry]]:
        fault = self.script.take("list", prefix)
        await self.script.before(fault)
        async with self._inner.list(prefix, recursive=recursive) as entries:
            await self.script.after(fault)
            yield entries if fault is None else _FaultyListing(entries, self.script, fault)

    async def delete(self, path: str) -> None:
        await self.script.call("delete", path, partial(self._inner.delete, path))

    def power(self, kind: type[P]) -> P | None:
        if kind is SupportsBatch and (batch := self._inner.power(SupportsBatch)) is not None:
            return cast("P", _FaultyBatch(batch, self.script))
        if kind is SupportsBareReads and (bare := self._inner.power(SupportsBareReads)) is not None:
            return cast("P", _FaultyBareReads(bare, self.script))
        if kind is SupportsCopy and (copy := self._inner.power(SupportsCopy)) is not None:
            return cast("P", _FaultyCopy(copy, self.script))
        if kind is SupportsOpenUploads and (uploads := self._inner.power(SupportsOpenUploads)) is not None:
            return cast("P", _FaultyOpenUploads(uploads, self.script))
        return None


class _FaultyReader:
    def __init__(self, inner: ObjectReader, script: FaultScript, fault: Fault) -> None:
        self.meta = inner.meta
        self._inner = inner
        self._chunks = aiter(inner)
        self._script = script
        self._fault: Fault | None = fault
        self._position = 0
        self._held = b""
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._ended and self._due():
            await self._suffer()
        if self._ended:
            raise StopAsyncIteration
        chunk = self._held or await anext(self._chunks)
        self._held = b""
        if (room := self._room()) is not None and len(chunk) > room:
            chunk, self._held = chunk[:room], chunk[room:]
        return bytes(self._passed(memoryview(bytearray(chunk))))

    async def read_into(self, target: memoryview) -> int:
        size = 0
        while size < len(target):
            if self._due():
                await self._suffer()
            if self._ended:
                break
            room = self._room()
            wanted = len(target) - size if room is None else min(len(target) - size, room)
            if self._held:
                got = min(wanted, len(self._held))
                target[size : size + got] = self._held[:got]
                self._held = self._held[got:]
            else:
                got = await self._inner.read_into(target[size : size + wanted])
            self._passed(target[size : size + got])
            size += got
            if not got:
                break
        return size

    def _room(self) -> int | None:
        """Return the bytes up to the fault, and one more for the byte to damage; None if nothing is ahead."""
        if self._fault is None or self._position > self._fault.at:
            return None
        return self._fault.at - self._position + (self._fault.kind == "damage")

    def _due(self) -> bool:
        fault = self._fault
        return fault is not None and fault.kind in {"break", "stall", "cut"} and self._position >= fault.at

    async def _suffer(self) -> None:
        fault, self._fault = self._fault, None
        assert fault is not None
        self._ended = await self._script.midway(fault)

    def _passed(self, piece: memoryview) -> memoryview:
        fault = self._fault
        if fault is not None and fault.kind == "damage" and self._position <= fault.at < self._position + len(piece):
            piece[fault.at - self._position] ^= 0xFF
            self._script.fire(fault)
            self._fault = None
        self._position += len(piece)
        return piece


class _FaultyListing:
    def __init__(self, inner: AsyncIterator[ListEntry], script: FaultScript, fault: Fault) -> None:
        self._inner = inner
        self._script = script
        self._fault = fault
        self._count = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ListEntry:
        if self._count == self._fault.at:
            await self._script.midway(self._fault)
            raise StopAsyncIteration
        self._count += 1
        return await anext(self._inner)


class _FaultyUpload:
    def __init__(self, inner: MultipartUpload, script: FaultScript, path: str) -> None:
        self._inner = inner
        self._script = script
        self._path = path

    async def put_part(self, number: int, data: Buffer) -> None:
        await self._script.call("put_part", self._path, partial(self._inner.put_part, number, data))

    async def complete(self) -> ObjectMeta:
        return await self._script.call("complete", self._path, self._inner.complete)

    async def abort(self) -> None:
        await self._script.call("abort", self._path, self._inner.abort)


class _FaultyBatch:
    def __init__(self, inner: SupportsBatch, script: FaultScript) -> None:
        self._inner = inner
        self._script = script

    async def head_batch(self, paths: Sequence[str]) -> list[ObjectMeta | None]:
        return await self._script.call("head_batch", "", partial(self._inner.head_batch, paths))

    async def get_batch(self, paths: Sequence[str], *, max_bytes: int) -> list[StoredObject | None]:
        act = partial(self._inner.get_batch, paths, max_bytes=max_bytes)
        return await self._script.call("get_batch", "", act)

    async def put_batch(self, items: Sequence[PutItem], *, mode: WriteMode = "overwrite") -> list[ObjectMeta | None]:
        return await self._script.call("put_batch", "", partial(self._inner.put_batch, items, mode=mode))


class _FaultyBareReads:
    def __init__(self, inner: SupportsBareReads, script: FaultScript) -> None:
        self._inner = inner
        self._script = script

    async def read_bodies(self, paths: Sequence[str], *, max_bytes: int) -> list[bytes | int | None]:
        return await self._script.call("read_bodies", "", partial(self._inner.read_bodies, paths, max_bytes=max_bytes))


class _FaultyCopy:
    def __init__(self, inner: SupportsCopy, script: FaultScript) -> None:
        self._inner = inner
        self._script = script

    def copy_source(self, path: str) -> CopySource:
        return self._inner.copy_source(path)

    async def copy_from(self, source: CopySource, path: str, *, mode: WriteMode = "overwrite") -> ObjectMeta | None:
        return await self._script.call("copy_from", path, partial(self._inner.copy_from, source, path, mode=mode))


class _FaultyOpenUploads:
    def __init__(self, inner: SupportsOpenUploads, script: FaultScript) -> None:
        self._inner = inner
        self._script = script

    async def open_uploads(self) -> list[OpenUpload]:
        return await self._script.call("open_uploads", "", self._inner.open_uploads)

    async def abort_upload(self, upload: OpenUpload) -> None:
        await self._script.call("abort_upload", upload.path, partial(self._inner.abort_upload, upload))
