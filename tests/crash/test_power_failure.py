"""Every point at which the power may fail during a write, and what is found afterwards."""

from __future__ import annotations

import itertools
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from asyncstore.errors import IntegrityError
from asyncstore.runtime import Runtime
from asyncstore.storage.base import PutItem
from asyncstore.storage.local import LocalStorage
from asyncstore.storage.local_get import LocalReads
from asyncstore.storage.local_list import LocalListing
from asyncstore.storage.local_lock import Locks
from asyncstore.storage.local_os import OsCalls
from asyncstore.types import Attributes, Durability, Limits, WriteMode
from tests.crash.disk import RecordingCalls, Tree, build

State = tuple[bytes, Attributes] | None
"""An object's content and attributes, or None if it is not there."""


@dataclass
class Step:
    """A call, and what its objects are after it returned."""

    call: Callable[[LocalStorage], Awaitable[object]]
    after: Mapping[str, State]


def put(path: str, data: bytes, attributes: Attributes | None = None, mode: WriteMode = "overwrite") -> Step:
    return Step(
        lambda storage: storage.put(path, data, attributes=attributes, mode=mode), {path: (data, attributes or {})}
    )


def put_batch(*items: PutItem, mode: WriteMode = "create") -> Step:
    return Step(
        lambda storage: storage.put_batch(items, mode=mode),
        {item.path: (bytes(item.data), item.attributes or {}) for item in items},
    )


def delete(path: str) -> Step:
    return Step(lambda storage: storage.delete(path), {path: None})


def multipart(path: str, data: bytes, attributes: Attributes | None, *, part_size: int) -> Step:
    async def call(storage: LocalStorage) -> None:
        upload = await storage.create_multipart(path, part_size=part_size, attributes=attributes)
        for number in reversed(range(-(-len(data) // part_size))):
            await upload.put_part(number, data[number * part_size : (number + 1) * part_size])
        await upload.complete()

    return Step(call, {path: (data, attributes or {})})


def copy_from(source: str, path: str, after: State) -> Step:
    return Step(lambda storage: storage.copy_from(storage.copy_source(source), path), {path: after})


RAW = {"cas_raw": True}
GZIP = {"cas_raw": False, "cas_version": 1}
MANY = [PutItem(f"F/data/{n % 3}/{n}", b"%d" % n * 9, RAW if n % 2 else None) for n in range(5)]

SCENARIOS: dict[str, list[Step]] = {
    "put": [put("F/data/ab/abc", b"content", RAW)],
    "put without attributes": [put("F/1/start/0.data.json", b"{...}")],
    "create": [put("F/data/ab/abc", b"content", RAW, "create")],
    "create beside another": [put("a/b", b"content", RAW, "create"), put("a/c", b"other!", GZIP, "create")],
    "overwrite with the same attributes": [put("a", b"content", RAW), put("a", b"another", RAW)],
    "overwrite with other attributes": [put("a", b"content", RAW), put("a", b"another", GZIP)],
    "overwrite without attributes": [put("a", b"content", RAW), put("a", b"another")],
    "overwrite with attributes where there were none": [put("a", b"content"), put("a", b"another", RAW)],
    "batch": [put_batch(*MANY)],
    "batch that overwrites": [
        put_batch(*MANY),
        put_batch(*(PutItem(item.path, b"new", GZIP if n % 2 else item.attributes) for n, item in enumerate(MANY)),
                  mode="overwrite"),
    ],
    "multipart": [multipart("d/a", b"0123456789", RAW, part_size=4)],
    "multipart over another": [put("d/a", b"content", GZIP), multipart("d/a", b"0123456789", RAW, part_size=4)],
    "copy by link": [put("d/a", b"content", GZIP), copy_from("d/a", "e/b", (b"content", GZIP))],
    "delete": [put("a/b", b"content", RAW), delete("a/b")],
    "delete without attributes": [put("a/b", b"content"), delete("a/b")],
    "delete, then put another": [put("a/b", b"content", RAW), delete("a/b"), put("a/b", b"another")],
    "object in place of empty directories": [put("a/b/c", b"content"), delete("a/b/c"), put("a", b"another", RAW)],
}  # fmt: skip


@dataclass
class Recorded:
    """What may be found of each object while the model was in each of its snapshots."""

    calls: RecordingCalls
    allowed: list[Mapping[str, list[State]]]


async def record(base: Path, steps: list[Step], durability: Durability) -> Recorded:
    base.mkdir()
    calls = RecordingCalls(str(base))
    paths = {path for step in steps for path in step.after}
    states: dict[str, State] = dict.fromkeys(paths)
    allowed: list[Mapping[str, list[State]]] = [{path: [None] for path in paths}]
    async with Runtime(Limits(threads=1)) as runtime:
        storage = LocalStorage(base / "deep" / "root", runtime=runtime, durability=durability, calls=calls)
        for step in steps:
            await step.call(storage)
            meanwhile = {path: during(states[path], step, path) for path in paths}
            allowed += [meanwhile] * (len(calls.snapshots) - len(allowed))
            states.update(step.after)
            allowed[-1] = {path: [state] for path, state in states.items()}
        await storage.aclose()
    return Recorded(calls, allowed)


def during(old: State, step: Step, path: str) -> list[State]:
    if path not in step.after:
        return [old]
    new = step.after[path]
    changes = old is not None and new is not None and old[1] != new[1]
    return [old, new, None] if changes else [old, new]


def found(root: str, paths: list[str]) -> dict[str, State]:
    calls = OsCalls()
    listed = {entry.path for entry in LocalListing(calls, root, follow=False).entries("", recursive=True)}
    objects = LocalReads(calls, root, Locks(calls, root, follow=False), follow=False).get(paths, 1 << 20)
    states: dict[str, State] = {}
    for path, stored in zip(paths, objects, strict=True):
        states[path] = None if stored is None else (stored.data or b"", stored.meta.attributes)
    assert listed == {path for path, state in states.items() if state is not None}
    return states


def check(tree: Tree, allowed: Mapping[str, list[State]], base: Path) -> None:
    build(tree, str(base))
    states = found(str(base / "deep" / "root"), sorted(allowed))
    for path, state in states.items():
        assert state in allowed[path], f"{path} is {state}, may be {allowed[path]}, in {tree}"


@pytest.fixture(params=["each", "together"])
def sync(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run small batches either way that large and small ones are put on the disk."""
    import asyncstore.storage.local_put as module

    monkeypatch.setattr(module, "_TOGETHER_ITEMS", 1 if request.param == "together" else 1 << 30)
    return str(request.param)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_returned_outlasts_a_power_failure_and_what_did_not_is_whole_or_absent(
    scratch: Path, scenario: str, sync: str
) -> None:
    recorded = anyio.run(record, scratch / "real", SCENARIOS[scenario], "safe")
    checked: set[tuple[Tree, int]] = set()
    numbers: Iterator[int] = itertools.count()
    for disk, allowed in zip(recorded.calls.snapshots, recorded.allowed, strict=False):
        for tree in disk.crashes():
            if (tree, id(allowed)) not in checked:
                checked.add((tree, id(allowed)))
                check(tree, allowed, scratch / f"crash{next(numbers)}")
    assert len(checked) > 10


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("durability", ["fast", "safe", "paranoid"])
def test_what_returned_outlasts_the_death_of_the_process(scratch: Path, scenario: str, durability: Durability) -> None:
    recorded = anyio.run(record, scratch / "real", SCENARIOS[scenario], durability)
    for number, (disk, allowed) in enumerate(zip(recorded.calls.snapshots, recorded.allowed, strict=False)):
        check(disk.process_death(), allowed, scratch / f"crash{number}")


def test_the_model_finds_what_is_not_synced(scratch: Path) -> None:
    recorded = anyio.run(record, scratch / "real", SCENARIOS["put"], "fast")
    last = len(recorded.allowed) - 1
    lost = 0
    for number, tree in enumerate(recorded.calls.snapshots[last].crashes()):
        base = scratch / f"crash{number}"
        try:
            check(tree, recorded.allowed[last], base)
        except (AssertionError, IntegrityError):
            lost += 1
    assert lost > 10


async def test_the_next_writer_goes_on_after_a_crash_at_any_point(scratch: Path) -> None:
    steps = SCENARIOS["overwrite with other attributes"]
    recorded = await record(scratch / "real", steps, "safe")
    trees = {tree for disk in recorded.calls.snapshots for tree in disk.crashes()}
    async with Runtime(Limits(threads=1)) as runtime:
        for number, tree in enumerate(trees):
            base = scratch / f"crash{number}"
            build(tree, str(base))
            storage = LocalStorage(base / "deep" / "root", runtime=runtime, durability="fast")
            await storage.put("a", b"after", attributes={"after": True})
            assert await anyio.to_thread.run_sync(found, storage.root, ["a"]) == {"a": (b"after", {"after": True})}
            assert len(os.listdir(base / "deep/root/.asyncstore/tmp")) == 1  # its own: the dead one's is gone
            await storage.aclose()


async def test_an_object_that_another_writer_left_in_the_cache_is_on_the_disk_once_a_create_has_found_it(
    scratch: Path, sync: str
) -> None:
    base = scratch / "real"
    base.mkdir()
    calls = RecordingCalls(str(base))
    async with Runtime(Limits(threads=1)) as runtime:
        durabilities: list[Durability] = ["fast", "safe"]
        for durability in durabilities:
            storage = LocalStorage(base / "root", runtime=runtime, durability=durability, calls=calls)
            await storage.put_batch([PutItem("a/b", b"content", RAW)], mode="create")
        expected = {"a/b": (b"content", RAW)}
        for number, tree in enumerate(calls.disk.crashes()):
            build(tree, str(scratch / f"crash{number}"))
            assert await anyio.to_thread.run_sync(found, str(scratch / f"crash{number}/root"), ["a/b"]) == expected
        await storage.aclose()
