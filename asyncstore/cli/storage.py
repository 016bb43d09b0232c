"""Opens what a command works on, as the options of the environment and of Metaflow's files say."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any, TypeVar

import anyio

from asyncstore.storage.base import DataStoreStorage

T = TypeVar("T")

DEFAULT_PREFIX = "files/data"


def run_async(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a command's work on an event loop, uvloop's if it is installed."""
    return anyio.run(work, backend_options={"use_uvloop": find_spec("uvloop") is not None})


@asynccontextmanager
async def open_url(url: str) -> AsyncGenerator[DataStoreStorage]:
    """Open the storage at a URL."""
    from asyncstore.storage.registry import open_storage

    async with open_storage(url) as storage:
        yield storage
