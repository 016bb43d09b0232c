"""Finished attempts that lack something, or of which nobody was told, are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncstore.datastore.flow import FlowDataStore
from asyncstore.errors import DataMissingError
from asyncstore.layout import blob_path
from asyncstore.maintain.attempts import CheckedAttempt, check_attempts
from asyncstore.metadata.local import LocalMetadataProvider
from asyncstore.metadata.system import SystemInfo
from asyncstore.runtime import Runtime
from asyncstore.storage.local import LocalStorage


class Store:
    """A flow on local disk with its metadata beside it."""

    def __init__(self, root: Path, runtime: Runtime) -> None:
        self.storage = LocalStorage(root, runtime=runtime, durability="fast")
        self.metadata = LocalMetadataProvider(root, runtime=runtime, system=SystemInfo("tester"))

    async def write(self, task: str, *, attempt: int = 0, registered: bool = True) -> None:
        await self.metadata.register_run_id("Flow", "r")
        await self.metadata.register_task_id("Flow", "r", "s", task)
        flow = FlowDataStore("Flow", self.storage, metadata=self.metadata if registered else None)
        store = await flow.get_task_datastore("r", "s", task, attempt=attempt, mode="w")
        await store.init_task()
        await store.save_artifacts({"x": f"{task} {attempt}", "none": None})
        await store.done()

    async def check(self, *, metadata: bool = True) -> dict[tuple[str, int], CheckedAttempt]:
        flow = FlowDataStore("Flow", self.storage)
        async with check_attempts(flow, metadata=self.metadata if metadata else None) as checked:
            return {(one.path.task, one.attempt): one async for one in checked}


@pytest.fixture
async def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root", Runtime())


async def test_attempts_that_are_complete_and_registered_are_well(store: Store) -> None:
    for attempt in (0, 1):
        await store.write("a", attempt=attempt)
    checked = await store.check()
    assert set(checked) == {("a", 0), ("a", 1)}
    assert all(one.cause is None and one.registered and not one.incomplete for one in checked.values())


async def test_an_attempt_that_is_done_and_not_registered_is_found_and_mended_by_done(store: Store) -> None:
    await store.write("a", registered=False)
    await store.write("b")
    checked = await store.check()
    assert checked["b", 0].registered
    assert checked["a", 0].registered is False
    assert "done, not registered" in str(checked["a", 0].cause)
    assert not checked["a", 0].incomplete
    flow = FlowDataStore("Flow", store.storage, metadata=store.metadata)
    await (await flow.get_task_datastore("r", "s", "a", attempt=0, mode="w")).done()
    assert (await store.check())["a", 0].cause is None


async def test_artifacts_registered_without_the_end_of_the_attempt_are_not_enough(store: Store) -> None:
    class HalfWay(LocalMetadataProvider):
        async def register_metadata(self, *arguments: object) -> None:
            raise ConnectionError

    whole = store.metadata
    await whole.register_run_id("Flow", "r")
    await whole.register_task_id("Flow", "r", "s", "a")
    store.metadata = HalfWay(whole.root, system=SystemInfo("tester"))
    with pytest.raises(ConnectionError):
        await store.write("a")
    await store.metadata.aclose()
    store.metadata = whole
    assert (await store.check())["a", 0].registered is False


async def test_an_attempt_with_a_lost_blob_or_index_is_incomplete(store: Store) -> None:
    await store.write("a")
    await store.write("b")
    key = (await FlowDataStore("Flow", store.storage).get_task_datastore("r", "s", "a")).index.objects["x"]
    await store.storage.delete(blob_path("Flow/data", key))
    await store.storage.delete("Flow/r/s/b/0.data.json")
    checked = await store.check(metadata=False)
    assert checked["a", 0].missing == ("x",)
    assert checked["a", 0].incomplete
    assert checked["a", 0].registered is None
    assert isinstance(checked["b", 0].error, DataMissingError)
    assert checked["b", 0].incomplete


async def test_attempts_that_are_not_done_are_passed_over(store: Store) -> None:
    flow = FlowDataStore("Flow", store.storage)
    await (await flow.get_task_datastore("r", "s", "a", attempt=0, mode="w")).init_task()
    assert await store.check() == {}
    assert await flow.runs() == ["r"]
