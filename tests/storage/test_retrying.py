"""`Retrying` over scripted faults; time is a number that only its own sleep moves."""

import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import anyio
import pytest

from asyncstore.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    AsyncStoreError,
    ObjectNotFoundError,
    PreconditionFailedError,
    StorageError,
    StorageUnavailableError,
)
from asyncstore.runtime import Runtime
from asyncstore.storage.base import DataStoreStorage, PutItem, SupportsBatch, SupportsCopy
from asyncstore.storage.limited import Limited
from asyncstore.storage.memory import MemoryStorage
from asyncstore.storage.retrying import Retrying
from asyncstore.testing.conformance.helpers import entries, names, noise, read
from asyncstore.testing.faults import Fault
from asyncstore.testing.faulty import Faulty
from asyncstore.types import ByteRange, ObjectMeta, RetryPolicy

POLICY = RetryPolicy(attempts=4, base=1.0, cap=8.0, total=60.0)
DATA = noise(3_000_000)


class Edge(Random):
    def uniform(self, a: float, b: float) -> float:
        return b


class Bench:
    """A memory storage, the faults around it, and a `Retrying` around those."""

    def __init__(self, runtime: Runtime) -> None:
        self.memory = MemoryStorage("test", runtime=runtime)
        self.now = 0.0
        self.slept: list[float] = []
        self.places: list[int] = []

    async def _sleep(self, seconds: float) -> None:
        self.places.append(self.memory.runtime.requests.available)
        self.slept.append(seconds)
        self.now += seconds
        await anyio.lowlevel.checkpoint()

    def script(self, *faults: Fault, policy: RetryPolicy = POLICY, inner: DataStoreStorage | None = None) -> Retrying:
        self.faulty = Faulty(inner or self.memory, faults)
        return Retrying(Limited(self.faulty), policy, clock=lambda: self.now, sleep=self._sleep, random=Edge())


@pytest.fixture
async def bench() -> AsyncGenerator[Bench]:
    async with Runtime() as runtime:
        bench = Bench(runtime)
        yield bench
        bench.faulty.script.check_fired()
        assert set(bench.places) <= {runtime.limits.requests}, "a sleeping retry holds no place"
        assert runtime.requests.available == runtime.limits.requests
        assert bench.memory._shelf.uploads == {}


@pytest.mark.parametrize("kind", ["refuse", "lose"])
async def test_an_overwrite_is_repeated_until_it_succeeds(bench: Bench, kind: Any) -> None:
    storage = bench.script(*[Fault("put", kind)] * 3)
    meta = await storage.put("a", b"x", attributes={"k": 1})
    assert meta == await bench.memory.head("a")
    assert bench.slept == [1.0, 2.0, 4.0]


async def test_the_error_of_the_last_attempt_is_raised_with_their_number(bench: Bench) -> None:
    storage = bench.script(*[Fault("head", "refuse")] * 4)
    with pytest.raises(StorageUnavailableError, match="scripted outage") as caught:
        await storage.head("a")
    assert caught.value.__notes__ == ["head a: attempt 4 after 7.0 s"]
    assert bench.slept == [1.0, 2.0, 4.0]


async def test_a_final_error_is_raised_at_once(bench: Bench) -> None:
    storage = bench.script(Fault("put", "refuse", error=AccessDeniedError("no")))
    with pytest.raises(AccessDeniedError):
        await storage.put("a", b"x")
    assert bench.slept == []


async def test_no_attempt_begins_after_the_deadline(bench: Bench) -> None:
    policy = RetryPolicy(attempts=100, base=8.0, cap=8.0, total=20.0)
    storage = bench.script(*[Fault("head", "refuse")] * 3, policy=policy)
    with pytest.raises(StorageUnavailableError):
        await storage.head("a")
    assert bench.slept == [8.0, 8.0]


async def test_a_wish_of_the_server_is_honoured(bench: Bench) -> None:
    storage = bench.script(Fault("head", "refuse", error=StorageUnavailableError("busy", retry_after=5.0)))
    await storage.head("a")
    assert bench.slept == [6.0]


async def test_each_wait_is_logged_with_what_where_and_why(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    storage = bench.script(Fault("head", "refuse"))
    with caplog.at_level(logging.WARNING, logger="asyncstore"):
        await storage.head("d/a")
    [record] = caplog.records
    assert record.getMessage() == (
        "head d/a failed (StorageUnavailableError: scripted outage); attempt 2 of at most 4 follows in 1.00 s"
    )


async def test_the_queue_for_a_place_is_not_counted_as_time_of_the_call(bench: Bench) -> None:
    bench.script(*[Fault("head", "refuse")] * 2)
    requests = bench.memory.runtime.requests
    storage = Retrying(Limited(bench.faulty), RetryPolicy(attempts=3, base=0.001, cap=0.001, total=0.5))
    async with AsyncExitStack() as stack, anyio.create_task_group() as group:
        for _ in range(requests.limit):
            await stack.enter_async_context(requests.request())
        group.start_soon(storage.head, "a")
        await anyio.sleep(0.6)
        await stack.aclose()


# What was lost and is settled


async def test_a_create_whose_reply_was_lost_is_recognised_as_its_own(bench: Bench) -> None:
    storage = bench.script(Fault("put", "lose"))
    meta = await storage.put("a", DATA, attributes={"k": "ä"}, mode="create")
    assert meta == await bench.memory.head("a")


@pytest.mark.parametrize(
    ("data", "attributes"), [(DATA[:-1] + b"!", {"k": 1}), (DATA[:-1], {"k": 1}), (DATA, {"k": 2}), (DATA, None)]
)
async def test_an_object_of_somebody_else_is_a_conflict_also_after_a_lost_reply(
    bench: Bench, data: bytes, attributes: Any
) -> None:
    storage = bench.script(Fault("put", "refuse"))
    await bench.memory.put("a", data, attributes=attributes)
    with pytest.raises(AlreadyExistsError):
        await storage.put("a", DATA, attributes={"k": 1}, mode="create")
    assert await read(bench.memory, "a") == data


async def test_a_conflict_without_a_lost_reply_is_not_settled(bench: Bench) -> None:
    storage = bench.script()
    await bench.memory.put("a", b"same")
    with pytest.raises(AlreadyExistsError):
        await storage.put("a", b"same", mode="create")


async def test_settling_is_tried_again_like_any_call(bench: Bench) -> None:
    storage = bench.script(Fault("put", "lose"), Fault("head", "refuse"), Fault("get", "break", at=1_000_000))
    await storage.put("a", DATA, mode="create")
    assert bench.slept == [1.0, 2.0, 4.0]


async def test_who_may_not_read_back_gets_the_conflict(bench: Bench) -> None:
    storage = bench.script(Fault("put", "lose"), Fault("head", "refuse", error=AccessDeniedError("no")))
    with pytest.raises(AlreadyExistsError) as caught:
        await storage.put("a", b"x", mode="create")
    assert isinstance(caught.value.__cause__, AccessDeniedError)


@pytest.mark.parametrize("mode", ["overwrite", "create"])
async def test_a_complete_whose_reply_was_lost_is_settled(bench: Bench, mode: Any) -> None:
    storage = bench.script(Fault("create_multipart", "refuse"), Fault("put_part", "lose"), Fault("complete", "lose"))
    if mode == "overwrite":
        await bench.memory.put("a", b"old")
    upload = await storage.create_multipart("a", part_size=1_000_000, attributes={"k": 1}, mode=mode)
    for number in (2, 0, 1):
        await upload.put_part(number, DATA[number * 1_000_000 : (number + 1) * 1_000_000])
    meta = await upload.complete()
    assert meta == await bench.memory.head("a")
    assert await read(bench.memory, "a") == DATA
    await upload.abort()


async def test_a_complete_that_lost_a_race_is_a_conflict(bench: Bench) -> None:
    storage = bench.script(Fault("complete", "refuse"))
    upload = await storage.create_multipart("a", part_size=10, mode="create")
    await upload.put_part(0, b"mine")
    await bench.memory.put("a", b"theirs")
    with pytest.raises(AlreadyExistsError):
        await upload.complete()
    await upload.abort()


async def test_an_upload_that_is_gone_without_its_object_is_an_error(bench: Bench) -> None:
    storage = bench.script(Fault("complete", "refuse"))
    upload = await storage.create_multipart("a", part_size=10)
    await upload.put_part(0, b"mine")
    bench.memory._shelf.uploads.clear()
    with pytest.raises(StorageError, match="ended"):
        await upload.complete()


async def test_a_sparse_upload_is_an_error_at_once(bench: Bench) -> None:
    storage = bench.script(Fault("abort", "refuse"))
    upload = await storage.create_multipart("a", part_size=10)
    await upload.put_part(1, b"x")
    with pytest.raises(StorageError, match="part 0 is missing"):
        await upload.complete()
    await upload.abort()
    assert bench.slept == [1.0]


async def test_a_delete_whose_reply_was_lost_does_not_touch_what_came_after_it(bench: Bench) -> None:
    storage = bench.script(Fault("delete", "lose"), Fault("head", "pass"))
    await bench.memory.put("a", b"x")
    calls = 0
    original = bench.memory.delete

    async def counting(path: str) -> None:
        nonlocal calls
        calls += 1
        await original(path)

    bench.memory.delete = counting  # type: ignore[method-assign]
    await storage.delete("a")
    assert calls == 1
    assert await bench.memory.head("a") is None


async def test_a_delete_that_did_not_act_is_repeated(bench: Bench) -> None:
    storage = bench.script(Fault("delete", "refuse"))
    await bench.memory.put("a", b"x")
    await storage.delete("a")
    assert await bench.memory.head("a") is None


# Bodies


async def body_of(storage: DataStoreStorage, how: str, **options: Any) -> bytes:
    if how == "chunks":
        return await read(storage, "a", **options)
    target = bytearray(len(DATA) + 10)
    async with storage.get("a", **options) as reader:
        return bytes(target[: await reader.read_into(memoryview(target))])


@pytest.mark.parametrize("how", ["chunks", "buffer"])
@pytest.mark.parametrize("kind", ["break", "cut"])
@pytest.mark.parametrize("at", [0, 1, 262_144, 1_000_001, 2_999_999])
async def test_a_body_that_breaks_goes_on_at_the_next_byte(bench: Bench, at: int, kind: Any, how: str) -> None:
    await bench.memory.put("a", DATA)
    storage = bench.script(Fault("get", kind, at=at))
    assert await body_of(storage, how) == DATA
    assert bench.slept == [1.0]


@pytest.mark.parametrize("how", ["chunks", "buffer"])
@pytest.mark.parametrize("byte_range", [ByteRange(1000), ByteRange(1000, 2_500_000), ByteRange(1000, 10**9)])
async def test_a_range_that_breaks_goes_on_inside_the_range(bench: Bench, byte_range: ByteRange, how: str) -> None:
    await bench.memory.put("a", DATA)
    storage = bench.script(Fault("get", "break", at=700_000), Fault("get", "refuse"), Fault("get", "break", at=5))
    assert await body_of(storage, how, byte_range=byte_range) == DATA[byte_range.start : byte_range.stop]


async def test_a_body_that_breaks_behind_its_last_byte_is_whole(bench: Bench) -> None:
    await bench.memory.put("a", b"12345")
    storage = bench.script(Fault("get", "break", at=5))
    assert await read(storage, "a") == b"12345"
    assert bench.slept == []


@pytest.mark.parametrize("how", ["chunks", "buffer"])
@pytest.mark.parametrize("at", [0, 1_000_000])
async def test_an_object_that_changed_meanwhile_is_said_to_have_changed(bench: Bench, at: int, how: str) -> None:
    await bench.memory.put("a", DATA)
    storage = bench.script(Fault("get", "break", at=at), Fault("get", "pass"))
    replaced = False

    async def replace(seconds: float) -> None:
        nonlocal replaced
        await bench.memory.put("a", DATA[::-1])
        replaced = True

    changing = Retrying(Limited(bench.faulty), POLICY, sleep=replace)
    del storage
    with pytest.raises(PreconditionFailedError):
        await body_of(changing, how)
    assert replaced


async def test_an_object_that_was_deleted_meanwhile_is_not_found(bench: Bench) -> None:
    await bench.memory.put("a", DATA)
    bench.script(Fault("get", "break", at=10))

    async def delete(seconds: float) -> None:
        await bench.memory.delete("a")

    with pytest.raises(ObjectNotFoundError):
        await read(Retrying(bench.faulty, POLICY, sleep=delete), "a")


async def test_a_body_that_breaks_for_ever_without_progress_gives_up(bench: Bench) -> None:
    await bench.memory.put("a", DATA)
    storage = bench.script(*[Fault("get", "break", at=10)] * 4)
    with pytest.raises(StorageUnavailableError) as caught:
        await read(storage, "a")
    assert "attempt 4" in caught.value.__notes__[0]


async def test_a_body_that_breaks_often_but_goes_on_is_read_whole(bench: Bench) -> None:
    data = noise(10 * 1_048_576 + 1)
    await bench.memory.put("a", data)
    storage = bench.script(*[Fault("get", "break", at=1_048_576)] * 9)
    assert await read(storage, "a") == data
    assert bench.slept == [1.0] * 9


async def test_a_slow_reader_does_not_use_up_the_deadline_of_a_body(bench: Bench) -> None:
    await bench.memory.put("a", DATA)
    storage = bench.script(Fault("get", "break", at=2_000_000))
    body = b""
    async with storage.get("a") as reader:
        async for chunk in reader:
            body += chunk
            bench.now += 100.0
    assert body == DATA


async def test_an_error_of_the_caller_inside_the_block_is_not_tried_again(bench: Bench) -> None:
    await bench.memory.put("a", DATA)
    storage = bench.script()

    async def fail() -> None:
        async with storage.get("a") as reader:
            async for _ in reader:
                raise StorageUnavailableError("of the caller")

    with pytest.raises(StorageUnavailableError, match="of the caller"):
        await fail()
    assert bench.slept == []


async def test_a_missing_object_and_a_wrong_etag_are_final(bench: Bench) -> None:
    storage = bench.script()
    with pytest.raises(ObjectNotFoundError):
        await read(storage, "missing")
    await bench.memory.put("a", b"x")
    with pytest.raises(PreconditionFailedError):
        await read(storage, "a", if_match="another")
    assert bench.slept == []


async def test_a_body_can_be_cancelled_while_it_waits_for_its_next_attempt(bench: Bench) -> None:
    await bench.memory.put("a", DATA)
    bench.script(Fault("get", "break", at=10))
    storage = Retrying(Limited(bench.faulty), RetryPolicy(base=50.0, cap=50.0, total=1000), random=Edge())
    with anyio.move_on_after(0.05) as scope:
        await read(storage, "a")
    assert scope.cancelled_caught


# Listings


@pytest.mark.parametrize("at", [0, 1, 7, 20])
async def test_a_listing_that_breaks_begins_again_without_repetitions(bench: Bench, at: int) -> None:
    paths = [f"d/{number:02d}" for number in range(20)]
    for path in paths:
        await bench.memory.put(path, b"")
    storage = bench.script(Fault("list", "refuse"), Fault("list", "break", at=at), Fault("list", "break", at=at))
    assert await names(storage, "d") == [("object", path) for path in paths]


async def test_what_a_listing_handed_out_is_not_handed_out_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncstore.storage.limited.PAGE", 4)
    for number in range(20):
        await bench.memory.put(f"{number:02d}", b"")
    storage = bench.script(Fault("list", "break", at=10), Fault("list", "break", at=14))
    seen = [entry.path for entry in await entries(storage)]
    assert sorted(seen) == [f"{number:02d}" for number in range(20)]


async def test_a_very_long_listing_is_not_begun_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncstore.storage.limited.PAGE", 1)
    monkeypatch.setattr("asyncstore.storage.resuming.REMEMBERED_ENTRIES", 5)
    for number in range(20):
        await bench.memory.put(f"{number:02d}", b"")
    storage = bench.script(Fault("list", "break", at=10))
    with pytest.raises(StorageUnavailableError) as caught:
        await entries(storage)
    assert "begin it again" in caught.value.__notes__[0]


# Abilities


async def test_a_batch_is_repeated(bench: Bench) -> None:
    await bench.memory.put("a", b"x")
    storage = bench.script(Fault("head_batch", "refuse"), Fault("get_batch", "lose"), Fault("put_batch", "lose"))
    batch = storage.power(SupportsBatch)
    assert batch is not None
    assert [meta and meta.size for meta in await batch.head_batch(["a", "b"])] == [1, None]
    assert [one and one.data for one in await batch.get_batch(["a"], max_bytes=9)] == [b"x"]
    assert [meta and meta.size for meta in await batch.put_batch([PutItem("b", b"yy")])] == [2]


async def test_a_creating_batch_whose_reply_was_lost_knows_its_own_objects(bench: Bench) -> None:
    await bench.memory.put("theirs", b"other")
    await bench.memory.put("same size", b"otter")
    storage = bench.script(Fault("put_batch", "lose"))
    batch = storage.power(SupportsBatch)
    assert batch is not None
    items = [PutItem("ours", b"mine!", {"k": 1}), PutItem("theirs", b"mine!"), PutItem("same size", b"mine!")]
    assert await batch.put_batch(items, mode="create") == [await bench.memory.head("ours"), None, None]


async def test_a_copy_is_repeated_and_a_doubtful_conflict_says_so(bench: Bench) -> None:
    await bench.memory.put("a", b"x")
    storage = bench.script(Fault("copy_from", "lose", path="b"), Fault("copy_from", "lose", path="c"))
    copy = storage.power(SupportsCopy)
    assert copy is not None
    assert await copy.copy_from(copy.copy_source("a"), "b") == await bench.memory.head("b")
    with pytest.raises(AlreadyExistsError) as caught:
        await copy.copy_from(copy.copy_source("a"), "c", mode="create")
    assert "earlier attempt" in caught.value.__notes__[-1]


async def test_only_our_errors_are_tried_again(bench: Bench) -> None:
    class Broken(MemoryStorage):
        async def head(self, path: str) -> ObjectMeta | None:
            raise RuntimeError("a bug")

    storage = bench.script(inner=Broken("test", runtime=bench.memory.runtime))
    with pytest.raises(RuntimeError, match="a bug"):
        await storage.head("a")


def test_every_fault_kind_raises_our_root() -> None:
    assert isinstance(Fault("head", "refuse").error, AsyncStoreError)
