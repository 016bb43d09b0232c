"""What is the local provider's own: its files, its locks, its errors."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import pickle
import stat
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from blockbuster import blockbuster_ctx

from asyncstore.errors import (
    ConfigError,
    IntegrityError,
    InvalidPathspecError,
    MetadataError,
    MetadataUnavailableError,
    TaskNotFoundError,
)
from asyncstore.layout import task_counter_path
from asyncstore.metadata import local_locks, local_threads, local_writing
from asyncstore.metadata.base import fetch_objects
from asyncstore.metadata.local import LocalMetadataProvider
from asyncstore.metadata.local_locks import LockBusyError, directory_lock
from asyncstore.metadata.local_root import find_local_root
from asyncstore.metadata.records import DataArtifactRecord, MetaDatum
from asyncstore.metadata.system import SystemInfo

FLOW = "LocalFlow"
SYSTEM = SystemInfo("tester", python_version="3.11.7", metaflow_version="2.19.38", script_name="flow.py")
ARTIFACT = DataArtifactRecord("x", "local", "/data/.metaflow", None, "pickle-v4", "0" * 40)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / ".metaflow"


@pytest.fixture
def provider(root: Path) -> LocalMetadataProvider:
    return LocalMetadataProvider(root, system=SYSTEM, durability="fast")


def shape(document: dict[str, Any]) -> list[tuple[str, type]]:
    return [(key, type(value)) for key, value in document.items()]


async def test_files_have_the_names_and_keys_of_metaflows(
    provider: LocalMetadataProvider, root: Path, golden_root: Path
) -> None:
    golden = golden_root / "TourFlow" / "1795447905376589"
    run = await provider.new_run_id(FLOW, tags=["t"])
    await provider.new_task_id(FLOW, run, "_parameters")
    task = await provider.new_task_id(FLOW, run, "start")
    assert task == "1"
    await provider.register_metadata(FLOW, run, "start", task, [MetaDatum("ds-type", "local", "ds-type", ("a",))])
    await provider.register_data_artifacts(FLOW, run, "start", task, attempt=0, artifacts=[ARTIFACT])
    [row] = (root / FLOW / run / "start/1/_meta").glob("sysmeta_ds-type_*.json")
    [model] = (golden / "start/1/_meta").glob("sysmeta_ds-type_*.json")
    pairs = [
        (root / FLOW / "_meta/_self.json", golden.parent / "_meta/_self.json"),
        (root / FLOW / run / "_meta/_self.json", golden / "_meta/_self.json"),
        (root / FLOW / run / "start/_meta/_self.json", golden / "start/_meta/_self.json"),
        (root / FLOW / run / "start/1/_meta/_self.json", golden / "start/1/_meta/_self.json"),
        (root / FLOW / run / "start/1/_meta/0_artifact_x.json", golden / "start/1/_meta/0_artifact_text.json"),
        (row, model),
    ]
    for ours, theirs in pairs:
        text = ours.read_text(encoding="ascii")
        assert shape(json.loads(text)) == shape(json.loads(theirs.read_text()))
        assert text == json.dumps(json.loads(text))
    assert sorted(name.name.rpartition("_")[0] for name in (root / FLOW / run / "start/1/_meta").glob("sys*")) == [
        f"sysmeta_{field}"
        for field in ("ds-type", "metaflow_version", "python_version", "runtime", "script-name", "user")
    ]


async def test_numbered_runs_follow_the_clock_in_microseconds(root: Path) -> None:
    provider = LocalMetadataProvider(root, system=SYSTEM, clock=lambda: 1_700_000_000_123_456_789)
    assert await provider.new_run_id(FLOW) == "1700000000123456"
    assert await provider.new_run_id(FLOW) == "1700000000123457"


async def test_tasks_are_counted_on_from_those_that_metaflow_made(golden_root: Path, root: Path) -> None:
    run = "1795447905376589"
    for record in (golden_root / "TourFlow" / run).rglob("_self.json"):
        copy = root / record.relative_to(golden_root)
        copy.parent.mkdir(parents=True)
        copy.write_bytes(record.read_bytes())
    async with LocalMetadataProvider(root, system=SYSTEM) as provider:
        assert await provider.new_task_id("TourFlow", run, "more") == "26"
        # Metaflow, which knows of no counter, makes the next one itself.
        (root / "TourFlow" / run / "more" / "27").mkdir()
        assert await provider.new_task_id("TourFlow", run, "more") == "28"


async def test_a_task_counter_of_another_version_is_a_clear_error(provider: LocalMetadataProvider, root: Path) -> None:
    run = await provider.new_run_id(FLOW)
    await provider.new_task_id(FLOW, run, "start")
    counter = root / task_counter_path(FLOW, run)
    document = json.loads(counter.read_text())
    assert document == {"format": "asyncstore-task-counter", "version": 1, "next": 1}
    counter.write_text(json.dumps({**document, "version": 2}))
    with pytest.raises(MetadataError, match="version 2"):
        await provider.new_task_id(FLOW, run, "start")
    counter.write_text("[]")
    with pytest.raises(MetadataError, match="not a task counter"):
        await provider.new_task_id(FLOW, run, "start")


async def test_rows_of_one_millisecond_are_all_kept(
    provider: LocalMetadataProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await provider.new_run_id(FLOW)
    task = await provider.new_task_id(FLOW, run, "start")
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
    for value in ("1", "2"):
        await provider.register_metadata(
            FLOW, run, "start", task, [MetaDatum("f", value, "f"), MetaDatum("f", value, "f")]
        )
    rows = await fetch_objects(provider, "metadata", FLOW, run, "start", task)
    assert sorted(str(row.datum.value) for row in rows if row.datum and row.datum.field == "f") == ["1", "1", "2", "2"]


async def test_a_partial_tree_takes_rows_of_tasks_registered_elsewhere(root: Path) -> None:
    async with LocalMetadataProvider(root, system=SYSTEM, partial=True) as provider:
        assert not await provider.register_task_id(FLOW, "7", "start", "3", attempt=1)
        await provider.register_data_artifacts(FLOW, "7", "start", "3", attempt=1, artifacts=[ARTIFACT])
    assert not list(root.rglob("_self.json"))
    assert len(list(root.rglob("sysmeta_*"))) == 5
    async with LocalMetadataProvider(root, system=SYSTEM) as provider:
        with pytest.raises(TaskNotFoundError, match="register it first"):
            await provider.register_task_id(FLOW, "7", "start", "3")


@pytest.mark.parametrize("run", ["data", "latest_run", "_meta", ".asyncstore"])
async def test_a_run_cannot_take_a_name_of_the_datastore(provider: LocalMetadataProvider, run: str) -> None:
    with pytest.raises(InvalidPathspecError):
        await provider.register_run_id(FLOW, run)


async def test_a_damaged_record_is_an_error_that_names_the_file(provider: LocalMetadataProvider, root: Path) -> None:
    run = await provider.new_run_id(FLOW)
    record = root / FLOW / run / "_meta/_self.json"
    for text, message in (("{", "not JSON"), ("[]", "does not describe a run"), ('{"flow_id": "F"}', "run_number")):
        record.write_text(text)
        with pytest.raises(MetadataError, match=message) as caught:
            await fetch_objects(provider, "run", FLOW)
        assert str(record) in str(caught.value)


async def test_a_record_in_the_wrong_place_is_an_error(provider: LocalMetadataProvider, root: Path) -> None:
    run = await provider.new_run_id(FLOW)
    (root / FLOW / run).rename(root / FLOW / "1")
    with pytest.raises(MetadataError, match="moved or copied"):
        await provider.get_object(FLOW, "1")


async def test_file_mode_is_by_umask_unless_given(root: Path, tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        for mode, expected in ((None, 0o640), (0o600, 0o600), (0o666, 0o666)):
            async with LocalMetadataProvider(root, system=SYSTEM, file_mode=mode) as provider:
                run = await provider.new_run_id(FLOW)
                assert stat.S_IMODE((root / FLOW / run / "_meta/_self.json").stat().st_mode) == expected
                await provider.mutate_user_tags_for_run(FLOW, run, add=["a"])
                assert stat.S_IMODE((root / FLOW / run / "_meta/_self.json").stat().st_mode) == expected
    finally:
        os.umask(old)


async def test_safe_syncs_each_file_before_it_is_visible_and_its_directory_after(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str]] = []
    fsync, link = os.fsync, os.link

    def record_fsync(descriptor: int) -> None:
        calls.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def record_link(source: str, target: str) -> None:
        calls.append(("link", source))
        link(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "link", record_link)
    async with LocalMetadataProvider(root, system=SYSTEM) as provider:
        run = await provider.new_run_id(FLOW)
    temporary = [name for call, name in calls if call == "link"][-1]
    directory = str(root / FLOW / run / "_meta")
    assert calls.index(("sync", temporary)) < calls.index(("link", temporary)) < len(calls) - 1
    assert calls[-1] == ("sync", directory)
    assert ("sync", str(root / FLOW)) in calls  # the directory that holds the run's
    calls.clear()
    async with LocalMetadataProvider(root, system=SYSTEM, durability="fast") as provider:
        await provider.new_run_id(FLOW)
    assert {call for call, _ in calls} == {"link"}


async def test_paranoid_reads_back_what_it_wrote(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def damage(source: str, target: str) -> None:
        Path(source).write_bytes(b"{}")
        link(source, target)

    async with LocalMetadataProvider(root, system=SYSTEM, durability="paranoid") as provider:
        run = await provider.new_run_id(FLOW)
        monkeypatch.setattr(os, "link", damage)
        with pytest.raises(IntegrityError, match="check the disk"):
            await provider.new_task_id(FLOW, run, "start")


async def test_a_file_system_without_hard_links_keeps_existing_files_too(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links here", source)

    monkeypatch.setattr(os, "link", refuse)
    async with LocalMetadataProvider(root, system=SYSTEM, durability="fast") as provider:
        assert await provider.register_run_id(FLOW, "sched-1", tags=["first"])
        assert not await provider.register_run_id(FLOW, "sched-1", tags=["second"])
        await provider.register_task_id(FLOW, "sched-1", "start", "t")
        found = await provider.get_object(FLOW, "sched-1", "start", "t")
    assert found is not None
    assert found.tags == {"first"}
    assert not [path for path in root.rglob(".*") if path.is_file()]


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.ENOSPC, "free some space"), (errno.EACCES, "permissions"), (errno.EIO, "file system")]
)
async def test_what_the_system_refuses_is_one_clear_error_and_leaves_nothing(
    provider: LocalMetadataProvider, root: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    run = await provider.new_run_id(FLOW)
    task = await provider.new_task_id(FLOW, run, "start")
    before = sorted(root.rglob("*"))
    opened, real_open = 0, os.open

    def fail_at_third(path: str, *arguments: Any) -> int:
        nonlocal opened
        opened += str(path).endswith(".tmp")
        if opened == 3:
            raise OSError(number, os.strerror(number), path)
        return real_open(path, *arguments)

    monkeypatch.setattr(os, "open", fail_at_third)
    rows = [MetaDatum(f"f{number}", "v", "t") for number in range(5)]
    with pytest.raises(MetadataError, match=advice):
        await provider.register_metadata(FLOW, run, "start", task, rows)
    assert opened == 3
    assert sorted(root.rglob("*")) == before


def test_a_lock_is_held_by_one_and_free_afterwards(tmp_path: Path) -> None:
    with directory_lock(str(tmp_path)), pytest.raises(LockBusyError), directory_lock(str(tmp_path)):
        raise AssertionError("two hold one lock")
    with directory_lock(str(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_kernel_locks_a_file_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    test_a_lock_is_held_by_one_and_free_afterwards(tmp_path)
    left = tmp_path / local_locks.LOCK_FILE
    left.touch()
    with pytest.raises(LockBusyError), directory_lock(str(tmp_path)):
        raise AssertionError("a fresh lock was broken")
    old = time.time() - local_locks.STALE_SECONDS - 1
    os.utime(left, (old, old))
    with pytest.raises(LockBusyError), directory_lock(str(tmp_path)):
        raise AssertionError("the stale lock is removed first, taken at the next try")
    with directory_lock(str(tmp_path)):
        pass


def test_the_lock_of_a_dead_process_is_broken_before_others_give_up() -> None:
    assert local_locks.STALE_SECONDS < local_threads.LOCK_SECONDS - 10


async def test_a_lock_that_is_never_let_go_ends_in_an_error(
    provider: LocalMetadataProvider, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await provider.new_run_id(FLOW)
    monkeypatch.setattr(local_threads, "LOCK_SECONDS", 0.05)
    with directory_lock(str(root / FLOW / run / "_meta")):
        with pytest.raises(MetadataUnavailableError, match="held the lock") as caught:
            await provider.mutate_user_tags_for_run(FLOW, run, add=["a"])
        assert caught.value.retryable
    assert await provider.mutate_user_tags_for_run(FLOW, run, add=["a"]) == {"a"}


async def test_waiting_for_a_lock_can_be_cancelled(provider: LocalMetadataProvider, root: Path) -> None:
    run = await provider.new_run_id(FLOW)
    with directory_lock(str(root / FLOW / run / "_meta")):
        with anyio.move_on_after(0.05) as scope:
            await provider.mutate_user_tags_for_run(FLOW, run, add=["a"])
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(provider.new_task_id(FLOW, run, "start"), 0.05)
    assert await provider.mutate_user_tags_for_run(FLOW, run, add=["b"]) == {"b"}


@pytest.mark.parametrize("native", [False, True], ids=["anyio", "asyncio"])
async def test_a_cancelled_registration_is_whole_or_absent(
    provider: LocalMetadataProvider, root: Path, native: bool
) -> None:
    run = await provider.new_run_id(FLOW)
    task = await provider.new_task_id(FLOW, run, "start")
    records = [DataArtifactRecord(f"a{n}", "local", "/r", None, "pickle-v4", "0" * 40) for n in range(500)]

    async def register(attempt: int) -> None:
        await provider.register_data_artifacts(FLOW, run, "start", task, attempt=attempt, artifacts=records)

    cut = 0
    for attempt, delay in enumerate((0.0, 0.001, 0.003, 0.01, 0.02)):
        if native:
            try:
                await asyncio.wait_for(register(attempt), delay)
            except TimeoutError:
                cut += 1
        else:
            with anyio.move_on_after(delay) as scope:
                await register(attempt)
            cut += scope.cancelled_caught
        assert not [path for path in root.rglob(".*") if path.is_file()]
        for item in await fetch_objects(provider, "artifact", FLOW, run, "start", task, attempt=attempt):
            assert item.artifact is not None
    assert cut


async def test_nothing_blocks_the_loop(provider: LocalMetadataProvider) -> None:
    with blockbuster_ctx(scanned_modules=["asyncstore"]):
        run = await provider.new_run_id(FLOW)
        task = await provider.new_task_id(FLOW, run, "start")
        await provider.register_data_artifacts(FLOW, run, "start", task, attempt=0, artifacts=[ARTIFACT])
        await provider.mutate_user_tags_for_run(FLOW, run, add=["a"])
        await provider.write_latest_run(FLOW, run)
        assert await provider.read_latest_run(FLOW) == run
        for kind in ("run", "step", "task", "artifact", "metadata"):
            await fetch_objects(provider, kind, *(FLOW, run, "start", task)[: {"run": 1, "step": 2}.get(kind, 2)])
        await provider.filter_tasks_by_metadata(FLOW, run, "start")


async def test_a_provider_pickles_as_its_arguments(provider: LocalMetadataProvider) -> None:
    provider.add_sticky_tags(tags=["sticky"])
    run = await provider.new_run_id(FLOW)
    copy = pickle.loads(pickle.dumps(provider))
    assert (repr(copy), copy.info, copy.TYPE) == (repr(provider), str(Path(provider.root).parent), "local")
    found = await copy.get_object(FLOW, await copy.new_run_id(FLOW))
    assert found.tags == {"sticky"}
    assert await copy.version() == "local"
    assert (await copy.get_object(FLOW, run)).id == run


async def test_reading_needs_no_user_name_and_writing_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("METAFLOW_USER", "SUDO_USER", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("USER", "root")
    async with LocalMetadataProvider(root) as provider:
        assert await fetch_objects(provider, "flow") == []
        with pytest.raises(ConfigError, match="METAFLOW_USER"):
            await provider.new_run_id(FLOW)
    assert not root.exists()


async def test_heartbeats_are_not_kept(provider: LocalMetadataProvider) -> None:
    reply = await provider.beat(FLOW, "1")
    assert reply.wait is None


def test_the_root_is_the_nearest_above_or_below_the_configured_one(tmp_path: Path) -> None:
    deep = tmp_path / "a/b"
    deep.mkdir(parents=True)
    assert find_local_root(deep) == str(deep / ".metaflow")
    (tmp_path / ".metaflow").mkdir()
    assert find_local_root(deep) == str(tmp_path / ".metaflow")
    assert find_local_root(deep, sysroot=str(tmp_path / "c")) == str(tmp_path / "c/.metaflow")
    assert not (tmp_path / "c").exists()


def test_records_are_ascii_on_one_line(tmp_path: Path) -> None:
    assert local_writing.encode({"tags": ["ü\n"], "n": 1}) == b'{"tags": ["\\u00fc\\n"], "n": 1}'
