"""Reading: objects, lists, filters, attempts."""

from __future__ import annotations

from typing import get_args

import anyio
import pytest

from asyncstore.errors import InvalidPathspecError, MetadataError, TaggingError
from asyncstore.metadata.base import MetadataProvider, fetch_objects
from asyncstore.metadata.objects import TagFilter
from asyncstore.metadata.records import Kind, MetaObject
from asyncstore.testing.metadata.base import FLOW, OTHER_FLOW, ProviderCase, artifact, datum, done


def fields(rows: list[MetaObject]) -> dict[str, list[str]]:
    """Return the values of each field, sorted."""
    found: dict[str, list[str]] = {}
    for row in rows:
        assert row.datum is not None
        found.setdefault(row.datum.field, []).append(str(row.datum.value))
    return {name: sorted(values) for name, values in found.items()}


class ReadingSuite(ProviderCase):
    """What `get_object`, `list_objects` and `filter_tasks_by_metadata` answer."""

    async def test_what_is_absent_is_none_and_an_empty_list(self, provider: MetadataProvider) -> None:
        run = await provider.new_run_id(FLOW)
        task = await provider.new_task_id(FLOW, run, "start")
        for path in (
            ("NoFlow",),
            (FLOW, "424242"),
            (FLOW, "no-such-run"),
            (FLOW, run, "nostep"),
            (FLOW, run, "start", "424242"),
            (FLOW, run, "start", "no-such-task"),
            (FLOW, run, "start", task, "nothing"),
        ):
            assert await provider.get_object(*path) is None
        assert await provider.get_object(FLOW, run, "start", task, "nothing", attempt=0) is None
        assert await fetch_objects(provider, "run", "NoFlow") == []
        assert await fetch_objects(provider, "step", FLOW, "424242") == []
        assert await fetch_objects(provider, "task", FLOW, run, "nostep") == []
        assert await fetch_objects(provider, "artifact", FLOW, run, "start", "424242") == []
        assert await fetch_objects(provider, "metadata", FLOW, run, "start", "424242") == []

    async def test_a_number_beyond_every_service_is_absent(self, provider: MetadataProvider) -> None:
        await provider.new_run_id(FLOW)
        assert await provider.get_object(FLOW, "99999999999999999999") is None

    async def test_each_kind_is_listed_below_each_of_its_parents(self, provider: MetadataProvider) -> None:
        run, other_run = await provider.new_run_id(FLOW), await provider.new_run_id(FLOW)
        await provider.new_run_id(OTHER_FLOW)
        start, end = await provider.new_task_id(FLOW, run, "start"), await provider.new_task_id(FLOW, run, "end")
        await done(provider, run, "start", start, 0, "x")
        await done(provider, run, "end", end, 0, "y")

        async def ids(kind: Kind, *path: str) -> set[str]:
            return {item.id for item in await fetch_objects(provider, kind, *path)}

        assert await ids("flow") == {FLOW, OTHER_FLOW}
        assert await ids("run", FLOW) == {run, other_run}
        assert await ids("step", FLOW, run) == {"start", "end"}
        assert await ids("task", FLOW, run) == {start, end}
        assert await ids("task", FLOW, run, "start") == {start}
        assert await ids("artifact", FLOW, run) == {"name", "x", "y"}
        assert await ids("artifact", FLOW, run, "start") == {"name", "x"}
        assert await ids("artifact", FLOW, run, "start", start) == {"name", "x"}
        assert await ids("metadata", FLOW, run) == {start, end}
        assert await ids("metadata", FLOW, run, "start", start) == {start}

    async def test_lists_are_newest_first(self, provider: MetadataProvider) -> None:
        runs = [await provider.new_run_id(FLOW) for _ in range(5)]
        listed = await fetch_objects(provider, "run", FLOW)
        assert [item.id for item in listed] == runs[::-1]
        assert [item.ts_epoch for item in listed] == sorted((item.ts_epoch for item in listed), reverse=True)

    async def test_an_iteration_left_early_leaves_the_provider_usable(self, provider: MetadataProvider) -> None:
        runs = [await provider.new_run_id(FLOW) for _ in range(3)]
        async with provider.list_objects("run", FLOW) as items:
            assert (await anext(items)).id == runs[-1]
        assert len(await fetch_objects(provider, "run", FLOW)) == 3

    async def test_a_list_longer_than_any_page_comes_whole(self, provider: MetadataProvider) -> None:
        run = await provider.new_run_id(FLOW)
        task = await provider.new_task_id(FLOW, run, "start")
        await provider.register_metadata(FLOW, run, "start", task, [datum("f", str(n)) for n in range(400)])
        rows = await fetch_objects(provider, "metadata", FLOW, run, "start", task)
        assert fields(rows)["f"] == sorted(str(n) for n in range(400))

    async def test_steps_tasks_and_artifacts_show_the_tags_of_their_run(self, provider: MetadataProvider) -> None:
        run = await provider.new_run_id(FLOW, tags=["run"])
        task = await provider.new_task_id(FLOW, run, "start", tags=["own"])
        await done(provider, run, "start", task, 0)
        await provider.mutate_user_tags_for_run(FLOW, run, add=["later"])
        run_object = await provider.get_object(FLOW, run)
        assert run_object is not None
        for path in ((FLOW, run, "start"), (FLOW, run, "start", task), (FLOW, run, "start", task, "name")):
            found = await provider.get_object(*path)
            assert found is not None
            assert found.tags == {"run", "later"}
            assert found.system_tags == run_object.system_tags
        rows = await fetch_objects(provider, "metadata", FLOW, run, "start", task)
        assert {tag for row in rows for tag in row.tags} == {"attempt_id:0"}

    async def test_filters_admit_what_carries_every_tag(self, provider: MetadataProvider) -> None:
        runs = {name: await provider.new_run_id(FLOW, tags=name.split("+")) for name in ("a", "b", "a+b", "a,b")}
        user = next(iter(await fetch_objects(provider, "run", FLOW))).user_name

        async def admitted(filters: TagFilter) -> set[str]:
            ids = {item.id for item in await fetch_objects(provider, "run", FLOW, filters=filters)}
            return {name for name, run in runs.items() if run in ids}

        assert await admitted(TagFilter(tags=["a"])) == {"a", "a+b"}
        assert await admitted(TagFilter(tags=["a", "b"])) == {"a+b"}
        assert await admitted(TagFilter(any_tags=["a", f"user:{user}"])) == {"a", "a+b"}
        assert await admitted(TagFilter(system_tags=["a"])) == set()
        assert await admitted(TagFilter(tags=[f"user:{user}"])) == set()
        assert await admitted(TagFilter(system_tags=[f"user:{user}"])) == set(runs)
        assert await admitted(TagFilter(any_tags=["a,b"])) == {"a,b"}
        assert await admitted(TagFilter(any_tags=["null"])) == set()
        assert await admitted(TagFilter()) == set(runs)

    async def test_artifacts_of_an_attempt_and_of_the_latest_differ(self, provider: MetadataProvider) -> None:
        run = await provider.new_run_id(FLOW)
        task = await provider.new_task_id(FLOW, run, "flaky")
        path = (FLOW, run, "flaky", task)
        await done(provider, run, "flaky", task, 0, "x", "only_first")
        await anyio.sleep(0.005)  # a service takes the attempt of the newest row, by milliseconds
        await done(provider, run, "flaky", task, 1, "x", "only_second")

        async def names(attempt: int | None) -> set[str]:
            return {item.id for item in await fetch_objects(provider, "artifact", *path, attempt=attempt)}

        assert await names(None) == await names(1) == {"name", "x", "only_second"}
        assert await names(0) == {"name", "x", "only_first"}
        assert await names(7) == set()
        latest, first = await provider.get_object(*path, "x"), await provider.get_object(*path, "x", attempt=0)
        assert latest is not None
        assert (latest.attempt, latest.artifact) == (1, artifact("x", "1"))
        assert first is not None
        assert (first.attempt, first.artifact) == (0, artifact("x", "0"))
        assert await provider.get_object(*path, "only_first") is None
        assert await provider.get_object(*path, "only_first", attempt=0) is not None

    async def test_metadata_of_an_attempt_goes_by_tag(self, provider: MetadataProvider) -> None:
        run = await provider.new_run_id(FLOW)
        task = await provider.new_task_id(FLOW, run, "flaky")
        path = (FLOW, run, "flaky", task)
        await provider.register_metadata(*path, [datum("mark", "first", attempt=0)])
        await provider.register_metadata(*path, [datum("mark", "second", attempt=1)])
        assert fields(await fetch_objects(provider, "metadata", *path, attempt=1)) == {"mark": ["second"]}
        assert fields(await fetch_objects(provider, "metadata", *path, attempt=0))["mark"] == ["first"]
        assert fields(await fetch_objects(provider, "metadata", *path))["mark"] == ["first", "second"]
        assert await fetch_objects(provider, "metadata", *path, attempt=2) == []

    async def test_a_row_without_attempt_makes_metadata_go_by_time(self, provider: MetadataProvider) -> None:
        run = await provider.new_run_id(FLOW)
        task = await provider.new_task_id(FLOW, run, "_parameters")
        path = (FLOW, run, "_parameters", task)
        await provider.register_metadata(*path, [datum("start_step", "start", attempt=None, kind="graph_structure")])
        assert await fetch_objects(provider, "metadata", *path, attempt=0) == []
        assert "start_step" in fields(await fetch_objects(provider, "metadata", *path))

    async def test_tasks_are_found_by_a_pattern_searched_in_their_metadata(self, provider: MetadataProvider) -> None:
        run = await provider.new_run_id(FLOW)
        tasks = [await provider.new_task_id(FLOW, run, "fan") for _ in range(3)]
        paths = [f"{FLOW}/{run}/fan/{task}" for task in tasks]
        for task, value in zip(tasks, ("a:1", "a:10", "b:1"), strict=True):
            await provider.register_metadata(FLOW, run, "fan", task, [datum("foreach-execution-path", value)])

        async def found(field: str | None, pattern: str | None) -> list[str]:
            return await provider.filter_tasks_by_metadata(FLOW, run, "fan", field=field, pattern=pattern)

        assert await found("foreach-execution-path", "a:1") == paths[:2]
        assert await found("foreach-execution-path", "^a:1$") == paths[:1]
        assert await found("foreach-execution-path", ":1") == paths
        assert await found("foreach-execution-path", None) == paths
        assert await found(None, None) == paths
        assert await found(None, "^b:1$") == paths[2:]
        assert await found("no-such-field", None) == []
        assert await provider.filter_tasks_by_metadata(FLOW, run, "nostep") == []

    async def test_a_list_value_is_searched_as_the_text_a_service_keeps(self, provider: MetadataProvider) -> None:
        run = await provider.new_run_id(FLOW)
        task = await provider.new_task_id(FLOW, run, "fan")
        await provider.register_metadata(FLOW, run, "fan", task, [datum("foreach-stack", ["items=red", "n=a b"])])
        pattern = r'^\{items=red,"n=a b"\}$'
        found = await provider.filter_tasks_by_metadata(FLOW, run, "fan", field="foreach-stack", pattern=pattern)
        assert found == [f"{FLOW}/{run}/fan/{task}"]

    async def test_a_pattern_that_is_no_regular_expression_is_an_error(self, provider: MetadataProvider) -> None:
        with pytest.raises(MetadataError, match="regular expression"):
            await provider.filter_tasks_by_metadata(FLOW, "1", "fan", field="f", pattern="(")

    @pytest.mark.parametrize(
        "path",
        [
            (),
            ("",),
            (FLOW, "a/b"),
            (FLOW, ".."),
            (FLOW, "1", "."),
            (FLOW, "1", "s", "t", "a", "b"),
            (FLOW, "1", "s", "t\0"),
            (FLOW, "x" * 300),
            (FLOW, 5),
        ],
    )
    async def test_an_illegal_address_is_one_clear_error(
        self, provider: MetadataProvider, path: tuple[str, ...]
    ) -> None:
        with pytest.raises(InvalidPathspecError):
            await provider.get_object(*path)

    async def test_a_list_below_the_wrong_kind_is_one_clear_error(self, provider: MetadataProvider) -> None:
        wrong = {"flow": ("F",), "run": (), "step": ("F",), "task": ("F",), "artifact": ("F",), "metadata": ("F",)}
        assert set(wrong) == set(get_args(Kind))
        for kind in get_args(Kind):
            with pytest.raises(InvalidPathspecError, match="listed below"):
                await fetch_objects(provider, kind, *wrong[kind])

    @pytest.mark.parametrize("attempt", [-1, 1.0, "0", True, 2**15])
    async def test_an_attempt_that_is_none_is_an_error(self, provider: MetadataProvider, attempt: int) -> None:
        with pytest.raises(InvalidPathspecError, match="attempt"):
            await provider.get_object(FLOW, "1", "s", "t", "a", attempt=attempt)

    async def test_a_filter_of_one_string_is_an_error(self) -> None:
        with pytest.raises(TaggingError):
            TagFilter(any_tags="abc")
