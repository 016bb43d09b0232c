"""Structured concurrency: first failures, cancellation of both kinds, and nothing left running."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from anyio.abc import ObjectSendStream

from asyncstore.concurrency import SingleFlight, feed, run_all, task_group
from asyncstore.errors import CorruptBlobError

# task_group


async def fail(error: BaseException) -> None:
    raise error


async def test_one_failure_comes_out_as_itself_with_its_own_cause_and_context() -> None:
    error = ValueError("x")
    error.__cause__ = KeyError("cause")
    error.__context__ = TypeError("context")
    with pytest.raises(ValueError, match="x") as caught:
        await run_all([error], fail, width=1)
    assert caught.value is error
    assert isinstance(error.__cause__, KeyError)
    assert isinstance(error.__context__, TypeError)


async def test_a_failure_of_the_block_itself_comes_out_as_itself() -> None:
    async def block() -> None:
        async with task_group() as group:
            group.start_soon(anyio.sleep_forever)
            raise ValueError("block")

    with pytest.raises(ValueError, match="block"):
        await block()


async def test_several_failures_come_out_as_a_group() -> None:
    async def both() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise KeyError("second")

    async def block() -> None:
        async with task_group() as group:
            group.start_soon(both)
            await anyio.wait_all_tasks_blocked()
            raise ValueError("first")

    with pytest.raises(ExceptionGroup) as caught:
        await block()
    assert {type(error) for error in caught.value.exceptions} == {ValueError, KeyError}


async def test_a_failure_is_freed_without_the_garbage_collector() -> None:
    class Marker:
        alive = 0

        def __init__(self) -> None:
            Marker.alive += 1

        def __del__(self) -> None:
            Marker.alive -= 1

    async def work() -> None:
        marker = Marker()
        raise ValueError(type(marker))

    gc.disable()
    try:
        for _ in range(3):
            try:
                async with task_group() as group:
                    group.start_soon(work)
            except ValueError:
                pass
        await anyio.lowlevel.checkpoint()
        assert Marker.alive <= 1
    finally:
        gc.enable()


# run_all


async def test_all_items_are_worked_on_by_at_most_width_tasks() -> None:
    now = most = 0
    done: list[int] = []

    async def work(item: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await anyio.sleep(0.001)
        done.append(item)
        now -= 1

    await run_all(range(100), work, width=7)
    assert sorted(done) == list(range(100))
    assert most == 7


async def test_items_are_pulled_only_when_a_task_is_free() -> None:
    pulled = 0
    gate = anyio.Event()

    async def items() -> AsyncIterator[int]:
        nonlocal pulled
        for number in range(1000):
            pulled += 1
            yield number

    async def work(item: int) -> None:
        await gate.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: run_all(items(), work, width=3))
        await anyio.wait_all_tasks_blocked()
        assert pulled == 3
        gate.set()
    assert pulled == 1000


async def test_many_items_need_no_task_each_and_few_items_few_tasks() -> None:
    tasks: set[Any] = set()

    async def work(item: int) -> None:
        tasks.add(asyncio.current_task())

    await run_all(range(10_000), work, width=5)
    assert len(tasks) <= 5
    tasks.clear()
    await run_all(range(1), work, width=64)
    assert len(tasks) == 1


async def test_the_first_failure_cancels_the_rest_and_stops_the_items() -> None:
    pulled: list[int] = []
    cancelled: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            pulled.append(number)
            yield number

    async def work(item: int) -> None:
        if item == 2:
            raise ValueError(item)
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            cancelled.append(item)
            raise

    with pytest.raises(ValueError, match="2"):
        await run_all(items(), work, width=4)
    assert len(pulled) <= 4
    assert set(cancelled) == set(pulled) - {2}


async def test_a_failure_of_the_items_is_a_failure_of_the_call() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("source")

    async def work(item: int) -> None:
        await anyio.lowlevel.checkpoint()

    with pytest.raises(KeyError, match="source"):
        await run_all(items(), work, width=3)


async def test_no_items_are_no_work() -> None:
    async def work(item: int) -> None:
        raise AssertionError

    await run_all([], work, width=3)


# feed


async def test_a_block_iterates_over_what_a_task_produces() -> None:
    async def produce(sender: ObjectSendStream[int]) -> None:
        for number in range(5):
            await sender.send(number)

    async with feed(produce) as items:
        assert [item async for item in items] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("capacity", [0, 10])
async def test_a_failing_producer_is_never_mistaken_for_the_end(capacity: int) -> None:
    ended = False

    async def produce(sender: ObjectSendStream[int]) -> None:
        await sender.send(1)
        await anyio.lowlevel.checkpoint()
        raise CorruptBlobError("damaged", key="k", actual=None)

    async def consume() -> None:
        nonlocal ended
        async with feed(produce, capacity=capacity) as items:
            async for _ in items:
                pass
            ended = True
            await anyio.sleep_forever()

    with pytest.raises(CorruptBlobError):
        await consume()
    assert not ended


async def test_leaving_the_block_early_cancels_the_producer() -> None:
    cancelled = False

    async def produce(sender: ObjectSendStream[int]) -> None:
        nonlocal cancelled
        try:
            for number in range(1000):
                await sender.send(number)
        except asyncio.CancelledError:
            cancelled = True
            raise

    async with feed(produce) as items:
        async for _ in items:
            break
    assert cancelled


async def test_an_error_of_the_block_comes_out_and_cancels_the_producer() -> None:
    async def produce(sender: ObjectSendStream[int]) -> None:
        await sender.send(1)
        await anyio.sleep_forever()

    async def consume() -> None:
        async with feed(produce) as items:
            async for _ in items:
                raise KeyError("block")

    with pytest.raises(KeyError, match="block"):
        await consume()


# SingleFlight


async def test_concurrent_callers_share_one_call() -> None:
    flights: SingleFlight[int] = SingleFlight()
    calls = 0

    async def call() -> int:
        nonlocal calls
        calls += 1
        await anyio.lowlevel.checkpoint()
        return calls

    results: list[tuple[int, bool]] = []

    async def run(key: str) -> None:
        results.append(await flights.run(key, call))

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(run, "a")
    assert sorted(results) == [(1, False)] * 4 + [(1, True)]
    assert await flights.run("a", call) == (2, True)
    assert flights._flights == {}


async def test_none_is_a_result_like_any_other() -> None:
    flights: SingleFlight[None] = SingleFlight()
    results: list[tuple[None, bool]] = []

    async def run() -> None:
        results.append(await flights.run("a", anyio.lowlevel.checkpoint))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(run)
    assert sorted(made for _, made in results) == [False, False, True]


async def test_each_caller_gets_an_error_of_its_own_that_names_the_first() -> None:
    flights: SingleFlight[int] = SingleFlight()
    original = CorruptBlobError("damaged", key="k" * 40, actual=None, where="a/b")
    errors: list[BaseException] = []

    async def call() -> int:
        await anyio.lowlevel.checkpoint()
        raise original

    async def run() -> None:
        try:
            await flights.run("a", call)
        except CorruptBlobError as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(run)
    assert len({id(error) for error in errors}) == 3
    assert [vars(error) for error in errors] == [vars(original)] * 3
    assert sum(error.__cause__ is original for error in errors) == 2


async def test_an_error_that_cannot_be_copied_is_shared() -> None:
    class OddError(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} {two}")

    flights: SingleFlight[int] = SingleFlight()

    async def call() -> int:
        await anyio.lowlevel.checkpoint()
        raise OddError(1, 2)

    async def run() -> None:
        with pytest.raises(OddError, match="1 2"):
            await flights.run("a", call)

    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(run)


@pytest.mark.parametrize("native", [False, True])
async def test_if_the_caller_that_makes_the_call_is_cancelled_another_one_makes_it(native: bool) -> None:
    flights: SingleFlight[str] = SingleFlight()
    calls = 0
    gate = anyio.Event()

    async def call() -> str:
        nonlocal calls
        calls += 1
        await gate.wait()
        return "done"

    first = asyncio.create_task(flights.run("a", call)) if native else None
    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()

        async def leader() -> None:
            with scope:
                await flights.run("a", call)

        if not native:
            group.start_soon(leader)
        await anyio.wait_all_tasks_blocked()
        results: list[tuple[str, bool]] = []

        async def follower() -> None:
            results.append(await flights.run("a", call))

        for _ in range(3):
            group.start_soon(follower)
        await anyio.wait_all_tasks_blocked()
        if first is not None:
            first.cancel()
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
        gate.set()
    assert calls == 2
    assert sorted(results) == [("done", False), ("done", False), ("done", True)]
    if first is not None:
        assert first.cancelled()


async def test_a_cancelled_follower_does_not_disturb_the_call() -> None:
    flights: SingleFlight[int] = SingleFlight()
    gate = anyio.Event()

    async def call() -> int:
        await gate.wait()
        return 1

    async with anyio.create_task_group() as group:
        results: list[Any] = []

        async def leader() -> None:
            results.append(await flights.run("a", call))

        group.start_soon(leader)
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0.01) as scope:
            await flights.run("a", call)
        assert scope.cancelled_caught
        gate.set()
    assert results == [(1, True)]
