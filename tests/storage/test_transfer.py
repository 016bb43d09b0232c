"""Transfers over the real storages, as `open_storage` stacks them: retries and limits around each part."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from asyncstore.errors import AlreadyExistsError, ObjectNotFoundError, PreconditionFailedError
from asyncstore.runtime import Runtime
from asyncstore.storage.registry import open_storage
from asyncstore.storage.transfer import download, download_into, upload, upload_buffer
from asyncstore.types import KIB, Limits
from tests.storage.cancelling import sweep

PART = 64 * KIB
SIZES = [0, 1, PART, PART + 1, 20 * PART + 333]


@pytest.fixture
async def runtime():
    async with Runtime(Limits(memory=4 * PART, threads=3, requests=6)) as runtime:
        yield runtime


@pytest.fixture(params=["memory", "local, fast", "local, safe", "local, paranoid"])
async def storage(request, runtime, tmp_path):
    kind, _, durability = request.param.partition(", ")
    url, options = ("memory://test", {}) if kind == "memory" else (str(tmp_path), {"durability": durability})
    async with open_storage(url, runtime=runtime, **options) as storage:
        yield storage
    assert runtime.memory.used == 0
    assert runtime.requests.available == 6


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


async def pieces(data):
    for at in range(0, len(data), 50_000):
        yield memoryview(data)[at : at + 50_000]


async def read(storage):
    async with download(storage, "a/b", memory=storage.runtime.memory.account()) as body:
        return b"".join([bytes(piece) async for piece in body]), body.meta


def leftovers(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and path.name not in {"b", "b_meta"}]


@pytest.mark.parametrize("size", SIZES)
async def test_an_object_of_any_size_goes_and_comes_back_with_its_attributes(storage, size):
    data = content(size)
    for direct in (False, True):
        await storage.delete("a/b")
        if direct:
            sent = await upload_buffer(storage, "a/b", data, attributes={"n": 1}, mode="create")
        else:
            sent = await upload(storage, "a/b", pieces(data), max_size=size, attributes={"n": 1}, mode="create")
        found, meta = await read(storage)
        assert found == data
        assert (sent.size, meta.size, meta.attributes, meta.etag) == (size, size, {"n": 1}, sent.etag)
        target = bytearray(size)
        await download_into(storage, "a/b", memoryview(target), if_match=meta.etag)
        assert target == data


async def test_of_concurrent_creates_in_parts_one_wins(storage):
    contents = [bytes([number]) * (5 * PART) for number in range(6)]
    outcomes = await asyncio.gather(
        *(upload(storage, "a/b", pieces(data), max_size=len(data), mode="create") for data in contents),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, AlreadyExistsError) for outcome in outcomes) == 5
    winner = next(number for number, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException))
    assert (await read(storage))[0] == contents[winner]


async def test_an_object_replaced_between_two_parts_is_refused(storage):
    await storage.put("a/b", content(20 * PART))

    async def read_slowly():
        async with download(storage, "a/b") as body:
            await anext(body)
            await storage.put("a/b", content(20 * PART + 1)[1:])
            async for _ in body:
                pass

    with pytest.raises(PreconditionFailedError):
        await read_slowly()


async def test_a_missing_object_is_not_found(storage):
    with pytest.raises(ObjectNotFoundError):
        await read(storage)


async def test_many_transfers_at_once_share_few_requests(storage):
    data = [content(5 * PART + number) for number in range(12)]

    async def there_and_back(number):
        path = f"a/{number}"
        await upload(storage, path, pieces(data[number]), max_size=len(data[number]))
        target = bytearray(len(data[number]))
        await download_into(storage, path, memoryview(target))
        assert target == data[number]

    await asyncio.gather(*map(there_and_back, range(12)))


@pytest.mark.parametrize("storage", ["memory", "local, fast"], indirect=True)
@pytest.mark.parametrize("direct", [False, True])
async def test_cancelled_at_any_step_an_upload_leaves_the_old_object_or_the_new_one(
    storage, tmp_path, monkeypatch, direct
):
    monkeypatch.setattr("asyncstore.storage.upload.DIRECT_PART", PART)
    old, new = content(10), content(3 * PART + 1)

    async def operation():
        if direct:
            await upload_buffer(storage, "a/b", new)
        else:
            await upload(storage, "a/b", pieces(new), max_size=len(new))

    async def check():
        assert (await read(storage))[0] in {old, new}
        assert leftovers(tmp_path) == []
        assert storage.runtime.requests.available == 6
        await storage.put("a/b", old)

    await storage.put("a/b", old)
    assert await sweep(operation, check) > 5


@pytest.mark.parametrize("storage", ["memory", "local, fast"], indirect=True)
async def test_cancelled_at_any_step_a_download_leaves_nothing_open(storage):
    await storage.put("a/b", content(5 * PART))

    async def operation():
        await read(storage)

    async def check():
        assert storage.runtime.memory.used == 0
        assert storage.runtime.requests.available == 6

    assert await sweep(operation, check) > 5
