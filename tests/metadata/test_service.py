"""What is the service provider's own: what is tried again, deadlines, versions, pages, connections."""

from __future__ import annotations

import asyncio
import pickle
import ssl
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from asyncstore.errors import (
    ConfigError,
    MetadataConflictError,
    MetadataError,
    MetadataUnavailableError,
    TaggingError,
)
from asyncstore.metadata import service_session
from asyncstore.metadata.base import fetch_objects
from asyncstore.metadata.objects import TagFilter
from asyncstore.metadata.records import BeatReply, DataArtifactRecord, MetaDatum
from asyncstore.metadata.service import ServiceMetadataProvider
from asyncstore.metadata.service_headers import ConfiguredHeaders, EnvironmentHeaders
from asyncstore.metadata.system import SystemInfo
from asyncstore.types import RetryPolicy, Timeouts
from tests.metadata.replay_server import Fault, ReplayServer, serve
from tests.metadata.replay_state import Answer, Service

FLOW = "ServiceFlow"
SYSTEM = SystemInfo("tester")
QUICK = RetryPolicy(attempts=4, base=0.001, cap=0.01, total=10.0)


@pytest.fixture
async def server() -> AsyncIterator[ReplayServer]:
    async with serve() as server:
        yield server
        assert server.faults == []  # each scripted fault came up


@pytest.fixture
async def provider(server: ReplayServer) -> AsyncIterator[ServiceMetadataProvider]:
    async with ServiceMetadataProvider(server.url, headers={}, system=SYSTEM, retry=QUICK) as provider:
        yield provider


def at(server: ReplayServer, line: str) -> int:
    return server.lines.count(line)


# What is tried again


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
async def test_a_service_that_is_busy_is_asked_again(
    server: ReplayServer, provider: ServiceMetadataProvider, status: int
) -> None:
    server.faults = [
        Fault("answer", "POST .*/run$", 2, Answer(status, text="busy")),
        Fault("answer", "GET", 2, Answer(status)),
    ]
    run = await provider.new_run_id(FLOW)
    keys = [request.headers["Idempotency-Key"] for request in server.received if request.path.endswith("/run")]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert await provider.get_object(FLOW, run) is not None
    assert len(server.service.runs) == 1


@pytest.mark.parametrize("kind", ["refuse", "lose"])
async def test_a_connection_that_breaks_is_tried_again(
    server: ReplayServer, provider: ServiceMetadataProvider, kind: Any
) -> None:
    run = await provider.new_run_id(FLOW)
    server.faults = [Fault(kind, f"GET /flows/{FLOW}/runs/{run}$", 2)]
    assert await provider.get_object(FLOW, run) is not None
    assert at(server, f"GET /flows/{FLOW}/runs/{run}") == 3


async def test_a_reply_that_breaks_off_is_asked_for_again(
    server: ReplayServer, provider: ServiceMetadataProvider
) -> None:
    await provider.new_run_id(FLOW)
    server.faults = [Fault("cut", "GET .*/runs")]
    assert len(await fetch_objects(provider, "run", FLOW)) == 1


async def test_500_is_tried_again_only_when_reading(server: ReplayServer, provider: ServiceMetadataProvider) -> None:
    run = await provider.new_run_id(FLOW)
    broken = Answer(500, {"traceback": "File x", "detail": "boom", "status": 500})
    server.faults = [Fault("answer", "GET", 2, broken)]
    assert await provider.get_object(FLOW, run) is not None
    for match, call in (
        ("POST .*/run$", provider.new_run_id(FLOW)),
        ("PATCH", provider.mutate_user_tags_for_run(FLOW, run, add=["a"])),
    ):
        server.faults = [Fault("answer", match, 1, broken)]
        with pytest.raises(MetadataError, match="500 Internal Server Error: boom") as caught:
            await call
        assert not caught.value.retryable
        assert "File x" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(400, "no"), "no"),
        (Answer(401, text="who?"), "METAFLOW_SERVICE_AUTH_KEY"),
        (Answer(403, {"message": "Forbidden"}), "Forbidden; the service refused the credentials"),
        (Answer(404, text="404: Not Found"), "check the service's URL"),
        (Answer(405, text="405: Method Not Allowed"), "405"),
        (Answer(301, text="", headers={"Location": "http://elsewhere/"}), "redirects are not followed"),
        (Answer(200, text=""), "not JSON"),
        (Answer(200, text="<html>"), "not JSON: '<html>'"),
        (Answer(200, [1]), "does not describe a run"),
        (Answer(200, {"flow_id": "F"}), "run_number"),
        (Answer(204, text=""), "not JSON"),
        (Answer(599, text="\x00\n\nodd"), "HTTP 599"),
    ],
)
async def test_other_replies_are_one_clear_error_at_once(
    server: ReplayServer, provider: ServiceMetadataProvider, answer: Answer, message: str
) -> None:
    server.faults = [Fault("answer", "GET", 1, answer)]
    with pytest.raises(MetadataError, match=message):
        await provider.get_object(FLOW, "1")
    assert at(server, f"GET /flows/{FLOW}/runs/1") == 1


async def test_retry_after_is_waited_for(server: ReplayServer, provider: ServiceMetadataProvider) -> None:
    server.faults = [Fault("answer", "GET", 1, Answer(503, text="", headers={"Retry-After": "1"}))]
    begun = time.monotonic()
    assert await provider.get_object(FLOW) is None
    assert time.monotonic() - begun >= 1.0


async def test_the_last_failure_is_raised_when_tries_are_used_up(
    server: ReplayServer, provider: ServiceMetadataProvider, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults = [Fault("answer", "GET", 4, Answer(503, "down for repair"))]
    with pytest.raises(MetadataUnavailableError, match="down for repair") as caught:
        await provider.get_object(FLOW)
    assert caught.value.retryable
    assert caught.value.__notes__[0].startswith("attempt 4 after")
    assert [record.getMessage().split(";")[-1].split(" in ")[0] for record in caplog.records] == [
        f" attempt {n} of at most 4" for n in (2, 3, 4)
    ]


async def test_no_try_begins_after_the_total_deadline(server: ReplayServer) -> None:
    server.faults = [Fault("hang", "GET", 1)]
    retry = RetryPolicy(attempts=9, base=0.01, cap=0.01, total=0.3)
    async with ServiceMetadataProvider(server.url, headers={}, retry=retry) as provider:
        begun = time.monotonic()
        with pytest.raises(MetadataUnavailableError, match="no reply within the deadline"):
            await provider.get_object(FLOW)
        assert 0.25 < time.monotonic() - begun < 2.0


async def test_each_request_has_a_deadline_of_its_own(server: ReplayServer) -> None:
    server.faults = [Fault("hang", "GET", 1)]
    timeouts = Timeouts(connect=0.1, idle=0.1, min_rate=10_000_000)
    async with ServiceMetadataProvider(server.url, headers={}, retry=QUICK, timeouts=timeouts) as provider:
        assert await provider.get_object(FLOW) is None  # hung once, then answered
    assert at(server, f"GET /flows/{FLOW}") == 2


async def test_a_reply_that_drips_meets_the_least_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        try:
            for _ in range(1000):
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    timeouts = Timeouts(connect=0.2, idle=0.2, min_rate=1_000_000)  # each byte comes within idle
    async with (
        listener,
        ServiceMetadataProvider(
            f"http://127.0.0.1:{port}", headers={}, timeouts=timeouts, retry=RetryPolicy(attempts=1)
        ) as provider,
    ):
        begun = time.monotonic()
        with pytest.raises(MetadataUnavailableError, match="no reply within the deadline"):
            await provider.get_object(FLOW)
        assert time.monotonic() - begun < 2.0


async def test_a_reply_beyond_all_bounds_is_refused(
    server: ReplayServer, provider: ServiceMetadataProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_session, "MAX_REPLY", 1000)
    server.faults = [Fault("answer", "GET", 1, Answer(200, text="x" * 2000))]
    with pytest.raises(MetadataError, match="larger than 1000 bytes"):
        await provider.get_object(FLOW)


async def test_nobody_listening_is_one_clear_error() -> None:
    async with ServiceMetadataProvider("http://127.0.0.1:9", headers={}, retry=QUICK) as provider:
        with pytest.raises(MetadataUnavailableError, match="see whether the service runs"):
            await provider.get_object(FLOW)


# Registers after a lost reply


async def test_a_named_run_whose_reply_was_lost_is_read_back(
    server: ReplayServer, provider: ServiceMetadataProvider
) -> None:
    server.faults = [Fault("lose", "POST .*/run$")]
    assert await provider.register_run_id(FLOW, "sched-1", tags=["mine"])
    assert server.lines[-3:] == [f"POST /flows/{FLOW}/run"] * 2 + [f"GET /flows/{FLOW}/runs/sched-1"]
    keys = {request.headers["Idempotency-Key"] for request in server.received if request.path.endswith("/run")}
    assert len(keys) == 1
    assert len(server.service.runs) == 1


async def test_flow_step_and_named_task_survive_lost_replies(
    server: ReplayServer, provider: ServiceMetadataProvider
) -> None:
    server.faults = [Fault("lose", pattern) for pattern in (f"POST /flows/{FLOW}$", "POST .*/step$", "POST .*/task$")]
    run = await provider.new_run_id(FLOW)
    assert await provider.register_task_id(FLOW, run, "start", "pod-1")
    assert [len(rows) for rows in (server.service.flows, server.service.steps, server.service.tasks)] == [1, 1, 1]


async def test_artifacts_whose_reply_was_lost_are_there_once(
    server: ReplayServer, provider: ServiceMetadataProvider
) -> None:
    run = await provider.new_run_id(FLOW)
    task = await provider.new_task_id(FLOW, run, "start")
    server.faults = [Fault("lose", "/artifact$"), Fault("lose", "/metadata$")]
    record = DataArtifactRecord("x", "local", "/r", None, "pickle-v4", "0" * 40)
    await provider.register_data_artifacts(FLOW, run, "start", task, attempt=0, artifacts=[record])
    await provider.register_metadata(FLOW, run, "start", task, [MetaDatum("f", "v", "t")])
    assert len(server.service.artifacts) == 1
    assert len([row for row in server.service.metadata if row["field_name"] == "f"]) == 2  # a duplicate is harmless


async def test_a_conflict_about_something_that_cannot_be_read_back_is_an_error(
    server: ReplayServer, provider: ServiceMetadataProvider
) -> None:
    await provider.new_run_id(FLOW)
    server.faults = [Fault("answer", "POST .*/run$", 1, Answer(409, '{"err_msg": "taken"}'))]
    with pytest.raises(MetadataConflictError, match="taken"):
        await provider.register_run_id(FLOW, "sched-1")


async def test_a_run_that_somebody_else_registered_a_moment_before_is_not_ours(
    server: ReplayServer, provider: ServiceMetadataProvider
) -> None:
    assert await provider.register_run_id(FLOW, "sched-1")
    server.faults = [Fault("answer", "GET .*/runs/sched-1$", 1, Answer(404))]
    assert not await provider.register_run_id(FLOW, "sched-1")
    assert not server.faults


async def test_a_conflict_about_rows_means_they_are_there(
    server: ReplayServer, provider: ServiceMetadataProvider
) -> None:
    run = await provider.new_run_id(FLOW)
    task = await provider.new_task_id(FLOW, run, "start")
    server.faults = [Fault("answer", "/metadata$", 1, Answer(409))]
    await provider.register_metadata(FLOW, run, "start", task, [MetaDatum("f", "v", "t")])


async def test_rows_that_the_service_drops_are_an_error(
    server: ReplayServer, provider: ServiceMetadataProvider
) -> None:
    run = await provider.new_run_id(FLOW)
    task = await provider.new_task_id(FLOW, run, "start")
    server.faults = [Fault("answer", "/metadata$", 1, Answer(body={"metadata_created": 1}))]
    with pytest.raises(MetadataError, match="dropped 2 of 3 rows"):
        await provider.register_metadata(FLOW, run, "start", task, [MetaDatum("f", "v", "t")] * 3)
    long = DataArtifactRecord("x", "s3", "s3://" + "x" * 300, None, "pickle-v4", "0" * 40)
    with pytest.raises(MetadataError, match="at most 255"):
        await provider.register_data_artifacts(FLOW, run, "start", task, attempt=0, artifacts=[long])


async def test_a_tag_change_that_lost_a_race_is_repeated(
    server: ReplayServer, provider: ServiceMetadataProvider
) -> None:
    run = await provider.new_run_id(FLOW)
    conflict = Answer(409, "Conflicting concurrent tag mutation, please retry")
    server.faults = [Fault("answer", "PATCH", 3, conflict)]
    assert await provider.mutate_user_tags_for_run(FLOW, run, add=["a"]) == {"a"}
    server.faults = [Fault("answer", "PATCH", 4, conflict)]
    with pytest.raises(TaggingError, match="another change") as caught:
        await provider.mutate_user_tags_for_run(FLOW, run, add=["b"])
    assert caught.value.retryable


async def test_long_lists_are_sent_in_pieces(server: ReplayServer, provider: ServiceMetadataProvider) -> None:
    run = await provider.new_run_id(FLOW)
    task = await provider.new_task_id(FLOW, run, "start")
    records = [DataArtifactRecord(f"a{n}", "local", "/r", None, "pickle-v4", "0" * 40) for n in range(2001)]
    await provider.register_data_artifacts(FLOW, run, "start", task, attempt=0, artifacts=iter(records))
    await provider.register_data_artifacts(FLOW, run, "start", task, attempt=0, artifacts=[])
    posts = [request.text.count("metaflow.artifact") for request in server.received if "/artifact" in request.path]
    assert posts == [1000, 1000, 1]
    assert len(server.service.artifacts) == 2001


async def test_sixty_tags_go_through_a_service(provider: ServiceMetadataProvider) -> None:
    run = await provider.new_run_id(FLOW)
    tags = [f"bulk{number:02}" for number in range(60)]
    assert await provider.mutate_user_tags_for_run(FLOW, run, add=tags) == set(tags)


# Parents


async def test_flow_and_step_are_asked_for_once(server: ReplayServer, provider: ServiceMetadataProvider) -> None:
    run = await provider.new_run_id(FLOW)
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(provider.new_task_id, FLOW, run, "fan")
    await provider.new_run_id(FLOW)
    step = f"/flows/{FLOW}/runs/{run}/steps/fan"
    assert (at(server, f"GET {step}"), at(server, f"POST {step}/step")) == (1, 1)
    assert (at(server, f"GET /flows/{FLOW}"), at(server, f"POST {step}/task")) == (1, 20)


async def test_a_flow_that_the_service_lost_is_made_anew(
    server: ReplayServer, provider: ServiceMetadataProvider
) -> None:
    await provider.new_run_id(FLOW)
    server.service.flows.clear()
    await provider.new_run_id(FLOW)
    assert len(server.service.flows) == 1


# Versions


async def test_what_a_service_is_too_old_for_is_an_error_that_says_so() -> None:
    async with serve(Service(version="2.0.1", paged=False)) as server:
        async with ServiceMetadataProvider(server.url, headers={}, system=SYSTEM, retry=QUICK) as provider:
            run = await provider.new_run_id(FLOW)
            for call, least in (
                (provider.register_run_id(FLOW, "sched-1"), "2.0.2"),
                (provider.register_task_id(FLOW, run, "start", "pod-1"), "2.0.2"),
                (provider.get_object(FLOW, run, "s", "1", "a", attempt=0), "2.0.6"),
                (fetch_objects(provider, "artifact", FLOW, run, "s", "1", attempt=0), "2.0.6"),
                (provider.mutate_user_tags_for_run(FLOW, run, add=["a"]), "2.3.0"),
                (provider.filter_tasks_by_metadata(FLOW, run, "s"), "2.5.0"),
            ):
                with pytest.raises(MetadataError, match=f"{least} or later, .* is 2.0.1; upgrade"):
                    await call
            assert (await provider.beat(FLOW, run)).wait is None
            assert await provider.version() == "2.0.1"
        assert not any("heartbeat" in line for line in server.lines)


async def test_the_version_is_asked_for_once_if_no_reply_told(server: ReplayServer) -> None:
    server.service.version = None
    async with ServiceMetadataProvider(server.url, headers={}, system=SYSTEM) as provider:
        for name in ("a", "b"):
            await provider.register_run_id(FLOW, name)
        assert await provider.mutate_user_tags_for_run(FLOW, "a", add=["x"]) == {"x"}
    assert at(server, "GET /ping") == 1


# Pages


async def test_pages_grow_and_an_early_end_asks_for_no_more(
    server: ReplayServer, provider: ServiceMetadataProvider
) -> None:
    run = await provider.new_run_id(FLOW)
    task = await provider.new_task_id(FLOW, run, "start")
    await provider.register_metadata(FLOW, run, "start", task, [MetaDatum("f", str(n), "t") for n in range(1200)])
    server.received.clear()
    rows = await fetch_objects(provider, "metadata", FLOW, run, "start", task)
    assert len({row.datum.value for row in rows if row.datum and row.datum.field == "f"}) == 1200
    assert [dict(request.query)["_limit"] for request in server.received] == ["50", "100", "200", "400", "500"]
    server.received.clear()
    async with provider.list_objects("metadata", FLOW, run, "start", task) as items:
        await anext(items)
    assert len(server.received) == 1


async def test_runs_are_filtered_by_the_service_where_it_can_be_told(
    server: ReplayServer, provider: ServiceMetadataProvider
) -> None:
    for number in range(120):
        await provider.new_run_id(FLOW, tags=["rare", "a,b"] if number == 7 else [])
    server.received.clear()
    for filters, query in (
        (TagFilter(any_tags=["rare"], system_tags=["user:tester"]), "rare,user:tester"),
        (TagFilter(tags=["a,b"]), None),
        (TagFilter(tags=["null"]), None),
    ):
        found = await fetch_objects(provider, "run", FLOW, filters=filters)
        assert len(found) == (0 if "null" in filters.tags else 1)
        assert dict(server.received[-1].query).get("_tags:all") == query
    assert len(server.received) == 5


async def test_a_page_that_points_to_itself_is_an_error(
    server: ReplayServer, provider: ServiceMetadataProvider
) -> None:
    loop = Answer(200, [], headers={"X-Limit": "50", "X-Next-Cursor": "abc"})
    server.faults = [Fault("answer", "GET", 2, loop)]
    with pytest.raises(MetadataError, match="points to itself"):
        await fetch_objects(provider, "run", FLOW)


async def test_a_refused_cursor_is_an_error(server: ReplayServer, provider: ServiceMetadataProvider) -> None:
    server.faults = [Fault("answer", "GET", 1, Answer(200, [], headers={"X-Limit": "50", "X-Next-Cursor": "garbage"}))]
    with pytest.raises(MetadataError, match="Invalid cursor"):
        await fetch_objects(provider, "run", FLOW)


async def test_a_reply_that_is_no_list_is_an_error(server: ReplayServer, provider: ServiceMetadataProvider) -> None:
    server.faults = [Fault("answer", "GET", 1, Answer(200, {"runs": []}))]
    with pytest.raises(MetadataError, match="list is expected"):
        await fetch_objects(provider, "run", FLOW)


# Heartbeats


async def test_a_beat_is_tried_once_and_tells_what_became_of_it(
    server: ReplayServer, provider: ServiceMetadataProvider
) -> None:
    moment = 1_700_000_000_000
    server.service.clock = lambda: moment
    run = await provider.new_run_id(FLOW)
    task = await provider.new_task_id(FLOW, run, "start")
    early = await provider.beat(FLOW, run, "start", task)
    assert (early.accepted, early.wait) == (False, 10.0)
    moment += 10_000
    assert (await provider.beat(FLOW, run, "start", task)).accepted
    found = await provider.get_object(FLOW, run, "start", task)
    assert found is not None
    assert found.heartbeat == 1_700_000_010
    for answer, wait in (
        (Answer(200, '{"wait_time_in_seconds": 3}'), 3.0),
        (Answer(200, {"wait_time_in_seconds": 4}), 4.0),
        (Answer(200, '{"wait_time_in_seconds": 0}'), 10.0),
        (Answer(200, text=""), 10.0),
        (Answer(200, text='"\\"x\\""'), 10.0),
        (Answer(404, text="404: Not Found"), None),
    ):
        server.faults = [Fault("answer", "heartbeat", 1, answer)]
        assert (await provider.beat(FLOW, run)).wait == wait
    server.received.clear()
    server.faults = [Fault("answer", "heartbeat", 1, Answer(503, text="busy"))]
    with pytest.raises(MetadataUnavailableError):
        await provider.beat(FLOW, run)
    assert len(server.received) == 1


async def test_a_beat_ends_at_its_deadline_and_passes_long_lists(server: ReplayServer) -> None:
    async with ServiceMetadataProvider(
        server.url, headers={}, system=SYSTEM, connections=1, beat_timeout=0.1
    ) as provider:
        run = await provider.new_run_id(FLOW)
        server.faults = [Fault("hang", "GET .*/runs$"), Fault("hang", "heartbeat")]
        async with anyio.create_task_group() as group:
            group.start_soon(fetch_objects, provider, "run", FLOW)
            await anyio.sleep(0.05)
            with pytest.raises(MetadataUnavailableError, match="deadline"):
                await provider.beat(FLOW, run)
            assert not (await provider.beat(FLOW, run)).accepted
            group.cancel_scope.cancel()


# Connections


async def test_at_most_so_many_requests_are_under_way(server: ReplayServer) -> None:
    server.seconds = 0.01
    async with (
        ServiceMetadataProvider(server.url, headers={}, connections=5) as provider,
        anyio.create_task_group() as group,
    ):
        for number in range(40):
            group.start_soon(provider.get_object, f"F{number}")
    assert (server.most, len(server.received)) == (5, 40)


@pytest.mark.parametrize("native", [False, True], ids=["anyio", "asyncio"])
async def test_a_cancelled_call_leaves_no_place_taken(server: ReplayServer, native: bool) -> None:
    async with ServiceMetadataProvider(server.url, headers={}, system=SYSTEM, connections=1) as provider:
        await provider.new_run_id(FLOW)
        for pattern, call in (
            ("GET", lambda: provider.get_object(FLOW, "x")),
            ("GET", lambda: fetch_objects(provider, "run", FLOW)),
            ("POST", lambda: provider.new_run_id(FLOW)),
            ("PATCH", lambda: provider.mutate_user_tags_for_run(FLOW, "1", add=["a"])),
        ):
            server.faults = [Fault("hang", pattern)]
            if native:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(call(), 0.05)
            else:
                with anyio.move_on_after(0.05) as scope:
                    await call()
                assert scope.cancelled_caught
            with anyio.fail_after(5):
                assert await provider.get_object(FLOW) is not None


async def test_a_path_prefix_and_odd_names_reach_the_service() -> None:
    async with (
        serve(prefix="/api/meta") as server,
        ServiceMetadataProvider(server.url + "/", headers={}, system=SYSTEM) as provider,
    ):
        assert provider.info == server.url
        for name in ("a b", "100%", "ü?x=1", "#7", "a%2Fb", "x;y=z&w"):
            assert await provider.register_run_id(FLOW, name)
            found = await provider.get_object(FLOW, name)
            assert found is not None
            assert found.id == name
    assert {row["name"] for row in server.service.runs} >= {"a b", "a%2Fb"}


async def test_a_proxy_of_the_environment_is_used(server: ReplayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    async with ServiceMetadataProvider("http://metadata.invalid", headers={}) as provider:
        assert await provider.version() == "2.5.1"


LOOPS_AND_FORK = """
import anyio, os, sys
from asyncstore.metadata.service import ServiceMetadataProvider
from asyncstore.metadata.system import SystemInfo

provider = ServiceMetadataProvider(sys.argv[1], headers={}, system=SystemInfo("u"))

def run():
    os.write(1, (anyio.run(provider.new_run_id, "F") + chr(10)).encode())

run()
run()
child = os.fork()
run()
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


async def test_a_provider_serves_loop_after_loop_and_after_a_fork(server: ReplayServer) -> None:
    answer = await anyio.run_process([sys.executable, "-W", "ignore", "-c", LOOPS_AND_FORK, server.url], check=False)
    assert answer.returncode == 0, answer.stderr.decode()
    assert sorted(answer.stdout.decode().split()) == ["1", "2", "3", "4"]


FORK_BESIDE_A_LOOP = """
import anyio, asyncio, gc, os, sys
from asyncstore.metadata.service import ServiceMetadataProvider
from asyncstore.metadata.system import SystemInfo

async def main():
    async with ServiceMetadataProvider(sys.argv[1], headers={}, system=SystemInfo("u")) as provider:
        await provider.new_run_id("F")
        child = os.fork()
        if child == 0:
            asyncio._set_running_loop(None)
            anyio.run(provider.new_run_id, "F")
            gc.collect()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        with anyio.fail_after(5):
            await provider.new_run_id("F")

anyio.run(main)
"""


async def test_a_fork_that_uses_the_provider_leaves_the_parents_connections_alone(server: ReplayServer) -> None:
    answer = await anyio.run_process([sys.executable, "-c", FORK_BESIDE_A_LOOP, server.url], check=False)
    assert answer.returncode == 0, answer.stderr.decode()
    assert len(server.service.runs) == 3


async def test_a_list_of_tasks_that_is_none_is_an_error(
    server: ReplayServer, provider: ServiceMetadataProvider
) -> None:
    server.faults = [Fault("answer", "filtered_tasks", 1, Answer(200, {"a": 1}))]
    with pytest.raises(MetadataError, match="filtered_tasks: a JSON list is expected, not dict"):
        await provider.filter_tasks_by_metadata(FLOW, "1", "s")
    server.faults = [Fault("answer", "filtered_tasks", 1, Answer(200, ["F/1/s/10", "F/1/s/9", "F/1/s/b"]))]
    assert await provider.filter_tasks_by_metadata(FLOW, "1", "s") == ["F/1/s/b", "F/1/s/9", "F/1/s/10"]


async def test_a_reply_nested_without_end_is_one_clear_error(
    server: ReplayServer, provider: ServiceMetadataProvider
) -> None:
    server.faults = [Fault("answer", "", 1, Answer(200, text="[" * 100_000))]
    with pytest.raises(MetadataError, match="with a body that is not JSON"):
        await provider.get_object(FLOW)


@pytest.mark.parametrize("wait", ["1" + 400 * "0", "[" * 100_000, "1e999", "-1"])
async def test_a_beats_reply_without_a_sensible_wait_means_the_usual(
    server: ReplayServer, provider: ServiceMetadataProvider, wait: str
) -> None:
    server.faults = [Fault("answer", "", 1, Answer(200, text='{"wait_time_in_seconds": ' + wait + "}"))]
    assert await provider.beat(FLOW, "1") == BeatReply(accepted=True, wait=10.0)


async def test_a_provider_pickles_as_its_arguments(server: ReplayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "key-in-the-environment")
    source = EnvironmentHeaders((("x-api-key", "MY_KEY"),))
    async with ServiceMetadataProvider(server.url, headers=source, system=SYSTEM, connections=3) as provider:
        provider.add_sticky_tags(tags=["sticky"])
        await provider.new_run_id(FLOW)
        text = pickle.dumps(provider)
    assert b"key-in-the-environment" not in text
    async with pickle.loads(text) as copy:
        found = await copy.get_object(FLOW, await copy.new_run_id(FLOW))
        assert found.tags == {"sticky"}
        assert (repr(copy), copy.info, copy.TYPE) == (repr(provider), server.url, "service")
    assert server.received[-1].headers["x-api-key"] == "key-in-the-environment"


async def test_headers_come_from_the_configuration(server: ReplayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAFLOW_SERVICE_AUTH_KEY", "configured-key")
    monkeypatch.setenv("METAFLOW_SERVICE_HEADERS", '{"x-team": "core"}')
    async with ServiceMetadataProvider(server.url) as provider:
        await provider.version()
        assert pickle.loads(pickle.dumps(provider)).info == server.url
    assert server.received[-1].headers["x-api-key"] == "configured-key"
    assert server.received[-1].headers["x-team"] == "core"
    assert ConfiguredHeaders() == ConfiguredHeaders()


@pytest.mark.parametrize(
    "url", ["", "service", "ftp://host", "http://", "http://h:99999", "http://h/?q=1", "http://h/#f", "http://[::1"]
)
def test_a_url_that_is_none_is_an_error(url: str) -> None:
    with pytest.raises(ConfigError, match="URL of the metadata service"):
        ServiceMetadataProvider(url)


@pytest.mark.parametrize("options", [{"connections": 0}, {"beat_timeout": 0}])
def test_options_out_of_range_are_an_error(options: Any) -> None:
    with pytest.raises(ConfigError, match="positive"):
        ServiceMetadataProvider("http://h", **options)


async def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    source = EnvironmentHeaders((("x-api-key", "NOT_SET"),))
    async with ServiceMetadataProvider("http://127.0.0.1:9", headers=source) as provider:
        with pytest.raises(ConfigError, match="NOT_SET"):
            await provider.version()


async def test_a_service_may_have_a_certificate_of_its_own(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    await anyio.run_process(
        [
            *["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"],
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ]
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with serve(context=context) as server:
        async with ServiceMetadataProvider(server.url, headers={}, ca_file=str(certificate)) as provider:
            assert await provider.version() == "2.5.1"
        async with ServiceMetadataProvider(server.url, headers={}, retry=QUICK) as provider:
            with pytest.raises(MetadataError, match="not trusted; set ca_file"):
                await provider.version()
        async with ServiceMetadataProvider(server.url, headers={}, ca_file=str(tmp_path / "none")) as provider:
            with pytest.raises(ConfigError, match="ca_file"):
                await provider.version()
