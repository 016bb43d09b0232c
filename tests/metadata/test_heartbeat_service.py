"""The heartbeat over real connections to a service that fails in every way."""

from __future__ import annotations

import time

import anyio
import pytest

from asyncstore.metadata.heartbeat import MetadataHeartBeat
from asyncstore.metadata.service import ServiceMetadataProvider
from asyncstore.metadata.system import SystemInfo
from asyncstore.metadata.wheel import TimerWheel
from tests.metadata.replay_server import Fault, serve
from tests.metadata.replay_state import Answer, Service

FLOW = "BeatingFlow"
SYSTEM = SystemInfo("tester")
FOREVER = 10**9


def fast_service() -> Service:
    """A service to which ten seconds are a hundredth of one, and that wants a beat as often."""
    return Service(clock=lambda: time.time_ns() // 1000, wait=0.01)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("refuse", "heartbeat", FOREVER),
        Fault("lose", "heartbeat", FOREVER),
        Fault("hang", "heartbeat", FOREVER),
        Fault("cut", "heartbeat", FOREVER),
        Fault("answer", "heartbeat", FOREVER, Answer(500, text="oops")),
        Fault("answer", "heartbeat", FOREVER, Answer(503, text="busy")),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.answer.status}",
)
async def test_a_service_that_fails_and_recovers_never_disturbs_the_body(fault: Fault) -> None:
    async with (
        serve(fast_service()) as server,
        ServiceMetadataProvider(server.url, headers={}, system=SYSTEM, beat_timeout=0.05) as provider,
    ):
        run = await provider.new_run_id(FLOW)
        server.faults = [fault]
        begun = time.monotonic()
        async with MetadataHeartBeat(lambda: provider.beat(FLOW, run), interval=0.02, timeout=0.05, grace=0.2):
            await anyio.sleep(0.3)
            assert sum("heartbeat" in line for line in server.lines) > 2
            server.faults.clear()
            before = server.service.runs[0]["last_heartbeat_ts"]
            with anyio.fail_after(5):
                while server.service.runs[0]["last_heartbeat_ts"] == before:  # noqa: ASYNC110  # looks behind the service's back
                    await anyio.sleep(0.01)
        assert time.monotonic() - begun < 5


async def test_a_hanging_service_delays_beginning_and_end_by_no_more_than_grace() -> None:
    async with (
        serve(fast_service()) as server,
        ServiceMetadataProvider(server.url, headers={}, system=SYSTEM) as provider,
    ):
        run = await provider.new_run_id(FLOW)
        server.faults = [Fault("hang", "heartbeat", FOREVER)]
        begun = time.monotonic()
        async with MetadataHeartBeat(lambda: provider.beat(FLOW, run), grace=0.2):
            assert time.monotonic() - begun < 0.2 + 0.5
            begun = time.monotonic()
        assert time.monotonic() - begun < 0.2 + 0.5


async def test_runs_and_tasks_share_one_wheel_and_one_session() -> None:
    async with (
        serve(fast_service()) as server,
        ServiceMetadataProvider(server.url, headers={}, system=SYSTEM, connections=4) as provider,
        TimerWheel() as wheel,
    ):
        run = await provider.new_run_id(FLOW)
        tasks = [await provider.new_task_id(FLOW, run, "fan") for _ in range(30)]

        async def work(task: str) -> None:
            async with MetadataHeartBeat(lambda: provider.beat(FLOW, run, "fan", task), wheel=wheel):
                await anyio.sleep(0.3)

        async with anyio.create_task_group() as group:
            for task in tasks:
                group.start_soon(work, task)
        assert server.most <= 4 + 5 * 4
        assert all(row["last_heartbeat_ts"] > row["ts_epoch"] // 1000 for row in server.service.tasks)
