"""For each thing that Metaflow was recorded doing, our provider sends equivalent requests and understands the replies.

Differences that are meant: lists are asked for in pages; a version that no reply has told yet is asked for once;
``ts_epoch``, which the service ignores, is ours; a fresh task's number in a body is text; heartbeats say their
content type; each POST has an Idempotency-Key; the order of tags is arbitrary on both sides.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from aiohttp import web

from asyncstore.errors import (
    AsyncStoreError,
    MetadataConflictError,
    MetadataError,
    MetadataUnavailableError,
    TaggingError,
    TaskNotFoundError,
)
from asyncstore.metadata.base import fetch_objects
from asyncstore.metadata.records import DataArtifactRecord, Kind, MetaDatum, MetaObject
from asyncstore.metadata.service import ServiceMetadataProvider
from asyncstore.metadata.service_errors import error_for
from asyncstore.metadata.system import SystemInfo
from asyncstore.types import RetryPolicy
from tests.metadata import recorded_actions
from tests.metadata.recorded_actions import Action, actions
from tests.metadata.transcript import exchanges, response_text

ACTIONS = list(actions())
ONCE = RetryPolicy(attempts=1)


class Prompter:
    """Answers with the exchanges of one action, in their order, and notes each request that is not the next one."""

    def __init__(self) -> None:
        self.url = ""
        self.script: list[dict[str, Any]] = []
        self.wrong: list[str] = []

    async def answer(self, request: web.BaseRequest) -> web.Response:
        if request.path == "/ping" and not (self.script and self.script[0]["path"] == "/ping"):
            return web.Response(text="pong", headers={"METADATA_SERVICE_VERSION": "2.5.1"})
        expected: dict[str, Any] = self.script.pop(0) if self.script else {"method": "nothing", "path": ""}
        self.wrong += differences(expected, request, await request.text())
        if "status" not in expected:
            return web.Response(status=500)
        headers = {key: value for key, value in expected["response_headers"].items() if key != "Content-Length"}
        return web.Response(status=expected["status"], body=response_text(expected).encode(), headers=headers)


def differences(expected: dict[str, Any], request: web.BaseRequest, text: str) -> list[str]:
    got, wanted = f"{request.method} {request.path}", f"{expected['method']} {expected['path']}"
    if got != wanted:
        return [f"{got} instead of {wanted}"]
    query = [[key, value] for key, value in request.query.items() if key != "_limit"]
    wrong = [] if query == expected["query"] else [f"{got}: query {query} instead of {expected['query']}"]
    for name, value in expected["request_headers"].items():
        if not request.headers.get(name, "").startswith(value):
            wrong.append(f"{got}: header {name}")
    if request.method == "POST" and "Idempotency-Key" not in request.headers:
        wrong.append(f"{got}: no Idempotency-Key")
    ours, theirs = comparable(json.loads(text) if text else None), comparable(expected["request"])
    return wrong if ours == theirs else [*wrong, f"{got}: body {ours} instead of {theirs}"]


def comparable(body: Any) -> Any:
    if isinstance(body, list):
        return [comparable(item) for item in body]
    if not isinstance(body, dict):
        return body
    shown = {key: value for key, value in body.items() if key != "ts_epoch"}
    for key in ("tags", "system_tags", "tags_to_add", "tags_to_remove"):
        if key in shown:
            shown[key] = sorted(shown[key])
    if "task_id" in shown:
        shown["task_id"] = str(shown["task_id"])
    return shown


@pytest.fixture
async def prompter() -> AsyncIterator[Prompter]:
    prompter = Prompter()
    runner = web.ServerRunner(web.Server(prompter.answer), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    prompter.url = site.name
    yield prompter
    await runner.cleanup()


def writer_of(action: Action) -> SystemInfo:
    """Who wrote, from what the recorded requests say."""
    posts = [each["request"] for each in action.exchanges if each["method"] == "POST"]
    rows = [row for body in posts for row in (body if isinstance(body, list) else [body])]
    user = next((row["user_name"] for row in rows if "user_name" in row), "tester")
    entries = {row["field_name"]: row["value"] for row in rows if "field_name" in row}
    entries |= dict(tag.split(":", 1) for row in rows for tag in row.get("system_tags", []))
    return SystemInfo(
        user,
        runtime=entries.get("runtime", "dev"),
        python_version=entries.get("python_version", ""),
        production_token=entries.get("production"),
        metaflow_version=entries.get("metaflow_version", ""),
        script_name=entries.get("script-name"),
    )


def tags_of(action: Action) -> list[str]:
    posts = [each["request"] for each in action.exchanges if each["method"] == "POST"]
    rows = [row for body in posts for row in (body if isinstance(body, list) else [body])]
    return next((row["tags"] for row in rows if "tags" in row and "field_name" not in row), [])


async def act(provider: ServiceMetadataProvider, action: Action) -> None:
    """Do what Metaflow did, and compare what comes back with the recorded replies."""
    ids: Any = action.ids
    last = action.last
    recorded: Any = last.get("response")
    if action.call == "version":
        assert await provider.version() == last["response_headers"]["METADATA_SERVICE_VERSION"]
    elif action.call == "beat":
        reply = await provider.beat(*ids)
        assert (reply.accepted, reply.wait) == (last["status"] == 200, 10.0)
    elif action.call == "new_run_id":
        assert await provider.new_run_id(*ids) == str(recorded["run_number"])
    elif action.call == "register_run_id":
        assert await provider.register_run_id(*ids) == (last["method"] == "POST")
    elif action.call == "new_task_id":
        assert await provider.new_task_id(*ids) == str(action.exchanges[-2]["response"]["task_id"])
    elif action.call == "register_task_id":
        attempt = int(last["request"][0]["tags"][0].removeprefix("attempt_id:"))
        created = any(each["path"].endswith("/task") for each in action.exchanges)
        assert await provider.register_task_id(*ids, attempt=attempt) == created
    elif action.call == "register_metadata":
        rows = [MetaDatum(row["field_name"], row["value"], row["type"], tuple(row["tags"])) for row in last["request"]]
        flow, run, step, task = ids
        await provider.register_metadata(flow, run, step, task, rows)
    elif action.call == "register_data_artifacts":
        records = [
            DataArtifactRecord.from_location(
                row["name"], row["ds_type"], row["location"], row["content_type"], row["sha"]
            )
            for row in last["request"]
        ]
        attempt = last["request"][0]["attempt_id"]
        await provider.register_data_artifacts(*ids, attempt=attempt, artifacts=records)
    elif action.call == "mutate":
        change = {"add": last["request"]["tags_to_add"], "remove": last["request"]["tags_to_remove"]}
        if last["status"] == 200:
            assert await provider.mutate_user_tags_for_run(*ids, **change) == set(recorded["tags"])
        else:
            with pytest.raises(TaggingError, match="Cannot remove tags"):
                await provider.mutate_user_tags_for_run(*ids, **change)
    else:
        await read(provider, action)


async def read(provider: ServiceMetadataProvider, action: Action) -> None:
    ids: Any = action.ids
    last = action.last
    recorded: Any = last.get("response")
    if action.call == "filter":
        query = dict(last["query"])
        found = await provider.filter_tasks_by_metadata(
            *ids, field=query.get("metadata_field_name"), pattern=query.get("pattern")
        )
        assert sorted(found) == sorted(recorded)  # ours are by number, the service's in no order
    elif action.call == "get":
        item = await provider.get_object(*ids, attempt=action.attempt)
        assert (item is None) == (last["status"] == 404)
        if item is not None:
            assert_shows(item, recorded)
    else:
        items = await fetch_objects(provider, cast("Kind", action.kind), *ids, attempt=action.attempt)
        rows = {identity(row): row for row in recorded}
        assert len(items) == len(recorded) == len(rows)
        for item in items:
            value = item.datum.value if item.datum else None
            row = next(
                row
                for row in recorded
                if path_in(row) == item.path[: len(path_in(row))]
                and row["ts_epoch"] == item.ts_epoch
                and row.get("field_name") == (item.datum.field if item.datum else None)
                and row.get("name") == (item.id if item.artifact else None)
                and row.get("value") == value
            )
            assert_shows(item, row)


def identity(row: dict[str, Any]) -> str:
    return json.dumps(row, sort_keys=True)


def path_in(row: dict[str, Any]) -> tuple[str, ...]:
    keys = ("flow_id", "run_number", "step_name", "task_id")
    return tuple(str(row[key]) for key in keys if key in row)


def assert_shows(item: MetaObject, row: dict[str, Any]) -> None:
    assert item.path[:4] == path_in(row)
    assert (item.ts_epoch, item.user_name) == (row["ts_epoch"], row["user_name"])
    assert item.tags == set(row["tags"] or [])
    assert item.system_tags == set(row["system_tags"] or [])
    assert item.heartbeat == row.get("last_heartbeat_ts")
    if item.datum is not None:
        assert (item.datum.field, item.datum.value, item.datum.type) == (row["field_name"], row["value"], row["type"])
    if item.artifact is not None:
        assert item.id == row["name"]
        assert (item.attempt, item.artifact.location) == (row["attempt_id"], row["location"])
        assert (item.artifact.sha, item.artifact.type) == (row["sha"], row["content_type"])


async def test_each_recorded_action_leads_to_equivalent_requests_and_is_understood(prompter: Prompter) -> None:
    done: dict[str, int] = {}
    for action in ACTIONS:
        prompter.script = list(action.exchanges)
        headers = action.exchanges[0]["request_headers"].get("x-api-key")
        async with ServiceMetadataProvider(
            prompter.url, headers={"x-api-key": headers} if headers else {}, system=writer_of(action), retry=ONCE
        ) as provider:
            provider.add_sticky_tags(tags=tags_of(action))
            await act(provider, action)
        assert prompter.wrong == [], str(action)
        assert prompter.script == [], f"{action}: recorded but not sent"
        done[action.call] = done.get(action.call, 0) + 1
    assert sum(len(action.exchanges) for action in ACTIONS) == len([e for e in exchanges() if e["actor"] != "raw"])
    assert len(done) == 12


def expected_class(exchange: dict[str, Any]) -> type[AsyncStoreError]:
    method, status, text = exchange["method"], exchange["status"], response_text(exchange)
    if method == "PATCH":
        return TaskNotFoundError if status == 404 else TaggingError
    if method == "GET" and status == 500 and "22P02" not in text and "22003" not in text:
        return MetadataUnavailableError
    if text.startswith("404: Not Found"):
        return MetadataError
    if status == 404 or "need to register" in text or "\"'run_number'\"" in text:
        return TaskNotFoundError
    return MetadataConflictError if status == 409 else MetadataError


def test_each_recorded_refusal_becomes_one_error_of_its_kind() -> None:
    refusals = [each for each in exchanges() if each["status"] >= 300]
    assert len(refusals) > 150
    for each in refusals:
        error = error_for(each["method"], each["status"], response_text(each), f"http://service{each['path']}")
        assert type(error) is expected_class(each), each["seq"]
        assert error.retryable == (
            type(error) is MetadataUnavailableError or (each["method"], each["status"]) == ("PATCH", 409)
        )
        assert str(error).startswith(f"{each['method']} http://service{each['path']}: HTTP {each['status']}")
        assert "traceback" not in str(error)
        assert "\n" not in str(error)
        assert len(str(error)) < 800


async def test_each_recorded_reply_to_a_hand_made_read_is_understood(prompter: Prompter) -> None:
    understood = 0
    async with ServiceMetadataProvider(prompter.url, headers={}, retry=ONCE) as provider:
        for each in exchanges():
            path = each["path"]
            if each["actor"] != "raw" or each["method"] != "GET" or not path.startswith("/flows") or each["query"]:
                continue
            if "attempt/x" in path:
                continue  # an attempt that is no number cannot be asked for
            prompter.script = [each]
            action = recorded_actions.read(each)
            await read_or_none(provider, action)
            assert prompter.wrong == [], each["seq"]
            assert prompter.script == []
            understood += 1
    assert understood > 40


async def read_or_none(provider: ServiceMetadataProvider, action: Action) -> None:
    if action.last["status"] == 500:
        assert await provider.get_object(*action.ids) is None  # a number beyond the service's range
    else:
        await read(provider, action)
