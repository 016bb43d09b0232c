"""How many requests opening, reading and writing tasks takes on a cloud: counted at the storage."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asyncstore.datastore.flow import FlowDataStore
from asyncstore.datastore.task_set import TaskDataStoreSet
from asyncstore.datastore.values import ForeachFrame
from asyncstore.runtime import Runtime
from asyncstore.types import ListEntry
from tests.cas.plain import PlainStorage

PAGE = 1000


class Cloud(PlainStorage):
    """Six verbs, each call a request; a listing is a request per thousand objects, at least one."""

    @property
    def requests(self) -> int:
        return self.calls.total()

    @asynccontextmanager
    async def list(self, prefix: str, *, recursive: bool = False) -> AsyncGenerator[AsyncIterator[ListEntry]]:
        async with super().list(prefix, recursive=recursive) as entries:
            yield self._counted(entries)

    async def _counted(self, entries: AsyncIterator[ListEntry]) -> AsyncIterator[ListEntry]:
        number = 0
        self.calls["list"] += 1
        async for entry in entries:
            if number and number % PAGE == 0:
                self.calls["list"] += 1
            number += 1
            yield entry


async def write(flow: FlowDataStore, step: str, task: str, values: dict[str, Any], attempt: int = 0) -> None:
    store = await flow.get_task_datastore("r", step, task, attempt=attempt, mode="w")
    await store.init_task()
    await store.save_artifacts(values)
    await store.save_logs("runtime", {"stdout": b"out", "stderr": b"err"})
    await store.save_metadata({"task_begin": {}, "task_end": {}, "runtime": {}})
    await store.done()


async def cloud_with(runtime: Runtime, tasks: int) -> tuple[Cloud, FlowDataStore]:
    cloud = Cloud("cloud", runtime=runtime)
    flow = FlowDataStore("Flow", cloud)
    for number in range(tasks):
        frames = [ForeachFrame("s", "items", tasks, number, None)]
        await write(flow, "s", str(number), {"x": number, "shared": "same", "_foreach_stack": frames})
    cloud.calls.clear()
    return cloud, FlowDataStore("Flow", cloud)


async def test_opening_a_finished_task_takes_two_requests_whatever_the_number_of_attempts(runtime: Runtime) -> None:
    cloud, flow = await cloud_with(runtime, 1)
    for attempt in range(1, 6):
        await write(flow, "s", "0", {"x": attempt}, attempt)
    for asked, given in ((None, 5), (3, 3)):
        cloud.calls.clear()
        store = await flow.get_task_datastore("r", "s", "0", attempt=asked)
        assert store.attempt == given
        assert cloud.calls == {"list": 1, "get": 1}


async def test_opening_a_task_to_write_takes_none_and_done_takes_three(runtime: Runtime) -> None:
    cloud, flow = await cloud_with(runtime, 0)
    store = await flow.get_task_datastore("r", "s", "0", attempt=0, mode="w")
    assert cloud.requests == 0
    await store.init_task()
    assert cloud.calls == {"put": 1}
    await store.save_artifacts({f"a{number}": number for number in range(20)})
    assert cloud.calls == {"put": 21}
    cloud.calls.clear()
    await store.done()
    assert cloud.calls == {"head": 1, "put": 2}


async def test_a_thousand_tasks_of_a_run_take_a_thousand_requests_and_the_pages_of_a_listing(runtime: Runtime) -> None:
    cloud, flow = await cloud_with(runtime, 1000)
    stores = await flow.get_task_datastores("r")
    assert len(stores) == 1000
    pages = 9  # of 9 objects a task: attempt, index, marker, three files, two logs; blobs lie elsewhere
    assert cloud.calls["get"] == 1000
    assert cloud.calls["list"] <= pages
    assert cloud.requests <= 1000 + pages


async def test_many_tasks_by_pathspec_take_one_listing_per_step(runtime: Runtime) -> None:
    cloud, flow = await cloud_with(runtime, 20)
    stores = await flow.get_task_datastores(pathspecs=[f"r/s/{number}" for number in range(20)])
    assert len(stores) == 20
    assert cloud.calls == {"list": 1, "get": 20}
    cloud.calls.clear()
    await flow.get_task_datastores(pathspecs=["r/s/3", "r/s/4"])
    assert cloud.calls == {"list": 2, "get": 2}


async def test_shared_artifacts_of_a_set_are_loaded_once(runtime: Runtime) -> None:
    cloud, flow = await cloud_with(runtime, 20)
    tasks = await TaskDataStoreSet.open(flow, "r", prefetch=["shared", "x", "unknown"])
    cloud.calls.clear()
    for number, task in enumerate(tasks):
        assert await task.fetch_artifacts(["shared", "x"]) == {"shared": "same", "x": number}
    assert cloud.requests == 0


async def test_the_index_of_a_set_loads_each_distinct_stack_once(runtime: Runtime) -> None:
    cloud, flow = await cloud_with(runtime, 20)
    tasks = await TaskDataStoreSet.open(flow, "r")
    cloud.calls.clear()
    found = await tasks.get_with_pathspec_index("r/s[7]")
    assert found is not None
    assert found.task_id == "7"
    assert cloud.calls == {"get": 20}
    assert await tasks.get_with_pathspec_index("r/s[70]") is None
    assert cloud.calls == {"get": 20}


async def test_names_sizes_keys_and_none_are_told_without_a_request(runtime: Runtime) -> None:
    cloud, flow = await cloud_with(runtime, 1)
    store = await flow.get_task_datastore("r", "s", "0")
    cloud.calls.clear()
    assert len(list(store)) == len(store.keys_for_artifacts(store)) == 3
    assert set(await store.get_artifact_sizes(store)) == set(store)
    assert not await store.is_none("x")
    assert cloud.requests == 0


async def test_an_equal_artifact_of_another_task_is_not_sent_again(runtime: Runtime) -> None:
    cloud, flow = await cloud_with(runtime, 1)
    store = await flow.get_task_datastore("r", "s", "9", attempt=0, mode="w")
    await store.save_artifacts({"shared": "same"})
    assert cloud.calls == {"put": 1, "head": 1}
    await store.save_artifacts({"again": "same"})
    assert cloud.calls == {"put": 1, "head": 1}


async def test_tasks_in_the_root_of_a_run_that_are_not_tasks_are_passed_over(runtime: Runtime) -> None:
    cloud, flow = await cloud_with(runtime, 1)
    for path in ("Flow/r/file", "Flow/r/s/file", "Flow/r/s/0/deeper/0.DONE.lock", "Flow/latest_run"):
        await cloud.put(path, b"")
    assert [store.task_id for store in await flow.get_task_datastores("r", allow_not_done=True)] == ["0"]
