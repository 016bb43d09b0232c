"""Uploads in parts: whole or not at all, within their window, and nothing left open."""

from __future__ import annotations

import random
import tracemalloc

import anyio
import pytest

from asyncstore.concurrency import CLEANUP_SECONDS
from asyncstore.errors import AlreadyExistsError, SourceChangedError, StorageUnavailableError
from asyncstore.runtime import Runtime
from asyncstore.storage.base import MultipartLimits
from asyncstore.storage.transfer import upload, upload_buffer, upload_window
from asyncstore.types import KIB, MIB, Limits, ObjectMeta
from tests.storage.cancelling import sweep
from tests.storage.recording import PART, WIDTH, recording

SIZES = [0, 1, PART - 1, PART, PART + 1, 2 * PART, 10 * PART + 77]
ATTRIBUTES = {"cas_raw": True, "cas_version": 1}


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


async def pieces(data, size, *, reuse=False):
    buffer = bytearray(size)
    for at in range(0, len(data), size):
        piece = data[at : at + size]
        if not reuse:
            yield piece
            continue
        buffer[: len(piece)] = piece
        yield memoryview(buffer)[: len(piece)]
        buffer[:] = bytes(size)  # a piece is ours again as soon as the next one is asked for


async def stored(storage, path="a/b"):
    async with storage.inner.get(path) as reader:
        target = bytearray(reader.meta.size)
        await reader.read_into(memoryview(target))
        return bytes(target), reader.meta.attributes


@pytest.mark.parametrize("piece", [1000, PART - 1, PART, 3 * PART + 5])
@pytest.mark.parametrize("size", SIZES)
async def test_an_object_arrives_whole_with_its_attributes_whatever_the_pieces(size, piece):
    storage = recording()
    data = content(size)
    for extra in (0, 5 * PART):
        source = pieces(data, piece, reuse=True)
        meta = await upload(storage, "a/b", source, max_size=size + extra, attributes=ATTRIBUTES)
        assert meta.size == size
        assert await stored(storage) == (data, ATTRIBUTES)
        assert storage.quiet()


@pytest.mark.parametrize("size", SIZES)
async def test_a_buffer_arrives_whole_with_its_attributes(size):
    storage = recording(limits=MultipartLimits(1, PART, 1000))
    data = content(size)
    meta = await upload_buffer(storage, "a/b", bytearray(data), attributes=ATTRIBUTES)
    assert meta.size == size
    assert await stored(storage) == (data, ATTRIBUTES)
    assert storage.quiet()


async def test_what_fits_into_one_part_takes_one_request():
    storage = recording()
    for size in (0, 1, PART):
        await upload(storage, "a/b", pieces(content(size), 1000), max_size=100 * PART)
    assert storage.calls == {"put": 3}


async def test_what_does_not_fit_takes_one_request_for_each_part_and_two_more():
    storage = recording()
    await upload(storage, "a/b", pieces(content(10 * PART + 1), 1000), max_size=100 * PART)
    assert storage.calls == {"create_multipart": 1, "put_part": 11, "complete": 1}


async def test_parts_travel_at_the_same_time_but_no_more_than_the_plan_says():
    storage = recording()
    storage.gather("put_part", WIDTH)
    await upload(storage, "a/b", pieces(content(40 * PART), PART // 3), max_size=40 * PART)
    assert storage.most["put_part"] == WIDTH
    storage = recording(limits=MultipartLimits(1, PART, 1000))
    storage.gather("put_part", 8)
    await upload_buffer(storage, "a/b", content(40 * PART))
    assert storage.most["put_part"] == 8


async def test_create_never_replaces_an_object():
    storage = recording(limits=MultipartLimits(1, PART, 1000))
    await storage.inner.put("a/b", b"old")
    for size in (10, 10 * PART):
        with pytest.raises(AlreadyExistsError):
            await upload(storage, "a/b", pieces(content(size), 1000), max_size=size, mode="create")
        with pytest.raises(AlreadyExistsError):
            await upload_buffer(storage, "a/b", content(size), mode="create")
        assert (await stored(storage))[0] == b"old"
        assert storage.quiet()


@pytest.mark.parametrize("size", [100, 10 * PART])
async def test_a_source_with_more_bytes_than_were_announced_publishes_nothing(size):
    storage = recording()
    with pytest.raises(SourceChangedError, match="a/b"):
        await upload(storage, "a/b", pieces(content(size), 1000), max_size=size - 1)
    assert await storage.inner.head("a/b") is None
    assert storage.quiet()


async def test_a_failing_source_publishes_nothing_and_raises_its_own_error():
    async def failing():
        for _ in range(6):
            yield bytes(PART)
        raise ZeroDivisionError("source")

    storage = recording()
    with pytest.raises(ZeroDivisionError, match="source"):
        await upload(storage, "a/b", failing(), max_size=100 * PART)
    assert await storage.inner.head("a/b") is None
    assert storage.calls["abort"] == 1
    assert storage.quiet()


@pytest.mark.parametrize("place", [*(("put_part", number) for number in range(11)), ("complete", 0)])
@pytest.mark.parametrize("direct", [False, True])
async def test_a_failure_of_any_part_aborts_and_raises_itself(place, direct):
    storage = recording(limits=MultipartLimits(1, PART, 1000))
    storage.faults[place] = StorageUnavailableError("no more")
    data = content(10 * PART + 1)
    operation = (
        upload_buffer(storage, "a/b", data)
        if direct
        else upload(storage, "a/b", pieces(data, 1000), max_size=len(data))
    )
    with pytest.raises(StorageUnavailableError, match="no more"):
        await operation
    assert not storage.faults, "the fault was met"
    assert await storage.inner.head("a/b") is None
    assert storage.calls["abort"] == 1
    assert storage.quiet()


async def test_a_failure_to_begin_leaves_nothing_to_abort():
    storage = recording()
    storage.faults["create_multipart", 0] = StorageUnavailableError("no more")
    with pytest.raises(StorageUnavailableError):
        await upload(storage, "a/b", pieces(content(3 * PART), 1000), max_size=3 * PART)
    assert storage.calls == {"create_multipart": 1}


async def test_a_failing_abort_does_not_hide_the_first_failure():
    storage = recording()
    storage.faults["put_part", 1] = StorageUnavailableError("first")
    storage.faults["abort", 0] = StorageUnavailableError("second")
    with pytest.raises(StorageUnavailableError, match="first") as caught:
        await upload(storage, "a/b", pieces(content(3 * PART), 1000), max_size=3 * PART)
    assert caught.value.__notes__ == ["the parts of a/b could not be removed either: second"]


async def test_an_abort_that_hangs_does_not_hold_up_a_cancellation_for_ever(monkeypatch):
    monkeypatch.setattr("asyncstore.storage.upload.CLEANUP_SECONDS", 0.05)
    storage = recording()

    async def hang():
        await anyio.sleep_forever()

    storage.hooks["put_part", 1] = hang
    storage.hooks["abort", 0] = hang
    with anyio.fail_after(CLEANUP_SECONDS), anyio.move_on_after(0.05) as scope:
        await upload(storage, "a/b", pieces(content(3 * PART), 1000), max_size=3 * PART)
    assert scope.cancelled_caught
    assert storage.calls["abort"] == 1


@pytest.mark.parametrize("direct", [False, True])
async def test_cancelled_at_any_step_the_object_is_whole_or_absent_and_nothing_is_open(direct):
    storage = recording(limits=MultipartLimits(1, PART, 1000))
    data = content(5 * PART + 1)
    seen = set()

    async def operation():
        if direct:
            await upload_buffer(storage, "a/b", data)
        else:
            await upload(storage, "a/b", pieces(data, 3 * PART), max_size=len(data))

    async def check():
        assert storage.quiet()
        there = await storage.inner.head("a/b") is not None
        seen.add(there)
        if there:
            assert (await stored(storage))[0] == data
            await storage.inner.delete("a/b")

    steps = await sweep(operation, check)
    assert steps > 10
    assert False in seen
    assert storage.calls["abort"] > 10


async def test_the_window_to_reserve_is_what_the_parts_take():
    storage = recording()
    assert upload_window(storage, 0) == 1
    assert upload_window(storage, 1000) == 1000
    assert upload_window(storage, PART) == PART
    assert upload_window(storage, PART + 1) == 2 * PART
    assert upload_window(storage, 10**9) == storage.runtime.limits.memory == PART * WIDTH


async def test_an_upload_needs_no_more_memory_than_its_window():
    storage = recording(Runtime(Limits(memory=8 * MIB)))
    sizes = []

    class Swallowing:
        async def put_part(self, number, data):
            await anyio.lowlevel.checkpoint()
            sizes.append(len(data))

        async def complete(self):
            return ObjectMeta(size=sum(sizes))

    async def begin(*args, **options):
        return Swallowing()

    storage.create_multipart = begin

    async def zeros():
        for _ in range(400):
            yield bytes(512 * KIB)

    tracemalloc.start()
    try:
        meta = await upload(storage, "a/b", zeros(), max_size=200 * MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert meta.size == 200 * MIB
    assert upload_window(storage, 200 * MIB) == 8 * MIB
    assert peak <= 8 * MIB + 3 * 512 * KIB, "the window, and pieces that the source makes"
