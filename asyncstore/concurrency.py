"""Structured ways to run many things at once; every task has a block here that waits for it."""

from __future__ import annotations

import asyncio
import copy
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from typing import Any, Generic, ParamSpec, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import ObjectSendStream
from anyio.streams.memory import MemoryObjectReceiveStream

T = TypeVar("T")
A = ParamSpec("A")

CLEANUP_SECONDS = 5.0
"""Longest that a clean-up may hold up a cancellation."""


def unwrap(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one exception in a (nested) group, or the group if it holds several."""
    if len(group.exceptions) > 1:
        return group
    for inner in group.exceptions:
        return unwrap(inner) if isinstance(inner, BaseExceptionGroup) else inner  # pyright: ignore[reportUnknownArgumentType]  # lost in isinstance
    raise AssertionError("an exception group is never empty")


@asynccontextmanager
async def task_group() -> AsyncGenerator[anyio.abc.TaskGroup]:
    """Open an anyio task group from which one failure comes out as itself, several as a group."""
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as failures:
        error = unwrap(failures)
        if error is failures:
            raise
    else:
        return
    # Outside the handler, which would make the group the error's context: a cycle, and the true context lost.
    try:
        raise error
    finally:
        del error  # this frame is in its traceback


async def aiter_any(items: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[T]:
    """Iterate over either kind of iterable; a synchronous one is pulled on the loop and must not block."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def run_all(items: Iterable[T] | AsyncIterable[T], work: Callable[[T], Awaitable[object]], *, width: int) -> None:
    """Await ``work(item)`` for each item in at most ``width`` tasks, which live as long as there are items.

    Items are consumed lazily, in order. The first failure cancels the rest; failures already known are grouped.
    """
    source = aiter_any(items)
    turn = anyio.Lock()
    workers = 1

    async def worker() -> None:
        nonlocal workers
        while True:
            async with turn:
                try:
                    item = await anext(source)
                except StopAsyncIteration:
                    return
            if workers < width:
                # One more at each item, since few items need few workers.
                workers += 1
                group.start_soon(worker)
            await work(item)

    async with aclosing(source), task_group() as group:
        group.start_soon(worker)


@asynccontextmanager
async def crew(work: Callable[[T], Awaitable[object]], *, width: int) -> AsyncGenerator[Callable[[T], Awaitable[None]]]:
    """Give the block a function that hands an item to one of at most ``width`` tasks.

    Tasks are started as they are needed and live until the block ends, which waits for the work handed out. The
    hand-over waits while all are busy. The first failure cancels the block and the rest.
    """
    sender, receiver = anyio.create_memory_object_stream[T](0)
    started = 0

    async def worker(items: MemoryObjectReceiveStream[T]) -> None:
        async with items:
            async for item in items:
                await work(item)

    async with task_group() as group, receiver:

        async def hand_over(item: T) -> None:
            nonlocal started
            if started < width and not sender.statistics().tasks_waiting_receive:
                started += 1
                group.start_soon(worker, receiver.clone())
            await sender.send(item)

        async with sender:
            yield hand_over


@asynccontextmanager
async def feed(
    produce: Callable[[ObjectSendStream[T]], Awaitable[None]], *, capacity: float = 0
) -> AsyncGenerator[AsyncIterator[T]]:
    """Run ``produce`` in a task that feeds the iterator given to the block.

    Leaving the block early cancels the producer. A failure of the producer is raised from the block; it ends the
    iteration, so that nobody mistakes it for the end of the data.
    """
    sender, receiver = anyio.create_memory_object_stream[T](capacity)

    async def run() -> None:
        await produce(sender)
        # Only now: closed by a failure, the stream would end as if complete before the block hears of the failure.
        sender.close()

    with sender, receiver:
        async with task_group() as group:
            group.start_soon(run)
            yield receiver
            group.cancel_scope.cancel()


class SingleFlight(Generic[T]):
    """Let concurrent callers with one key share one call."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[T]] = {}

    async def run(self, key: Hashable, call: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """Return the result of ``call``, and whether this caller made the call itself.

        Callers that come while a call is under way wait for it and get its result or its error. If the caller that
        makes it is cancelled, one of the others makes it anew.
        """
        while (flight := self._flights.get(key)) is not None:
            await flight.landed.wait()
            if flight.error is not None:
                raise _copy(flight.error) from flight.error
            if flight.results:
                return flight.results[0], False
        flight = self._flights[key] = _Flight()
        try:
            result = await call()
        except Exception as error:
            flight.error = error
            raise
        else:
            flight.results.append(result)
            return result, True
        finally:
            del self._flights[key]
            flight.landed.set()


def _copy(error: Exception) -> Exception:
    """Return an equal exception: one that several tasks raise would gather all their tracebacks."""
    try:
        return copy.copy(error)
    except Exception:  # noqa: BLE001  # a foreign class may not be rebuilt from its args; then it is shared
        return error


class _Flight(Generic[T]):
    def __init__(self) -> None:
        self.landed = anyio.Event()
        self.results: list[T] = []
        self.error: Exception | None = None


async def settle(future: asyncio.Future[Any]) -> None:
    """Wait until ``future`` is done; if cancelled, raise only then."""
    cancelled: asyncio.CancelledError | None = None
    # The shield holds off anyio's cancellation; the loop holds off asyncio's own (wait_for, Task.cancel).
    with anyio.CancelScope(shield=True):
        while not future.done():
            try:
                await asyncio.wait((future,))
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # seen, so that asyncio does not report it as never retrieved
        raise cancelled


class ThreadPool:
    """The store's own threads for CPU and file work; started at the first use, and anew after a fork."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._pid = 0

    @property
    def executor(self) -> ThreadPoolExecutor:
        """The executor itself, for libraries that want one (aiofiles)."""
        with self._lock:
            if self._executor is None or self._pid != os.getpid():
                # After a fork the threads of the parent do not exist here; its executor would wait for ever.
                self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="asyncstore")
                self._pid = os.getpid()
            return self._executor

    async def run(self, function: Callable[A, T], *args: A.args, **kwargs: A.kwargs) -> T:
        """Call a function in a thread and return its result.

        A thread is never abandoned, so that the buffers it works on are not touched by anybody else. If cancelled,
        this waits for the function to end. Then it raises if the task was cancelled (asyncio's own way), which loses
        the result; a cancelled scope (anyio's way) is heard at the next await, and the result returned. Keep each
        call under about 100 ms.
        """
        # All awaits below are shielded, so a loop of calls would never hear that it was cancelled.
        await anyio.lowlevel.checkpoint_if_cancelled()

        def call() -> T:
            try:
                return function(*args, **kwargs)
            except StopIteration as error:
                # A future does not take one (asyncio would drop it and wait for ever).
                raise RuntimeError(f"{function!r} raised StopIteration") from error

        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self.executor, call)
        await settle(future)
        return future.result()

    async def clean_up(self, function: Callable[A, object], *args: A.args, **kwargs: A.kwargs) -> None:
        """Call a function as `run` does, in a cancelled scope too: for what must be closed or removed on every path."""
        with anyio.CancelScope(shield=True):
            await self.run(function, *args, **kwargs)

    def close(self) -> None:
        """End the threads; does not block, since `run` never leaves one working."""
        with self._lock:
            if self._executor is not None and self._pid == os.getpid():
                self._executor.shutdown(wait=False)
            self._executor = None
