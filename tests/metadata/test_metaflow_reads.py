"""What the local provider writes, the real Metaflow client lists: the same tags, times, metadata and artifacts."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncstore.metadata.base import fetch_objects
from asyncstore.metadata.local import LocalMetadataProvider
from asyncstore.metadata.records import DataArtifactRecord, MetaDatum
from asyncstore.metadata.system import SystemInfo

pytestmark = pytest.mark.servers

FLOW = "ListedFlow"
SYSTEM = SystemInfo("tester", script_name="listed.py", git_info={"repo_url": "x", "commit_sha": "", "dirty": False})
Client = Callable[..., Any]


@pytest.fixture
def client(metaflow_python: Path, tmp_path: Path) -> Client:
    def run(command: str, *arguments: str) -> Any:
        environ = {**os.environ, "TZ": "UTC", "USER": "tester", "METAFLOW_HOME": str(tmp_path / "home")}
        answer = subprocess.run(
            [metaflow_python, Path(__file__).with_name("metaflow_client.py"), command, tmp_path, *arguments],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout) if answer.stdout else None

    return run


async def write_runs(provider: LocalMetadataProvider) -> list[str]:
    """Write a run as a scheduler and its tasks would, a named one, and return their ids."""
    provider.add_sticky_tags(tags=["team:core"], system_tags=["project:p"])
    run = await provider.new_run_id(FLOW, tags=["nightly", "ümlaut ✓"])
    await provider.register_run_id(FLOW, "sched-1", tags=["named"])
    for run_id, task_id in ((run, None), ("sched-1", "pod-1")):
        for step in ("_parameters", "start", "end"):
            if task_id is None:
                task = await provider.new_task_id(FLOW, run_id, step)
            else:
                task = f"{task_id}-{step}"
                await provider.register_task_id(FLOW, run_id, step, task)
            for attempt in (0, 1):
                await write_attempt(provider, (FLOW, run_id, step, task), attempt)
    await provider.mutate_user_tags_for_run(FLOW, run, add=["reviewed"], remove=["nightly"])
    await provider.write_latest_run(FLOW, run)
    return [run, "sched-1"]


async def write_attempt(provider: LocalMetadataProvider, path: tuple[str, str, str, str], attempt: int) -> None:
    tags = (f"attempt_id:{attempt}",)
    await provider.register_task_id(*path, attempt=attempt)
    await provider.register_metadata(
        *path, [MetaDatum("attempt", str(attempt), "attempt", tags), MetaDatum("ds-type", "local", "ds-type", tags)]
    )
    await provider.register_metadata(*path, [MetaDatum("attempt_ok", "True", "internal_attempt_status", tags)])
    await provider.register_metadata(*path, [MetaDatum("attempt-done", str(attempt), "attempt-done", tags)])
    names = ["name", "_task_ok", "x", f"only_{attempt}"]
    records = [
        DataArtifactRecord(name, "local", "/data/.metaflow", None, "pickle-v4", f"{attempt}{number}".rjust(40, "0"))
        for number, name in enumerate(names)
    ]
    await provider.register_data_artifacts(*path, attempt=attempt, artifacts=records)


async def listed_task(provider: LocalMetadataProvider, path: tuple[str, ...], attempt: int | None) -> dict[str, Any]:
    task = await provider.get_object(*path)
    assert task is not None
    artifacts = await fetch_objects(provider, "artifact", *path, attempt=attempt)
    rows = await fetch_objects(provider, "metadata", *path, attempt=attempt)
    keys = {item.id: item.artifact.sha for item in artifacts if item.artifact}
    return {
        "created_at": task.ts_epoch,
        "user_tags": sorted(task.tags),
        "system_tags": sorted(task.system_tags),
        "metadata": sorted(
            [row.ts_epoch, row.datum.field, row.datum.type, row.datum.value] for row in rows if row.datum
        ),
        "artifacts": {name: key for name, key in keys.items() if not name.startswith("_")},
        "ok": keys.get("_task_ok"),
    }


async def test_metaflow_lists_what_we_wrote_as_we_list_it(tmp_path: Path, client: Client) -> None:
    async with LocalMetadataProvider(tmp_path / ".metaflow", system=SYSTEM) as provider:
        run, named = await write_runs(provider)
        listed = client("list", FLOW)
        assert listed["order"] == [item.id for item in await fetch_objects(provider, "run", FLOW)] == [named, run]
        assert listed["runs"][run]["user_tags"] == ["reviewed", "team:core", "ümlaut ✓"]
        assert "project:p" in listed["runs"][run]["system_tags"]
        for run_id in (run, named):
            found = await provider.get_object(FLOW, run_id)
            assert found is not None
            assert listed["runs"][run_id]["created_at"] == found.ts_epoch
            assert listed["runs"][run_id]["user_tags"] == sorted(found.tags)
            assert listed["runs"][run_id]["system_tags"] == sorted(found.system_tags)
            steps = await fetch_objects(provider, "step", FLOW, run_id)
            assert (
                set(listed["runs"][run_id]["steps"]) == {step.id for step in steps} == {"_parameters", "start", "end"}
            )
            for step in steps:
                shown = listed["runs"][run_id]["steps"][step.id]
                assert shown["created_at"] == step.ts_epoch
                tasks = await fetch_objects(provider, "task", *step.path)
                assert set(shown["tasks"]) == {task.id for task in tasks}
                for task in tasks:
                    assert shown["tasks"][task.id]["latest"] == await listed_task(provider, task.path, None)
                    for attempt in (0, 1):
                        assert shown["tasks"][task.id]["attempts"][str(attempt)] == await listed_task(
                            provider, task.path, attempt
                        )


async def test_a_tag_that_metaflow_adds_is_read_here(tmp_path: Path, client: Client) -> None:
    async with LocalMetadataProvider(tmp_path / ".metaflow", system=SYSTEM) as provider:
        run = await provider.new_run_id(FLOW, tags=["ours"])
        client("tag", f"{FLOW}/{run}", "theirs")
        found = await provider.get_object(FLOW, run)
        assert found is not None
        assert found.tags == {"ours", "theirs"}
        assert await provider.mutate_user_tags_for_run(FLOW, run, remove=["theirs"]) == {"ours"}
