"""Many processes at one local tree at the same moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asyncstore.metadata.base import fetch_objects
from asyncstore.metadata.local import LocalMetadataProvider
from asyncstore.metadata.system import SystemInfo

FLOW = "BusyFlow"
REPOSITORY = Path(__file__).parents[2]


def together(what: str, count: int, root: Path, *arguments: str) -> list[Any]:
    answer = subprocess.run(
        [sys.executable, "-m", "tests.metadata.many_processes", what, str(count), root, FLOW, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    return [json.loads(line) for line in answer.stdout.splitlines()]


@pytest.fixture
def provider(tmp_path: Path) -> LocalMetadataProvider:
    return LocalMetadataProvider(tmp_path / ".metaflow", system=SystemInfo("owner"))


async def test_tags_added_by_50_processes_at_once_are_all_there(provider: LocalMetadataProvider) -> None:
    run = await provider.new_run_id(FLOW, tags=["first"])
    # Room for all: the limit of 50 tags would otherwise refuse the last one.
    await provider.mutate_user_tags_for_run(FLOW, run, remove=["first"])
    before = await provider.get_object(FLOW, run)
    answers = together("tags", 50, Path(provider.root), run)
    after = await provider.get_object(FLOW, run)
    assert before is not None
    assert after is not None
    assert after.tags == {f"tag{number}" for number in range(50)}
    assert (after.ts_epoch, after.user_name, after.system_tags) == (
        before.ts_epoch,
        before.user_name,
        before.system_tags,
    )
    assert sorted(map(len, answers)) == list(range(1, 51))  # each saw the changes of those before it
    assert hidden_files(provider) == []


async def test_runs_created_by_20_processes_at_once_have_different_ids(provider: LocalMetadataProvider) -> None:
    runs = together("runs", 20, Path(provider.root))
    assert len(set(runs)) == 20
    listed = await fetch_objects(provider, "run", FLOW)
    assert {item.id for item in listed} == set(runs)
    assert {item.user_name for item in listed} == {f"user{number}" for number in range(20)}


async def test_tasks_created_by_20_processes_at_once_have_different_ids(provider: LocalMetadataProvider) -> None:
    run = await provider.new_run_id(FLOW)
    tasks = [task for pair in together("tasks", 20, Path(provider.root), run) for task in pair]
    assert sorted(tasks, key=int) == [str(number) for number in range(40)]
    assert {item.id for item in await fetch_objects(provider, "task", FLOW, run)} == set(tasks)


def hidden_files(provider: LocalMetadataProvider) -> list[Path]:
    return [path for path in Path(provider.root).rglob(".*") if path.is_file()]


KILLED = """
import anyio, os, sys
from asyncstore.metadata.local import LocalMetadataProvider
from asyncstore.metadata.records import DataArtifactRecord, MetaDatum
from asyncstore.metadata.system import SystemInfo

calls = 0
kill_at = int(sys.argv[2])
def count(event, arguments):
    global calls
    if event in {"open", "os.link", "os.rename", "os.remove", "os.mkdir"} and sys.argv[1] in str(arguments[0]):
        calls += 1
        if calls == kill_at:
            os.kill(os.getpid(), 9)

async def main():
    async with LocalMetadataProvider(sys.argv[1], system=SystemInfo("u"), durability="fast") as provider:
        run = await provider.new_run_id("F", tags=["a"])
        task = await provider.new_task_id("F", run, "start")
        await provider.register_metadata("F", run, "start", task, [MetaDatum("attempt-done", "0", "attempt-done")])
        record = DataArtifactRecord("x", "local", "/r", None, "pickle-v4", "0" * 40)
        await provider.register_data_artifacts("F", run, "start", task, attempt=0, artifacts=[record])
        await provider.mutate_user_tags_for_run("F", run, add=["b"], remove=["a"])

sys.addaudithook(count)
anyio.run(main)
print(calls)
"""


async def test_a_process_killed_at_any_call_leaves_a_tree_that_reads_whole(tmp_path: Path) -> None:
    survived = False
    for kill_at in range(1, 400, 3):
        root = tmp_path / str(kill_at)
        answer = subprocess.run(
            [sys.executable, "-c", KILLED, root, str(kill_at)], cwd=REPOSITORY, capture_output=True, check=False
        )
        survived = answer.returncode == 0
        assert survived or answer.returncode == -signal.SIGKILL, answer.stderr.decode()
        async with LocalMetadataProvider(root) as provider:
            for run in await fetch_objects(provider, "run", "F"):
                assert run.tags in ({"a"}, {"b"})
                for kind in ("step", "task", "metadata", "artifact"):
                    await fetch_objects(provider, kind, "F", run.id)
        if survived:
            break
    assert survived
    assert os.path.isdir(root)
