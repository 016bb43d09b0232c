"""Typed usage of the public names, which mypy and pyright check and a test runs: what a caller sees must not be Any."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import assert_type

from asyncstore import (
    AsyncStoreError,
    Attributes,
    BlobStatus,
    ByteRange,
    Config,
    ContentAddressedStore,
    CorruptBlobError,
    DataStoreStorage,
    Durability,
    FlowDataStore,
    Key,
    Limits,
    ListEntry,
    ObjectMeta,
    Runtime,
    SavedBlob,
    TaskDataStore,
    TaskDataStoreSet,
    WritableTaskDataStore,
    load_config,
    open_storage,
    parse_key,
)


async def tasks(storage: DataStoreStorage) -> None:
    flow = FlowDataStore("Flow", storage, codec="gzip", trust=("metaflow", "numpy"))
    writer = await flow.get_task_datastore("1", "start", "1", attempt=0, mode="w")
    assert_type(writer, WritableTaskDataStore)
    assert_type(await writer.save_artifacts({"x": 1}), dict[str, Key])
    assert_type(await writer.save_artifacts([("y", 2)]), dict[str, Key])
    await writer.done()
    reader = await flow.get_task_datastore("1", "start", "1")
    assert_type(reader, TaskDataStore)
    assert_type(reader.keys_for_artifacts(["x"]), list[Key | None])
    assert_type(await reader.get_artifact_sizes(["x"]), dict[str, int])
    assert_type(await reader.load_logs("stdout"), list[tuple[str, bytes]])
    assert_type(await flow.get_task_datastores("1", steps=["start"]), list[TaskDataStore])
    found = await TaskDataStoreSet.open(flow, pathspecs=["1/start/1"], prefetch=["x"])
    assert_type(found.get_with_pathspec("1/start/1"), TaskDataStore | None)
    async with reader.load_artifacts(["x", "y"]) as values:
        async for name, value in values:
            assert_type(name, str)
            print(value)


async def blobs(storage: DataStoreStorage, file: Path) -> None:
    store = ContentAddressedStore("Flow/data", storage, codec="lz4")
    assert_type(await store.save_blob(b"one"), SavedBlob)
    saved = await store.save_blobs([b"one", bytearray(b"two"), memoryview(b"three"), file], raw=False)
    assert_type(saved, list[SavedBlob])
    assert_type(saved[0].key, Key)
    assert_type(saved[0].stored_size, int | None)
    assert_type(await store.load_blob(saved[0].key), bytes)
    assert_type(await store.missing({parse_key("0" * 40)}), set[Key])
    async with store.load_blobs(blob.key for blob in saved) as loaded:
        async for key, content in loaded:
            assert_type(key, Key)
            assert_type(content, bytes)
    async with store.open_blob(saved[1].key) as chunks:
        async for chunk in chunks:
            assert_type(chunk, bytes)
    async with store.verify_blobs([saved[2].key]) as statuses:
        async for status in statuses:
            assert_type(status, BlobStatus)
            assert_type(status.error, AsyncStoreError | None)


async def objects(storage: DataStoreStorage) -> None:
    assert_type(await storage.put("a/b", b"12", attributes={"x": [1, None]}, mode="create"), ObjectMeta)
    assert_type(await storage.head("a/b"), ObjectMeta | None)
    async with storage.get("a/b", byte_range=ByteRange(0, 1)) as reader:
        assert_type(reader.meta.attributes, Attributes)
        async for piece in reader:
            assert_type(piece, bytes)
    async with storage.list("a", recursive=True) as entries:
        async for entry in entries:
            assert_type(entry, ListEntry)


def values(error: CorruptBlobError, config: Config) -> None:
    assert_type(error.key, str)
    assert_type(error.retryable, bool)
    assert_type(config.durability, Durability)
    assert_type(config.service_headers, Mapping[str, str])
    assert_type(config.limits, Limits)


def settings() -> Config:
    return load_config(durability="fast")


async def use(root: Path, file: Path, config: Config) -> None:
    async with Runtime(Limits(threads=2)) as runtime, open_storage(root, runtime=runtime) as storage:
        await blobs(storage, file)
        await tasks(storage)
        await objects(storage)
    values(CorruptBlobError("", key="0" * 40, actual=None), config)
