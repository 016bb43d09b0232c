"""What Metaflow wrote is read back equal to what Metaflow's client says of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from asyncstore.metadata.base import fetch_objects
from asyncstore.metadata.local import LocalMetadataProvider
from asyncstore.metadata.objects import TagFilter
from asyncstore.metadata.records import MetaObject
from tests.golden import expected

FLOW = "TourFlow"
RUNS: dict[str, Any] = expected()["flow"]["runs"]


@pytest.fixture
async def golden(golden_root: Path) -> AsyncIterator[LocalMetadataProvider]:
    async with LocalMetadataProvider(golden_root) as provider:
        yield provider


def as_listed(rows: list[MetaObject]) -> list[dict[str, Any]]:
    found = [
        {"created_at": row.ts_epoch, "name": row.datum.field, "type": row.datum.type, "value": row.datum.value}
        for row in rows
        if row.datum is not None
    ]
    assert len(found) == len(rows)
    return sorted(found, key=itemgetter("created_at", "name"))


def keys(artifacts: list[MetaObject]) -> dict[str, str]:
    found = {item.id: item.artifact.sha for item in artifacts if item.artifact is not None}
    assert len(found) == len(artifacts)
    return found


def carries_tags_of(item: MetaObject, listed: dict[str, Any]) -> bool:
    return item.tags == set(listed["user_tags"]) and item.system_tags == set(listed["system_tags"])


async def test_flow_and_runs_are_those_that_metaflow_lists_in_its_order(golden: LocalMetadataProvider) -> None:
    flow = await golden.get_object(FLOW)
    assert flow is not None
    assert flow.ts_epoch == expected()["flow"]["created_at"]
    assert [item.id for item in await fetch_objects(golden, "flow")] == [FLOW]
    runs = await fetch_objects(golden, "run", FLOW)
    assert [item.id for item in runs] == expected()["flow"]["runs_order"]
    for run in runs:
        assert run.ts_epoch == RUNS[run.id]["created_at"]
        assert carries_tags_of(run, RUNS[run.id])
        assert await golden.get_object(*run.path) == run
    assert await golden.read_latest_run(FLOW) == max(RUNS)


async def test_filters_by_tag_find_the_runs_that_metaflow_finds(golden: LocalMetadataProvider) -> None:
    for tag, runs in expected()["runs_by_tag"].items():
        found = await fetch_objects(golden, "run", FLOW, filters=TagFilter(any_tags=[tag]))
        assert [item.id for item in found] == runs, tag


@pytest.mark.parametrize("run", RUNS)
async def test_steps_and_tasks_are_those_that_metaflow_lists(golden: LocalMetadataProvider, run: str) -> None:
    listed = RUNS[run]["steps"]
    steps = await fetch_objects(golden, "step", FLOW, run)
    assert {item.id for item in steps} == set(listed)
    if not RUNS[run]["steps_order_ties"]:
        assert [item.id for item in steps if not item.id.startswith("_")] == RUNS[run]["steps_order"]
    for step in steps:
        assert step.ts_epoch == listed[step.id]["created_at"]
        tasks = await fetch_objects(golden, "task", *step.path)
        assert {item.id for item in tasks} == set(listed[step.id]["tasks"])
        for task in tasks:
            assert task.ts_epoch == listed[step.id]["tasks"][task.id]["created_at"]
            assert carries_tags_of(task, listed[step.id]["tasks"][task.id])
            assert await golden.get_object(*task.path) == task
    below_run = await fetch_objects(golden, "task", FLOW, run)
    assert {item.path[2:] for item in below_run} == {(step, task) for step in listed for task in listed[step]["tasks"]}


@pytest.mark.parametrize("run", RUNS)
async def test_artifacts_are_those_that_metaflow_lists_for_each_attempt(
    golden: LocalMetadataProvider, run: str
) -> None:
    for step, task, listed in tasks_of(run):
        path = (FLOW, run, step, task)
        latest = await fetch_objects(golden, "artifact", *path)
        assert keys(latest) == listed["artifacts"] | listed["private_artifacts"]
        assert all(carries_tags_of(item, listed) for item in latest)
        for attempt, of_attempt in listed.get("attempts", {}).items():
            found = await fetch_objects(golden, "artifact", *path, attempt=int(attempt))
            assert keys(found) == of_attempt["artifacts"] | of_attempt["private_artifacts"]
            for item in found:
                assert await golden.get_object(*item.path, attempt=int(attempt)) == item


@pytest.mark.parametrize("run", RUNS)
async def test_metadata_is_what_metaflow_lists_for_each_attempt(golden: LocalMetadataProvider, run: str) -> None:
    for step, task, listed in tasks_of(run):
        path = (FLOW, run, step, task)
        rows = await fetch_objects(golden, "metadata", *path)
        mine = as_listed(rows)
        # Of a cloned task Metaflow's client shows the origin's latest row too, for each name that it lacks.
        own = {row["name"]: row["value"] for row in mine}
        origin = (
            await fetch_objects(golden, "metadata", FLOW, str(own["origin-run-id"]), step, str(own["origin-task-id"]))
            if "origin-task-id" in own
            else []
        )
        lacking = {row["name"]: row for row in as_listed(origin) if row["name"] not in own}
        together = sorted([*mine, *lacking.values()], key=itemgetter("created_at", "name"))
        assert together == listed["metadata"]
        assert {name: value["value"] for name, value in latest(together).items()} == listed["metadata_dict"]
        if not origin:
            for attempt, of_attempt in listed.get("attempts", {}).items():
                found = await fetch_objects(golden, "metadata", *path, attempt=int(attempt))
                assert as_listed(found) == of_attempt["metadata"]


async def test_all_artifacts_of_a_run_are_those_of_its_tasks(golden: LocalMetadataProvider) -> None:
    for run in RUNS:
        found = {item.path for item in await fetch_objects(golden, "artifact", FLOW, run)}
        assert found == {
            (FLOW, run, step, task, name)
            for step, task, listed in tasks_of(run)
            for name in listed["artifacts"] | listed["private_artifacts"]
        }


async def test_reading_writes_nothing(golden: LocalMetadataProvider, golden_root: Path) -> None:
    records = golden_root / FLOW / next(iter(RUNS)) / "inner"
    before = sorted((str(path), path.stat().st_mtime_ns) for path in records.rglob("*"))
    await fetch_objects(golden, "metadata", FLOW, next(iter(RUNS)))
    await golden.filter_tasks_by_metadata(FLOW, next(iter(RUNS)), "inner", field="foreach-stack", pattern="k")
    assert sorted((str(path), path.stat().st_mtime_ns) for path in records.rglob("*")) == before


def test_the_golden_data_has_tasks_of_more_than_one_attempt() -> None:
    listed = [tasks for run in RUNS for _, _, tasks in tasks_of(run) if len(tasks.get("attempts", {})) > 1]
    assert len(listed) >= 3


def tasks_of(run: str) -> list[tuple[str, str, dict[str, Any]]]:
    steps = RUNS[run]["steps"]
    return [(step, task, steps[step]["tasks"][task]) for step in steps for task in steps[step]["tasks"]]


def latest(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in rows}
