"""What the type checkers read does what it says."""

from __future__ import annotations

from pathlib import Path

from asyncstore.storage.registry import open_storage
from tests.typing.api import use


async def test_the_typed_usage_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    await use(tmp_path / "store", tmp_path / "file")
    async with open_storage(tmp_path / "store") as storage:
        assert await storage.head("a/b") is not None
