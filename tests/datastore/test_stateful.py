"""A state machine over a flow's datastore with plain dicts as its model; each rule enters the loop through a portal."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from asyncstore.datastore.flow import FlowDataStore
from asyncstore.datastore.pickling import dumps
from asyncstore.datastore.task import TaskDataStore
from asyncstore.datastore.task_set import TaskDataStoreSet
from asyncstore.datastore.values import ForeachFrame
from asyncstore.datastore.writable import WritableTaskDataStore
from asyncstore.errors import CorruptBlobError, TaskNotFoundError, TaskStateError, UnpicklableArtifactError
from asyncstore.layout import blob_path
from asyncstore.runtime import Runtime
from asyncstore.storage.memory import MemoryStorage
from asyncstore.types import Key, Limits, parse_key
from tests.cas.plain import PlainStorage
from tests.datastore.inline import InlinePool
from tests.storage.cancelling import cancel_after

T = TypeVar("T")
Address = tuple[str, int]

# Few tasks, names and values, so that rules meet on the same ones.
TASKS = st.sampled_from(["1", "2", "3"])
NAMES = st.sampled_from(["x", "y", "_task_ok"])
CHOICES: list[Any] = [None, 1, "text", b"bytes" * 100, [ForeachFrame("s", "i", 2, 0)], "long " * 60_000, {"d": [1, 2]}]
VALUES = st.sampled_from(range(len(CHOICES))).map(lambda number: CHOICES[number])
ARTIFACTS = st.dictionaries(NAMES, VALUES, max_size=3)


def key_of(value: Any) -> Key:
    return parse_key(hashlib.sha1(dumps(value)).hexdigest())


@dataclass
class Attempt:
    """What the model knows of one attempt: ``artifacts`` is None until it is done."""

    artifacts: dict[str, Any] | None = None
    log: bytes = b""


@dataclass
class Writer:
    """An attempt being written, and what it would publish now."""

    store: WritableTaskDataStore
    pending: dict[str, Any] = field(default_factory=dict)


class DatastoreMachine(RuleBasedStateMachine):
    """Starts, saves, fails, crashes, finishes, reopens, reads old attempts, prefetches, damages and heals."""

    steps = 0
    """Rules that ran, over all examples; counted by the invariant that is checked after each."""

    @initialize(batches=st.booleans())
    def open(self, batches: bool) -> None:
        self.stack = ExitStack()
        self.portal = self.stack.enter_context(start_blocking_portal("asyncio"))
        self.runtime = Runtime(Limits(memory=1_000_000, threads=2))
        # What a crash leaves decides which rules come next: it must not depend on the speed of threads.
        self.runtime.pool = InlinePool(2)
        self.storage = (MemoryStorage if batches else PlainStorage)("machine", runtime=self.runtime)
        self.attempts: dict[Address, Attempt] = {}
        self.writers: dict[Address, Writer] = {}
        self.stored: dict[Key, Any] = {}
        self.damaged: set[Key] = set()
        self.reopen()

    def run(self, call: Callable[[], Awaitable[T]]) -> T:
        return self.portal.call(call)

    @rule()
    def reopen(self) -> None:
        """Begin anew as another process would: nothing is known, and what was being written is lost."""
        self.flow = FlowDataStore("Flow", self.storage)
        self.noticed: set[Key] = set()
        self.writers.clear()

    # Writing.

    @rule(task=TASKS)
    def start(self, task: str) -> None:
        number = 1 + max((n for t, n in self.attempts if t == task), default=-1)
        assume(number < 6)
        self.open_writer((task, number))

    @precondition(lambda self: any(one.artifacts is None for one in self.attempts.values()))
    @rule(data=st.data())
    def write_again_what_was_not_finished(self, data: st.DataObject) -> None:
        self.open_writer(data.draw(st.sampled_from([a for a, one in self.attempts.items() if one.artifacts is None])))

    def open_writer(self, address: Address) -> None:
        task, number = address

        async def begin() -> WritableTaskDataStore:
            store = await self.flow.get_task_datastore("r", "s", task, attempt=number, mode="w")
            await store.init_task()
            return store

        self.writers[address] = Writer(self.run(begin))
        self.attempts.setdefault(address, Attempt())

    @rule(task=TASKS, artifacts=ARTIFACTS)
    def write_whole(self, task: str, artifacts: dict[str, Any]) -> None:
        """One attempt from start to end: without it few examples would have anything to read."""
        number = 1 + max((n for t, n in self.attempts if t == task), default=-1)
        assume(number < 6)
        self.open_writer((task, number))
        writer = self.writers[task, number]
        self.save_into(writer, artifacts)
        self.run(writer.store.done)
        self.attempts[task, number].artifacts = dict(writer.pending)

    def open_writers(self) -> list[Address]:
        return [address for address in self.writers if self.attempts[address].artifacts is None]

    def done_attempts(self) -> list[Address]:
        return [address for address, one in self.attempts.items() if one.artifacts is not None]

    def a_writer(self, data: st.DataObject) -> tuple[Address, Writer]:
        address = data.draw(st.sampled_from(self.open_writers()))
        return address, self.writers[address]

    @precondition(lambda self: self.open_writers())
    @rule(data=st.data(), artifacts=ARTIFACTS)
    def save(self, data: st.DataObject, artifacts: dict[str, Any]) -> None:
        _, writer = self.a_writer(data)
        self.save_into(writer, artifacts)

    def save_into(self, writer: Writer, artifacts: dict[str, Any]) -> None:
        keys = self.run(lambda: writer.store.save_artifacts(artifacts))
        assert keys == {name: key_of(value) for name, value in artifacts.items()}
        writer.pending.update(artifacts)
        for value in artifacts.values():
            self.was_saved(value)

    def was_saved(self, value: Any) -> None:
        key = key_of(value)
        self.stored[key] = value
        if key in self.damaged:
            # A store that noticed the damage heals it; one that did not may find it when it looks at the object.
            healed = self.run(lambda: self.is_whole(key))
            assert healed or key not in self.noticed
            if healed:
                self.damaged.discard(key)
                self.noticed.discard(key)

    async def is_whole(self, key: Key) -> bool:
        async with FlowDataStore("Flow", self.storage).cas.verify_blobs([key]) as statuses:
            return [status.ok async for status in statuses] == [True]

    @precondition(lambda self: self.open_writers())
    @rule(data=st.data(), artifacts=ARTIFACTS)
    def fail_to_save(self, data: st.DataObject, artifacts: dict[str, Any]) -> None:
        _, writer = self.a_writer(data)
        with pytest.raises(UnpicklableArtifactError, match="'lock'"):
            self.run(lambda: writer.store.save_artifacts({**artifacts, "lock": threading.Lock()}))
        for value in artifacts.values():
            self.was_saved(value)
        assert dict(writer.store.items()) == {name: key_of(value) for name, value in writer.pending.items()}

    @precondition(lambda self: self.open_writers() and self.done_attempts())
    @rule(data=st.data())
    def take_over(self, data: st.DataObject) -> None:
        _, writer = self.a_writer(data)
        task, number = data.draw(st.sampled_from(self.done_attempts()))
        origin = self.run(lambda: self.flow.get_task_datastore("r", "s", task, attempt=number))
        artifacts = self.attempts[task, number].artifacts or {}
        if data.draw(st.booleans()):
            writer.store.clone(origin)
            writer.pending = dict(artifacts)
        else:
            writer.store.passdown_partial(origin, ["x", "unknown"])
            writer.pending |= {name: value for name, value in artifacts.items() if name == "x"}

    @precondition(lambda self: self.writers)
    @rule(data=st.data(), content=st.binary(max_size=5))
    def log(self, data: st.DataObject, content: bytes) -> None:
        address, writer = data.draw(st.sampled_from(list(self.writers.items())))
        self.run(lambda: writer.store.save_logs("runtime", {"stdout": content}))
        self.attempts[address].log = content

    @precondition(lambda self: self.open_writers())
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        address, writer = self.a_writer(data)
        self.run(writer.store.done)
        self.attempts[address].artifacts = dict(writer.pending)

    @precondition(lambda self: self.open_writers())
    @rule(data=st.data(), steps=st.integers(0, 12), native=st.booleans())
    def crash_while_finishing(self, data: st.DataObject, steps: int, native: bool) -> None:
        address, writer = self.a_writer(data)
        self.run(lambda: cancel_after(steps, writer.store.done, native=native))
        del self.writers[address]
        store = self.run(lambda: self.open_again(address))
        if store.is_done:
            self.attempts[address].artifacts = dict(writer.pending)

    @precondition(lambda self: self.open_writers())
    @rule(data=st.data(), artifacts=ARTIFACTS, steps=st.integers(0, 20), native=st.booleans())
    def crash_while_saving(self, data: st.DataObject, artifacts: dict[str, Any], steps: int, native: bool) -> None:
        address, writer = self.a_writer(data)
        self.run(lambda: cancel_after(steps, lambda: writer.store.save_artifacts(artifacts), native=native))
        del self.writers[address]
        for value in artifacts.values():
            if self.run(lambda v=value: self.is_whole(key_of(v))):  # type: ignore[misc]  # cannot be inferred
                self.stored[key_of(value)] = value
                self.damaged.discard(key_of(value))

    @precondition(lambda self: len(self.open_writers()) < len(self.writers))
    @rule(data=st.data())
    def change_what_is_finished(self, data: st.DataObject) -> None:
        closed = [address for address in self.writers if self.attempts[address].artifacts is not None]
        writer = self.writers[data.draw(st.sampled_from(closed))]
        with pytest.raises(TaskStateError):
            self.run(lambda: writer.store.save_artifacts({"x": "late"}))
        self.run(writer.store.done)

    @precondition(lambda self: self.done_attempts())
    @rule(data=st.data())
    def finish_again_what_is_finished(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(self.done_attempts()))

        async def again() -> WritableTaskDataStore:
            task, number = address
            store = await self.flow.get_task_datastore("r", "s", task, attempt=number, mode="w")
            await store.done()
            return store

        artifacts = self.attempts[address].artifacts or {}
        assert dict(self.run(again).items()) == {name: key_of(value) for name, value in artifacts.items()}

    # Reading.

    @rule(task=TASKS)
    def read_the_latest(self, task: str) -> None:
        started = [number for one, number in self.attempts if one == task]
        latest = self.attempts[task, max(started)] if started else Attempt()
        if latest.artifacts is None:
            with pytest.raises(TaskNotFoundError):
                self.run(lambda: self.flow.get_task_datastore("r", "s", task))
            return
        store = self.run(lambda: self.flow.get_task_datastore("r", "s", task))
        assert store.attempt == max(started)
        self.compare(store, latest)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def read_any(self, data: st.DataObject) -> None:
        task, number = address = data.draw(st.sampled_from(list(self.attempts)))
        store = self.run(lambda: self.flow.get_task_datastore("r", "s", task, attempt=number, allow_not_done=True))
        self.compare(store, self.attempts[address])

    def compare(self, store: TaskDataStore, attempt: Attempt) -> None:
        assert store.is_done is (attempt.artifacts is not None)
        assert dict(self.run(lambda: store.load_logs("stdout")))["runtime"] == attempt.log
        if attempt.artifacts is None:
            with pytest.raises(TaskStateError):
                len(store)
            return
        assert dict(store.items()) == {name: key_of(value) for name, value in attempt.artifacts.items()}
        for name, value in attempt.artifacts.items():
            self.compare_value(store, name, value)

    def compare_value(self, store: TaskDataStore, name: str, value: Any) -> None:
        key = key_of(value)
        if key in self.damaged:
            with pytest.raises(CorruptBlobError, match=f"artifact .*'{name}'") as caught:
                self.run(lambda: store.load_artifact(name))
            assert caught.value.key == key
            self.noticed.add(key)
        else:
            assert self.run(lambda: store.load_artifact(name)) == value

    @rule(not_done=st.booleans(), prior=st.booleans(), only=st.none() | st.integers(0, 5), by_name=st.booleans())
    def list_tasks(self, not_done: bool, prior: bool, only: int | None, by_name: bool) -> None:
        where: dict[str, Any] = {"pathspecs": [f"r/s/{task}" for task in "312"]} if by_name else {"run": "r"}
        stores = self.run(
            lambda: self.flow.get_task_datastores(**where, allow_not_done=not_done, include_prior=prior, attempt=only)
        )
        expected: list[Address] = []
        for task in "312" if by_name else "123":
            seen = {
                number: one
                for (other, number), one in self.attempts.items()
                if other == task and (only is None or number == only or (prior and number < only))
            }
            newest = max(seen, default=None)
            for number in sorted(seen):
                done = seen[number].artifacts is not None
                if (done and (prior or number == newest)) or (not_done and number == newest):
                    expected.append((task, number))
        assert [(store.task_id, store.attempt) for store in stores] == expected

    @rule(names=st.sets(NAMES))
    def prefetch(self, names: set[str]) -> None:
        stores = self.run(lambda: self.flow.get_task_datastores("r"))
        told = {store.task_id: self.attempts[store.task_id, store.attempt].artifacts or {} for store in stores}
        wanted = {key_of(values[name]) for values in told.values() for name in names if name in values}
        if wanted & self.damaged:
            with pytest.raises((CorruptBlobError, ExceptionGroup)):
                self.run(lambda: TaskDataStoreSet.open(self.flow, "r", prefetch=names))
            return
        tasks = self.run(lambda: TaskDataStoreSet.open(self.flow, "r", prefetch=names))
        for store in tasks:
            values = told[store.task_id]
            present = [name for name in names if name in values]
            found = self.run(lambda s=store, p=present: s.fetch_artifacts(p))  # type: ignore[misc]  # cannot be inferred
            assert found == {name: values[name] for name in present}

    # Damage.

    @precondition(lambda self: self.stored)
    @rule(data=st.data(), content=st.sampled_from([b"", b"wrong", b"x" * 1_000_000]))
    def damage(self, data: st.DataObject, content: bytes) -> None:
        key = data.draw(st.sampled_from(sorted(self.stored)))
        attributes = {"cas_raw": True, "cas_version": 1}
        self.run(lambda: self.storage.put(blob_path("Flow/data", key), content, attributes=attributes))
        self.damaged.add(key)

    @precondition(lambda self: self.damaged)
    @rule(data=st.data())
    def heal(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.damaged)))
        with pytest.raises(CorruptBlobError):
            self.run(lambda: self.flow.cas.load_blob(key))
        self.noticed.add(key)
        value = self.stored[key]
        self.run(lambda: self.flow.cas.save_blob(dumps(value)))
        self.was_saved(value)
        assert key not in self.damaged

    @invariant()
    def nothing_is_borrowed(self) -> None:
        type(self).steps += 1
        if hasattr(self, "runtime"):
            assert self.runtime.memory.used == 0
            assert self.runtime.requests.available == self.runtime.limits.requests

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            for address, attempt in self.attempts.items():
                store = self.portal.call(self.open_again, address)
                assert store.is_done is (attempt.artifacts is not None)
            self.portal.call(self.runtime.aclose)
            self.stack.close()

    async def open_again(self, address: Address) -> TaskDataStore:
        task, number = address
        flow = FlowDataStore("Flow", self.storage)
        return await flow.get_task_datastore("r", "s", task, attempt=number, allow_not_done=True)


def run_machine(examples: int, length: int) -> int:
    class Counted(DatastoreMachine):
        steps = 0

    run_state_machine_as_test(
        Counted, settings=settings(max_examples=examples, stateful_step_count=length, deadline=None)
    )
    return Counted.steps


def test_the_datastore_behaves_as_dicts_that_can_crash_be_damaged_and_healed() -> None:
    assert run_machine(60, 40) > 1000


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_datastore_behaves_as_dicts_for_twenty_thousand_steps() -> None:
    assert run_machine(600, 60) >= 20_000
