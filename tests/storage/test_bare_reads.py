from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from asyncstore.errors import StorageError
from asyncstore.runtime import Runtime
from asyncstore.storage.base import SupportsBareReads
from asyncstore.storage.limited import Limited
from asyncstore.storage.local import LocalStorage
from asyncstore.storage.retrying import Retrying


@pytest.mark.parametrize("wrapped", [False, True])
async def test_bodies_come_in_order_with_sizes_of_what_does_not_fit(tmp_path: Path, wrapped: bool) -> None:
    async with Runtime() as runtime:
        local = LocalStorage(tmp_path, runtime=runtime)
        bare = (Retrying(Limited(local)) if wrapped else local).power(SupportsBareReads)
        assert bare is not None
        await local.put("d/one", b"1" * 10, attributes={"a": 1})
        await local.put("d/two", b"2" * 100)
        await local.put("d/three", b"")
        for _ in range(2):  # the second time by the short way
            bodies = await bare.read_bodies(["d/two", "d/nothing", "d/one", "d/three", "d/one"], max_bytes=25)
            assert bodies == [100, None, b"1" * 10, b"", b"1" * 10]
            assert await bare.read_bodies(["d"], max_bytes=25) == [None]


async def test_the_short_way_sees_what_happened_to_a_directory(tmp_path: Path) -> None:
    async with Runtime() as runtime:
        local = LocalStorage(tmp_path, runtime=runtime)
        await local.put("d/one", b"1")
        for _ in range(2):
            assert await local.read_bodies(["d/one"], max_bytes=9) == [b"1"]
        shutil.rmtree(tmp_path / "d")
        assert await local.read_bodies(["d/one"], max_bytes=9) == [None]
        await local.put("d/one", b"2")
        assert await local.read_bodies(["d/one"], max_bytes=9) == [b"2"]
        (tmp_path / "d").rename(tmp_path / "e")
        os.symlink("e", tmp_path / "d")
        fresh = LocalStorage(tmp_path, runtime=runtime)
        with pytest.raises(StorageError, match="link"):
            await fresh.read_bodies(["d/one"], max_bytes=9)
        following = LocalStorage(tmp_path, runtime=runtime, follow_symlinks=True)
        assert await following.read_bodies(["d/one"], max_bytes=9) == [b"2"]


async def test_a_link_in_place_of_a_body_is_refused(tmp_path: Path) -> None:
    async with Runtime() as runtime:
        local = LocalStorage(tmp_path, runtime=runtime)
        await local.put("d/one", b"1")
        await local.read_bodies(["d/one"], max_bytes=9)
        os.symlink("one", tmp_path / "d" / "link")
        with pytest.raises(StorageError, match="link"):
            await local.read_bodies(["d/link"], max_bytes=9)
