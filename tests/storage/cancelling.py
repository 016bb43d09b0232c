"""Cancels an operation after each number of steps that it can take, in asyncio's way and in anyio's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
from anyio.lowlevel import checkpoint


async def cancel_after(steps: int, operation: Callable[[], Awaitable[object]], *, native: bool) -> bool:
    """Run an operation for some steps of the loop, then cancel it; True if it was done before."""
    done = False

    async def run() -> None:
        nonlocal done
        await operation()
        done = True

    if native:
        task = asyncio.get_running_loop().create_task(run())
        for _ in range(steps):
            await checkpoint()
        if not task.done():
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return done
    async with anyio.create_task_group() as group:
        group.start_soon(run)
        for _ in range(steps):
            await checkpoint()
        if not done:
            group.cancel_scope.cancel()
    return done


async def sweep(operation: Callable[[], Awaitable[object]], check: Callable[[], Awaitable[object]]) -> int:
    """Cancel at every step, both ways, and check after each; return how many steps the whole operation takes."""
    steps = 0
    for native in (False, True):
        steps = 0
        while not await cancel_after(steps, operation, native=native):
            await check()
            steps += 1
    return steps
