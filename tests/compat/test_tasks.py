"""Tasks both ways between asyncstore and Metaflow: its client and its task datastore, on local disk and on S3."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from asyncstore.datastore.flow import FlowDataStore
from asyncstore.datastore.includes import save_included
from asyncstore.datastore.logs import format_line, merge_logs
from asyncstore.datastore.values import ForeachFrame, IncludedFile, MetaflowExceptionWrapper
from asyncstore.datastore.writable import WritableTaskDataStore
from asyncstore.metadata.local import LocalMetadataProvider
from asyncstore.metadata.records import MetaDatum
from asyncstore.metadata.system import SystemInfo
from asyncstore.storage.base import DataStoreStorage
from asyncstore.storage.registry import open_storage
from tests.compat.artifact_values import describe, framework_values, plain_values
from tests.compat.metaflow_store import plain_environ
from tests.servers.start import S3Server

pytestmark = pytest.mark.servers

FLOW = "WrittenFlow"
DRIVER = Path(__file__).with_name("metaflow_tasks.py")
START = datetime(2026, 11, 23, 15, 31, tzinfo=UTC)


@dataclass
class Place:
    """One datastore and one local metadata tree, as asyncstore and as Metaflow open them."""

    kind: str
    storage: DataStoreStorage
    directory: Path
    metadata: LocalMetadataProvider
    metaflow: Callable[..., Any]

    def flow(self, **options: Any) -> FlowDataStore:
        return FlowDataStore(FLOW, self.storage, metadata=self.metadata, **options)


def driver(python: Path, directory: Path, environ: dict[str, str]) -> Callable[..., Any]:
    def run(command: str, *arguments: str) -> Any:
        answer = subprocess.run(
            [python, DRIVER, command, *arguments],
            env={**plain_environ(), "TZ": "UTC", "USER": "tester", **environ,
                 "METAFLOW_CLIENT_CACHE_PATH": str(directory / "cache")},
            cwd=directory, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert answer.returncode == 0, answer.stderr[-4000:]
        return json.loads(answer.stdout)

    return run


@pytest.fixture(params=["local", "s3"])
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, metaflow_python: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    environ: dict[str, str] = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path)}
    root = str(tmp_path / ".metaflow")
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("moto")
        root = f"s3://{server.make_bucket()}/some/root"
        cloud = {**server.environ(), "METAFLOW_S3_ENDPOINT_URL": server.endpoint}
        environ |= {**cloud, "METAFLOW_DATASTORE_SYSROOT_S3": root}
        for name, value in cloud.items():
            monkeypatch.setenv(name, value)
    (tmp_path / ".metaflow").mkdir()
    async with open_storage(root) as storage:
        metadata = LocalMetadataProvider(tmp_path / ".metaflow", runtime=storage.runtime, system=SystemInfo("tester"))
        yield Place(request.param, storage, tmp_path, metadata, driver(metaflow_python, tmp_path, environ))


def log(*messages: str, source: str = "runtime") -> bytes:
    lines = (
        format_line(f"{text}\n".encode(), source=source, time=START + timedelta(seconds=number))
        for number, text in enumerate(messages)
    )
    return b"".join(lines)


async def start_attempt(place: Place, run: str, step: str, task: str, attempt: int) -> WritableTaskDataStore:
    store = await place.flow().get_task_datastore(run, step, task, attempt=attempt, mode="w")
    await store.init_task()
    rows = {"attempt": str(attempt), "origin-run-id": "None", "ds-type": place.kind, "ds-root": place.storage.root}
    tags = (f"attempt_id:{attempt}",)
    await place.metadata.register_metadata(FLOW, run, step, task, [MetaDatum(k, v, k, tags) for k, v in rows.items()])
    await store.save_metadata({"task_begin": {"retry_count": attempt}})
    return store


async def write_run(place: Place) -> tuple[str, dict[tuple[str, int], Any]]:
    """Write a run as a scheduler would: all kinds of values, a retry, a caught failure, a foreach, included files."""
    run = await place.metadata.new_run_id(FLOW)
    told: dict[tuple[str, int], Any] = {}

    async def write(
        step: str, values: dict[str, Any], *, ok: bool | None = True, success: bool = True, attempt: int = 0,
        task: str | None = None, logs: bytes = b"",
    ) -> str:  # fmt: skip
        task = task or await place.metadata.new_task_id(FLOW, run, step)
        store = await start_attempt(place, run, step, task, attempt)
        artifacts = {
            "name": FLOW,
            "_task_ok": ok,
            "_success": success,
            "_exception": None,
            "_foreach_stack": [],
        } | values
        keys = await store.save_artifacts(artifacts)
        await store.save_logs("runtime", {"stdout": logs, "stderr": log("to stderr")})
        await store.save_logs("task", {"stdout": log("from the container", source="task")})
        await store.save_metadata({"task_end": {}})
        await store.done()
        told[f"{FLOW}/{run}/{step}/{task}", attempt] = {"artifacts": artifacts, "keys": keys, "logs": logs}
        return task

    def failure(text: str) -> MetaflowExceptionWrapper:
        try:
            raise ValueError(text)
        except ValueError as error:
            return MetaflowExceptionWrapper(error)

    files_url = f"{place.kind}://{place.directory}/data" if place.kind == "local" else f"{place.storage.root}/data"
    async with open_storage(files_url.replace("local://", "file://"), runtime=place.storage.runtime) as files:
        included = {
            "note": await save_included(files, files_url, FLOW, "ein\r\nÜmlaut".encode(), is_text=True),
            "binary": await save_included(files, files_url, FLOW, b"\x00\x01", is_text=False),
        }
    await write("_parameters", {"alpha": 0.5, **included})
    await write("start", {**plain_values(), **included}, logs=log("first", "ümlaut ✓") + b"not structured")
    values = framework_values(ForeachFrame, MetaflowExceptionWrapper, IncludedFile)
    del values["included"]  # its file is nowhere
    await write("framework", values)
    retried = await write("retried", {"_exception": failure("first")}, ok=False, success=False, logs=log("failing"))
    await write("retried", {"tried": 1}, attempt=1, task=retried, logs=log("second try"))
    await write("caught", {"_exception": failure("caught"), "problem": failure("caught")}, ok=True, success=False)
    for index in range(2):
        frames = [ForeachFrame("inner", "items", 2, index, f"item {index}")]
        await write("inner", {"_foreach_stack": frames, "_iteration_stack": [], "item": index})
    await write("end", {"done": True})
    return run, told


def expected_value(value: Any) -> Any:
    if isinstance(value, IncludedFile):
        return describe("ein\nÜmlaut" if value.descriptor["is_text"] else b"\x00\x01")
    return describe(value)


async def test_metaflows_client_shows_what_was_written(place: Place) -> None:
    run, told = await write_run(place)
    shown = place.metaflow("client", str(place.directory), FLOW)
    assert {(pathspec, int(n)) for pathspec in shown for n in shown[pathspec]["attempts"]} == set(told)
    latest = {pathspec: max(n for other, n in told if other == pathspec) for pathspec, _ in told}
    for (pathspec, attempt), one in told.items():
        views = [shown[pathspec]["attempts"][str(attempt)]]
        if attempt == latest[pathspec]:
            views.append(shown[pathspec]["latest"])
        artifacts = one["artifacts"]
        for view in views:
            assert {name: item["sha"] for name, item in view["artifacts"].items()} == one["keys"]
            for name, value in artifacts.items():
                assert view["artifacts"][name]["value"] == expected_value(value), (pathspec, name)
            assert view["public"] == sorted(name for name in artifacts if not name.startswith("_"))
            assert view["finished"] is artifacts["_task_ok"]
            assert view["successful"] is artifacts["_success"]
            wrapper = artifacts["_exception"]
            assert view["exception"] == (None if wrapper is None else describe(wrapper))
            assert view["attempt"] == attempt
            assert view["finished_at"]
            frames = artifacts["_foreach_stack"]
            assert view["index"] == (frames[-1].index if frames else None)
            mine = [one["logs"], log("from the container", source="task")]
            if not pathspec.startswith(f"{FLOW}/{run}/_parameters"):
                assert view["stdout_size"] == sum(map(len, mine))
            lines = list(merge_logs(mine))
            assert view["stdout"] == "".join(f"{line.text}\n" for line in lines)
            assert view["stderr"] == "to stderr\n"
        if included := {name for name, value in artifacts.items() if isinstance(value, IncludedFile)}:
            sizes = {name: views[0]["artifacts"][name]["size"] for name in included}
            assert sizes == {"note": 12, "binary": 2}


@pytest.mark.parametrize(
    "place", ["local", pytest.param("s3", marks=pytest.mark.slow)], indirect=True
)  # on S3 Metaflow probes every attempt in a subprocess: 40 s
async def test_metaflows_task_datastore_shows_what_was_written(place: Place) -> None:
    run, told = await write_run(place)
    shown = place.metaflow("store", place.kind, place.storage.root, FLOW, run)
    for (pathspec, attempt), one in told.items():
        view = shown.get(pathspec.removeprefix(f"{FLOW}/"))
        if view is None or view["attempt"] != attempt:
            continue
        ours = await place.flow().get_task_datastore(*pathspec.split("/")[1:])
        values = {name: describe(value) for name, value in one["artifacts"].items() if name not in {"note", "binary"}}
        assert {name: value for name, value in view["values"].items() if name in values} == values
        assert view["index"] == await ours.pathspec_index()
        assert view["metadata"] == {"task_begin": {"retry_count": attempt}, "task_end": {}, "runtime": None}
        assert view["logs"] == [[source, data.decode()] for source, data in await ours.load_logs("stdout")]
        assert view["info"] == ours.index.info
        assert view["sizes"] == await ours.get_artifact_sizes(list(ours)) | {
            name: view["sizes"][name] for name in ("note", "binary") if name in view["sizes"]
        }
    assert {view["attempt"] for view in shown.values()} == {0, 1}
    assert len(shown) == len(told) - 1  # one task has two attempts


async def test_what_metaflows_task_datastore_wrote_is_read_with_the_same_keys_and_values(place: Place) -> None:
    written = place.metaflow("write", place.kind, place.storage.root, FLOW, "7")
    flow = place.flow()
    [store] = await flow.get_task_datastores("7")
    assert dict(store.items()) == written["keys"]
    values = await store.fetch_artifacts()
    assert {name: describe(value) for name, value in values.items()} | {"included": None} == {
        **written["values"],
        "included": None,
    }
    assert dict(await store.load_logs("stdout"))["runtime"] == b"written by Metaflow\n"


def test_the_same_objects_get_the_same_keys_in_one_process(metaflow_python: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    run = driver(metaflow_python, tmp_path, {"PYTHONHASHSEED": "0", "PYTHONPATH": os.fspath(root)})
    table = run("keys")
    assert len(table) > 35
    assert {name: ours for name, (_, ours) in table.items()} == {name: theirs for name, (theirs, _) in table.items()}
