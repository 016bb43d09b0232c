"""The stand-in for a service answers as the recorded one: without this, tests against it would prove nothing."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from tests.metadata.replay_state import Service
from tests.metadata.transcript import exchanges, request_text, response_text

NOT_MODELLED = ("probe: runs: filters", "probe: tasks: filters and pagination", "probe: tag mutate: concurrent")
"""Filters by field and status, which our provider never sends, and races, whose outcome is chance."""

ACCIDENTS = ("status:eq", "-1")
"""A filter by status, and a limit of -1, whose effect no client should use."""

IGNORED = {"ts_epoch", "last_heartbeat_ts", "id"}
"""Times, and the numbers of metadata rows, which depend on the order of effects at the same moment."""

ADMIN = ("/version", "/healthcheck")


def comparable(value: Any) -> Any:
    """Leave out times, and the order of tags and rows, which the service does not promise."""
    if isinstance(value, str):
        try:
            inner = json.loads(value)
        except ValueError:
            return value
        return comparable(inner) if isinstance(inner, dict | str | list) else value
    if isinstance(value, list):
        return sorted((comparable(item) for item in value), key=partial(json.dumps, sort_keys=True))
    if isinstance(value, dict):
        if "err_msg" in value:
            return {
                "err_msg": value["err_msg"].get("pgcode") if isinstance(value["err_msg"], dict) else value["err_msg"]
            }
        return {key: comparable(item) for key, item in value.items() if key not in IGNORED}
    return value


def test_the_stand_in_answers_every_recorded_request_as_the_service_did() -> None:
    moment = 0
    service = Service(clock=lambda: moment)
    cursors: dict[str, str] = {}
    compared, wrong = 0, []
    for exchange in exchanges():
        if exchange["phase"] in NOT_MODELLED and exchange["method"] == "GET":
            continue
        recorded = exchange.get("response")
        moment = 1795447927564 + int(exchange["t"] * 1000)
        if exchange["method"] == "POST" and isinstance(recorded, dict) and "ts_epoch" in recorded:
            moment = recorded["ts_epoch"]
        query = [(key, cursors.get(value, value)) for key, value in exchange["query"]]
        answer = service.handle(exchange["method"], exchange["path"], query, request_text(exchange))
        if exchange["phase"] in NOT_MODELLED or exchange["path"] in ADMIN or exchange["method"] == "HEAD":
            continue
        if any(part in ACCIDENTS for pair in exchange["query"] for part in pair):
            continue
        compared += 1
        theirs = exchange["response_headers"]
        cursor = theirs.get("X-Next-Cursor")
        if cursor:
            cursors[cursor] = answer.headers.get("X-Next-Cursor", "none")
        same = (
            answer.status == exchange["status"]
            and comparable(answer.content()) == comparable(response_text(exchange))
            and ("METADATA_SERVICE_VERSION" in answer.headers) == ("METADATA_SERVICE_VERSION" in theirs)
            and answer.headers.get("X-Limit") == theirs.get("X-Limit")
        )
        if not same:
            wrong.append((exchange["seq"], exchange["method"], exchange["path"], exchange["status"], answer.status))
    assert wrong == []
    assert compared > 650
