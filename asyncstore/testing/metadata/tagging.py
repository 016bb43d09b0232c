"""Changing the user tags of a run, and the rules of tags."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import anyio
import pytest

from asyncstore.errors import InvalidPathspecError, MetadataError, TaggingError, TaskNotFoundError
from asyncstore.metadata.base import MetadataProvider
from asyncstore.metadata.records import DataArtifactRecord, MetaDatum
from asyncstore.metadata.tags import MAX_TAG_LENGTH, MAX_USER_TAGS
from asyncstore.testing.metadata.base import FLOW, ProviderCase, RawRun, datum


class TaggingSuite(ProviderCase):
    """What `mutate_user_tags_for_run` and the tags of registers do and refuse."""

    async def test_tags_are_removed_before_they_are_added(self, provider: MetadataProvider) -> None:
        run = await provider.new_run_id(FLOW, tags=["old", "both"])
        tags = await provider.mutate_user_tags_for_run(FLOW, run, add=["new", "both"], remove=["old", "both", "absent"])
        assert tags == {"new", "both"}
        found = await provider.get_object(FLOW, run)
        assert found is not None
        assert found.tags == tags

    async def test_a_mutation_changes_tags_and_nothing_else(self, provider: MetadataProvider, raw_run: RawRun) -> None:
        run = await provider.new_run_id(FLOW, tags=["a"])
        before = raw_run(FLOW, run)
        await anyio.sleep(0.005)
        await provider.mutate_user_tags_for_run(FLOW, run, add=["b"])
        after = raw_run(FLOW, run)
        assert set(after.pop("tags")) == {"a", "b"}
        assert set(before.pop("tags")) == {"a"}
        assert after == before

    async def test_system_tags_are_neither_added_nor_removed(self, provider: MetadataProvider, raw_run: RawRun) -> None:
        run = await provider.new_run_id(FLOW, system_tags=["project:x"])
        assert await provider.mutate_user_tags_for_run(FLOW, run, add=["project:x"]) == frozenset()
        with pytest.raises(TaggingError, match="system tags"):
            await provider.mutate_user_tags_for_run(FLOW, run, add=["a"], remove=["project:x"])
        assert raw_run(FLOW, run)["tags"] == []
        assert "project:x" in raw_run(FLOW, run)["system_tags"]

    async def test_tags_changed_at_once_all_take_effect(
        self, provider: MetadataProvider, other: MetadataProvider, raw_run: RawRun
    ) -> None:
        run = await provider.new_run_id(FLOW)

        async def add(handle: MetadataProvider, tag: str) -> None:
            assert tag in await handle.mutate_user_tags_for_run(FLOW, run, add=[tag])

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(add, (provider, other)[number % 2], f"t{number}")
        assert set(raw_run(FLOW, run)["tags"]) == {f"t{number}" for number in range(20)}

    async def test_tags_of_a_run_that_is_unknown_are_an_error(self, provider: MetadataProvider) -> None:
        await provider.new_run_id(FLOW)
        with pytest.raises(TaskNotFoundError):
            await provider.mutate_user_tags_for_run(FLOW, "424242", add=["a"])
        with pytest.raises(TaskNotFoundError):
            await provider.mutate_user_tags_for_run("NoFlow", "no-such-run", add=["a"])

    @pytest.mark.parametrize(
        ("add", "remove"),
        [
            ([], []),
            (None, None),
            ("abc", []),
            ([], b"abc"),
            (5, []),
            ([5], []),
            ([None], []),
            ([("a", "b")], []),
            ([""], []),
            ([], ["x" * (MAX_TAG_LENGTH + 1)]),
            (["\ud800"], []),
            ([b"\xff"], []),
        ],
    )
    async def test_tags_against_the_rules_are_one_clear_error(
        self, provider: MetadataProvider, raw_run: RawRun, add: Any, remove: Any
    ) -> None:
        run = await provider.new_run_id(FLOW, tags=["a"])
        with pytest.raises(TaggingError):
            await provider.mutate_user_tags_for_run(FLOW, run, add=add, remove=remove)
        assert raw_run(FLOW, run)["tags"] == ["a"]

    async def test_tags_at_the_limits_are_taken(self, provider: MetadataProvider) -> None:
        longest = "ü" * MAX_TAG_LENGTH
        most = [f"t{number}" for number in range(MAX_USER_TAGS - 1)]
        run = await provider.new_run_id(FLOW, tags=[*most, longest])
        found = await provider.get_object(FLOW, run)
        assert found is not None
        assert found.tags == {*most, longest}
        assert b"bytes".decode() in await provider.mutate_user_tags_for_run(FLOW, run, add=[b"bytes"], remove=most)  # type: ignore[list-item]  # Metaflow takes bytes

    @pytest.mark.parametrize(
        "tags", ["abc", [""], [5], ["x" * (MAX_TAG_LENGTH + 1)], [f"t{number}" for number in range(MAX_USER_TAGS + 1)]]
    )
    async def test_a_run_is_not_created_with_tags_against_the_rules(
        self, provider: MetadataProvider, tags: Any
    ) -> None:
        with pytest.raises(TaggingError):
            await provider.new_run_id(FLOW, tags=tags)
        with pytest.raises(TaggingError):
            provider.add_sticky_tags(tags=tags)
        assert await provider.get_object(FLOW) is None

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("", "v"), ("f" * 256, "v"), ("nul\0", "v"), (5, "v"), ("a/b", "v"),
            ("f", None), ("f", {"a": 1}), ("f", "a\0b"), ("f", float("nan")), ("f", [object()]),
        ],
    )  # fmt: skip
    async def test_metadata_that_a_service_would_drop_is_one_clear_error(
        self, provider: MetadataProvider, field: Any, value: Any
    ) -> None:
        run = await provider.new_run_id(FLOW)
        task = await provider.new_task_id(FLOW, run, "start")
        with pytest.raises(MetadataError):
            await provider.register_metadata(FLOW, run, "start", task, [datum("good"), datum(field, value, kind="t")])
        assert await provider.filter_tasks_by_metadata(FLOW, run, "start", field="good") == []

    async def test_records_of_other_types_are_one_clear_error(self, provider: MetadataProvider) -> None:
        run = await provider.new_run_id(FLOW)
        task = await provider.new_task_id(FLOW, run, "start")
        tags: list[Any] = ["abc", (1,)]
        wrong_data: list[Any] = ["f", *(MetaDatum("f", "v", "t", tag) for tag in tags)]
        for item in wrong_data:
            with pytest.raises(MetadataError):
                await provider.register_metadata(FLOW, run, "start", task, [datum("good"), item])
        good = DataArtifactRecord("a", "local", "/r", None, "t", "0")
        wrong_artifacts: list[Any] = [1, replace(good, name="a/b"), replace(good, sha=cast("Any", 5))]
        for item in wrong_artifacts:
            with pytest.raises(MetadataError):
                await provider.register_data_artifacts(FLOW, run, "start", task, attempt=0, artifacts=[item])
        none = cast("Any", None)
        with pytest.raises(InvalidPathspecError):
            await provider.register_data_artifacts(FLOW, run, "start", task, attempt=none, artifacts=[good])
        assert await provider.filter_tasks_by_metadata(FLOW, run, "start", field="good") == []
        assert await provider.get_object(FLOW, run, "start", task, "a", attempt=0) is None
