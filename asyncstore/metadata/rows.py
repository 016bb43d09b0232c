"""Reads the JSON documents of objects, as local files and replies hold them: pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, Final

from asyncstore.errors import MetadataError
from asyncstore.metadata.attempts import tagged_attempt
from asyncstore.metadata.records import DataArtifactRecord, Kind, MetaDatum, MetaObject
from asyncstore.types import Json

_PATH_KEYS: Final = MappingProxyType(
    {
        "flow": ("flow_id",),
        "run": ("flow_id", "run_number"),
        "step": ("flow_id", "run_number", "step_name"),
        "task": ("flow_id", "run_number", "step_name", "task_id"),
        "artifact": ("flow_id", "run_number", "step_name", "task_id", "name"),
        "metadata": ("flow_id", "run_number", "step_name", "task_id"),
    }
)
_QUOTED: Final = re.compile(r'[{},"\\\s]')


def parse_json(text: str | bytes) -> Any:
    """Return a JSON value; raise `ValueError` also for one that is nested too deep."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def parse_row(kind: Kind, row: Any, where: str, run: MetaObject | None = None) -> MetaObject:
    """Return the object that a document describes, or raise `MetadataError` with ``where`` it was read.

    ``run`` gives its tags to steps, tasks and artifacts. Ids are text, whatever they are in the document.
    """
    try:
        return _parse(kind, row, run)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise MetadataError(
            f"{where} does not describe a {kind}: {type(error).__name__}: {error}", operation="parse_row", where=where
        ) from error


def _parse(kind: Kind, row: Any, run: MetaObject | None) -> MetaObject:
    row = as_object(row)
    owner = run if run is not None and kind in {"step", "task", "artifact"} else None
    tags = as_texts(row.get("tags"))
    heartbeat = row.get("last_heartbeat_ts")
    return MetaObject(
        kind=kind,
        path=tuple(str(_known(row[key])) for key in _PATH_KEYS[kind]),
        ts_epoch=int(row["ts_epoch"]),
        user_name=_text_or_none(row, "user_name"),
        tags=frozenset(tags) if owner is None else owner.tags,
        system_tags=frozenset(as_texts(row.get("system_tags"))) if owner is None else owner.system_tags,
        attempt=_attempt(kind, row, tags),
        artifact=_artifact(row) if kind == "artifact" else None,
        datum=MetaDatum(_text(row, "field_name"), row["value"], _text(row, "type"), tags)
        if kind == "metadata"
        else None,
        heartbeat=None if heartbeat is None else int(heartbeat),
    )


def _known(identifier: Any) -> Any:
    if not isinstance(identifier, str | int) or isinstance(identifier, bool):
        raise TypeError(f"an id is text or a number, not {identifier!r:.80}")
    return identifier


def _text(row: dict[str, Any], key: str) -> str:
    text = row[key]
    if not isinstance(text, str):
        raise TypeError(f"{key} is text, not {text!r:.80}")
    return text


def _text_or_none(row: dict[str, Any], key: str) -> str | None:
    return None if row.get(key) is None else _text(row, key)


def as_object(value: Any) -> dict[str, Any]:
    """Return a JSON object, or raise `TypeError`."""
    if not isinstance(value, dict):
        raise TypeError(f"a JSON object is expected, not {type(value).__name__}")
    fields: dict[str, Any] = value
    return fields


def as_list(value: Any) -> list[Any]:
    """Return a JSON list, or raise `TypeError`."""
    if not isinstance(value, list):
        raise TypeError(f"a JSON list is expected, not {type(value).__name__}")
    items: list[Any] = value
    return items


def as_texts(value: Any) -> tuple[str, ...]:
    """Return a JSON list as strings, null as none, or raise `TypeError`."""
    return () if value is None else tuple(str(item) for item in as_list(value))


def _attempt(kind: Kind, row: dict[str, Any], tags: Iterable[str]) -> int | None:
    if kind == "artifact":
        return int(row.get("attempt_id", 0))
    return tagged_attempt(tags) if kind == "metadata" else None


def _artifact(row: dict[str, Any]) -> DataArtifactRecord:
    return DataArtifactRecord.from_location(
        _text(row, "name"),
        _text(row, "ds_type"),
        _text(row, "location"),
        _text_or_none(row, "content_type") or "",
        _text_or_none(row, "sha") or "",
    )


def value_as_text(value: Json) -> str:
    """Return a metadata value as a service keeps it: text as it is, a list as a PostgreSQL array literal."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "{" + ",".join(map(_array_element, value)) + "}"
    return str(value)


def _array_element(value: Json) -> str:
    if value is None:
        return "NULL"
    text = value_as_text(value)
    if isinstance(value, list) or not (text == "" or text.upper() == "NULL" or _QUOTED.search(text)):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
