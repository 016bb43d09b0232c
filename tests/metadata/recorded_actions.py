"""Cuts the recorded conversation into what Metaflow did: one call of a provider, and the exchanges it led to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tests.metadata.transcript import exchanges

SYSTEM_FIELDS = {"runtime", "python_version", "user", "production", "metaflow_version", "script-name"}
READERS = ("client", "tag-cli")

_FLOW = re.compile(r"/flows/([^/]+)")
_IDS = re.compile(r"/flows/([^/]+)(?:/runs/([^/]+)(?:/steps/([^/]+)(?:/tasks/([^/]+))?)?)?")


@dataclass
class Action:
    """``call`` names a method of a provider; ``ids`` are its address."""

    call: str
    ids: tuple[str, ...]
    exchanges: list[dict[str, Any]]
    kind: str = ""
    attempt: int | None = None

    @property
    def last(self) -> dict[str, Any]:
        return self.exchanges[-1]

    def body(self, ending: str) -> Any:
        """The body of the request of this action whose path ends so."""
        return next(
            each["request"] for each in self.exchanges if each["method"] == "POST" and each["path"].endswith(ending)
        )

    def __str__(self) -> str:
        return f"{self.call} {'/'.join(self.ids)} {self.exchanges[0]['seq']}"


def actions() -> Iterator[Action]:
    """Yield all that the processes of Metaflow did, process by process; hand-made requests are left out."""
    ordered = sorted(
        (each for each in exchanges() if each["actor"] != "raw"), key=lambda each: (each["actor"], each["seq"])
    )
    for actor, of_actor in groupby(ordered, key=lambda each: str(each["actor"])):
        yield from Cutter(list(of_actor), actor in READERS).cut()


class Cutter:
    def __init__(self, pending: list[dict[str, Any]], reader: bool) -> None:
        self.pending = pending
        self.reader = reader

    def cut(self) -> Iterator[Action]:
        while self.pending:
            first = self.pending.pop(0)
            method, path = first["method"], first["path"]
            if path == "/ping":
                yield Action("version", (), [first])
            elif path.endswith("/heartbeat"):
                yield Action("beat", ids_in(path), [first])
            elif method == "PATCH":
                yield Action("mutate", ids_in(path), [first])
            elif method == "POST":
                yield self.add(first)
            elif self.reader:
                yield read(first)
            elif _FLOW.fullmatch(path):
                yield self.run(first)
            else:
                yield self.task(first)

    def run(self, first: dict[str, Any]) -> Action:
        flow = first["path"]
        chain = self.create(first, flow)
        following = self.pending[0]
        if following["method"] == "POST":
            return Action("new_run_id", ids_in(flow), [*chain, self.claim("POST", flow + "/run")])
        run = self.claim("GET", following["path"])
        return Action("register_run_id", ids_in(run["path"]), [*chain, *self.create(run, flow + "/run")])

    def task(self, first: dict[str, Any]) -> Action:
        step = first["path"]
        chain = self.create(first, step + "/step")
        named = next((each for each in self.pending if each["path"].startswith(f"{step}/task")), None)
        assert named is not None
        if named["method"] == "POST" and named["path"] == step + "/task":
            created = self.claim("POST", step + "/task")
            rows = self.claim("POST", f"{step}/tasks/{created['response']['task_id']}/metadata")
            return Action("new_task_id", ids_in(step), [*chain, created, rows])
        task = self.claim("GET", named["path"])
        chain += self.create(task, step + "/task")
        rows = self.claim("POST", task["path"] + "/metadata")
        return Action("register_task_id", ids_in(task["path"]), [*chain, rows])

    def create(self, got: dict[str, Any], where: str) -> list[dict[str, Any]]:
        """The GET of an object, the POST if it was absent, and the GET again if somebody was faster."""
        if got["status"] != 404:
            return [got]
        posted = self.claim("POST", where)
        return [got, posted, self.claim("GET", got["path"])] if posted["status"] == 409 else [got, posted]

    def add(self, first: dict[str, Any]) -> Action:
        if first["path"].endswith("/artifact"):
            return Action("register_data_artifacts", ids_in(first["path"]), [first])
        fields = {row["field_name"] for row in first["request"]}
        call = "register_task_id" if fields <= SYSTEM_FIELDS else "register_metadata"
        return Action(call, ids_in(first["path"]), [first])

    def claim(self, method: str, path: str) -> dict[str, Any]:
        found = next(each for each in self.pending if (each["method"], each["path"]) == (method, path))
        self.pending.remove(found)
        return found


def read(first: dict[str, Any]) -> Action:
    """One GET of the client: an object, or a list below one."""
    path = first["path"]
    parts = path.strip("/").split("/")
    attempt = None
    if "attempt" in parts:
        at = parts.index("attempt")
        attempt = int(parts[at + 1])
        del parts[at : at + 2]
    ids = tuple(parts[1::2])
    if parts[-1] == "filtered_tasks":
        return Action("filter", ids, [first])
    if len(parts) % 2 == 0:
        return Action("get", ids, [first], attempt=attempt)
    return Action("list", ids, [first], kind=parts[-1] if parts[-1] == "metadata" else parts[-1][:-1], attempt=attempt)


def ids_in(path: str) -> tuple[str, ...]:
    match = _IDS.match(path)
    assert match is not None
    return tuple(piece for piece in match.groups() if piece is not None)
