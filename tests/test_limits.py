import asyncio
import random
from dataclasses import dataclass, field

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncstore.limits import MemoryAccount, MemoryBudget, RequestLimiter


async def settle() -> None:
    await anyio.wait_all_tasks_blocked()


async def test_bytes_are_handed_out_first_come_first_served() -> None:
    budget = MemoryBudget(10)
    await budget.take(8)
    got: list[str] = []

    async def take(name: str, size: int) -> None:
        await budget.take(size)
        got.append(name)

    async with anyio.create_task_group() as group:
        group.start_soon(take, "large", 9)
        await settle()
        group.start_soon(take, "small", 1)
        await settle()
        assert got == []
        budget.give(8)
        await settle()
        assert got == ["large", "small"]
    assert budget.used == 10


async def test_an_item_larger_than_the_budget_goes_alone() -> None:
    budget = MemoryBudget(10)
    await budget.take(1)
    async with anyio.create_task_group() as group:
        group.start_soon(budget.take, 25)
        await settle()
        assert budget.used == 1
        budget.give(1)
    assert budget.used == 25


async def test_an_operation_that_holds_nothing_is_never_kept_waiting() -> None:
    budget = MemoryBudget(10)
    outer, inner = budget.account(), budget.account()
    await outer.take(10)
    with anyio.fail_after(1):
        async with inner.reserve(10):
            assert budget.used == 20
    assert budget.used == 10


async def test_an_item_that_waits_is_granted_when_its_operation_has_nothing_left() -> None:
    budget = MemoryBudget(10)
    outer, inner = budget.account(), budget.account()
    await outer.take(10)
    await inner.take(5)
    with anyio.fail_after(1):
        async with anyio.create_task_group() as group:
            group.start_soon(inner.take, 5)
            await settle()
            assert inner.held == 5
            inner.give(5)
            # Counted at once, before the waiting task wakes: nobody of this operation may go beyond a second time.
            assert inner.held == 5
    outer.close()
    inner.close()
    assert budget.used == 0


async def test_two_tasks_of_one_operation_go_beyond_the_budget_once() -> None:
    budget = MemoryBudget(10)
    await budget.take(10)
    account = budget.account()
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(account.take, 5)
        await settle()
        assert (account.held, budget.used) == (5, 15)
        group.cancel_scope.cancel()


@pytest.mark.parametrize("granted", [False, True])
@pytest.mark.parametrize("with_account", [False, True])
async def test_a_cancelled_wait_takes_nothing(granted: bool, with_account: bool) -> None:
    budget = MemoryBudget(10)
    await budget.take(9)
    account = budget.account()
    await account.take(1)
    take = account.take if with_account else budget.take
    task = asyncio.create_task(take(10))
    await settle()
    if granted:
        budget.give(9)
        account.give(1)
        assert budget.used == 10
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert budget.waiting == 0
    assert budget.used == (0 if granted else 10)
    assert account.held == (0 if granted else 1)


async def test_cancelling_a_large_claim_lets_the_small_ones_behind_it_go() -> None:
    budget = MemoryBudget(10)
    await budget.take(5)
    got: list[int] = []

    async def small() -> None:
        await budget.take(5)
        got.append(5)

    async with anyio.create_task_group() as outer:
        async with anyio.create_task_group() as inner:
            inner.start_soon(budget.take, 6)
            await settle()
            outer.start_soon(small)
            await settle()
            assert got == []
            inner.cancel_scope.cancel()
        await settle()
        assert got == [5]


@dataclass
class Operation:
    account: MemoryAccount
    items: list[int] = field(default_factory=list)


@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_the_budget_is_exceeded_by_at_most_one_item_of_each_operation(seed: int, limit: int, operations: int) -> None:
    async def main() -> None:
        budget = MemoryBudget(limit)
        running = [Operation(budget.account()) for _ in range(operations)]

        def check() -> None:
            assert budget.used == sum(operation.account.held for operation in running)
            beyond = sum(max(operation.items, default=0) for operation in running)
            # Granted bytes whose task has not woken yet are in held but not in items.
            asleep = sum(operation.account.held - sum(operation.items) for operation in running)
            assert budget.used - asleep - beyond <= limit

        async def work(operation: Operation, chance: random.Random) -> None:
            for _ in range(6):
                size = chance.randint(1, 12)
                with anyio.move_on_after(0 if chance.random() < 0.1 else None) as scope:
                    await operation.account.take(size)
                if scope.cancelled_caught:
                    continue
                operation.items.append(size)
                check()
                for _ in range(chance.randint(0, 3)):
                    await anyio.lowlevel.checkpoint()
                operation.items.remove(size)
                operation.account.give(size)
                check()

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for number in range(operations * 3):
                    group.start_soon(work, running[number % operations], random.Random(seed + number))
        assert budget.used == 0
        assert budget.waiting == 0

    anyio.run(main)


async def test_requests_are_bounded_and_places_come_back() -> None:
    limiter = RequestLimiter(3)
    now = most = 0

    async def request() -> None:
        nonlocal now, most
        async with limiter.request():
            now += 1
            most = max(most, now)
            await anyio.lowlevel.checkpoint()
            now -= 1

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(request)
    assert most == 3
    assert limiter.available == 3


async def test_a_cancelled_request_keeps_no_place() -> None:
    limiter = RequestLimiter(1)
    await limiter.acquire()
    async with anyio.create_task_group() as group:
        group.start_soon(limiter.acquire)
        await settle()
        group.cancel_scope.cancel()
    assert limiter.available == 0
    limiter.release()
    assert limiter.available == 1
    with anyio.CancelScope() as scope:
        scope.cancel()
        await limiter.acquire()
    assert limiter.available == 1


async def test_the_time_in_the_queue_is_known_to_the_task_that_waited() -> None:
    limiter = RequestLimiter(1)
    await limiter.acquire()
    seconds: list[float] = []

    async def request() -> None:
        async with limiter.request():
            seconds.append(limiter.waited())

    async with anyio.create_task_group() as group:
        group.start_soon(request)
        await settle()
        await anyio.sleep(0.05)
        limiter.release()
    assert 0.04 < seconds[0] < 5
    assert limiter.waited() == 0
