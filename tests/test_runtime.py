import multiprocessing
import pickle
from typing import Any

import anyio
import pytest

from asyncstore.runtime import Runtime
from asyncstore.types import Limits


async def test_a_runtime_works_within_its_limits() -> None:
    async with Runtime(Limits(memory=10, threads=3, requests=5)) as runtime:
        assert runtime.memory.limit == 10
        assert runtime.requests.limit == 5
        assert runtime.pool.threads == 3
        assert repr(runtime) == f"Runtime({runtime.limits!r})"


async def test_a_runtime_pickles_as_its_limits_and_borrows_nothing() -> None:
    async with Runtime(Limits(memory=10)) as runtime:
        await runtime.memory.take(5)
        await runtime.requests.acquire()
        await runtime.pool.run(int)
        restored = pickle.loads(pickle.dumps(runtime))
        assert restored.limits == runtime.limits
        assert restored.memory.used == 0
        assert restored.requests.available == restored.requests.limit


async def test_closing_twice_is_no_error_and_a_later_use_starts_anew() -> None:
    runtime = Runtime()
    await runtime.aclose()
    await runtime.aclose()
    assert await runtime.pool.run(int) == 0
    await runtime.aclose()


async def test_what_is_shared_is_made_once() -> None:
    async with Runtime() as runtime:
        made = runtime.shared("x", list[int])
        assert runtime.shared("x", list[int]) is made
        assert runtime.shared("y", list[int]) is not made


def _in_child(runtime: Runtime, results: Any) -> None:
    async def main() -> tuple[int, int]:
        with anyio.fail_after(5):
            await runtime.memory.take(10)
            await runtime.requests.acquire()
        return runtime.memory.used, runtime.requests.available

    results.put(anyio.run(main))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_what_the_parent_had_borrowed_at_a_fork_is_free_in_the_child() -> None:
    async with Runtime(Limits(memory=10, requests=1)) as runtime:
        await runtime.memory.take(10)
        await runtime.requests.acquire()
        context = multiprocessing.get_context("fork")
        results = context.SimpleQueue()
        child = context.Process(target=_in_child, args=(runtime, results))
        child.start()
        await anyio.to_thread.run_sync(child.join, 20)
        assert child.exitcode == 0
        assert results.get() == (10, 0)
        assert runtime.memory.used == 10
