"""Sets of tasks and the inputs of joins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from asyncstore.datastore.flow import FlowDataStore
from asyncstore.datastore.inputs import Inputs
from asyncstore.datastore.task_set import TaskDataStoreSet
from asyncstore.datastore.values import ForeachFrame
from asyncstore.errors import DataMissingError


async def write(flow: FlowDataStore, task: str, values: dict[str, Any], *, done: bool = True) -> None:
    store = await flow.get_task_datastore("r", "s", task, attempt=0, mode="w")
    await store.init_task()
    await store.save_artifacts(values)
    if done:
        await store.done()


async def test_a_set_finds_its_tasks_by_pathspec_and_by_index(flow: FlowDataStore) -> None:
    for index in range(3):
        await write(flow, str(index), {"_foreach_stack": [ForeachFrame("s", "i", 3, index)], "x": index})
    tasks = await TaskDataStoreSet.open(flow, pathspecs=["r/s/2", "r/s/0", "r/s/9"], prefetch=["x"])
    assert [task.task_id for task in tasks] == ["2", "0"]
    assert len(tasks) == 2
    found = tasks.get_with_pathspec("r/s/0")
    assert found is not None
    assert await found.load_artifact("x") == 0
    assert tasks.get_with_pathspec("r/s/1") is None
    by_index = await tasks.get_with_pathspec_index("r/s[2]")
    assert by_index is not None
    assert by_index.task_id == "2"
    assert await tasks.get_with_pathspec_index("r/s[1]") is None


async def test_prefetched_blobs_are_kept_by_the_set_alone(flow: FlowDataStore) -> None:
    await write(flow, "1", {"x": [1]})
    tasks = await TaskDataStoreSet.open(flow, "r", prefetch=["x"])
    [task] = tasks
    await flow.storage.delete(f"Flow/data/{task.index.objects['x'][:2]}/{task.index.objects['x']}")
    first, second = await task.load_artifact("x"), await task.load_artifact("x")
    assert first == second == [1]
    assert first is not second
    with pytest.raises(LookupError):
        await (await flow.get_task_datastore("r", "s", "1")).load_artifact("x")


async def test_with_unfinished_tasks_the_look_ups_find_nothing(flow: FlowDataStore) -> None:
    await write(flow, "1", {"_foreach_stack": []})
    await write(flow, "2", {"x": 1}, done=False)
    tasks = await TaskDataStoreSet.open(flow, "r", allow_not_done=True, prefetch=["x"])
    assert len(tasks) == 2
    assert tasks.get_with_pathspec("r/s/1") is None
    assert await tasks.get_with_pathspec_index("r/s[]") is None


async def test_a_task_without_a_stack_has_no_index(flow: FlowDataStore) -> None:
    await write(flow, "1", {"x": 1})
    tasks = await TaskDataStoreSet.open(flow, "r")
    with pytest.raises(DataMissingError, match="_foreach_stack"):
        await tasks.get_with_pathspec_index("r/s[]")


@dataclass
class Branch:
    _current_step: str
    value: int


def test_inputs_are_found_by_step_by_position_and_in_order() -> None:
    inputs = Inputs([Branch("left", 1), Branch("right", 2), Branch("left", 3)])
    assert [branch.value for branch in inputs] == [1, 2, 3]
    assert (inputs[0].value, inputs[-1].value, len(inputs)) == (1, 3, 3)
    assert (inputs.left.value, inputs.right.value) == (3, 2)
    with pytest.raises(AttributeError, match="no input comes from step 'middle'; the steps are: left, right"):
        _ = inputs.middle


def test_inputs_may_be_anything_whose_step_is_told() -> None:
    assert Inputs(["a:1", "b:2"], step_of=lambda text: text[0]).b == "b:2"
