"""A pool without threads, so that an operation takes the same steps each time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from anyio.lowlevel import checkpoint

from asyncstore.concurrency import ThreadPool

T = TypeVar("T")


class InlinePool(ThreadPool):
    """Runs on the loop, between two checkpoints, so that each run of an operation takes the same steps."""

    async def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        await checkpoint()
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)  # as in a thread: the function may block, and finds no loop
        try:
            result = function(*args, **kwargs)
        finally:
            asyncio._set_running_loop(loop)
        await checkpoint()
        return result
