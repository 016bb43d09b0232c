"""Paths of requests to a metadata service: pure. Ids are percent-encoded."""

from __future__ import annotations

from urllib.parse import quote

from asyncstore.metadata.records import Kind

_SEGMENTS = ("flows", "runs", "steps", "tasks", "artifacts")


def object_path(*ids: str) -> str:
    """Return the path of a flow, run, step, task or artifact."""
    return "".join(f"/{segment}/{quote(piece, safe='')}" for segment, piece in zip(_SEGMENTS, ids, strict=False))


def attempt_path(*ids: str, attempt: int) -> str:
    """Return the path of an artifact of one attempt."""
    return f"{object_path(*ids)}/attempt/{attempt}"


def list_path(kind: Kind, *ids: str, attempt: int | None = None) -> str:
    """Return the path of the list of one kind below an object."""
    segment = "metadata" if kind == "metadata" else f"{kind}s"
    between = "" if attempt is None else f"/attempt/{attempt}"
    return f"{object_path(*ids)}{between}/{segment}"


def create_path(kind: Kind, *ids: str) -> str:
    """Return the path to which a new object below ``ids`` is posted; a step is posted below itself."""
    return object_path(*ids) if kind == "flow" else f"{object_path(*ids)}/{kind}"
