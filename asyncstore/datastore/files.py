"""Small files beside the artifacts: read and written many at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from asyncstore.concurrency import run_all
from asyncstore.errors import AlreadyExistsError, IntegrityError, ObjectNotFoundError
from asyncstore.storage.base import DataStoreStorage, PutItem, SupportsBatch
from asyncstore.types import MIB, Buffer, WriteMode

T = TypeVar("T")

_BATCH_ITEMS = 64
_BATCH_BYTES = MIB


async def read_file(storage: DataStoreStorage, path: str) -> bytes | None:
    """Return a file's content, or None if there is none. One request."""
    try:
        async with storage.get(path) as reader:
            content = bytearray(reader.meta.size)
            filled = await reader.read_into(memoryview(content))
            return bytes(memoryview(content)[:filled])
    except ObjectNotFoundError:
        return None


async def read_files(storage: DataStoreStorage, paths: Iterable[str]) -> dict[str, bytes | None]:
    """Return the content of each file, None for those that are not there. One request each, many at once."""
    found: dict[str, bytes | None] = {}

    async def read(group: list[str]) -> None:
        found.update(await read_group(storage, group))

    await run_all(groups_of(storage, dict.fromkeys(paths)), read, width=storage.runtime.limits.requests)
    return found


def groups_of(storage: DataStoreStorage, items: Iterable[T]) -> Iterator[list[T]]:
    """Give items in groups of the size that one task handles best on this storage."""
    remaining = iter(items)
    size = _BATCH_ITEMS if storage.power(SupportsBatch) is not None else 1
    return iter(lambda: list(islice(remaining, size)), [])


async def read_group(storage: DataStoreStorage, paths: Sequence[str]) -> dict[str, bytes | None]:
    """Read files one after another, or in one batch where the storage can."""
    batch = storage.power(SupportsBatch)
    if batch is None:
        return {path: await read_file(storage, path) for path in paths}
    items = dict(zip(paths, await batch.get_batch(paths, max_bytes=_BATCH_BYTES), strict=True))
    found = {path: item.data if item is not None else None for path, item in items.items()}
    for path, item in items.items():
        if item is not None and item.data is None:  # it did not fit into the batch
            found[path] = await read_file(storage, path)
    return found


async def write_files(storage: DataStoreStorage, files: Mapping[str, Buffer], *, overwrite: bool = True) -> None:
    """Write files, in no order. Without ``overwrite``, those that are there stay as they are."""
    mode: WriteMode = "overwrite" if overwrite else "create"
    batch = storage.power(SupportsBatch)
    if batch is not None and len(files) > 1 and sum(len(data) for data in files.values()) <= _BATCH_BYTES:
        await batch.put_batch([PutItem(path, data) for path, data in files.items()], mode=mode)
        return

    async def write(path: str) -> None:
        try:
            await storage.put(path, files[path], mode=mode)
        except AlreadyExistsError:
            return  # asked for: the first writer wins

    await run_all(files, write, width=storage.runtime.limits.requests)


async def file_sizes(storage: DataStoreStorage, paths: Sequence[str]) -> list[int | None]:
    """Return the stored size of each file in bytes, None for those that are not there. One request each."""
    sizes: dict[str, int | None] = {}

    async def look(path: str) -> None:
        meta = await storage.head(path)
        sizes[path] = None if meta is None else meta.size

    await run_all(paths, look, width=storage.runtime.limits.requests)
    return [sizes[path] for path in paths]


def to_json(value: Any) -> bytes:
    """Return a value as Metaflow writes it: default separators, ASCII only."""
    return json.dumps(value).encode("ascii")


def from_json(data: bytes, *, where: str) -> Any:
    """Return what a JSON file holds. Raises `IntegrityError` naming it."""
    try:
        return json.loads(data)
    except ValueError as error:
        raise IntegrityError(f"{where} is not JSON: {error}", where=where) from error
