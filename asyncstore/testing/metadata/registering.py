"""Registering: ids, idempotence, sticky tags, system metadata."""

from __future__ import annotations

import anyio
import pytest

from asyncstore.errors import TaskNotFoundError
from asyncstore.metadata.base import MetadataProvider, fetch_objects
from asyncstore.testing.metadata.base import FLOW, OTHER_FLOW, ProviderCase, RawRun, artifact, datum, done


class RegisteringSuite(ProviderCase):
    """What `new_…` and `register_…` leave behind."""

    async def test_a_new_run_is_found_with_its_flow_owner_and_tags(self, provider: MetadataProvider) -> None:
        run = await provider.new_run_id(FLOW, tags=["nightly", "team:core"], system_tags=["project:x"])
        flow, found = await provider.get_object(FLOW), await provider.get_object(FLOW, run)
        assert flow is not None
        assert flow.path == (FLOW,)
        assert found is not None
        assert found.path == (FLOW, run)
        assert found.tags == {"nightly", "team:core"}
        assert "project:x" in found.system_tags
        assert f"user:{found.user_name}" in found.system_tags
        assert {tag.partition(":")[0] for tag in found.system_tags} >= {"runtime", "python_version", "metaflow_version"}

    async def test_new_runs_are_numbered_and_differ(self, provider: MetadataProvider, other: MetadataProvider) -> None:
        runs = [await handle.new_run_id(flow) for handle in (provider, other) for flow in (FLOW, OTHER_FLOW)]
        assert all(run.isdecimal() for run in runs)
        assert len(set(runs)) == 4

    async def test_runs_created_at_once_differ(self, provider: MetadataProvider) -> None:
        runs: list[str] = []

        async def create() -> None:
            runs.append(await provider.new_run_id(FLOW))

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(create)
        assert len(set(runs)) == 20
        assert {item.id for item in await fetch_objects(provider, "run", FLOW)} == set(runs)

    async def test_a_named_run_is_created_once(self, provider: MetadataProvider, other: MetadataProvider) -> None:
        assert await provider.register_run_id(FLOW, "sched-1", tags=["first"])
        assert not await other.register_run_id(FLOW, "sched-1", tags=["second"])
        found = await provider.get_object(FLOW, "sched-1")
        assert found is not None
        assert found.tags == {"first"}

    async def test_a_run_number_is_not_registered_again(self, provider: MetadataProvider) -> None:
        assert not await provider.register_run_id(FLOW, "123456")
        assert await fetch_objects(provider, "run", FLOW) == []

    async def test_a_new_task_has_its_step_and_system_metadata(self, provider: MetadataProvider) -> None:
        run = await provider.new_run_id(FLOW, tags=["t"])
        task = await provider.new_task_id(FLOW, run, "start")
        step, found = await provider.get_object(FLOW, run, "start"), await provider.get_object(FLOW, run, "start", task)
        assert step is not None
        assert found is not None
        assert found.path == (FLOW, run, "start", task)
        rows = await fetch_objects(provider, "metadata", FLOW, run, "start", task)
        assert {row.datum.field for row in rows if row.datum} >= {"runtime", "python_version", "metaflow_version"}
        assert all(row.attempt == 0 for row in rows)

    async def test_new_tasks_of_one_step_at_once_differ(self, provider: MetadataProvider) -> None:
        run = await provider.new_run_id(FLOW)
        tasks: list[str] = []

        async def create() -> None:
            tasks.append(await provider.new_task_id(FLOW, run, "fan"))

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(create)
        assert len(set(tasks)) == 20
        assert {item.id for item in await fetch_objects(provider, "task", FLOW, run, "fan")} == set(tasks)

    async def test_tasks_of_two_handles_differ(self, provider: MetadataProvider, other: MetadataProvider) -> None:
        run = await provider.new_run_id(FLOW)
        handles = (provider, other, provider, other)
        tasks = [await handle.new_task_id(FLOW, run, step) for handle in handles for step in ("a", "b")]
        assert len(set(tasks)) == 8

    async def test_a_named_task_is_created_once_and_records_each_attempt(self, provider: MetadataProvider) -> None:
        await provider.register_run_id(FLOW, "sched-1")
        assert await provider.register_task_id(FLOW, "sched-1", "start", "pod-1")
        assert not await provider.register_task_id(FLOW, "sched-1", "start", "pod-1", attempt=1)
        assert [item.id for item in await fetch_objects(provider, "task", FLOW, "sched-1", "start")] == ["pod-1"]
        rows = await fetch_objects(provider, "metadata", FLOW, "sched-1", "start", "pod-1")
        assert sorted(str(row.attempt) for row in rows if row.datum and row.datum.field == "runtime") == ["0", "1"]

    async def test_a_task_number_records_system_metadata_only(self, provider: MetadataProvider) -> None:
        run = await provider.new_run_id(FLOW)
        task = await provider.new_task_id(FLOW, run, "start")
        assert not await provider.register_task_id(FLOW, run, "start", task, attempt=1)
        assert len(await fetch_objects(provider, "task", FLOW, run, "start")) == 1
        assert await fetch_objects(provider, "metadata", FLOW, run, "start", task, attempt=1)

    async def test_artifacts_registered_again_stay_as_they_were(self, provider: MetadataProvider) -> None:
        run = await provider.new_run_id(FLOW)
        task = await provider.new_task_id(FLOW, run, "start")
        await done(provider, run, "start", task, 0)
        for content in ("1", "2"):
            await provider.register_data_artifacts(
                FLOW, run, "start", task, attempt=0, artifacts=[artifact("x", content)]
            )
        [found] = [
            item for item in await fetch_objects(provider, "artifact", FLOW, run, "start", task) if item.id == "x"
        ]
        assert found.artifact == artifact("x", "1")

    async def test_one_field_registered_many_times_keeps_every_row(self, provider: MetadataProvider) -> None:
        run = await provider.new_run_id(FLOW)
        task = await provider.new_task_id(FLOW, run, "start")
        await provider.register_metadata(FLOW, run, "start", task, [datum("mark", str(n)) for n in range(20)])
        rows = await fetch_objects(provider, "metadata", FLOW, run, "start", task)
        assert sorted(int(str(row.datum.value)) for row in rows if row.datum and row.datum.field == "mark") == [
            *range(20)
        ]

    async def test_hundreds_of_artifacts_and_rows_are_registered_in_bulk(self, provider: MetadataProvider) -> None:
        run = await provider.new_run_id(FLOW)
        task = await provider.new_task_id(FLOW, run, "start")
        await done(provider, run, "start", task, 0, *(f"a{number}" for number in range(300)))
        await provider.register_metadata(FLOW, run, "start", task, [datum(f"f{number}") for number in range(300)])
        assert len(await fetch_objects(provider, "artifact", FLOW, run, "start", task)) == 301
        assert len(await fetch_objects(provider, "metadata", FLOW, run, "start", task)) >= 300

    async def test_sticky_tags_go_on_all_that_is_registered_afterwards(
        self, provider: MetadataProvider, other: MetadataProvider, raw_run: RawRun
    ) -> None:
        before = await provider.new_run_id(FLOW)
        provider.add_sticky_tags(tags=["sticky"], system_tags=["project:x"])
        run, others = await provider.new_run_id(FLOW, tags=["own"]), await other.new_run_id(FLOW)
        assert set(raw_run(FLOW, run)["tags"]) == {"sticky", "own"}
        assert "project:x" in raw_run(FLOW, run)["system_tags"]
        assert set(raw_run(FLOW, before)["tags"]) == set(raw_run(FLOW, others)["tags"]) == set()

    async def test_nothing_is_registered_below_what_is_unknown(self, provider: MetadataProvider) -> None:
        run = await provider.new_run_id(FLOW)
        with pytest.raises(TaskNotFoundError):
            await provider.new_task_id(FLOW, "424242", "start")
        with pytest.raises(TaskNotFoundError):
            await provider.register_task_id(FLOW, "no-such-run", "start", "pod-1")
        with pytest.raises(TaskNotFoundError):
            await provider.register_metadata(FLOW, run, "start", "424242", [datum("f")])
        with pytest.raises(TaskNotFoundError):
            await provider.register_data_artifacts(FLOW, run, "start", "424242", attempt=0, artifacts=[artifact("x")])
