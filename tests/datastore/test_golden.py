"""All that Metaflow wrote comes out as Metaflow's own client shows it: a walk over the whole golden datastore."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import pytest

from asyncstore.datastore.flow import FlowDataStore
from asyncstore.datastore.includes import IncludedFiles
from asyncstore.datastore.logs import STREAMS, merge_logs
from asyncstore.datastore.task import TaskDataStore
from asyncstore.datastore.values import IncludedFile, MetaflowExceptionWrapper
from asyncstore.errors import TaskNotFoundError
from asyncstore.runtime import Runtime
from asyncstore.storage.local import LocalStorage
from asyncstore.storage.registry import open_storage
from tests.golden import expected

RUNS = expected()["flow"]["runs"]
BLOBS = expected()["blobs"]
TASKS = [
    pytest.param(run, step, task, id=f"{run}/{step}/{task}")
    for run in RUNS
    for step in RUNS[run]["steps"]
    for task in RUNS[run]["steps"][step]["tasks"]
]


@pytest.fixture
def tour(golden_root: Path, runtime: Runtime) -> FlowDataStore:
    includes = IncludedFiles(
        lambda url: open_storage(url, runtime=runtime),
        remap={"local:///srv/metaflow/data": f"local://{golden_root.parent}/data"},
    )
    return FlowDataStore("TourFlow", LocalStorage(golden_root, runtime=runtime), includes=includes)


def of_task(run: str, step: str, task: str) -> Any:
    return RUNS[run]["steps"][step]["tasks"][task]


def repr_of(value: Any) -> str:
    return f"sorted:{sorted(value)}" if isinstance(value, set | frozenset) else repr(value)


def summary(wrapper: MetaflowExceptionWrapper) -> dict[str, str]:
    trace = hashlib.sha256(str(wrapper).encode()).hexdigest()
    return {"exception": wrapper.exception, "type": wrapper.type, "str_sha256": trace}


async def check_value(tour: FlowDataStore, key: str, value: Any) -> None:
    blob = BLOBS[key]
    if isinstance(value, MetaflowExceptionWrapper):
        assert blob["type"] == "metaflow.exception.MetaflowExceptionWrapper"
        assert {"exception": value.exception, "type": value.type} == blob["exception"]
        return
    assert f"{type(value).__module__}.{type(value).__name__}" == blob["type"]
    if blob["repr"] is not None:
        assert repr_of(value) == blob["repr"]
    else:
        assert hashlib.sha256(repr_of(value).encode()).hexdigest() == blob["repr_sha256"]
    if "len" in blob:
        assert len(value) == blob["len"]


async def check_attempt(tour: FlowDataStore, store: TaskDataStore, told: Any) -> None:
    keys = {**told["artifacts"], **told["private_artifacts"]}
    assert dict(store.items()) == keys
    for name, key in keys.items():
        info = store.info(name)
        assert info.size == BLOBS[key]["pickle_size"]
        assert info.encoding == "pickle-v4"
        if BLOBS[key]["type"].startswith("builtins.") and name not in {"note_text", "note_bytes"}:
            assert info.type == f"<class '{BLOBS[key]['type'].removeprefix('builtins.')}'>"
    values = await store.to_dict(show_private=True)
    assert set(values) == set(keys)
    for name, key in keys.items():
        await check_value(tour, key, values[name])
    sizes = await store.get_artifact_sizes(keys)
    told_sizes = told.get("client_size_differs_from_pickle_size", {})
    assert sizes == {name: told_sizes.get(name, BLOBS[key]["pickle_size"]) for name, key in keys.items()}
    wrapper = await store.get("_exception")
    assert (None if wrapper is None else summary(wrapper)) == told["exception"]
    assert await store.get("_task_ok") is told["finished"]
    assert await store.get("_success") is told["successful"]


async def check_logs(store: TaskDataStore, told: Any) -> None:
    for stream in STREAMS:
        lines = list(merge_logs(content for _, content in await store.load_logs(stream)))
        if "ds-root" not in told.get("metadata_dict", {"ds-root": ""}):
            # Where no root was registered, Metaflow's client shows one empty line without reading anything.
            assert (lines, told[stream]) == ([], "\n")
            continue
        assert "".join(f"{line.text}\n" for line in lines) == told[stream]
        assert await store.get_log_size(stream) == told[f"{stream}_size"]
        if "loglines" in told:
            times = [line.time.replace(tzinfo=None).isoformat() if line.time else None for line in lines]
            assert list(map(list, zip(times, (line.text for line in lines), strict=True))) == told["loglines"][stream]


@pytest.mark.parametrize("run", RUNS)
async def test_the_tasks_of_a_run_are_found_with_their_latest_attempts(tour: FlowDataStore, run: str) -> None:
    steps = RUNS[run]["steps"]
    told = {
        (step, task): steps[step]["tasks"][task]["datastore_latest"] for step in steps for task in steps[step]["tasks"]
    }
    done = await tour.get_task_datastores(run)
    assert {(item.step_name, item.task_id): item.attempt for item in done} == {
        address: latest["attempt"] for address, latest in told.items() if "attempt" in latest
    }
    every = await tour.get_task_datastores(run, allow_not_done=True)
    assert {(item.step_name, item.task_id) for item in every} == set(told)
    for item in done:
        assert await item.pathspec_index() == told[item.step_name, item.task_id]["pathspec_index"]


@pytest.mark.parametrize(("run", "step", "task"), TASKS)
async def test_every_attempt_has_the_same_artifacts_sizes_values_and_logs(
    tour: FlowDataStore, run: str, step: str, task: str
) -> None:
    told = of_task(run, step, task)
    directory = Path(tour.storage.root) / "TourFlow" / run / step / task
    assert sorted(path.name for path in directory.iterdir() if path.name != "_meta") == told["datastore_files"]
    if "raises" in told["datastore_latest"]:
        with pytest.raises(TaskNotFoundError, match="not done"):
            await tour.get_task_datastore(run, step, task)
    else:
        store = await tour.get_task_datastore(run, step, task)
        assert store.attempt == told["datastore_latest"]["attempt"] == told["current_attempt"]
        await check_attempt(tour, store, told)
        await check_logs(store, told)
    for number, of_attempt in told.get("attempts", {"0": told}).items():
        started = f"{number}.attempt.json" in told["datastore_files"]
        done = f"{number}.DONE.lock" in told["datastore_files"]
        assert started
        store = await tour.get_task_datastore(run, step, task, attempt=int(number), allow_not_done=True)
        assert store.is_done is done
        if done:
            await check_attempt(tour, store, of_attempt)
        else:
            assert not of_attempt["artifacts"]
        await check_logs(store, of_attempt)


async def test_prior_attempts_are_given_on_demand(tour: FlowDataStore) -> None:
    run = "1795447905376589"
    stores = await tour.get_task_datastores(run, steps=["flaky_step"], include_prior=True)
    assert [store.attempt for store in stores] == [0, 1]
    assert await stores[0].load_artifact("only_in_failed_attempt") == "left behind"
    assert await stores[0].load_artifact("_task_ok") is False


async def test_values_are_also_read_where_included_files_are_not_reachable(golden_root: Path, runtime: Runtime) -> None:
    flow = FlowDataStore("TourFlow", LocalStorage(golden_root, runtime=runtime))
    store = await flow.get_task_datastore("1795447905376589", "start", "1")
    value = await store.load_artifact("note_text")
    assert isinstance(value, IncludedFile)
    assert value.descriptor["url"].startswith("local:///srv/metaflow/data/TourFlow/")


def test_every_golden_blob_is_described(golden_root: Path) -> None:
    stored = {path.name for path in (golden_root / "TourFlow/data").rglob("*") if len(path.name) == 40}
    assert stored == set(BLOBS)
    for key, blob in BLOBS.items():
        content = gzip.decompress((golden_root / blob["stored_file"]).read_bytes())
        assert hashlib.sha1(content).hexdigest() == key
