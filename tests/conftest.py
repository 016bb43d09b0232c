"""Fixtures that every test module may use."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

# Hypothesis must not time its examples: on a loaded machine any single one may be slow.
settings.register_profile("asyncstore", deadline=None)
settings.load_profile("asyncstore")

pytest.register_assert_rewrite("asyncstore.testing")

pytest_plugins = ["tests.servers.fixtures"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory in memory where there is one, for tests that make thousands of files and need no disk."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.path.isdir(memory) else None, prefix="asyncstore-") as path:
        yield Path(path)


@pytest.fixture(scope="session", autouse=True)
def _nothing_blocks_the_loop() -> Iterator[None]:
    """Raise `BlockingError` where asyncstore blocks a running loop: files, locks, sockets, sleeps."""
    # What tests do to look behind a store's back may block.
    with blockbuster_ctx("asyncstore", excluded_modules=["asyncstore.testing"]) as watch:
        for name in ("os.path.abspath", "os.getcwd"):
            watch.functions[name].deactivate()  # the kernel knows the working directory without a disk
        for name in ("os.listdir", "os.unlink", "os.rmdir"):
            # Run by the garbage collector, wherever it is, for a store that nobody closed.
            watch.functions[name].can_block_in("asyncstore/storage/local_tmp.py", "_finish")
        for function in watch.functions.values():
            # A loop of its own in a thread, where the SDK reads files; the user's loop does not wait for it.
            function.can_block_in("asyncstore/storage/s3_client.py", "_make_client")
        yield
