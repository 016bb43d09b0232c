"""The tasks of one object's parts: one object, one failure."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup


@asynccontextmanager
async def part_group() -> AsyncGenerator[TaskGroup]:
    """Open a task group that raises the first of several failures alone.

    Parts fail together when the network does, or when the object changes; whoever moves one object wants to handle
    that as one error.
    """
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as failures:
        error: BaseException = failures
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
    else:
        return
    # Outside the handler, which would make the group the error's context.
    try:
        raise error
    finally:
        del error  # this frame is in its traceback
