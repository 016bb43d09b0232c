"""Downloads in parts: in order, of one object only, within their window, and nothing left open."""

from __future__ import annotations

import random
import tracemalloc

import anyio
import pytest

from asyncstore.errors import ObjectNotFoundError, PreconditionFailedError, StorageUnavailableError
from asyncstore.runtime import Runtime
from asyncstore.storage import plan
from asyncstore.storage.transfer import download, download_into, download_window
from asyncstore.types import MIB, ByteRange, Limits
from tests.storage.cancelling import sweep
from tests.storage.recording import PART, WIDTH, recording

SIZES = [0, 1, PART - 1, PART, PART + 1, 2 * PART, 10 * PART + 77]


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.fixture
def small_direct_parts(monkeypatch):
    monkeypatch.setattr("asyncstore.storage.download.DIRECT_PART", PART)


async def storage_with(size):
    storage = recording()
    data = content(size)
    await storage.inner.put("a/b", data, attributes={"n": 1})
    return storage, data


async def read(storage, **options):
    parts = []
    async with download(storage, "a/b", **options) as body:
        async for piece in body:
            assert len(piece)
            parts.append(bytes(piece))
            await anyio.lowlevel.checkpoint()
    return b"".join(parts), body.meta


@pytest.mark.parametrize("size", SIZES)
async def test_the_bytes_come_whole_and_in_order(size):
    storage, data = await storage_with(size)
    found, meta = await read(storage)
    assert found == data
    assert (meta.size, meta.attributes) == (size, {"n": 1})
    assert storage.quiet()


@pytest.mark.usefixtures("small_direct_parts")
@pytest.mark.parametrize("size", SIZES)
async def test_the_bytes_come_whole_into_memory_of_the_callers(size):
    storage, data = await storage_with(size)
    target = bytearray(size)
    meta = await download_into(storage, "a/b", memoryview(target))
    assert target == data
    assert (meta.size, meta.attributes) == (size, {"n": 1})
    assert storage.quiet()


@pytest.mark.usefixtures("small_direct_parts")
async def test_pieces_received_into_the_callers_memory_stay_valid():
    storage, data = await storage_with(10 * PART)
    target = bytearray(len(data))
    async with download(storage, "a/b", into=memoryview(target)) as body:
        views = [piece async for piece in body]
    assert b"".join(views) == data


async def test_each_part_is_one_request_pinned_to_the_object_that_the_first_one_met():
    storage, data = await storage_with(3 * PART + 1)
    _, meta = await read(storage)
    assert [detail for verb, detail in storage.log if verb == "get"] == [
        (ByteRange(0, PART), None),
        *((ByteRange(at, min(at + PART, len(data))), meta.etag) for at in (PART, 2 * PART, 3 * PART)),
    ]


async def test_a_small_object_takes_one_request():
    storage, _ = await storage_with(PART)
    await read(storage)
    assert storage.calls["get"] == 1


@pytest.mark.usefixtures("small_direct_parts")
async def test_parts_travel_at_the_same_time_but_no_more_than_the_plan_says():
    storage, data = await storage_with(40 * PART)
    storage.gather("read_into", WIDTH)
    await read(storage)
    assert storage.most["get"] == WIDTH
    storage = recording(storage.runtime)
    storage.gather("read_into", plan.DIRECT_WIDTH)
    await download_into(storage, "a/b", memoryview(bytearray(len(data))))
    assert storage.most["get"] == plan.DIRECT_WIDTH


async def test_a_reader_that_lags_holds_the_parts_back():
    storage, data = await storage_with(40 * PART)
    async with download(storage, "a/b") as body:
        first = await anext(body)
        await anyio.wait_all_tasks_blocked()
        assert storage.calls["get"] == WIDTH
        assert first == data[:PART]
    assert storage.quiet()


async def test_a_missing_object_is_not_found():
    with pytest.raises(ObjectNotFoundError):
        await read(recording())


async def test_another_object_than_the_one_asked_for_is_refused():
    storage, _ = await storage_with(10)
    with pytest.raises(PreconditionFailedError):
        await read(storage, if_match="another")


@pytest.mark.parametrize("size", [5 * PART, 20 * PART])
@pytest.mark.parametrize("moment", range(1, 5))
async def test_an_object_that_changes_midway_is_refused(moment, size):
    storage, _ = await storage_with(5 * PART)

    async def change():
        await storage.inner.put("a/b", content(size + 1)[:size])

    storage.hooks["get", moment] = change
    with pytest.raises(PreconditionFailedError):
        await read(storage)
    assert storage.quiet()


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("verb", ["get", "read_into"])
async def test_a_failure_of_any_part_raises_itself(verb, number):
    storage, _ = await storage_with(5 * PART)
    storage.faults[verb, number] = StorageUnavailableError("no more")
    with pytest.raises(StorageUnavailableError, match="no more"):
        await read(storage)
    assert not storage.faults, "the fault was met"
    assert storage.quiet()


async def test_a_part_that_ends_early_is_refused():
    storage, _ = await storage_with(5 * PART)
    inner = storage.inner.get

    def short(path, *, byte_range, if_match):
        start = byte_range.start
        return inner(path, byte_range=ByteRange(start, start + PART - 1), if_match=if_match)

    storage.inner.get = short
    with pytest.raises(PreconditionFailedError, match="a/b changed while it was read"):
        await read(storage)
    assert storage.quiet()


@pytest.mark.parametrize("difference", [-1, 1])
async def test_memory_of_another_size_than_the_objects_is_refused_untouched(difference):
    storage, _ = await storage_with(1000)
    target = bytearray(1000 + difference)
    with pytest.raises(PreconditionFailedError, match="it has 1000 bytes where"):
        await download_into(storage, "a/b", memoryview(target))
    assert not any(target)


async def test_leaving_early_ends_the_requests():
    storage, _ = await storage_with(40 * PART)
    async with download(storage, "a/b") as body:
        await anext(body)
    assert storage.quiet()
    assert storage.calls["get"] <= WIDTH + 1


async def test_an_error_of_the_reader_comes_out_as_itself():
    storage, _ = await storage_with(40 * PART)

    async def stumble():
        async with download(storage, "a/b") as body:
            await anext(body)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await stumble()
    assert storage.quiet()


@pytest.mark.usefixtures("small_direct_parts")
@pytest.mark.parametrize("direct", [False, True])
async def test_cancelled_at_any_step_nothing_is_open_or_reserved(direct):
    storage, data = await storage_with(5 * PART + 1)
    account = storage.runtime.memory.account()

    async def operation():
        if direct:
            await download_into(storage, "a/b", memoryview(bytearray(len(data))))
        else:
            assert (await read(storage, memory=account))[0] == data

    async def check():
        assert storage.quiet()
        assert account.held == 0

    assert await sweep(operation, check) > 10


async def test_the_window_is_reserved_while_it_is_needed_and_no_more_than_the_object_needs():
    storage, _ = await storage_with(3 * PART)
    account = storage.runtime.memory.account()
    async with download(storage, "a/b", memory=account) as body:
        assert account.held == 3 * PART == download_window(storage, 3 * PART)
        async for _ in body:
            assert account.held == 3 * PART
    assert account.held == 0
    assert download_window(storage) == download_window(storage, 10**12) == PART * WIDTH
    assert download_window(storage, 10) == 10


async def test_a_download_needs_no_more_memory_than_its_window():
    storage = recording(Runtime(Limits(memory=8 * MIB)))
    await storage.inner.put("a/b", bytes(100 * MIB))
    size = 0
    tracemalloc.start()
    try:
        async with download(storage, "a/b") as body:
            async for piece in body:
                size += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 100 * MIB
    assert peak <= download_window(storage) + MIB
