"""A task write that is cancelled at any await, in either way, leaves it done and complete or not done."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from asyncstore.datastore.flow import FlowDataStore
from asyncstore.runtime import Runtime
from asyncstore.storage.base import DataStoreStorage
from asyncstore.storage.local import LocalStorage
from asyncstore.storage.memory import MemoryStorage
from tests.cas.plain import PlainStorage
from tests.datastore.inline import InlinePool
from tests.datastore.test_writing import Registrar
from tests.datastore.whole import VALUES, check_task, write_task
from tests.storage.cancelling import cancel_after


class SlowRegistrar(Registrar):
    """Takes some steps before and after each registration."""

    async def register_data_artifacts(self, *ids: str, **options: Any) -> None:
        await checkpoint()
        await super().register_data_artifacts(*ids, **options)
        await checkpoint()

    async def register_metadata(self, *arguments: Any) -> None:
        await checkpoint()
        await super().register_metadata(*arguments)
        await checkpoint()


def storages(kind: str, scratch: Path) -> Callable[[int], DataStoreStorage]:
    def make(number: int) -> DataStoreStorage:
        runtime = Runtime()
        runtime.pool = InlinePool(1)
        if kind == "local":
            return LocalStorage(scratch / str(number), runtime=runtime, durability="fast")
        return (MemoryStorage if kind == "memory" else PlainStorage)("sweep", runtime=runtime)

    return make


@pytest.mark.parametrize("native", [False, True], ids=["anyio", "asyncio"])
@pytest.mark.parametrize("kind", ["local", "memory", "single requests"])
async def test_a_task_write_cancelled_at_any_await_is_done_and_complete_or_not_done(
    kind: str, native: bool, scratch: Path
) -> None:
    make = storages(kind, scratch)
    outcomes: list[bool] = []
    finished = False
    while not finished:
        storage, registrar = make(len(outcomes)), SlowRegistrar()
        operation = partial(write_task, storage, "1", registrar=registrar)
        finished = await cancel_after(len(outcomes), operation, native=native)
        done = await check_task(storage, "1")
        if "metadata" in registrar.events:
            assert done
        assert storage.runtime.memory.used == 0
        assert storage.runtime.requests.available == storage.runtime.limits.requests
        if done and not finished:
            # Cancelled between the marker and the registration: closing it again mends that, and only that.
            again = Registrar()
            flow = FlowDataStore("Flow", storage, metadata=again)
            await (await flow.get_task_datastore("r", "s", "1", attempt=0, mode="w")).done()
            assert [record.name for record in again.records] == list(VALUES)
        await storage.aclose()
        await storage.runtime.aclose()
        outcomes.append(done)
    assert outcomes == sorted(outcomes)
    assert outcomes.count(False) > 30
    assert outcomes.count(True) > 1, "no cancellation fell between the marker and the end"


@pytest.mark.parametrize("native", [False, True], ids=["anyio", "asyncio"])
async def test_loads_cancelled_at_any_await_leave_nothing_borrowed(native: bool) -> None:
    storage = storages("single requests", Path())(0)
    await write_task(storage, "1")
    finished, steps = False, 0

    async def load() -> None:
        flow = FlowDataStore("Flow", storage)
        [store] = await flow.get_task_datastores("r")
        await store.fetch_artifacts()

    while not finished:
        finished = await cancel_after(steps, load, native=native)
        assert storage.runtime.memory.used == 0
        assert storage.runtime.requests.available == storage.runtime.limits.requests
        steps += 1
    assert steps > 20
