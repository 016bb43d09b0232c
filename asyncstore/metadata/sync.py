"""Carries the local metadata of a task through a datastore, from where it ran to where its run is registered.

Follows Metaflow 2.19 ``metadata_provider/util.py``: a tar.gz of the root, its members below ``.metaflow``, is one raw
blob of the flow; its key is a JSON string in the task's metadata file ``local_metadata`` of the attempt. It is
written after the task is done. Metaflow on either side understands the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol, TypeVar

from asyncstore.errors import InvalidNameError, MetadataError
from asyncstore.metadata.local_threads import run_files
from asyncstore.metadata.local_writing import RecordWriter
from asyncstore.metadata.merging import Merging
from asyncstore.metadata.objects import check_address
from asyncstore.metadata.packing import Packing
from asyncstore.metadata.safe_tar import TarLimits, check_tar, read_tar
from asyncstore.runtime import Runtime
from asyncstore.types import Durability, Json, Key, parse_key

T = TypeVar("T")

_FILES_AT_ONCE: Final = 256

METADATA_FILE: Final = "local_metadata"
"""Name, without the attempt's number, of the task's metadata file that holds the key."""


class SavedKey(Protocol):
    """What saving a blob tells."""

    @property
    def key(self) -> Key: ...


class BlobStore(Protocol):
    """A flow's content-addressed store; `asyncstore.cas.store.ContentAddressedStore` is one."""

    async def save_blob(self, blob: bytes, *, raw: bool = False) -> SavedKey: ...

    async def load_blob(self, key: Key) -> bytes: ...


class TaskFileReader(Protocol):
    """Metadata files of one attempt of a task; `asyncstore.datastore.task.TaskDataStore` has them."""

    async def load_metadata(self, names: Iterable[str]) -> Mapping[str, Any]: ...


class TaskFileWriter(Protocol):
    """The same for writing; `asyncstore.datastore.writable.WritableTaskDataStore` has them."""

    async def save_metadata_after_done(self, contents: Mapping[str, Json]) -> None: ...


@dataclass(frozen=True, slots=True)
class MergeResult:
    """How many records were ``written``, ``kept`` because those in place are as new, and ``ignored`` as no records."""

    written: int
    kept: int
    ignored: int


async def sync_local_metadata_to_datastore(
    root: str | os.PathLike[str], flow: str, run: str, *, blobs: BlobStore, task: TaskFileWriter, runtime: Runtime
) -> Key:
    """Pack the metadata of a run below ``root``, store it with the task, and return the blob's key.

    Only records travel, none of the datastore's own files. To be called when the task is done.
    """
    check_address(flow, run, least=2)
    packing = Packing(os.fspath(root))
    names = await run_files(runtime.pool, packing.find, flow, run)
    for start in range(0, len(names), _FILES_AT_ONCE):
        await run_files(runtime.pool, packing.add, names[start : start + _FILES_AT_ONCE])
    archive = await run_files(runtime.pool, packing.finish)
    saved = await blobs.save_blob(archive, raw=True)
    await task.save_metadata_after_done({METADATA_FILE: saved.key})
    return saved.key


async def sync_local_metadata_from_datastore(
    root: str | os.PathLike[str],
    *,
    blobs: BlobStore,
    task: TaskFileReader,
    runtime: Runtime,
    limits: TarLimits | None = None,
    durability: Durability = "safe",
    file_mode: int | None = None,
) -> MergeResult | None:
    """Merge what a task packed into the metadata below ``root``, or return None if it packed nothing.

    A record in place is replaced only by one that is newer by its file time. The archive is refused as a whole, with
    `MetadataError`, if it holds anything but plain files with harmless names, or more than ``limits`` allow.

    If cancelled: some records are merged, each whole; merging again completes them.
    """
    limits = limits or TarLimits()
    key = (await task.load_metadata([METADATA_FILE])).get(METADATA_FILE)
    if key is None:
        return None
    try:
        archive = await blobs.load_blob(parse_key(key))
    except (InvalidNameError, TypeError) as error:
        raise MetadataError(f"the task's {METADATA_FILE} is no key of a blob: {key!r:.80}") from error
    with closing(check_tar(archive, limits)) as checked:
        while await run_files(runtime.pool, _take, checked):
            pass
    merging = Merging(RecordWriter(os.fspath(root), durability, file_mode))
    with closing(read_tar(archive, limits)) as members:
        while batch := await run_files(runtime.pool, _take, members):
            await run_files(runtime.pool, merging.add, batch)
    return MergeResult(merging.written, merging.kept, merging.ignored)


def _take(items: Iterator[T]) -> list[T]:
    return list(islice(items, _FILES_AT_ONCE))
