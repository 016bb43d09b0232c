"""Heartbeats on a clock that passes at once: an hour of faults takes seconds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from asyncstore.errors import ConfigError, MetadataUnavailableError, TaskStateError
from asyncstore.metadata.heartbeat import MetadataHeartBeat
from asyncstore.metadata.records import BeatReply
from asyncstore.metadata.wheel import TimerWheel
from tests.metadata.virtual_loop import VirtualLoop

MINUTE = 60.0
SERVER_TIMEOUT = 60.0
"""Seconds without a beat after which Metaflow's UI takes a task for dead."""

Fault = Callable[[], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> Any:
    return "asyncio", {"loop_factory": VirtualLoop}


def loop() -> VirtualLoop:
    return cast("VirtualLoop", asyncio.get_running_loop())


async def refused() -> None:
    raise MetadataUnavailableError("connection refused")


async def hanging() -> None:
    await anyio.sleep_forever()


async def error_500() -> None:
    raise RuntimeError("HTTP 500")


async def reset() -> None:
    await anyio.sleep(0.2)
    raise ConnectionResetError("reset by peer")


async def slow() -> None:
    await anyio.sleep(4.5)


async def nothing() -> None:
    await anyio.sleep(0.01)


class FakeService:
    """Keeps the time of the last beat as a service does: a beat within ten whole seconds of it is not taken."""

    def __init__(self) -> None:
        self.fault: Fault = nothing
        self.created = anyio.current_time()
        self.last: int | None = int(self.created)
        self.taken: list[float] = []
        self.calls: list[float] = []
        self.under_way = self.most_under_way = 0

    async def beat(self) -> BeatReply:
        self.calls.append(anyio.current_time())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.fault()
        finally:
            self.under_way -= 1
        now = anyio.current_time()
        if self.last is not None and int(now) - self.last < 10:
            return BeatReply(accepted=False, wait=10.0)
        self.last = int(now)
        self.taken.append(now)
        return BeatReply(accepted=True, wait=10.0)


@pytest.mark.parametrize("fault", [refused, hanging, error_500, reset, slow])
async def test_an_hour_of_faults_never_reaches_the_body_and_beats_come_back_in_time(fault: Fault) -> None:
    service = FakeService()
    recovered: list[float] = []
    async with MetadataHeartBeat(service.beat):
        for _ in range(6):
            await anyio.sleep(5 * MINUTE)
            service.fault = fault
            await anyio.sleep(5 * MINUTE)
            service.fault = nothing
            recovered.append(anyio.current_time())
        await anyio.sleep(30)
        assert anyio.current_time() == pytest.approx(60 * MINUTE + 30, abs=10)
    for moment in recovered:
        assert any(moment <= taken < moment + SERVER_TIMEOUT for taken in service.taken)
    steady = [taken for taken in service.taken if taken % (10 * MINUTE) < 5 * MINUTE]
    gaps = [later - earlier for earlier, later in pairwise(steady) if later - earlier < 2 * MINUTE]
    assert max(gaps) <= 25
    assert len(steady) > 6 * 20
    assert service.most_under_way == 1
    assert service.under_way == 0


async def test_the_first_beat_comes_before_the_body_and_the_last_after_it() -> None:
    service = FakeService()
    async with MetadataHeartBeat(service.beat):
        assert len(service.calls) == 1
        await anyio.sleep(34)
        during = len(service.calls)
    assert len(service.calls) == during + 1
    assert service.calls[-1] == pytest.approx(34.01, abs=0.1)
    await anyio.sleep(MINUTE)
    assert len(service.calls) == during + 1


async def test_an_early_beat_that_is_not_taken_is_normal(caplog: pytest.LogCaptureFixture) -> None:
    service = FakeService()
    async with MetadataHeartBeat(service.beat) as heartbeat:
        assert service.taken == []
        await anyio.sleep(11)
        assert len(service.taken) == 1
        assert heartbeat.failures == 0
    assert caplog.records == []


@pytest.mark.parametrize("fault", [refused, hanging, error_500, reset, slow])
async def test_a_service_that_fails_holds_up_beginning_and_end_by_no_more_than_grace(fault: Fault) -> None:
    service = FakeService()
    service.fault = fault
    async with MetadataHeartBeat(service.beat, grace=1.5):
        assert anyio.current_time() <= 1.5
        await anyio.sleep(100)
        end = anyio.current_time()
    assert anyio.current_time() <= end + 1.5
    assert service.calls[-1] == pytest.approx(end, abs=0.01)
    assert service.under_way == 0


async def test_the_error_of_the_body_comes_out_as_it_is() -> None:
    service = FakeService()
    service.fault = refused
    group = ExceptionGroup("mine", [ValueError("inner")])
    with pytest.raises(ExceptionGroup) as caught:
        async with MetadataHeartBeat(service.beat):
            raise group
    assert caught.value is group
    assert len(service.calls) == 2


@pytest.mark.parametrize("native", [False, True], ids=["anyio", "asyncio"])
async def test_a_cancelled_body_leaves_nothing_running(native: bool) -> None:
    service = FakeService()

    async def work() -> None:
        async with MetadataHeartBeat(service.beat):
            await anyio.sleep_forever()

    if native:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(work(), 25)
    else:
        with anyio.move_on_after(25):
            await work()
    assert service.calls[-1] == pytest.approx(25, abs=0.1)  # the last beat, under a shield
    assert service.under_way == 0
    assert len(asyncio.all_tasks()) == BACKGROUND_TASKS
    await anyio.sleep(MINUTE)
    assert service.calls[-1] < 26


BACKGROUND_TASKS = 2
"""Those of the test itself."""


@pytest.mark.parametrize("delay", [0.0, 0.005, 0.5])
async def test_cancelling_the_first_beat_leaves_nothing_running(delay: float) -> None:
    service = FakeService()
    service.fault = hanging
    with anyio.move_on_after(delay):
        async with MetadataHeartBeat(service.beat):
            raise AssertionError("the first beat hangs for longer")
    assert service.under_way == 0
    assert len(asyncio.all_tasks()) == BACKGROUND_TASKS


async def test_where_heartbeats_are_not_kept_none_follow_the_first() -> None:
    calls = 0

    async def beat() -> BeatReply:
        nonlocal calls
        calls += 1
        return BeatReply(accepted=False, wait=None)

    async with MetadataHeartBeat(beat):
        await anyio.sleep(MINUTE)
    assert calls == 1


async def test_the_service_says_how_often_within_bounds() -> None:
    calls: list[float] = []

    def answering(wait: float) -> Callable[[], Awaitable[BeatReply]]:
        async def beat() -> BeatReply:
            calls.append(anyio.current_time())
            return BeatReply(accepted=True, wait=wait)

        return beat

    for wait, expected in ((3.0, 3.0), (25.0, 25.0), (3600.0, 30.0)):
        calls.clear()
        async with MetadataHeartBeat(answering(wait)):
            await anyio.sleep(100)
        assert calls[1] - calls[0] == pytest.approx(expected)


async def test_a_thousand_tasks_share_one_wheel() -> None:
    services = [FakeService() for _ in range(1000)]
    services[0].fault = hanging
    tasks: list[int] = []

    async def work(service: FakeService, wheel: TimerWheel) -> None:
        async with MetadataHeartBeat(service.beat, wheel=wheel):
            await anyio.sleep(1)
            if service is services[0]:
                tasks.append(len(asyncio.all_tasks()))
            await anyio.sleep(MINUTE)

    async with TimerWheel() as wheel, anyio.create_task_group() as group:
        for service in services:
            group.start_soon(work, service, wheel)
    assert max(tasks) <= 1000 + 1 + BACKGROUND_TASKS + 1  # a body each, the wheel, and the beat that hangs
    for service in services[1:]:
        assert len(service.taken) == pytest.approx(6, abs=1)
        assert max(b - a for a, b in pairwise(service.taken)) < 11
    assert wheel.max_lateness < 0.1
    assert sum(service.under_way for service in services) == 0


async def test_lateness_of_the_loop_is_measured_and_told(caplog: pytest.LogCaptureFixture) -> None:
    service = FakeService()
    async with TimerWheel() as wheel, MetadataHeartBeat(service.beat, wheel=wheel):
        await anyio.sleep(25)
        assert wheel.max_lateness < 0.1
        loop().now += 60  # what a minute of computing on the loop does
        await anyio.sleep(1)
        assert wheel.max_lateness == wheel.lateness == pytest.approx(55, abs=1)
        await anyio.sleep(25)
        assert wheel.lateness < 0.1
        assert wheel.max_lateness > 50
    assert "blocks the event loop" in caplog.text


async def test_failures_are_logged_ever_more_rarely_and_recovery_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    service = FakeService()
    service.fault = refused
    async with MetadataHeartBeat(service.beat, name="run F/1"):
        await anyio.sleep(20 * MINUTE)
        service.fault = nothing
        await anyio.sleep(MINUTE)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings[0] == "heartbeat of run F/1 failed, 1 in a row: MetadataUnavailableError: connection refused"
    assert 6 <= len(warnings) <= 10
    [info] = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert info.startswith("heartbeat of run F/1 is taken again after")


async def test_failed_beats_of_many_do_not_come_back_together() -> None:
    services = [FakeService() for _ in range(100)]
    async with TimerWheel() as wheel, anyio.create_task_group() as group:
        for service in services:
            service.fault = refused
            group.start_soon(beat_for, service, wheel, 30.0)
    second = {round(service.calls[5], 2) for service in services}
    assert len(second) > 80


async def beat_for(service: FakeService, wheel: TimerWheel, seconds: float) -> None:
    async with MetadataHeartBeat(service.beat, wheel=wheel):
        await anyio.sleep(seconds)


async def test_a_heartbeat_runs_once_at_a_time_and_again_afterwards() -> None:
    service = FakeService()
    heartbeat = MetadataHeartBeat(service.beat)
    async with heartbeat:
        with pytest.raises(TaskStateError, match="runs already"):
            await heartbeat.__aenter__()
        await anyio.sleep(15)
    async with heartbeat:
        pass
    assert len(service.calls) == 5


async def test_a_wheel_that_does_not_turn_takes_nothing() -> None:
    wheel = TimerWheel()
    service = FakeService()
    with pytest.raises(TaskStateError, match="does not turn"):
        async with MetadataHeartBeat(service.beat, wheel=wheel):
            raise AssertionError("began on a wheel that does not turn")
    async with wheel:
        with pytest.raises(TaskStateError, match="turns already"):
            await wheel.__aenter__()
    async with wheel:
        pass


@pytest.mark.parametrize("options", [{"interval": 0}, {"interval": 31}, {"timeout": 0}, {"grace": -1}])
def test_options_out_of_range_are_an_error(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="interval"):
        MetadataHeartBeat(nothing, **options)  # type: ignore[arg-type]


async def test_an_outage_of_a_day_is_survived() -> None:
    service = FakeService()
    service.fault = refused
    async with MetadataHeartBeat(service.beat) as heartbeat:
        await anyio.sleep(24 * 60 * MINUTE)
        assert heartbeat.failures > 2000
        service.fault = nothing
        await anyio.sleep(SERVER_TIMEOUT)
        assert heartbeat.failures == 0


@pytest.mark.parametrize("reply", [None, BeatReply(True, 0.0), BeatReply(True, -1.0), BeatReply(True, float("nan"))])
async def test_a_reply_that_says_nothing_sensible_neither_ends_the_body_nor_floods_the_service(reply: Any) -> None:
    calls = 0

    async def beat() -> BeatReply:
        nonlocal calls
        calls += 1
        if calls > 100:
            raise AssertionError
        return cast("BeatReply", reply)

    async with MetadataHeartBeat(beat):
        await anyio.sleep(MINUTE)
    assert 5 <= calls <= 20


async def test_a_call_that_is_due_but_not_begun_is_not_made_after_a_stop() -> None:
    calls = 0

    async def call() -> float:
        nonlocal calls
        calls += 1
        await anyio.sleep_forever()
        return 1.0

    async with TimerWheel() as wheel:
        ticket = wheel.start(call, 1.0)
        while ticket.running is None:  # set when the wheel has handed the call to a task
            loop().now += 0.5
            await anyio.lowlevel.checkpoint()
        begun = calls
        with anyio.fail_after(1):
            await ticket.stop()
    assert (begun, calls) == (0, 0)
