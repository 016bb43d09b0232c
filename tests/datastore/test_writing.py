"""What a task writes, in which order, and what it never leaves behind."""

from __future__ import annotations

import gzip
import json
import pickle
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asyncstore.datastore.flow import FlowDataStore
from asyncstore.datastore.includes import IncludedFiles, save_included
from asyncstore.datastore.logs import format_line
from asyncstore.datastore.values import IncludedFile
from asyncstore.datastore.writable import WritableTaskDataStore
from asyncstore.errors import (
    ArtifactError,
    ConfigError,
    DataMissingError,
    MergeConflictError,
    MergeMissingError,
    TaskStateError,
    UnpicklableArtifactError,
)
from asyncstore.metadata.records import DataArtifactRecord, MetaDatum
from asyncstore.runtime import Runtime
from asyncstore.storage.base import DataStoreStorage
from asyncstore.storage.local import LocalStorage
from asyncstore.storage.memory import MemoryStorage
from asyncstore.storage.registry import open_storage
from asyncstore.types import MIB, Buffer, Limits
from tests.cas.plain import PlainStorage


class Registrar:
    """Remembers what is registered."""

    def __init__(self) -> None:
        self.artifacts: list[tuple[str, ...]] = []
        self.records: list[DataArtifactRecord] = []
        self.rows: list[MetaDatum] = []
        self.events: list[str] = []

    async def register_data_artifacts(
        self, flow: str, run: str, step: str, task: str, *, attempt: int, artifacts: Any
    ) -> None:
        self.events.append("artifacts")
        self.artifacts.append((flow, run, step, task, str(attempt)))
        self.records.extend(artifacts)

    async def register_metadata(self, flow: str, run: str, step: str, task: str, metadata: Any) -> None:
        self.events.append("metadata")
        self.rows.extend(metadata)


async def writer(flow: FlowDataStore, task: str = "1", attempt: int = 0) -> WritableTaskDataStore:
    store = await flow.get_task_datastore("r", "s", task, attempt=attempt, mode="w")
    await store.init_task()
    return store


async def content(storage: DataStoreStorage, path: str) -> bytes:
    async with storage.get(path) as reader:
        return b"".join([chunk async for chunk in reader])


async def test_the_files_of_an_attempt_are_metaflows_to_the_byte(flow: FlowDataStore) -> None:
    store = await writer(flow)
    keys = await store.save_artifacts({"x": 1, "text": "ü"})
    await store.save_metadata({"task_begin": {"retry_count": 0}, "runtime": {"ü": [1, None]}})
    await store.done()
    storage = flow.storage
    assert set(json.loads(await content(storage, "Flow/r/s/1/0.attempt.json"))) == {"time"}
    assert await content(storage, "Flow/r/s/1/0.DONE.lock") == b'""'
    assert await content(storage, "Flow/r/s/1/0.task_begin") == b'{"retry_count": 0}'
    assert await content(storage, "Flow/r/s/1/0.runtime") == b'{"\\u00fc": [1, null]}'
    index = json.loads(await content(storage, "Flow/r/s/1/0.data.json"))
    assert index["objects"] == keys
    assert (index["datastore"], index["version"], index["attempt"]) == (storage.TYPE, "1.0", 0)
    assert index["info"]["x"] == {
        "size": 5, "type": "<class 'int'>", "encoding": "pickle-v4", "serializer_info": {"source": "metaflow"}
    }  # fmt: skip


async def test_nothing_can_be_changed_after_done_but_logs_and_late_files(flow: FlowDataStore) -> None:
    store = await writer(flow)
    await store.save_artifacts({"x": 1})
    states = [store.is_done]
    await store.done()
    assert [*states, store.is_done] == [False, True]
    for change in (
        store.init_task(),
        store.save_artifacts({"y": 1}),
        store.save_metadata({"a": 1}),
        store.transfer_artifacts(store),
        store.persist(object()),
    ):
        with pytest.raises(TaskStateError, match="is done and cannot be changed"):
            await change
    for take in (lambda: store.passdown_partial(store, ["x"]), lambda: store.clone(store)):
        with pytest.raises(TaskStateError, match="is done and cannot be changed"):
            take()
    await store.save_logs("runtime", {"stdout": b"late"})
    await store.save_metadata_after_done({"runtime": {"return_code": 0}})
    assert await store.load_metadata(["runtime", "none"]) == {"runtime": {"return_code": 0}, "none": None}


async def test_a_name_that_is_saved_again_is_replaced_and_can_be_loaded_before_done(flow: FlowDataStore) -> None:
    store = await writer(flow)
    await store.save_artifacts({"x": 1, "y": 2})
    await store.save_artifacts([("x", "again")])
    assert await store.fetch_artifacts() == {"x": "again", "y": 2}


async def test_artifacts_may_come_from_any_kind_of_iterable_and_keep_their_order(flow: FlowDataStore) -> None:
    async def later() -> AsyncIterator[tuple[str, Any]]:
        for number in range(200):
            yield f"a{number}", number

    store = await writer(flow)
    keys = await store.save_artifacts(later())
    assert list(keys) == list(store) == [f"a{number}" for number in range(200)]
    assert await store.fetch_artifacts() == {f"a{number}": number for number in range(200)}


async def test_artifacts_are_consumed_lazily() -> None:
    given = 0
    given_at_first_put: list[int] = []

    class Watching(PlainStorage):
        async def put(self, path: str, data: Buffer, **options: Any) -> Any:
            given_at_first_put.append(given)
            return await super().put(path, data, **options)

    def values() -> Iterator[tuple[str, Any]]:
        nonlocal given
        for number in range(1000):
            given += 1
            yield f"a{number}", number

    async with Runtime(Limits(threads=1, requests=4)) as runtime:
        store = await FlowDataStore("Flow", Watching("m", runtime=runtime)).get_task_datastore(
            "r", "s", "1", attempt=0, mode="w"
        )
        await store.save_artifacts(values())
        assert len(store) == 1000
        assert given_at_first_put[0] < 500


async def test_equal_artifacts_are_stored_once(plain: PlainStorage) -> None:
    store = await writer(FlowDataStore("Flow", plain))
    keys = await store.save_artifacts({f"a{number}": "the same" for number in range(150)})
    assert len(set(keys.values())) == 1
    assert plain.calls["put"] == 2  # and the mark of the start


async def test_an_unpicklable_artifact_is_named_and_leaves_the_index_as_it_was(flow: FlowDataStore) -> None:
    store = await writer(flow)
    await store.save_artifacts({"before": 1})
    with pytest.raises(UnpicklableArtifactError, match="'lock'") as caught:
        await store.save_artifacts({"good": 2, "lock": threading.Lock()})
    assert caught.value.name == "lock"
    assert list(store) == ["before"]
    await store.done()
    reader = await flow.get_task_datastore("r", "s", "1")
    assert await reader.fetch_artifacts() == {"before": 1}


async def test_all_artifacts_that_cannot_be_saved_are_named_in_one_group(flow: FlowDataStore) -> None:
    store = await writer(flow)
    values: dict[str, Any] = {f"a{number}": number for number in range(150)}
    values |= {"lock": threading.Lock(), "function": lambda: None}
    with pytest.raises(ExceptionGroup, match="2 artifacts cannot be saved") as caught:
        await store.save_artifacts(values)
    errors = caught.value.exceptions
    assert [error.name for error in errors if isinstance(error, ArtifactError)] == ["lock", "function"]
    assert [type(error) for error in errors] == [UnpicklableArtifactError, ArtifactError]


@pytest.mark.parametrize("kind", ["sizes known before", "sizes known after"])
async def test_large_artifacts_stay_within_the_budget_and_come_back(kind: str) -> None:
    peak = 0

    class Watched(MemoryStorage):
        async def put(self, path: str, data: Buffer, **options: Any) -> Any:
            nonlocal peak
            peak = max(peak, self.runtime.memory.used)
            return await super().put(path, data, **options)

    async with Runtime(Limits(memory=32 * MIB, threads=2)) as runtime:
        flow = FlowDataStore("Flow", Watched("m", runtime=runtime), trust=("metaflow", "numpy"))
        store = await writer(flow)
        arrays = {f"a{number}": np.full(MIB // 4, number, dtype="f8") for number in range(24)}
        values: dict[str, Any] = arrays if kind == "sizes known before" else {k: [v] for k, v in arrays.items()}
        await store.save_artifacts(values)
        assert 6 * MIB < peak <= 32 * MIB
        assert runtime.memory.used == 0
        await store.done()
        reader = await flow.get_task_datastore("r", "s", "1")
        loaded = await reader.fetch_artifacts()
        assert all(np.array_equal(np.squeeze(loaded[name]), arrays[name]) for name in arrays)


async def test_a_budget_of_one_small_blob_makes_progress(tmp_path: Path) -> None:
    async with Runtime(Limits(memory=1, threads=2, requests=1)) as runtime:
        flow = FlowDataStore("Flow", LocalStorage(tmp_path, runtime=runtime, durability="fast"))
        store = await writer(flow)
        await store.save_artifacts({f"a{number}": bytes(number * 3000) for number in range(100)})
        await store.done()
        reader = await flow.get_task_datastore("r", "s", "1")
        async with reader.load_artifacts(list(reader)) as values:
            other = await writer(flow, "2")
            async for name, value in values:
                await other.save_artifacts({name: value})
        assert dict(other.items()) == dict(reader.items())


async def test_done_registers_the_artifacts_and_then_that_the_attempt_is_done(flow: FlowDataStore) -> None:
    registrar = Registrar()
    registered = FlowDataStore("Flow", flow.storage, metadata=registrar)
    store = await writer(registered, attempt=2)
    keys = await store.save_artifacts({"x": 1, "_y": None})
    await store.done()
    assert registrar.events == ["artifacts", "metadata"]
    assert registrar.artifacts == [("Flow", "r", "s", "1", "2")]
    assert registrar.rows == [MetaDatum("attempt-done", "2", "attempt-done", ("attempt_id:2",))]
    assert [(r.name, r.ds_type, r.ds_root, r.url, r.type, r.sha) for r in registrar.records] == [
        (name, flow.storage.TYPE, flow.storage.root, None, "pickle-v4", key) for name, key in keys.items()
    ]


async def test_done_again_only_repeats_the_registration_also_through_a_new_object(flow: FlowDataStore) -> None:
    store = await writer(flow)
    await store.save_artifacts({"x": 1})
    await store.done()  # a crash here: nothing was registered
    index = await content(flow.storage, "Flow/r/s/1/0.data.json")
    registrar = Registrar()
    again = await writer(FlowDataStore("Flow", flow.storage, metadata=registrar))
    await again.done()
    await again.done()
    assert registrar.events == ["artifacts", "metadata"] * 2
    assert [record.name for record in registrar.records] == ["x", "x"]
    assert await content(flow.storage, "Flow/r/s/1/0.data.json") == index
    assert dict(again.items()) == dict(store.items())


async def test_an_attempt_that_somebody_else_closed_otherwise_is_not_overwritten(flow: FlowDataStore) -> None:
    first, second, same = await writer(flow), await writer(flow), await writer(flow)
    await first.save_artifacts({"x": 1})
    await second.save_artifacts({"x": 2})
    await same.save_artifacts({"x": 1})
    await first.done()
    with pytest.raises(TaskStateError, match="by somebody else with other artifacts"):
        await second.done()
    await same.done()
    assert await (await flow.get_task_datastore("r", "s", "1")).fetch_artifacts() == {"x": 1}


async def test_a_done_attempt_that_lost_its_index_is_not_registered(flow: FlowDataStore) -> None:
    await flow.storage.put("Flow/r/s/1/0.DONE.lock", b'""')
    with pytest.raises(DataMissingError, match=r"0\.data\.json is not there"):
        await (await writer(flow)).done()


async def test_blobs_index_marker_and_registration_are_separate_awaits_in_this_order(plain: PlainStorage) -> None:
    order: list[str] = []

    class Ordered(PlainStorage):
        async def put(self, path: str, data: Buffer, **options: Any) -> Any:
            meta = await super().put(path, data, **options)
            order.append("blob" if "/data/" in path else path.rpartition("/")[2])
            return meta

    class Recording(Registrar):
        async def register_data_artifacts(self, *ids: str, **options: Any) -> None:
            order.append("registration")

    flow = FlowDataStore("Flow", Ordered("m", runtime=plain.runtime), metadata=Recording())
    store = await writer(flow)
    await store.save_artifacts({"x": 1, "y": 2})
    await store.done()
    assert order == ["0.attempt.json", "blob", "blob", "0.data.json", "0.DONE.lock", "registration"]


async def test_mode_w_needs_an_attempt_and_unknown_modes_are_refused(flow: FlowDataStore) -> None:
    with pytest.raises(ConfigError, match="needs the number of the attempt"):
        await flow.get_task_datastore("r", "s", "1", mode="w")  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="'x' is not"):
        await flow.get_task_datastore("r", "s", "1", mode="x")  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="from 0 to 5"):
        await flow.get_task_datastore("r", "s", "1", mode="w", attempt=6)


async def test_metadata_files_may_be_kept_as_they_are_and_may_belong_to_the_task(flow: FlowDataStore) -> None:
    store = await writer(flow)
    await store.save_metadata({"a": 1})
    await store.save_metadata({"a": 2, "b": 2}, overwrite=False)
    await store.save_metadata({"_resume_done": True}, add_attempt=False)
    assert await store.load_metadata(["a", "b"]) == {"a": 1, "b": 2}
    assert await store.load_metadata(["_resume_done"], add_attempt=False) == {"_resume_done": True}
    assert await store.has_metadata("a")
    assert not await store.has_metadata("c")


async def test_logs_are_saved_from_bytes_and_files_and_replaced_as_a_whole(flow: FlowDataStore, tmp_path: Path) -> None:
    store = await writer(flow)
    (tmp_path / "log").write_bytes(format_line(b"from a file\n", source="task"))
    await store.save_logs("runtime", {"stdout": b"one", "stderr": b"err"})
    await store.save_logs("runtime", {"stdout": b"one\ntwo"})
    await store.save_logs("task", {"stdout": tmp_path / "log"})
    logs = dict(await store.load_logs("stdout"))
    assert logs["runtime"] == b"one\ntwo"
    assert logs["task"].endswith(b"]from a file\n")
    assert await store.load_logs("stderr") == [("runtime", b"err"), ("task", b"")]
    assert await store.get_log_size("stdout") == len(logs["runtime"]) + len(logs["task"])
    assert await store.get_log_size("stderr", sources=["task"]) == 0
    root = flow.storage.root.rstrip("/")
    assert store.get_log_location("task", "stdout") == f"{root}/Flow/r/s/1/0.task_stdout.log"


async def test_legacy_logs_are_read_and_logs_are_scrubbed(flow: FlowDataStore) -> None:
    store = await writer(flow)
    await store.save_logs("runtime", {"stdout": b"secret"})
    await flow.storage.put("Flow/r/s/1/0.stdout.log", b"old secret")
    assert await store.load_log_legacy("stdout") == b"old secret"
    assert await store.load_log_legacy("stderr") == b""
    assert await store.get_legacy_log_size("stdout") == 10
    assert await store.get_legacy_log_size("stderr") is None
    await store.done()
    scrubbing = await flow.get_task_datastore("r", "s", "1", mode="d")
    paths = await scrubbing.scrub_logs("stdout")
    assert paths == ["Flow/r/s/1/0.runtime_stdout.log", "Flow/r/s/1/0.stdout.log"]
    assert await store.load_logs("stdout") == [("runtime", b"[REDACTED runtime stdout]"), ("task", b"")]
    assert await store.load_log_legacy("stdout") == b"[REDACTED stdout stdout]"
    assert await scrubbing.scrub_logs("stderr") == []


async def test_entries_are_passed_down_and_cloned_by_key_without_touching_blobs(plain: PlainStorage) -> None:
    flow = FlowDataStore("Flow", plain)
    origin = await writer(flow)
    keys = await origin.save_artifacts({"a": 1, "b": 2, "c": 3})
    await origin.done()
    other, clone = await writer(flow, "2"), await writer(flow, "3")
    plain.calls.clear()
    other.passdown_partial(origin, ["a", "c", "unknown"])
    clone.clone(origin)
    assert not plain.calls
    assert dict(other.items()) == {"a": keys["a"], "c": keys["c"]}
    assert dict(clone.items()) == keys
    assert other.info("a") == origin.info("a")
    await clone.save_artifacts({"a": "changed"})
    assert dict(origin.items()) == keys


async def test_entries_of_another_store_are_refused_until_their_blobs_are_here(flow: FlowDataStore) -> None:
    away = FlowDataStore("Flow", MemoryStorage("away", runtime=flow.storage.runtime))
    origin = await writer(away)
    await origin.save_artifacts({"a": [1], "b": [2]})
    await origin.done()
    store = await writer(flow)
    with pytest.raises(TaskStateError, match=r"'a' of .* is in another store; await transfer_artifacts"):
        store.passdown_partial(origin, ["a"])
    with pytest.raises(TaskStateError, match="another store"):
        store.clone(origin)
    assert await store.transfer_artifacts(origin, ["a"]) == 1
    store.passdown_partial(origin, ["a"])
    with pytest.raises(TaskStateError, match="'b'"):
        store.passdown_partial(origin, ["b"])
    assert await store.transfer_artifacts(origin) == 1
    assert await store.transfer_artifacts(origin) == 0
    store.clone(origin)
    await store.done()
    assert await (await flow.get_task_datastore("r", "s", "1")).fetch_artifacts() == {"a": [1], "b": [2]}
    assert await (await writer(flow, "2")).transfer_artifacts(store) == 0


async def test_a_flow_object_is_persisted_as_metaflow_does(flow: FlowDataStore) -> None:
    class Parameter:
        pass

    class Tour:
        CONSTANT = 1
        _datastore = None
        parameter = property(lambda self: 3)

        def __init__(self) -> None:
            self.name = "Tour"
            self.x: Any = [1]
            self._private = 2
            self.__dict__["__dunder__"] = 1
            self.index = 5
            self.function = test_a_flow_object_is_persisted_as_metaflow_does
            self.declared = Parameter()

        def start(self) -> None: ...

    parent = await writer(flow)
    await parent.save_artifacts({"x": "old", "from_parent": 7})
    await parent.done()
    tour = Tour()
    store = await writer(flow, "2")
    saved = await store.persist(tour, parent=parent)
    assert list(saved) == ["x", "name", "_private", "CONSTANT"]
    assert await store.fetch_artifacts() == {
        "x": [1], "from_parent": 7, "name": "Tour", "_private": 2, "CONSTANT": 1
    }  # fmt: skip
    assert not hasattr(tour, "x")
    assert (tour.name, tour._private) == ("Tour", 2)


async def test_the_inputs_of_a_join_are_merged_by_key(flow: FlowDataStore) -> None:
    left, right, join = await writer(flow, "1"), await writer(flow, "2"), await writer(flow, "3")
    await left.save_artifacts({"shared": 1, "conflict": "l", "left": 2, "_foreach_values": 1})
    await right.save_artifacts({"shared": 1, "conflict": "r", "right": 3})
    with pytest.raises(MergeConflictError, match="differ in conflict") as conflict:
        join.merge_artifacts([left, right])
    assert conflict.value.artifact_names == ("conflict",)
    assert not list(join)
    assert join.merge_artifacts([left, right], present=["conflict"]) == ["shared", "left", "right"]
    assert await join.fetch_artifacts() == {"shared": 1, "left": 2, "right": 3}
    for choice in ({"exclude": ["conflict", "left"]}, {"include": ["shared", "right"]}):
        other = await writer(flow, "4")
        assert set(other.merge_artifacts([left, right], **choice)) == {"shared", "right"}
    with pytest.raises(MergeMissingError, match="no input has nobody") as missing:
        join.merge_artifacts([left, right], include=["nobody", "shared"])
    assert missing.value.artifact_names == ("nobody",)
    assert join.merge_artifacts([left, right], include=["set"], present=["set"]) == []
    with pytest.raises(ConfigError, match="not both"):
        join.merge_artifacts([left, right], include=["a"], exclude=["b"])


async def test_included_files_are_stored_beside_the_blobs_and_read_back(tmp_path: Path, runtime: Runtime) -> None:
    root = f"local://{tmp_path}/data"
    includes = IncludedFiles(lambda url: open_storage(url, runtime=runtime))
    flow = FlowDataStore("Flow", LocalStorage(tmp_path / ".metaflow", runtime=runtime), includes=includes)
    files = LocalStorage(tmp_path / "data", runtime=runtime)
    text = await save_included(files, root, "Flow", "zwei\r\nZeilen ü".encode(), is_text=True)
    data = await save_included(files, root, "Flow", b"\x00\xff", is_text=False)
    assert await save_included(files, root, "Flow", b"\x00\xff", is_text=False) == data
    store = await writer(flow)
    await store.save_artifacts({"text": text, "data": data})
    await store.done()
    reader = await flow.get_task_datastore("r", "s", "1")
    assert await reader.to_dict() == {"text": "zwei\nZeilen ü", "data": b"\x00\xff"}
    assert await reader.get_artifact_sizes(["text", "data"]) == {"text": 15, "data": 2}
    assert isinstance(await reader.load_artifact("text"), IncludedFile)
    assert (await reader.to_dict(max_value_size=5))["data"] == b"\x00\xff"


async def test_included_files_of_older_and_external_kinds_are_read(tmp_path: Path, runtime: Runtime) -> None:
    (tmp_path / "plain").write_bytes(b"external")
    (tmp_path / "packed").write_bytes(gzip.compress(b"version one"))
    includes = IncludedFiles(
        lambda url: open_storage(url, runtime=runtime), remap={"local:///moved": f"local://{tmp_path}"}
    )

    def included(**descriptor: Any) -> IncludedFile:
        return IncludedFile(descriptor)

    old = included(type="uploader-v1", url=f"local://{tmp_path}/packed", is_text=True, encoding="utf-8")
    external = included(type="external", url="local:///moved/plain", is_text=False, encoding=None)
    assert await includes.load(old, name="old") == "version one"
    assert await includes.load(external, name="external") == b"external"
    assert await includes.size(external, name="external") == 8
    with pytest.raises(DataMissingError, match=r"'gone'.*remap"):
        await includes.load(included(type="external", url="local:///moved/none", is_text=False), name="gone")
    for descriptor in ({"type": "uploader-v9", "url": "local:///x/y"}, {"type": "external", "url": "nowhere"},
                       {"type": "uploader-v1", "url": f"local://{tmp_path}/plain"}):  # fmt: skip
        with pytest.raises(ArtifactError, match="artifact 'bad'"):
            await includes.load(included(**descriptor), name="bad")


async def test_raw_data_is_saved_with_its_address(flow: FlowDataStore) -> None:
    saved = await flow.save_data([b"package", b"package"])
    assert saved[0].key == saved[1].key
    assert saved[0].uri == f"{flow.storage.root.rstrip('/')}/Flow/data/{saved[0].key[:2]}/{saved[0].key}"
    async with flow.load_data([saved[0].key]) as blobs:
        assert [item async for item in blobs] == [(saved[0].key, b"package")]


async def test_pickles_that_were_stored_raw_are_read(flow: FlowDataStore) -> None:
    [raw] = await flow.save_data([pickle.dumps({"raw": True}, 4)])
    store = await writer(flow)
    keys = await store.save_artifacts({"x": {"raw": True}})
    assert keys["x"] == raw.key
    assert await store.load_artifact("x") == {"raw": True}


async def test_an_attempt_that_is_closed_without_having_been_started_is_found(flow: FlowDataStore) -> None:
    store = await flow.get_task_datastore("r", "s", "1", attempt=0, mode="w")
    await store.save_artifacts({"x": 1})
    await store.done()
    assert await (await flow.get_task_datastore("r", "s", "1")).fetch_artifacts() == {"x": 1}


@pytest.mark.parametrize("name", ["", 3, None])
async def test_what_is_no_name_is_refused(flow: FlowDataStore, name: Any) -> None:
    store = await writer(flow)
    with pytest.raises(ArtifactError, match="not the name of an artifact"):
        await store.save_artifacts({name: 1})
    assert not list(store)


@pytest.mark.parametrize("name", ["", "a/b", "..", "_meta"])
async def test_a_flow_has_a_name_that_can_be_a_directory(runtime: Runtime, name: str) -> None:
    with pytest.raises(ValueError, match=r"flow|component"):
        FlowDataStore(name, MemoryStorage("m", runtime=runtime))
