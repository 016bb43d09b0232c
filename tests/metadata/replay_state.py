"""A metadata service in memory that answers as the recorded one did; no sockets, so that it is compared line by line.

Its own reading of the protocol, sharing nothing with asyncstore. Of the filters it knows the tags only.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
VERSION = "2.5.1"


@dataclass
class Answer:
    """``body`` is sent as JSON unless ``text`` is given."""

    status: int = 200
    body: Any = None
    text: str | None = None
    headers: dict[str, str] = field(default_factory=lambda: {"METADATA_SERVICE_VERSION": VERSION})

    def content(self) -> str:
        return json.dumps(self.body) if self.text is None else self.text


NO_ROUTE = Answer(404, text="404: Not Found", headers={})
BARE_500 = Answer(500, text="500 Internal Server Error\n\nServer got itself in trouble", headers={})
NOT_THERE = Answer(404, {})


class RefusedError(Exception):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def uncaught(detail: str) -> RefusedError:
    body = {
        "traceback": "<traceback>",
        "detail": detail,
        "status": 500,
        "title": "Internal Server Error",
        "type": "about:blank",
    }
    return RefusedError(Answer(500, body))


def database(status: int, code: str, message: str) -> RefusedError:
    error = {
        "pgerror": f"ERROR:  {message}\n",
        "pgcode": code,
        "diag": {"message_primary": message, "severity": "ERROR"},
    }
    return RefusedError(Answer(status, json.dumps({"err_msg": error})))


def duplicate(table: str) -> RefusedError:
    return database(409, "23505", f'duplicate key value violates unique constraint "{table}"')


def parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise uncaught(str(error)) from None


def as_object(text: str) -> Row:
    value = parse(text)
    if not isinstance(value, dict):
        raise uncaught(f"'{type(value).__name__}' object has no attribute 'get'")
    return value


def has_heartbeats(system_tags: Any) -> bool:
    if system_tags is None:
        return True
    version = next((tag.partition(":")[2] for tag in system_tags if tag.startswith("metaflow_version:")), None)
    if version is None:
        return False
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    numbers = tuple(map(int, match.groups())) if match else (99,)
    return numbers >= (2, 2, 12) or (1, 14, 0) <= numbers < (2,)


def pg_text(value: Any) -> str:
    if isinstance(value, list):
        return "{" + ",".join(map(pg_element, value)) + "}"
    return value if isinstance(value, str) else json.dumps(value)


def pg_element(value: Any) -> str:
    text = pg_text(value)
    if text == "" or text.lower() == "null" or set(text) & set('{},"\\ \t\n'):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


@dataclass
class Service:
    """``clock`` gives milliseconds. ``paged=False`` is a service from before pagination."""

    clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    paged: bool = True
    version: str | None = VERSION
    wait: float = 10

    def __post_init__(self) -> None:
        self.flows: list[Row] = []
        self.runs: list[Row] = []
        self.steps: list[Row] = []
        self.tasks: list[Row] = []
        self.metadata: list[Row] = []
        self.artifacts: list[Row] = []
        self.numbers = {"run": 0, "task": 0, "metadata": 0}

    def handle(self, method: str, path: str, query: list[tuple[str, str]], text: str) -> Answer:
        for verb, pattern, name in ROUTES:
            match = pattern.fullmatch(path)
            if match and verb == method:
                try:
                    answer: Answer = getattr(self, name)(match.groups(), dict(query), text)
                except RefusedError as refusal:
                    answer = refusal.answer
                return self.with_version(answer)
        known = any(pattern.fullmatch(path) for _, pattern, _ in ROUTES)
        return Answer(405, text="405: Method Not Allowed", headers={}) if known else NO_ROUTE

    def with_version(self, answer: Answer) -> Answer:
        headers = dict(answer.headers)
        if "METADATA_SERVICE_VERSION" in headers:
            del headers["METADATA_SERVICE_VERSION"]
            if self.version is not None:
                headers["METADATA_SERVICE_VERSION"] = self.version
        return Answer(answer.status, answer.body, answer.text, headers)

    # admin

    def ping(self, _ids: Any, _query: Any, _text: str) -> Answer:
        return Answer(text="pong")

    # finding

    def flow(self, flow: str) -> Row | None:
        return next((row for row in self.flows if row["flow_id"] == flow), None)

    def run(self, flow: str, run: str) -> Row | None:
        if run.isdigit() and int(run) >= 2**31:
            raise database(500, "22003", f'value "{run}" is out of range for type integer')
        key = ("number", int(run)) if run.isdigit() else ("name", run)
        return next((row for row in self.runs if row["flow_id"] == flow and row[key[0]] == key[1]), None)

    def step(self, flow: str, run: str, step: str) -> Row | None:
        parent = self.run(flow, run)
        return (
            next((row for row in self.steps if row["run"] is parent and row["step_name"] == step), None)
            if parent
            else None
        )

    def task(self, flow: str, run: str, step: str, task: str) -> Row | None:
        parent = self.step(flow, run, step)
        key = ("number", int(task)) if task.isdigit() else ("name", task)
        return (
            next((row for row in self.tasks if row["step"] is parent and row[key[0]] == key[1]), None)
            if parent
            else None
        )

    # showing

    def show_flow(self, row: Row) -> Row:
        return row

    def show_run(self, row: Row, *, created: bool = False) -> Row:
        shown = {
            "flow_id": row["flow_id"],
            "run_number": row["number"] if row["name"] is None else row["name"],
            **{key: row[key] for key in ("user_name", "ts_epoch", "tags", "system_tags", "last_heartbeat_ts")},
        }
        if not created and f"user:{row['user_name']}" in (row["system_tags"] or []):
            shown["user"] = row["user_name"]
        return shown

    def show_step(self, row: Row) -> Row:
        run = row["run"]
        return {
            "flow_id": run["flow_id"],
            "run_number": str(self.show_run(run)["run_number"]),
            **{key: row[key] for key in ("step_name", "user_name", "ts_epoch")},
            "tags": run["tags"],
            "system_tags": run["system_tags"],
        }

    def show_task(self, row: Row) -> Row:
        run = row["step"]["run"]
        return {
            "flow_id": run["flow_id"],
            "run_number": self.show_run(run)["run_number"],
            "step_name": row["step"]["step_name"],
            "task_id": row["number"] if row["name"] is None else row["name"],
            **{key: row[key] for key in ("user_name", "ts_epoch")},
            "tags": run["tags"],
            "system_tags": run["system_tags"],
            "last_heartbeat_ts": row["last_heartbeat_ts"],
        }

    def show_below_task(self, row: Row) -> Row:
        task = self.show_task(row["task"])
        own = {key: value for key, value in row.items() if key != "task"}
        ids = {key: task[key] for key in ("flow_id", "run_number", "step_name", "task_id")}
        if "name" in row:
            own |= {"tags": task["tags"], "system_tags": task["system_tags"]}
        return ids | own

    # creating

    def created(self, body: Row, **more: Any) -> Row:
        return {
            "user_name": body.get("user_name"),
            "ts_epoch": self.clock(),
            "tags": body.get("tags"),
            "system_tags": body.get("system_tags"),
            **more,
        }

    def check_name(self, name: Any, message: str) -> None:
        if name is not None and not isinstance(name, str):
            raise uncaught(f"'{type(name).__name__}' object has no attribute 'isnumeric'")
        if name is not None and name.isnumeric():
            raise uncaught(message)

    def first_heartbeat(self, body: Row) -> int | None:
        return self.clock() // 1000 if has_heartbeats(body.get("system_tags")) else None

    def post_flow(self, ids: tuple[str], _query: Any, text: str) -> Answer:
        body = as_object(text)
        if len(ids[0]) > 255:
            raise database(500, "22001", "value too long for type character varying(255)")
        if self.flow(ids[0]):
            raise duplicate("flows_v3_pkey")
        row = {"flow_id": ids[0], **self.created(body)}
        self.flows.append(row)
        return Answer(body=row)

    def post_run(self, ids: tuple[str], _query: Any, text: str) -> Answer:
        body = as_object(text)
        name = body.get("run_number")
        self.check_name(name, "provided run_id may not be a numeric")
        if len(body.get("user_name") or "") > 255:
            raise database(500, "22001", "value too long for type character varying(255)")
        self.numbers["run"] += 1  # also for what is refused below
        if not self.flow(ids[0]):
            raise database(404, "23503", 'insert or update on table "runs_v3" violates foreign key constraint')
        if name is not None and any(row["flow_id"] == ids[0] and row["name"] == name for row in self.runs):
            raise duplicate("runs_v3_flow_id_run_id_key")
        more = {"flow_id": ids[0], "number": self.numbers["run"], "name": name}
        row = self.created(body, **more, last_heartbeat_ts=self.first_heartbeat(body))
        self.runs.append(row)
        return Answer(body=self.show_run(row, created=True))

    def post_step(self, ids: tuple[str, str, str], _query: Any, text: str) -> Answer:
        body = as_object(text)
        run = self.run(ids[0], ids[1])
        if run is None:
            raise uncaught("'run_number'")
        if self.step(*ids):
            raise duplicate("steps_v3_pkey")
        row = self.created({"user_name": "", **body}, run=run, step_name=ids[2])
        self.steps.append(row)
        return Answer(body=self.show_step(row))

    def post_task(self, ids: tuple[str, str, str], _query: Any, text: str) -> Answer:
        body = as_object(text)
        name = body.get("task_id")
        if isinstance(name, str) and name.isnumeric():
            raise RefusedError(BARE_500)
        self.check_name(name, "")
        if self.run(ids[0], ids[1]) is None:
            raise uncaught("'run_number'")
        self.numbers["task"] += 1
        step = self.step(*ids)
        if step is None:
            raise database(404, "23503", 'insert or update on table "tasks_v3" violates foreign key constraint')
        if name is not None and any(row["step"] is step and row["name"] == name for row in self.tasks):
            raise duplicate("tasks_v3_flow_id_run_number_step_name_task_name_key")
        beat = self.first_heartbeat(body)
        row = self.created(body, step=step, number=self.numbers["task"], name=name, last_heartbeat_ts=beat)
        self.tasks.append(row)
        if beat is not None:
            self.refresh(step["run"])
        return Answer(body=self.show_task(row))

    def rows_for(self, ids: tuple[str, str, str, str], text: str) -> tuple[Row, list[Row]]:
        try:
            rows = json.loads(text)
        except ValueError:
            raise RefusedError(BARE_500) from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise RefusedError(BARE_500)
        task = self.task(*ids)
        if task is None:
            raise RefusedError(Answer(400, {"message": "need to register run_id and task_id first"}, headers={}))
        return task, rows

    def post_metadata(self, ids: tuple[str, str, str, str], _query: Any, text: str) -> Answer:
        task, rows = self.rows_for(ids, text)
        created = 0
        for body in rows:
            value, name, kind = (body.get(key, " ") for key in ("value", "field_name", "type"))
            if isinstance(value, dict) or len(name) > 255 or len(kind) > 255 or "\0" in pg_text(value):
                continue
            self.numbers["metadata"] += 1
            if value is None:
                continue  # refused after it got its number
            created += 1
            row = {
                "id": self.numbers["metadata"],
                "field_name": name,
                "value": pg_text(value),
                "type": kind,
                **self.created(body),
            }
            self.metadata.append({"task": task, **row})
        return Answer(body={"metadata_created": created}, headers={})

    def post_artifact(self, ids: tuple[str, str, str, str], _query: Any, text: str) -> Answer:
        task, rows = self.rows_for(ids, text)
        created = 0
        for body in rows:
            texts = {key: body.get(key, " ") for key in ("name", "location", "ds_type", "sha", "type", "content_type")}
            attempt = body.get("attempt_id", 0)
            fits = isinstance(attempt, int) and attempt < 2**15
            fits = fits and len(texts["name"]) <= 255 and len(texts["location"]) <= 255
            key = (id(task), attempt, texts["name"])
            if not fits or any((id(row["task"]), row["attempt_id"], row["name"]) == key for row in self.artifacts):
                continue
            created += 1
            own = self.created({"user_name": " ", **body})
            self.artifacts.append({"task": task, **texts, "attempt_id": attempt, **own})
        return Answer(body={"artifacts_created": created}, headers={})

    # reading

    def get(self, kind: str, ids: tuple[str, ...]) -> Answer:
        row = getattr(self, kind)(*ids)
        return NOT_THERE if row is None else Answer(body=getattr(self, f"show_{kind}")(row))

    def get_flow(self, ids: tuple[str], _query: Any, _text: str) -> Answer:
        return self.get("flow", ids)

    def get_run(self, ids: tuple[str, str], _query: Any, _text: str) -> Answer:
        return self.get("run", ids)

    def get_step(self, ids: tuple[str, str, str], _query: Any, _text: str) -> Answer:
        return self.get("step", ids)

    def get_task(self, ids: tuple[str, str, str, str], _query: Any, _text: str) -> Answer:
        return self.get("task", ids)

    def list_flows(self, _ids: Any, query: Row, _text: str) -> Answer:
        return self.paginate(
            self.flows, query, lambda row: {"ts_epoch": row["ts_epoch"], "flow_id": row["flow_id"]}, self.show_flow
        )

    def list_runs(self, ids: tuple[str], query: Row, _text: str) -> Answer:
        wanted = set(filter(None, query.get("_tags:all", "").split(",")))
        rows = [row for row in self.runs if row["flow_id"] == ids[0]]
        rows = [row for row in rows if wanted <= {*(row["tags"] or []), *(row["system_tags"] or [])}]
        return self.paginate(
            rows,
            query,
            lambda row: {"ts_epoch": row["ts_epoch"], "run_number": row["number"]},
            self.show_run,
            bool(wanted),
        )

    def list_steps(self, ids: tuple[str, str], _query: Any, _text: str) -> Answer:
        run = self.run(*ids)
        return Answer(body=[self.show_step(row) for row in self.steps if run is not None and row["run"] is run])

    def list_tasks(self, ids: tuple[str, str, str], query: Row, _text: str) -> Answer:
        step = self.step(*ids)
        rows = [row for row in self.tasks if step is not None and row["step"] is step]
        return self.paginate(
            rows, query, lambda row: {"ts_epoch": row["ts_epoch"], "task_id": row["number"]}, self.show_task
        )

    def below(self, rows: list[Row], ids: tuple[str, ...]) -> list[Row]:
        parent = getattr(self, {2: "run", 3: "step", 4: "task"}[len(ids)])(*ids)
        if parent is None:
            return []
        return [row for row in rows if parent in (row["task"], row["task"]["step"], row["task"]["step"]["run"])]

    def list_metadata(self, ids: tuple[str, ...], query: Row, _text: str) -> Answer:
        rows = sorted(self.below(self.metadata, ids), key=lambda row: (row["ts_epoch"], row["id"]), reverse=True)
        return self.paginate(
            rows, query, lambda row: {"ts_epoch": row["ts_epoch"], "id": row["id"]}, self.show_below_task
        )

    def list_artifacts(self, ids: tuple[str, ...], query: Row, _text: str) -> Answer:
        rows = self.below(self.artifacts, ids)
        if self.is_paged(query):
            newest = {(id(row["task"]), row["name"]): row for row in sorted(rows, key=lambda row: row["ts_epoch"])}
            return self.paginate(
                list(newest.values()),
                query,
                lambda row: {"ts_epoch": row["ts_epoch"], "task_id": row["task"]["number"], "name": row["name"]},
                self.show_below_task,
            )
        latest: dict[int, int] = {}
        for row in rows:
            latest[id(row["task"])] = max(row["attempt_id"], latest.get(id(row["task"]), 0))
        return Answer(body=[self.show_below_task(row) for row in rows if row["attempt_id"] == latest[id(row["task"])]])

    def list_attempt(self, ids: tuple[str, str, str, str, str], _query: Any, _text: str) -> Answer:
        if not ids[4].isdigit():
            raise RefusedError(BARE_500)
        rows = [row for row in self.below(self.artifacts, ids[:4]) if row["attempt_id"] == int(ids[4])]
        return Answer(body=[self.show_below_task(row) for row in rows], headers={})

    def get_artifact(self, ids: tuple[str, str, str, str, str], _query: Any, _text: str) -> Answer:
        named = [row for row in self.below(self.artifacts, ids[:4]) if row["name"] == "name"]
        attempt = max(named, key=lambda row: row["ts_epoch"])["attempt_id"] if named else 0
        return self.get_attempt((*ids, str(attempt)), {}, "")

    def get_attempt(self, ids: tuple[str, str, str, str, str, str], _query: Any, _text: str) -> Answer:
        if not ids[5].isdigit():
            raise database(500, "22P02", f'invalid input syntax for type smallint: "{ids[5]}"')
        rows = [
            row
            for row in self.below(self.artifacts, ids[:4])
            if (row["name"], row["attempt_id"]) == (ids[4], int(ids[5]))
        ]
        return Answer(body=self.show_below_task(rows[0])) if rows else NOT_THERE

    def filtered_tasks(self, ids: tuple[str, str, str], query: Row, _text: str) -> Answer:
        try:
            pattern = re.compile(query.get("pattern", ""))
        except re.error:
            raise uncaught("not enough values to unpack (expected 6, got 1)") from None
        name = query.get("metadata_field_name", "")
        found = {
            row["task"]["number"]: self.show_task(row["task"])
            for row in self.below(self.metadata, ids)
            if (not name or row["field_name"] == name) and pattern.search(row["value"])
        }
        keys = ("flow_id", "run_number", "step_name", "task_id")
        return Answer(body=["/".join(str(found[number][key]) for key in keys) for number in sorted(found)])

    def is_paged(self, query: Row) -> bool:
        return self.paged and ("_limit" in query or "_cursor" in query)

    def paginate(
        self,
        rows: Iterable[Row],
        query: Row,
        key: Callable[[Row], Row],
        show: Callable[[Row], Row],
        filtered: bool = False,
    ) -> Answer:
        if not self.is_paged(query) and not (filtered and self.paged):
            return Answer(body=[show(row) for row in rows])
        try:
            limit = min(int(query.get("_limit") or 50), 500)
        except ValueError as error:
            raise uncaught(str(error)) from None
        ordered = sorted(rows, key=lambda row: tuple(key(row).values()), reverse=True)
        if query.get("_cursor"):
            below = self.read_cursor(query["_cursor"], ordered, key)
            ordered = [row for row in ordered if tuple(key(row).values()) < below]
        page = ordered[:limit] if limit >= 0 else ordered
        headers = {"METADATA_SERVICE_VERSION": VERSION, "X-Limit": str(limit)}
        if page and len(page) < len(ordered):
            headers["X-Next-Cursor"] = base64.b64encode(json.dumps(key(page[-1])).encode()).decode()
        return Answer(body=[show(row) for row in page], headers=headers)

    def read_cursor(self, cursor: str, rows: list[Row], key: Callable[[Row], Row]) -> tuple[Any, ...]:
        try:
            value = json.loads(base64.b64decode(cursor, validate=True))
            names = list(key(rows[0])) if rows else list(value)
            if not isinstance(value["ts_epoch"], int):
                raise TypeError
            return tuple(value[name] for name in names)
        except (ValueError, KeyError, TypeError):
            raise RefusedError(Answer(400, "Invalid cursor")) from None

    # changing

    def mutate(self, ids: tuple[str, str], _query: Any, text: str) -> Answer:
        body = as_object(text)
        add, remove = body.get("tags_to_add", []), body.get("tags_to_remove", [])
        for name, tags in (("tags_to_add", add), ("tags_to_remove", remove)):
            if not isinstance(tags, list):
                return Answer(400, f"{name} must be a list")
        if not all(isinstance(tag, str) for tag in (*add, *remove)):
            return Answer(400, "All tag values must be strings")
        run = self.run(*ids)
        if run is None:
            return NOT_THERE
        if run["tags"] is None:
            raise RefusedError(Answer(500, json.dumps({"err_msg": "'NoneType' object is not iterable"})))
        system = set(run["system_tags"] or [])
        protected = system & set(remove)
        if protected:
            return Answer(422, f"Cannot remove tags that are existing system tags {protected}")
        run["tags"] = list((set(run["tags"]) - set(remove)) | (set(add) - system))
        return Answer(body={"tags": run["tags"]})

    def refresh(self, row: Row) -> bool:
        now = self.clock() // 1000
        if row["last_heartbeat_ts"] is not None and now - row["last_heartbeat_ts"] < 10:
            return False
        row["last_heartbeat_ts"] = now
        return True

    def beat_run(self, ids: tuple[str, str], _query: Any, _text: str) -> Answer:
        return self.beat(self.run(*ids))

    def beat_task(self, ids: tuple[str, str, str, str], _query: Any, _text: str) -> Answer:
        task = self.task(*ids)
        if task is not None:
            self.refresh(task["step"]["run"])
        return self.beat(task)

    def beat(self, row: Row | None) -> Answer:
        taken = row is not None and self.refresh(row)
        return Answer(200 if taken else 404, json.dumps({"wait_time_in_seconds": self.wait}))


def _route(verb: str, path: str, name: str) -> tuple[str, re.Pattern[str], str]:
    return verb, re.compile(path.replace("{}", "([^/]+)")), name


_RUN = "/flows/{}/runs/{}"
_STEP = _RUN + "/steps/{}"
_TASK = _STEP + "/tasks/{}"
ROUTES = [
    _route("GET", "/ping", "ping"),
    _route("GET", "/flows", "list_flows"),
    _route("GET", "/flows/{}", "get_flow"),
    _route("POST", "/flows/{}", "post_flow"),
    _route("GET", "/flows/{}/runs", "list_runs"),
    _route("POST", "/flows/{}/run", "post_run"),
    _route("GET", _RUN, "get_run"),
    _route("POST", _RUN + "/heartbeat", "beat_run"),
    _route("PATCH", _RUN + "/tag/mutate", "mutate"),
    _route("GET", _RUN + "/steps", "list_steps"),
    _route("GET", _RUN + "/metadata", "list_metadata"),
    _route("GET", _RUN + "/artifacts", "list_artifacts"),
    _route("GET", _STEP, "get_step"),
    _route("POST", _STEP + "/step", "post_step"),
    _route("GET", _STEP + "/tasks", "list_tasks"),
    _route("POST", _STEP + "/task", "post_task"),
    _route("GET", _STEP + "/filtered_tasks", "filtered_tasks"),
    _route("GET", _STEP + "/artifacts", "list_artifacts"),
    _route("GET", _TASK, "get_task"),
    _route("POST", _TASK + "/heartbeat", "beat_task"),
    _route("POST", _TASK + "/metadata", "post_metadata"),
    _route("GET", _TASK + "/metadata", "list_metadata"),
    _route("POST", _TASK + "/artifact", "post_artifact"),
    _route("GET", _TASK + "/artifacts", "list_artifacts"),
    _route("GET", _TASK + "/attempt/{}/artifacts", "list_attempt"),
    _route("GET", _TASK + "/artifacts/{}", "get_artifact"),
    _route("GET", _TASK + "/artifacts/{}/attempt/{}", "get_attempt"),
]
