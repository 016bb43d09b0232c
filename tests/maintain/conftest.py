"""Stores and trees of files to work on."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.runtime import Runtime
from asyncstore.storage.memory import MemoryStorage


@pytest.fixture
async def store() -> AsyncIterator[ContentAddressedStore]:
    async with Runtime() as runtime:
        yield ContentAddressedStore("files/data", MemoryStorage("test", runtime=runtime))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with each thing that a tree may hold."""
    root = tmp_path / "original" / "tree"
    (root / "empty").mkdir(parents=True)
    (root / "deep" / "er").mkdir(parents=True)
    (root / "plain.txt").write_bytes(b"plain\n" * 1000)
    (root / "nothing").write_bytes(b"")
    (root / "same").write_bytes(b"plain\n" * 1000)
    (root / "random.bin").write_bytes(os.urandom(5_000_000))
    (root / "deep" / "er" / "ümläut \n name").write_bytes(b"odd")
    (root / "deep" / os.fsdecode(b"not-utf8-\xff")).write_bytes(b"odd too")
    (root / "run.sh").write_bytes(b"#!/bin/sh\n")
    (root / "run.sh").chmod(0o750)
    (root / "secret").write_bytes(b"s")
    (root / "secret").chmod(0o400)
    (root / "beside").symlink_to("plain.txt")
    (root / "deep" / "up").symlink_to("../plain.txt")
    (root / "deep" / "broken").symlink_to("not there")
    (root / "deep" / "directory").symlink_to("er")
    return root


def picture(root: Path) -> dict[str, tuple[object, ...]]:
    """Return all that a restore has to bring back."""
    seen: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            seen[name] = ("link", os.readlink(path))
        elif path.is_dir():
            seen[name] = ("directory",)
        else:
            seen[name] = ("file", path.stat().st_mode, path.read_bytes())
    return seen
