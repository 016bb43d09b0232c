"""What all wrappers have in common, and what is particular to `Limited`, `Faulty` and `Latency`."""

import inspect
import pickle
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from typing import Any

import anyio
import pytest

from asyncstore.errors import StorageUnavailableError
from asyncstore.runtime import Runtime
from asyncstore.storage import base
from asyncstore.storage.base import DataStoreStorage, PutItem, SupportsBatch, SupportsCopy
from asyncstore.storage.limited import Limited
from asyncstore.storage.memory import MemoryStorage
from asyncstore.storage.retrying import Retrying
from asyncstore.testing.faults import Fault
from asyncstore.testing.faulty import Faulty
from asyncstore.testing.latency import Latency
from asyncstore.types import Limits

ABILITIES = [value for name, value in vars(base).items() if name.startswith("Supports")]
WRAPPERS: list[Callable[[DataStoreStorage], DataStoreStorage]] = [Limited, Retrying, Faulty, lambda s: Latency(s, 0)]


@pytest.fixture
async def memory() -> AsyncGenerator[MemoryStorage]:
    async with Runtime(Limits(requests=2)) as runtime:
        yield MemoryStorage("test", runtime=runtime)


class Able(MemoryStorage):
    """Claims every ability there is."""

    def power(self, kind: type[Any]) -> Any:
        return self


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("ability", ABILITIES)
async def test_a_wrapper_wraps_every_ability(ability: type[Any], wrap: Any, memory: MemoryStorage) -> None:
    assert len(ABILITIES) >= 3
    able = Able("test", runtime=memory.runtime)
    wrapped = wrap(able).power(ability)
    assert wrapped is not None
    assert wrapped is not able
    for name, method in inspect.getmembers(ability, inspect.isfunction):
        if not name.startswith("_"):
            assert (
                inspect.signature(method).parameters.keys()
                == {"self"} | dict(inspect.signature(getattr(wrapped, name)).parameters).keys()
            )


@pytest.mark.parametrize("wrap", WRAPPERS)
async def test_a_wrapper_does_not_fake_an_ability(wrap: Any, memory: MemoryStorage) -> None:
    class Unable(MemoryStorage):
        def power(self, kind: type[Any]) -> Any:
            return None

    storage = wrap(Unable("test", runtime=memory.runtime))
    assert [storage.power(ability) for ability in ABILITIES] == [None] * len(ABILITIES)


@pytest.mark.parametrize("wrap", WRAPPERS)
async def test_a_wrapper_describes_the_storage_inside_and_closes_it(wrap: Any, memory: MemoryStorage) -> None:
    closed = 0

    class Closing(MemoryStorage):
        async def aclose(self) -> None:
            nonlocal closed
            closed += 1

    storage = wrap(Closing("test", runtime=memory.runtime))
    assert (storage.TYPE, storage.root) == ("memory", "memory://test")
    assert storage.runtime is memory.runtime
    assert storage.multipart_limits == memory.multipart_limits
    assert "MemoryStorage('test')" in repr(storage)
    await storage.aclose()
    assert closed == 1


@pytest.mark.parametrize("wrap", WRAPPERS)
async def test_a_wrapper_pickles_around_the_storage_inside(wrap: Any, memory: MemoryStorage) -> None:
    restored = pickle.loads(pickle.dumps(wrap(wrap(memory))))
    assert repr(restored) == repr(wrap(wrap(memory)))


async def test_each_request_holds_one_place(memory: MemoryStorage) -> None:
    storage = Limited(memory)
    free = memory.runtime.requests
    seen: list[int] = []

    class Watching(MemoryStorage):
        async def head(self, path: str) -> None:
            seen.append(free.available)

        async def delete(self, path: str) -> None:
            seen.append(free.available)

    watching = Limited(Watching("test", runtime=memory.runtime))
    await watching.head("a")
    await watching.delete("a")
    assert seen == [1, 1]
    assert free.available == 2
    await storage.put("a", b"x")
    async with storage.get("a"):
        assert free.available == 1
        async with storage.get("a"):
            assert free.available == 0
    assert free.available == 2


async def test_a_listing_holds_no_place_between_its_pages(memory: MemoryStorage) -> None:
    storage = Limited(memory)
    await storage.put("a", b"x")
    async with storage.list("") as one, storage.list("") as two, storage.list("") as three:
        with anyio.fail_after(5):
            for listing in (one, two, three):
                async for entry in listing:
                    assert await storage.head(entry.path) is not None
    assert memory.runtime.requests.available == 2


async def test_an_upload_holds_a_place_for_each_part_and_none_between(memory: MemoryStorage) -> None:
    storage = Limited(memory)
    upload = await storage.create_multipart("a", part_size=1)
    assert memory.runtime.requests.available == 2
    await upload.put_part(0, b"x")
    assert memory.runtime.requests.available == 2
    places = memory.runtime.requests
    async with places.request(), places.request():
        with anyio.move_on_after(0.05) as scope:
            await upload.put_part(1, b"y")
        assert scope.cancelled_caught
        with anyio.fail_after(5):
            await upload.abort()  # a clean-up does not queue
    assert memory.runtime.requests.available == 2


async def test_abilities_hold_places_too(memory: MemoryStorage) -> None:
    storage = Limited(memory)
    batch, copy = storage.power(SupportsBatch), storage.power(SupportsCopy)
    assert batch is not None
    assert copy is not None
    await storage.put("a", b"x")
    async with memory.runtime.requests.request(), memory.runtime.requests.request():
        for call in (
            lambda: batch.head_batch(["a"]),
            lambda: batch.get_batch(["a"], max_bytes=1),
            lambda: batch.put_batch([PutItem("a", b"")]),
            lambda: copy.copy_from(copy.copy_source("a"), "b"),
        ):
            with anyio.move_on_after(0.02) as scope:
                await call()
            assert scope.cancelled_caught
    assert memory.runtime.requests.available == 2


async def test_a_fault_that_never_happened_fails_the_test(memory: MemoryStorage) -> None:
    faulty = Faulty(memory, [Fault("head", "refuse"), Fault("get", "break", at=100)])
    with pytest.raises(AssertionError, match="never happened"):
        faulty.script.check_fired()
    with pytest.raises(StorageUnavailableError):
        await faulty.head("a")
    await memory.put("a", b"short")
    async with faulty.get("a") as reader:
        assert b"".join([chunk async for chunk in reader]) == b"short"
    with pytest.raises(AssertionError, match="break"):
        faulty.script.check_fired()


async def test_faults_meet_their_calls_in_order_and_by_path(memory: MemoryStorage) -> None:
    faulty = Faulty(memory, [Fault("put", "pass"), Fault("put", "lose"), Fault("put", "refuse", path="b")])
    await faulty.put("a", b"1")
    with pytest.raises(StorageUnavailableError):
        await faulty.put("a", b"2")
    await faulty.put("a", b"3")
    with pytest.raises(StorageUnavailableError):
        await faulty.put("b", b"4")
    faulty.script.check_fired()
    assert await memory.head("b") is None


@pytest.mark.parametrize("by", ["chunks", "buffer"])
async def test_a_byte_is_damaged_and_a_body_cut_where_the_script_says(memory: MemoryStorage, by: str) -> None:
    data = bytes(range(200)) * 3000
    await memory.put("a", data)
    faulty = Faulty(memory, [Fault("get", "damage", at=300_001), Fault("get", "cut", at=100_000)])

    async def body() -> bytes:
        async with faulty.get("a") as reader:
            if by == "chunks":
                return b"".join([chunk async for chunk in reader])
            target = bytearray(len(data))
            return bytes(target[: await reader.read_into(memoryview(target))])

    damaged = await body()
    assert [at for at, pair in enumerate(zip(damaged, data, strict=True)) if pair[0] != pair[1]] == [300_001]
    assert await body() == data[:100_000]
    faulty.script.check_fired()


async def test_a_hanging_call_can_be_cancelled(memory: MemoryStorage) -> None:
    await memory.put("a", b"xyz")
    faulty = Faulty(memory, [Fault("put", "hang"), Fault("put", "hang after"), Fault("get", "stall", at=1)])
    for expected in (None, 1):
        with anyio.move_on_after(0.02) as scope:
            await faulty.put("b", b"1")
        assert scope.cancelled_caught
        head = await memory.head("b")
        assert (head and head.size) == expected
    with anyio.move_on_after(0.02) as scope:
        async with faulty.get("a") as reader:
            assert await anext(aiter(reader)) == b"x"
            await anext(aiter(reader))
    assert scope.cancelled_caught
    faulty.script.check_fired()


async def test_latency_is_that_of_the_requests_and_bytes(memory: MemoryStorage) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    storage = Latency(memory, 0.5, rate=10, sleep=sleep)
    await storage.put("a", b"x" * 20)
    assert slept == [2.5]
    async with storage.get("a") as reader:
        assert [chunk async for chunk in reader] == [b"x" * 20]
    assert slept == [2.5, 0.5, 2.0]


def test_faults_and_latency_need_no_pytest() -> None:
    script = (
        "import sys, asyncstore.testing.faulty, asyncstore.testing.latency, asyncstore.testing.harness, "
        "asyncstore.testing.traits; print('pytest' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"
    )
