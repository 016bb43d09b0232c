"""The JSON documents of objects, the same in local files and in requests: pure.

Follows Metaflow 2.19 ``metadata_provider/metadata.py``, in the order of its keys.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from asyncstore.errors import MetadataError
from asyncstore.metadata.records import DataArtifactRecord, MetaDatum
from asyncstore.metadata.tags import check_tags
from asyncstore.types import Json

ARTIFACT_TYPE = "metaflow.artifact"
MAX_TEXT = 255
"""Longest name, field, type or location that a service keeps, in characters; it drops longer ones silently."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What every object is marked with: its flow, owner, tags and creation time in milliseconds."""

    flow: str
    user_name: str
    tags: tuple[str, ...]
    system_tags: tuple[str, ...]
    ts_epoch: int

    @property
    def fields(self) -> dict[str, Json]:
        """The keys that runs, steps, tasks and artifacts share."""
        return {
            "flow_id": self.flow,
            "user_name": self.user_name,
            "tags": list(self.tags),
            "system_tags": list(self.system_tags),
            "ts_epoch": self.ts_epoch,
        }


def flow_payload(stamp: Stamp) -> dict[str, Json]:
    """Return a flow's document: it has neither owner nor tags."""
    return {"flow_id": stamp.flow, "ts_epoch": stamp.ts_epoch}


def run_payload(stamp: Stamp, run: str | None) -> dict[str, Json]:
    """Return a run's document; without ``run`` the service is to number it."""
    named: dict[str, Json] = {} if run is None else {"run_number": run}
    return {**named, **stamp.fields}


def step_payload(stamp: Stamp, run: str, step: str) -> dict[str, Json]:
    """Return a step's document."""
    return {"run_number": run, "step_name": step, **stamp.fields}


def task_payload(stamp: Stamp, run: str, step: str, task: str | None) -> dict[str, Json]:
    """Return a task's document; without ``task`` the service is to number it."""
    named: dict[str, Json] = {} if task is None else {"task_id": task}
    return {"run_number": run, "step_name": step, **named, **stamp.fields}


def artifact_payload(
    stamp: Stamp, run: str, step: str, task: str, attempt: int, artifact: DataArtifactRecord
) -> dict[str, Json]:
    """Return an artifact's document."""
    if not isinstance(artifact, DataArtifactRecord):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MetadataError(f"an artifact is a DataArtifactRecord, not {type(artifact).__name__}: {artifact!r:.80}")
    _check_file_name(f"name of artifact {artifact.name!r:.80}", artifact.name)
    for name, value in (("type", artifact.type), ("sha", artifact.sha)):
        _check_text(f"{name} of artifact {artifact.name!r:.80}", value, None, empty=True)
    for name, value in (("name", artifact.name), ("ds_type", artifact.ds_type), ("location", artifact.location)):
        _check_text(f"{name} of artifact {artifact.name!r:.80}", value, MAX_TEXT if name == "name" else None)
    return {
        "run_number": run,
        "step_name": step,
        "task_id": task,
        "attempt_id": attempt,
        "name": artifact.name,
        "content_type": artifact.type,
        "type": ARTIFACT_TYPE,
        "sha": artifact.sha,
        "ds_type": artifact.ds_type,
        "location": artifact.location,
        **stamp.fields,
    }


def datum_payload(stamp: Stamp, run: str, step: str, task: str, datum: MetaDatum) -> dict[str, Json]:
    """Return the document of a metadata row, or raise `MetadataError` for one that a service would drop."""
    if not isinstance(datum, MetaDatum):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MetadataError(f"metadata is a MetaDatum, not {type(datum).__name__}: {datum!r:.80}")
    what = f"metadata {datum.field!r:.80}"
    _check_file_name(f"field of {what}", datum.field)
    tags = check_tags(datum.tags, f"tags of {what}")
    _check_text(f"field of {what}", datum.field, MAX_TEXT)
    _check_text(f"type of {what}", datum.type, MAX_TEXT)
    if datum.value is None or isinstance(datum.value, dict):
        raise MetadataError(f"value of {what} is {datum.value!r:.80}; it must be text. Encode it as JSON first")
    if isinstance(datum.value, str):
        _check_text(f"value of {what}", datum.value, None, empty=True)
    else:
        try:
            json.dumps(datum.value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise MetadataError(f"value of {what} cannot be written as JSON: {error}") from None
    return {
        "flow_id": stamp.flow,
        "run_number": run,
        "step_name": step,
        "task_id": task,
        "field_name": datum.field,
        "type": datum.type,
        "value": datum.value,
        "tags": list(tags),
        "user_name": stamp.user_name,
        "ts_epoch": stamp.ts_epoch,
    }


def _check_file_name(what: str, text: object) -> None:
    """Metaflow's local files have it in their name."""
    if isinstance(text, str) and "/" in text:
        raise MetadataError(f"{what} holds '/', which is not allowed")


def _check_text(what: str, text: object, longest: int | None, *, empty: bool = False) -> None:
    if not isinstance(text, str):
        raise MetadataError(f"{what} is a string, not {type(text).__name__}: {text!r:.80}")
    if not text and not empty:
        raise MetadataError(f"{what} is empty")
    if longest is not None and len(text) > longest:
        raise MetadataError(f"{what} has {len(text)} characters; at most {longest} are kept")
    if "\0" in text:
        raise MetadataError(f"{what} has a NUL character, which a service does not keep")
