"""S3 over a network that fails: the right bytes, or an error that names the path, within the deadline."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.errors import IntegrityError, StorageError, StorageUnavailableError
from asyncstore.runtime import Runtime
from asyncstore.storage.limited import Limited
from asyncstore.storage.retrying import Retrying
from asyncstore.storage.s3 import S3Storage
from asyncstore.types import KIB, MIB, Attributes, Limits, RetryPolicy, Timeouts, parse_key
from tests.faults.actions import (
    Action,
    answer,
    break_reply,
    break_request,
    drip,
    flip_reply,
    flip_request,
    lose_reply,
    stall,
)
from tests.faults.proxy import Fault, FaultProxy
from tests.servers.start import S3Server
from tests.storage.s3.conftest import settings_for

pytestmark = pytest.mark.servers

ATTEMPTS = 3
POLICY = RetryPolicy(attempts=ATTEMPTS, base=0.01, cap=0.02, total=30)
TIMEOUTS = Timeouts(connect=0.6, idle=0.6, min_rate=MIB)
BODY = Random(5).randbytes(256 * KIB)
ATTRIBUTES: Attributes = {"cas_raw": True, "n": "ä"}


class Rig:
    """A storage that reaches its server through a proxy, and the server itself behind its back."""

    def __init__(self, storage: S3Storage, server: S3Server, client: Any, proxy: FaultProxy) -> None:
        self.storage = Retrying(Limited(storage), POLICY, sleep=self._sleep)
        self.server = server
        self.proxy = proxy
        self.sleeps: list[float] = []
        self.on_sleep: Callable[[], Awaitable[None]] | None = None
        self._client = client
        self._bucket = storage.bucket

    async def _sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        if self.on_sleep is not None:
            await self.on_sleep()
        await checkpoint()

    @asynccontextmanager
    async def scripted(self, *faults: Fault) -> AsyncIterator[None]:
        """Begin with an empty bucket and break requests inside the block; each fault must have fired at its end."""
        for path in self.stored():
            self._client.delete_object(Bucket=self._bucket, Key=f"root/{path}")
        for key, upload in self.uploads():
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)
        self.sleeps, self.on_sleep = [], None
        async with self.proxy.scripted(*faults):
            yield

    def seed(self, path: str, data: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=f"root/{path}", Body=data)

    def stored(self) -> dict[str, bytes]:
        """Return all that is in the bucket."""
        listed = self._client.list_objects_v2(Bucket=self._bucket).get("Contents", ())
        found = {one["Key"].removeprefix("root/"): self._read(one["Key"]) for one in listed}
        return {path: data for path, data in found.items() if data is not None}

    def _read(self, key: str) -> bytes | None:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
        except self._client.exceptions.NoSuchKey:
            return None  # rclone lists for a moment what it is about to drop
        with answer["Body"] as body:
            data: bytes = body.read()
            return data

    def uploads(self) -> list[tuple[str, str]]:
        """Return the open uploads in the bucket: key and id."""
        if self.server.kind == "rclone":  # no case opens one there, and to list none is an error
            return []
        listed = self._client.list_multipart_uploads(Bucket=self._bucket).get("Uploads", ())
        return [(one["Key"], one["UploadId"]) for one in listed]


@asynccontextmanager
async def rig_of(server: S3Server, directory: Path) -> AsyncIterator[Rig]:
    with closing(server.client()) as client:
        async with FaultProxy(server.endpoint) as proxy, Runtime(Limits(requests=4)) as runtime:
            settings = settings_for(server, directory, endpoint_url=proxy.endpoint)
            url = f"s3://{server.make_bucket()}/root"
            s3 = S3Storage(url, runtime=runtime, timeouts=TIMEOUTS, settings=settings)
            try:
                yield Rig(s3, server, client, proxy)
            finally:
                await s3.aclose()


# One loop and one client for the module: to make a client takes longer than a case.
@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def on_moto(moto: S3Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with rig_of(moto, tmp_path_factory.mktemp("faults")) as rig:
        yield rig


@pytest.fixture(scope="module")
async def on_rclone(rclone: S3Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with rig_of(rclone, tmp_path_factory.mktemp("faults")) as rig:
        yield rig


ANSWERS: dict[str, Action] = {
    "503": answer(503, "SlowDown"),
    "500": answer(500, "InternalError"),
    "429": answer(429, "TooManyRequestsException"),
    "no answer": stall(),
}
LOST: dict[str, Action] = {
    "reply lost by reset": lose_reply(reset=True),
    "reply lost by close": lose_reply(reset=False),
}
SENDING: dict[str, Action] = {
    "reset at the first byte": break_request(0, reset=True),
    "reset inside the body": break_request(100_000, reset=True),
    "close inside the body": break_request(100_000, reset=False),
}
NOTHING_RECEIVED: dict[str, Action] = {
    "reset before the body": break_reply(0, reset=True),
    "slow drip": drip(256, 0.01),
}
RECEIVING: dict[str, Action] = {
    "reset inside the body": break_reply(100_000, reset=True),
    "close inside the body": break_reply(100_000, reset=False),
    "stall inside the body": stall(100_000),
}


async def put(rig: Rig) -> None:
    await rig.storage.put("a", BODY, attributes=ATTRIBUTES)


async def create(rig: Rig) -> None:
    await rig.storage.put("a", BODY, attributes=ATTRIBUTES, mode="create")


async def parts(rig: Rig) -> None:
    upload = await rig.storage.create_multipart("a", part_size=5 * MIB, attributes=ATTRIBUTES, mode="create")
    try:
        await upload.put_part(0, BODY)
        await upload.complete()
    except BaseException:
        await upload.abort()
        raise


async def get(rig: Rig) -> None:
    async with rig.storage.get("old") as reader:
        target = bytearray(reader.meta.size)
        assert await reader.read_into(memoryview(target)) == len(target)
    assert target == BODY


async def delete(rig: Rig) -> None:
    await rig.storage.delete("old")
    assert rig.stored() == {}


async def head(rig: Rig) -> None:
    meta = await rig.storage.head("old")
    assert meta is not None
    assert meta.size == len(BODY)


async def list_all(rig: Rig) -> None:
    async with rig.storage.list("") as entries:
        assert [entry.path async for entry in entries] == ["old"]


WRITES = (put, create, parts)


@dataclass
class Case:
    """A verb, and what happens to one of its requests."""

    verb: Callable[[Rig], Awaitable[None]]
    where: str
    action: Action

    @property
    def needs_conditions(self) -> bool:
        # rclone is fast and checks what it is sent, but knows no conditions.
        return self.verb in {create, parts}


def _cases(
    *rows: tuple[str, Callable[[Rig], Awaitable[None]], str, dict[str, Action]],
) -> dict[str, Case]:
    return {
        f"{name}: {fault}": Case(verb, where, action)
        for name, verb, where, actions in rows
        for fault, action in actions.items()
    }


STAYING = _cases(
    ("put", put, "^PUT .*/a", ANSWERS | LOST | SENDING),
    ("create", create, "^PUT .*/a", ANSWERS | LOST | SENDING),
    ("begin", parts, "^POST .*uploads", ANSWERS | LOST),
    ("part", parts, "^PUT .*partNumber", ANSWERS | LOST | SENDING),
    ("complete", parts, "^POST .*uploadId", ANSWERS | LOST),
    ("get", get, "^GET .*/old", ANSWERS | LOST | NOTHING_RECEIVED),
    ("delete", delete, "^DELETE .*/old", ANSWERS),
    ("head", head, "^HEAD .*/old", ANSWERS | LOST),
    ("list", list_all, "^GET .*list-type", ANSWERS | LOST | {"reset inside the page": break_reply(40, reset=True)}),
)
PASSING = STAYING | _cases(
    ("get", get, "^GET .*/old", RECEIVING),
    ("delete", delete, "^DELETE .*/old", LOST),  # what is left of it is asked for by HEAD, which nothing disturbs
)


# Each waits for three deadlines to pass; one of them will do in every run.
LONG = {name for name in STAYING if name.endswith(("no answer", "slow drip")) and not name.startswith("head")}


@pytest.mark.parametrize("name", PASSING)
async def test_one_fault_of_each_kind_is_survived(name: str, on_moto: Rig, on_rclone: Rig) -> None:
    case = PASSING[name]
    rig = on_moto if case.needs_conditions else on_rclone
    async with rig.scripted(Fault(case.where, case.action)):
        if case.verb not in WRITES:
            rig.seed("old", BODY)
        await case.verb(rig)
        if case.verb in WRITES:
            assert rig.stored() == {"a": BODY}
            meta = await rig.storage.head("a")
            assert meta is not None
            assert meta.attributes == ATTRIBUTES
            # An upload whose id never came can only be found by maintenance.
            assert not rig.uploads() or name.startswith("begin: reply lost")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in STAYING]
)
async def test_a_fault_that_stays_is_an_error_that_names_the_path(name: str, on_moto: Rig, on_rclone: Rig) -> None:
    case = STAYING[name]
    rig = on_moto if case.needs_conditions else on_rclone
    async with rig.scripted(Fault(case.where, case.action, times=ATTEMPTS)):
        if case.verb not in WRITES:
            rig.seed("old", BODY)
        started = time.monotonic()
        with pytest.raises(StorageError) as caught:
            await case.verb(rig)
        assert time.monotonic() - started < ATTEMPTS * TIMEOUTS.for_bytes(len(BODY)) + 1
        assert caught.value.retryable
        assert caught.value.where == ("a" if case.verb in WRITES else "" if case.verb is list_all else "old")
        assert caught.value.where in str(caught.value)
        assert rig.stored().get("a", BODY) == BODY
        assert not rig.uploads() or name.startswith("begin: reply lost")


@pytest.mark.parametrize("status", [503, 429])
async def test_a_burst_of_refusals_waits_as_long_as_the_server_wishes(status: int, on_rclone: Rig) -> None:
    refusal = answer(status, "SlowDown", {"Retry-After": "7"})
    async with on_rclone.scripted(Fault("^PUT", refusal, times=ATTEMPTS - 1)):
        await put(on_rclone)
        assert len(on_rclone.sleeps) == ATTEMPTS - 1
        assert min(on_rclone.sleeps) >= 7


async def test_refused_connections_are_survived_when_the_server_comes_back(on_rclone: Rig) -> None:
    async with on_rclone.scripted():
        await on_rclone.proxy.refuse()
        on_rclone.on_sleep = on_rclone.proxy.listen
        await put(on_rclone)
        assert len(on_rclone.sleeps) == 1
        assert on_rclone.stored() == {"a": BODY}


async def test_refused_connections_that_stay_are_one_clear_error(on_rclone: Rig) -> None:
    async with on_rclone.scripted():
        await on_rclone.proxy.refuse()
        try:
            with pytest.raises(StorageUnavailableError, match=r"put of a in .*cannot reach the endpoint"):
                await put(on_rclone)
        finally:
            await on_rclone.proxy.listen()
        assert len(on_rclone.sleeps) == ATTEMPTS - 1


async def test_wrong_bytes_on_the_way_up_are_never_stored(on_rclone: Rig) -> None:
    async with on_rclone.scripted(Fault("^PUT", flip_request(5000))):
        await put(on_rclone)
        assert on_rclone.stored() == {"a": BODY}
    async with on_rclone.scripted(Fault("^PUT", flip_request(5000), times=ATTEMPTS)):
        with pytest.raises(IntegrityError, match=r"put of a in .*damaged on its way"):
            await put(on_rclone)
        assert on_rclone.stored() == {}


async def test_wrong_bytes_on_the_way_down_are_never_handed_out(on_rclone: Rig) -> None:
    key = parse_key(hashlib.sha1(BODY).hexdigest())
    async with on_rclone.scripted(Fault(f"^GET .*{key}", flip_reply(5000))):
        store = ContentAddressedStore("Flow/data", on_rclone.storage)
        await store.save_blob(BODY)
        with pytest.raises(IntegrityError, match=key):
            await store.load_blob(key)
        assert await store.load_blob(key) == BODY
