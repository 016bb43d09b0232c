"""The storage contract: six verbs that every backend and wrapper implements, and the optional abilities.

Order of results, absence, atomicity and errors are the same on every backend; `asyncstore.testing.conformance`
proves each of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from asyncstore.runtime import Runtime
from asyncstore.types import Attributes, Buffer, ByteRange, ListEntry, ObjectMeta, WriteMode

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class MultipartLimits:
    """What one multipart upload may look like: part sizes in bytes (the last part may be smaller)."""

    min_part: int
    max_part: int
    max_parts: int


class ObjectReader(Protocol):
    """The body of one object, or of the range asked for; to be read once, in order, inside its ``async with``."""

    @property
    def meta(self) -> ObjectMeta: ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the body in pieces of a size that suits the backend; none is empty."""
        ...

    async def read_into(self, target: memoryview) -> int:
        """Fill ``target`` from the body and return the bytes filled: fewer than asked for only at the end."""
        ...


class MultipartUpload(Protocol):
    """One object on its way in parts.

    Parts are numbered from 0; all but the last have exactly ``part_size`` bytes; they may come in any order, in
    parallel, and again. Ends with ``complete`` or ``abort``; until then nothing is visible.
    """

    async def put_part(self, number: int, data: Buffer) -> None:
        """Send one part. If cancelled, the part may or may not have arrived; send it again or abort."""
        ...

    async def complete(self) -> ObjectMeta:
        """Make the object appear, atomically. Raises `AlreadyExistsError` here where the mode is "create"."""
        ...

    async def abort(self) -> None:
        """Drop all parts; aborting twice, or after ``complete``, does nothing."""
        ...


class DataStoreStorage(Protocol):
    """Atomic objects at '/'-separated paths under ``root``.

    A write is visible to every later read, whole or not at all. Paths follow `asyncstore.layout.check_path`.
    Failures are `AsyncStoreError`s; each names the path.
    """

    @property
    def TYPE(self) -> str:  # noqa: N802  # Metaflow's name for the kind of a datastore
        """Metaflow's ``ds_type``: "local", "s3", "azure", "gs", "spin"; or "memory"."""
        ...

    @property
    def root(self) -> str:
        """Metaflow's datastore root in this cloud's form."""
        ...

    @property
    def runtime(self) -> Runtime: ...

    @property
    def multipart_limits(self) -> MultipartLimits: ...

    async def head(self, path: str) -> ObjectMeta | None:
        """Return what is known of an object, or None if there is none (a directory is none). One request."""
        ...

    def get(
        self, path: str, *, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AbstractAsyncContextManager[ObjectReader]:
        """Open an object for reading. One request.

        A range that ends beyond the object is cut; one that starts at or beyond its end gives no bytes. Raises
        `ObjectNotFoundError`, and `PreconditionFailedError` if the object is not the one that ``if_match`` names.
        A break is raised by the read that meets it. The block holds no task group or cancel scope open, since a
        wrapper leaves it and enters another one inside the caller's own scopes.
        """
        ...

    async def put(
        self, path: str, data: Buffer, *, attributes: Attributes | None = None, mode: WriteMode = "overwrite"
    ) -> ObjectMeta:
        """Write one object with its attributes, atomically. One request.

        Raises `AlreadyExistsError` if ``mode`` is "create" and an object is in place: of concurrent creates, one wins.
        If cancelled, the object is there whole or not at all, and which is unknown.
        """
        ...

    async def create_multipart(
        self, path: str, *, part_size: int, attributes: Attributes | None = None, mode: WriteMode = "overwrite"
    ) -> MultipartUpload:
        """Begin an upload in parts of ``part_size`` bytes (within `multipart_limits`). One request."""
        ...

    def list(self, prefix: str, *, recursive: bool = False) -> AbstractAsyncContextManager[AsyncIterator[ListEntry]]:
        """List a directory ("" is the root); with ``recursive``, the objects of the whole tree below it.

        By directory, never by string prefix. No order is promised. A missing path, or the path of an object, gives
        nothing. Sidecars and ``.asyncstore`` are hidden; a directory appears only if objects are below it. What is
        written or deleted meanwhile may be seen or not. A break is raised by the iteration, and no scope is held
        open, as with `get`.
        """
        ...

    async def delete(self, path: str) -> None:
        """Remove an object; a missing one is not an error. One request."""
        ...

    def power(self, kind: type[P]) -> P | None:
        """Return this storage as an optional ability (`SupportsBatch`, `SupportsCopy`, `SupportsOpenUploads`), or None.

        Never ask by isinstance: a wrapper would hide or fake it. A wrapper wraps what its inner storage returns.
        """
        ...

    async def aclose(self) -> None:
        """Close connections and release what is borrowed; a second call does nothing. Does not close the runtime."""
        ...


@dataclass(frozen=True, slots=True)
class PutItem:
    """One object of a batch."""

    path: str
    data: Buffer
    attributes: Attributes | None = None


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of a batch; ``data`` is None where the object did not fit into the batch's bytes."""

    meta: ObjectMeta
    data: bytes | None


class SupportsBatch(Protocol):
    """Many small objects in one thread hop. Each object is atomic, a batch is not.

    The caller keeps a batch near 1 MiB or 256 objects. Results are in the order of the input. The first failure
    raises and names its path; objects before it may have been written.
    """

    async def head_batch(self, paths: Sequence[str]) -> list[ObjectMeta | None]: ...

    async def get_batch(self, paths: Sequence[str], *, max_bytes: int) -> list[StoredObject | None]:
        """Read whole objects; None where there is none.

        At most ``max_bytes`` are read in all: an object that would exceed what is left comes without its data.
        """
        ...

    async def put_batch(self, items: Sequence[PutItem], *, mode: WriteMode = "overwrite") -> list[ObjectMeta | None]:
        """Write objects; with ``mode="create"`` None stands for each that was in place and was left alone."""
        ...


class SupportsBareReads(Protocol):
    """Many small bodies in one thread hop, without the attributes, where those are files of their own.

    For content that proves itself, as a blob does by its key: whoever reads a body without its attributes must be
    able to tell what it is. Links among the directories above a body may be followed.
    """

    async def read_bodies(self, paths: Sequence[str], *, max_bytes: int) -> list[bytes | int | None]:
        """Read whole bodies, in the order of the input; None where there is none.

        At most ``max_bytes`` are read in all: of a body that would exceed what is left the size is given. A failure
        to read one raises and names its path.
        """
        ...


@dataclass(frozen=True, slots=True)
class CopySource:
    """Address of an object as its own cloud understands it: the backend's type, and a path or URL there."""

    type: str
    address: str


class SupportsCopy(Protocol):
    """Copy inside one cloud or file system, without the bytes passing through this process."""

    def copy_source(self, path: str) -> CopySource:
        """Return the address of an object of this storage. No request."""
        ...

    async def copy_from(self, source: CopySource, path: str, *, mode: WriteMode = "overwrite") -> ObjectMeta | None:
        """Copy an object with its attributes to ``path``; None if this storage cannot copy from ``source``.

        Raises `ObjectNotFoundError` for a missing source and `AlreadyExistsError` as `put` does.
        """
        ...


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """An upload in parts that has neither completed nor been aborted; its parts take space until then."""

    path: str
    upload_id: str
    started: datetime | None


class SupportsOpenUploads(Protocol):
    """List and abort the uploads that dead processes left behind."""

    async def open_uploads(self) -> list[OpenUpload]:
        """Return the open uploads below the root, those of living processes too. One request for each 1000."""
        ...

    async def abort_upload(self, upload: OpenUpload) -> None:
        """Abort an upload; one that has ended is not an error."""
        ...
