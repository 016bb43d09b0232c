"""The store's own threads: never abandoned, not even by who is cancelled, and there again after a fork."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from asyncstore.concurrency import ThreadPool


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    pool = ThreadPool(2)
    yield pool
    pool.close()


async def test_a_function_runs_in_a_thread_of_the_pool(pool: ThreadPool) -> None:
    names = {await pool.run(lambda: threading.current_thread().name) for _ in range(5)}
    assert all(name.startswith("asyncstore") for name in names)
    assert await pool.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await pool.run(divmod, 1, 0)


@pytest.mark.parametrize("way", ["scope", "task"])
async def test_a_cancelled_call_waits_for_its_thread(pool: ThreadPool, way: str) -> None:
    began, finish, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        finish.wait(10)
        ended.set()

    async def call() -> None:
        await pool.run(work)
        assert way == "scope"  # a scope leaves the result to the caller, and is heard at the next await
        await anyio.lowlevel.checkpoint()
        raise AssertionError("not cancelled")

    task = asyncio.create_task(call()) if way == "task" else None
    async with anyio.create_task_group() as group:
        if task is None:
            group.start_soon(call)
        await asyncio.to_thread(began.wait, 10)
        if task is None:
            group.cancel_scope.cancel()
        else:
            for _ in range(3):  # however often
                task.cancel()
                await asyncio.sleep(0)
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.02)
        assert not ended.is_set()
        finish.set()
        if task is not None:
            with pytest.raises(asyncio.CancelledError):
                await task
    assert ended.is_set()


async def test_a_loop_of_calls_hears_that_it_was_cancelled(pool: ThreadPool) -> None:
    calls = 0

    async def work() -> None:
        nonlocal calls
        for _ in range(10_000):
            await pool.run(int)
            calls += 1

    with anyio.fail_after(20):
        with anyio.move_on_after(0.05):
            await work()
    assert 0 < calls < 10_000
    with anyio.CancelScope() as scope:
        scope.cancel()
        calls = 0
        await work()
    assert calls == 0


async def test_an_error_after_a_cancellation_is_not_reported_as_unheard(
    pool: ThreadPool, caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> None:
        time.sleep(0.02)
        raise ValueError("late")

    task = asyncio.create_task(pool.run(work))
    await anyio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    gc.collect()
    await anyio.lowlevel.checkpoint()
    assert caplog.records == []


async def test_a_function_that_raises_stop_iteration_does_not_hang(pool: ThreadPool) -> None:
    with anyio.fail_after(5), pytest.raises(RuntimeError, match="StopIteration"):
        await pool.run(next, iter(()))


async def test_a_closed_pool_starts_anew_at_the_next_call(pool: ThreadPool) -> None:
    assert await pool.run(int) == 0
    pool.close()
    pool.close()
    assert await pool.run(int) == 0


def _in_child(pool: ThreadPool, results: Any) -> None:
    async def main() -> int:
        with anyio.fail_after(5):
            return await pool.run(os.getpid)

    results.put(anyio.run(main))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_after_a_fork_the_pool_has_threads_again(pool: ThreadPool) -> None:
    await pool.run(int)
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(pool, results))
    child.start()
    pid = child.pid
    await asyncio.to_thread(child.join, 20)
    assert child.exitcode == 0
    assert results.get() == pid
    assert await pool.run(os.getpid) == os.getpid()


async def test_a_cancelled_scope_does_not_cost_the_result_of_a_thread() -> None:
    pool, release = ThreadPool(1), threading.Event()
    results: list[bool] = []

    async def call() -> None:
        results.append(await pool.run(release.wait, 30))

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.01)
        release.set()
    pool.close()
    assert results == [True]
