"""Fixtures that every test module may use."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
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
