"""What the type checkers read does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncstore.config import Config
from asyncstore.storage.registry import open_storage
from tests.typing.api import settings, use


@pytest.fixture
def config() -> Config:
    return settings()  # reads files, which has no place on a loop


async def test_the_typed_usage_runs(tmp_path: Path, config: Config) -> None:
    (tmp_path / "file").write_bytes(b"content")
    await use(tmp_path / "store", tmp_path / "file", config)
    async with open_storage(tmp_path / "store") as storage:
        assert await storage.head("a/b") is not None
