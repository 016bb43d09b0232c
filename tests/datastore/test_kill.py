"""A process that is killed while it writes a task leaves it done and complete, or not done."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from asyncstore.datastore.flow import FlowDataStore
from asyncstore.metadata.base import fetch_objects
from asyncstore.metadata.local import LocalMetadataProvider
from asyncstore.metadata.system import SystemInfo
from asyncstore.runtime import Runtime
from asyncstore.storage.local import LocalStorage
from tests.datastore.whole import VALUES, check_task

REPOSITORY = Path(__file__).parents[2]


def write_and_be_killed(root: Path, step: int) -> int:
    """Return the number of file operations that the whole write takes, or 0 if the process was killed."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.datastore.kill_writer", root, str(step)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if ended.returncode == -signal.SIGKILL:
        return 0
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout)


async def registered(provider: LocalMetadataProvider) -> set[str]:
    objects = await fetch_objects(provider, "artifact", "Flow", "r", "s", "task")
    return {one.path[-1] for one in objects}


async def check_killed(root: Path, runtime: Runtime) -> str:
    """Check what a killed writer left, mend it where it was done, and return how far it had come."""
    storage = LocalStorage(root, runtime=runtime, durability="fast")
    provider = LocalMetadataProvider(root, runtime=runtime, system=SystemInfo("tester"), durability="fast")
    done = await check_task(storage, "task")
    names = await registered(provider)
    if not done:
        assert not names
        return "not done"
    flow = FlowDataStore("Flow", storage, metadata=provider)
    await (await flow.get_task_datastore("r", "s", "task", attempt=0, mode="w")).done()
    assert await registered(provider) == set(VALUES)
    return "registered" if names == set(VALUES) else "done, not registered"


async def test_a_write_killed_at_some_file_operations_is_done_and_complete_or_not_done(
    scratch: Path, runtime: Runtime
) -> None:
    total = write_and_be_killed(scratch / "whole", 0)
    assert await check_killed(scratch / "whole", runtime) == "registered"
    outcomes = []
    for step in (total // 4, total // 2, total - len(VALUES) - 3, total - 1):
        assert write_and_be_killed(scratch / str(step), step) == 0
        outcomes.append(await check_killed(scratch / str(step), runtime))
    assert {"not done", "done, not registered"} <= set(outcomes)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_write_killed_a_hundred_times_is_done_and_complete_or_not_done(scratch: Path, runtime: Runtime) -> None:
    total = write_and_be_killed(scratch / "whole", 0)
    outcomes = []
    for number in range(100):
        step = 1 + number * (total - 1) // 100
        assert write_and_be_killed(scratch / str(number), step) == 0
        outcomes.append(await check_killed(scratch / str(number), runtime))
    assert outcomes.count("not done") > 10
    assert outcomes.count("done, not registered") > 3
