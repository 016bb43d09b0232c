"""What an opened task shows, and what it says when it cannot."""

from __future__ import annotations

import json
import pickle
import threading
from typing import Any

import anyio
import pytest

from asyncstore.datastore.flow import FlowDataStore
from asyncstore.datastore.index import ArtifactIndex, format_index, parse_index
from asyncstore.datastore.task import TaskDataStore
from asyncstore.datastore.trust import TrustPolicy
from asyncstore.datastore.values import ForeachFrame
from asyncstore.errors import (
    ArtifactError,
    BlobNotFoundError,
    ConfigError,
    CorruptBlobError,
    DataMissingError,
    IntegrityError,
    TaskNotFoundError,
    TaskStateError,
    UntrustedArtifactError,
)
from asyncstore.layout import blob_path
from asyncstore.runtime import Runtime
from asyncstore.storage.memory import MemoryStorage
from asyncstore.types import Key, TaskPath
from tests.cas.plain import PlainStorage


async def write(
    flow: FlowDataStore, values: dict[str, Any], *, task: str = "1", attempt: int = 0, done: bool = True
) -> TaskDataStore:
    store = await flow.get_task_datastore("r", "s", task, attempt=attempt, mode="w")
    await store.init_task()
    await store.save_artifacts(values)
    if done:
        await store.done()
    return store


async def open_task(flow: FlowDataStore, task: str = "1", **options: Any) -> TaskDataStore:
    store: TaskDataStore = await flow.get_task_datastore("r", "s", task, **options)
    return store


class Unknown:
    pass


async def test_names_keys_sizes_and_values_come_back(flow: FlowDataStore) -> None:
    await write(flow, {"x": 1, "same": 1, "_private": [2]})
    store = await open_task(flow)
    assert list(store) == ["x", "same", "_private"]
    assert len(store) == 3
    assert "x" in store
    assert "y" not in store
    assert store.keys_for_artifacts(["x", "same", "none"]) == [store.index.objects["x"]] * 2 + [None]
    assert await store.fetch_artifacts() == {"x": 1, "same": 1, "_private": [2]}
    assert await store.fetch_artifacts(["_private", "x"]) == {"_private": [2], "x": 1}
    assert await store.load_artifact("x") == 1
    assert await store.get_artifact_sizes(["x"]) == {"x": len(pickle.dumps(1, 4))}
    assert (store.pathspec, store.run_id, store.step_name, store.task_id) == ("r/s/1", "r", "s", "1")
    assert store.path == TaskPath("r", "s", "1")


async def test_names_that_share_a_key_give_distinct_objects(flow: FlowDataStore) -> None:
    await write(flow, {"a": [1], "b": [1]})
    values = await (await open_task(flow)).fetch_artifacts()
    assert values["a"] == values["b"]
    assert values["a"] is not values["b"]


async def test_an_unknown_artifact_is_an_error_before_anything_is_loaded(flow: FlowDataStore) -> None:
    await write(flow, {"x": 1})
    store = await open_task(flow)
    with pytest.raises(DataMissingError, match="no artifact 'nope'"):
        await store.fetch_artifacts(["x", "nope"])
    with pytest.raises(LookupError):
        await store.load_artifact("nope")
    assert await store.get("nope", 5) == 5
    assert await store.get("x", 5) == 1


async def test_an_artifact_that_cannot_be_loaded_is_not_replaced_by_the_default(flow: FlowDataStore) -> None:
    await write(flow, {"x": Unknown()})
    store = await open_task(flow)
    with pytest.raises(UntrustedArtifactError, match=r"Flow/r/s/1, attempt 0: artifact 'x' names .*Unknown"):
        await store.get("x", 5)


async def test_none_is_told_without_a_request_where_the_type_is_recorded(plain: PlainStorage) -> None:
    flow = FlowDataStore("Flow", plain)
    await write(flow, {"none": None, "one": 1})
    store = await open_task(flow)
    plain.calls.clear()
    assert await store.is_none("none")
    assert not await store.is_none("one")
    assert await store.is_none("unknown")
    assert not plain.calls
    for info in store.index.info.values():
        del info["type"]
    assert await store.is_none("none")
    assert not await store.is_none("one")


async def test_a_task_without_attempts_and_an_attempt_that_was_not_started_are_not_found(flow: FlowDataStore) -> None:
    with pytest.raises(TaskNotFoundError, match="no attempt was started"):
        await open_task(flow, "9")
    await write(flow, {"x": 1})
    with pytest.raises(TaskNotFoundError, match="no attempt 3 was started"):
        await open_task(flow, attempt=3, allow_not_done=True)
    with pytest.raises(ConfigError, match="from 0 to 5"):
        await open_task(flow, attempt=6)


async def test_a_started_attempt_hides_an_older_one_which_can_still_be_read(flow: FlowDataStore) -> None:
    await write(flow, {"x": "old"})
    await write(flow, {"x": "new"}, attempt=1, done=False)
    with pytest.raises(TaskNotFoundError, match=r"attempt 1 is not done.*allow_not_done=True"):
        await open_task(flow)
    assert await flow.get_task_datastores("r") == []
    old = await open_task(flow, attempt=0)
    assert await old.load_artifact("x") == "old"
    running = await open_task(flow, allow_not_done=True)
    assert running.attempt == 1
    assert not running.is_done
    with pytest.raises(TaskStateError, match="not done"):
        list(running)
    await write(flow, {"x": "new"}, attempt=1)
    assert await (await open_task(flow)).load_artifact("x") == "new"


async def test_many_tasks_come_by_step_and_number_or_as_asked_for(flow: FlowDataStore) -> None:
    for task in ("10", "9", "named"):
        await write(flow, {"t": task}, task=task)
    await write(flow, {}, task="8", done=False)
    assert [store.task_id for store in await flow.get_task_datastores("r")] == ["9", "10", "named"]
    assert [store.task_id for store in await flow.get_task_datastores("r", steps=["s", "s", "none"])] == [
        "9", "10", "named"
    ]  # fmt: skip
    asked = ["r/s/named", "r/s/8", "r/s/9/0", "r/s/9/1", "r/s/nope", "other/s/9", "r/s/9"]
    stores = await flow.get_task_datastores(pathspecs=asked)
    assert [(store.task_id, store.attempt) for store in stores] == [("named", 0), ("9", 0), ("9", 0)]
    assert await flow.get_task_datastores("none") == []
    with pytest.raises(ConfigError, match="run or pathspecs"):
        await flow.get_task_datastores()


async def test_many_tasks_of_one_step_are_found_by_one_listing(plain: PlainStorage) -> None:
    flow = FlowDataStore("Flow", plain)
    for task in range(12):
        await write(flow, {"t": task}, task=str(task))
    stores = await flow.get_task_datastores(pathspecs=[f"r/s/{task}" for task in reversed(range(10))])
    assert [store.task_id for store in stores] == [str(task) for task in reversed(range(10))]


async def test_a_damaged_blob_and_a_missing_blob_name_the_artifacts(runtime: Runtime) -> None:
    storage = MemoryStorage("m", runtime=runtime)
    flow = FlowDataStore("Flow", storage)
    store = await write(flow, {"bad": [1], "also_bad": [1], "gone": [2], "good": [3]})
    keys = dict(store.items())
    await storage.put(blob_path("Flow/data", keys["bad"]), b"not it", attributes={"cas_raw": True, "cas_version": 1})
    await storage.delete(blob_path("Flow/data", keys["gone"]))
    fresh = await open_task(FlowDataStore("Flow", storage))
    with pytest.raises(CorruptBlobError, match=r"Flow/r/s/1, attempt 0: artifact 'bad', 'also_bad'") as corrupt:
        await fresh.fetch_artifacts(["bad", "also_bad"])
    assert corrupt.value.key == keys["bad"]
    with pytest.raises(BlobNotFoundError, match="artifact 'gone'") as missing:
        await fresh.load_artifact("gone")
    assert missing.value.key == keys["gone"]
    assert await fresh.load_artifact("good") == [3]


async def test_several_failures_come_as_one_group_and_each_names_its_artifact(flow: FlowDataStore) -> None:
    await write(flow, {"a": Unknown(), "b": threading.Thread, "c": 3})
    with pytest.raises(ExceptionGroup) as caught:
        await (await open_task(flow)).fetch_artifacts()
    assert {error.name for error in caught.value.exceptions if isinstance(error, ArtifactError)} == {"a", "b"}
    assert all(isinstance(error, UntrustedArtifactError) for error in caught.value.exceptions)


async def test_a_failure_in_the_block_is_left_as_it_is(flow: FlowDataStore) -> None:
    await write(flow, {"a": 1})
    store = await open_task(flow)
    with pytest.raises(BlobNotFoundError, match=r"^mine$"):
        async with store.load_artifacts(["a"]):
            raise BlobNotFoundError("mine", key="0" * 40)


async def test_leaving_early_leaves_nothing_behind(flow: FlowDataStore) -> None:
    await write(flow, {f"a{i}": i for i in range(200)})
    store = await open_task(flow)
    async with store.load_artifacts(list(store)) as values:
        async for name, value in values:
            assert name == f"a{value}"
            break


async def test_a_done_attempt_without_an_index_is_reported_as_damaged(runtime: Runtime) -> None:
    storage = MemoryStorage("m", runtime=runtime)
    flow = FlowDataStore("Flow", storage)
    await write(flow, {"a": 1})
    await storage.delete("Flow/r/s/1/0.data.json")
    with pytest.raises(DataMissingError, match=r"is done, but Flow/r/s/1/0\.data\.json is not there"):
        await open_task(flow)
    for content in (b"{", b"[]", b'{"objects": []  , "info": 3}', b'{"objects": {"x": "short"}}'):
        await storage.put("Flow/r/s/1/0.data.json", content)
        with pytest.raises(IntegrityError, match=r"Flow/r/s/1/0\.data\.json"):
            await open_task(flow)


async def test_old_encodings_absent_encodings_and_raw_blobs_are_read(runtime: Runtime) -> None:
    storage = MemoryStorage("m", runtime=runtime)
    flow = FlowDataStore("Flow", storage)
    data = pickle.dumps({"a": (1, b"x")}, 2)
    [raw] = await flow.cas.save_blobs([data], raw=True)
    document: dict[str, dict[str, Any]] = {"objects": {}, "info": {}}
    for encoding in ("gzip+pickle-v2", "pickle-v2", "gzip+pickle-v4", None):
        document["objects"][str(encoding)] = raw.key
        document["info"][str(encoding)] = {"size": 3} if encoding is None else {"encoding": encoding}
    document["objects"]["no info"] = raw.key
    document["objects"]["strange"] = raw.key
    document["info"]["strange"] = {"encoding": "tensor-v9", "serializer_info": {"source": "tensors"}}
    await storage.put("Flow/r/s/1/0.attempt.json", b"{}")
    await storage.put("Flow/r/s/1/0.data.json", json.dumps(document).encode())
    await storage.put("Flow/r/s/1/0.DONE.lock", b'""')
    store = await open_task(flow)
    names = [name for name in store if name != "strange"]
    assert len(names) == 5
    assert set(map(str, (await store.fetch_artifacts(names)).values())) == {"{'a': (1, b'x')}"}
    with pytest.raises(ArtifactError, match=r"'tensor-v9' of artifact 'strange'.*install 'tensors'"):
        await store.load_artifact("strange")
    assert await flow.cas.load_blob(Key(raw.key)) == data


async def test_dicts_hide_private_names_and_replace_large_values(flow: FlowDataStore) -> None:
    await write(flow, {"small": 1, "large": "x" * 500, "_private": 2})
    store = await open_task(flow)
    assert await store.to_dict() == {"small": 1, "large": "x" * 500}
    assert await store.to_dict(show_private=True, include=["_private"]) == {"_private": 2}
    limited = await store.to_dict(max_value_size=100)
    assert limited["small"] == 1
    assert str(limited["large"]) == "< artifact too large >"
    text = await store.format(show_private=True, max_value_size=100)
    size = len(pickle.dumps("x" * 500, 4))
    assert text.split("\n") == [
        "*_private* [size: 5 type: <class 'int'>] = 2",
        f"*large* [size: {size} type: <class 'str'>] = < artifact too large >",
        "*small* [size: 5 type: <class 'int'>] = 1",
    ]


async def test_the_pathspec_index_has_the_indexes_of_the_foreach_and_the_counts_of_iterations(
    flow: FlowDataStore,
) -> None:
    frames = [ForeachFrame("a", "x", 2, 0, "v"), ForeachFrame("b", "y", 3, 1, "w")]
    await write(flow, {"_foreach_stack": frames}, task="1")
    await write(flow, {"_foreach_stack": frames, "_iteration_stack": [2]}, task="2")
    await write(flow, {"x": 1}, task="3")
    assert await (await open_task(flow, "1")).pathspec_index() == "r/s[0,1]"
    assert await (await open_task(flow, "2")).pathspec_index() == "r/s[0,1][2]"
    with pytest.raises(DataMissingError, match="_foreach_stack"):
        await (await open_task(flow, "3")).pathspec_index()


async def test_an_index_cache_is_asked_for_attempts_that_must_be_done_and_filled(plain: PlainStorage) -> None:
    class Cache:
        def __init__(self) -> None:
            self.entries: dict[tuple[TaskPath, int], ArtifactIndex] = {}

        async def load_metadata(self, task: TaskPath, attempt: int) -> ArtifactIndex | None:
            return self.entries.get((task, attempt))

        async def store_metadata(self, task: TaskPath, attempt: int, index: ArtifactIndex) -> None:
            self.entries[task, attempt] = index

    cache = Cache()
    flow = FlowDataStore("Flow", plain, task_metadata_cache=cache)
    await write(flow, {"x": 1})
    await open_task(flow)
    assert list(cache.entries) == [(TaskPath("r", "s", "1"), 0)]
    plain.calls.clear()
    assert list(await open_task(flow, attempt=0)) == ["x"]
    assert not plain.calls


def test_an_index_keeps_fields_that_are_not_known_here() -> None:
    info = {"x": {"size": 1, "type": "t", "encoding": "e", "later": [1]}}
    document = {"version": "1.0", "objects": {"x": "0" * 40}, "info": info}
    index = parse_index(json.dumps(document).encode(), where="w")
    copy = ArtifactIndex()
    copy.take(index, ["x", "unknown"])
    written = json.loads(format_index(copy, ds_type="local", attempt=3))
    assert written["info"] == info
    assert (written["datastore"], written["version"], written["attempt"]) == ("local", "1.0", 3)
    assert list(written) == ["datastore", "version", "attempt", "python_version", "objects", "info"]


async def test_unpickling_runs_in_the_stores_threads(flow: FlowDataStore) -> None:
    class Serializer:
        type = "thread"
        priority = 1
        source = "tests"

        def can_serialize(self, value: Any) -> bool:
            return isinstance(value, str)

        def can_deserialize(self, info: Any) -> bool:
            return bool(info.encoding == "thread-v1")

        def serialize(self, value: Any) -> Any:
            from asyncstore.datastore.serializers import Serialized

            return Serialized(threading.current_thread().name.encode(), "thread-v1")

        def deserialize(self, data: Any, info: Any, *, name: str) -> Any:
            return bytes(data).decode(), threading.current_thread().name

    threaded = FlowDataStore("Flow", flow.storage, serializers=[Serializer()])
    await write(threaded, {"x": "text"})
    written, read = await (await open_task(threaded)).load_artifact("x")
    assert written.startswith("asyncstore")
    assert read.startswith("asyncstore")


async def test_a_flow_datastore_travels_by_its_configuration(runtime: Runtime) -> None:
    flow = FlowDataStore("Flow", MemoryStorage("m", runtime=runtime), trust=("metaflow", "numpy"), codec="lz4")
    again = pickle.loads(pickle.dumps(flow))
    assert repr(again) == repr(flow)
    assert repr(again.cas) == repr(flow.cas)
    policies = [getattr(one.serializers.ordered[-1], "trust", None) for one in (flow, again)]
    assert policies == [TrustPolicy.parse(("metaflow", "numpy"))] * 2


async def test_concurrent_readers_of_one_task_all_get_everything(flow: FlowDataStore) -> None:
    await write(flow, {f"a{i}": i for i in range(50)})
    store = await open_task(flow)
    results: list[dict[str, Any]] = []

    async def read() -> None:
        results.append(await store.fetch_artifacts())

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(read)
    assert results == [{f"a{i}": i for i in range(50)}] * 5
