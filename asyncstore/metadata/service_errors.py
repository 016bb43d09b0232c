"""What a service's refusal means: pure.

Follows the replies of Netflix' metadata service 2.5, whose error bodies have four shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import time
from typing import Any, Final

from asyncstore.errors import (
    MetadataConflictError,
    MetadataError,
    MetadataUnavailableError,
    TaggingError,
    TaskNotFoundError,
)
from asyncstore.metadata.rows import parse_json

NO_ROUTE: Final = "404: Not Found"
"""The body with which the service's web framework answers a path it does not know."""

_LATER: Final = frozenset({408, 429, 502, 503, 504})
_SERVER_ERROR: Final = 500
_DATA_EXCEPTION: Final = "22"
"""Class of PostgreSQL's codes for a value that does not fit; it never will."""
_OUT_OF_RANGE: Final = "22003"
_LONGEST: Final = 300


def explain(text: str, hide: Callable[[str], str] = str) -> str:
    """Return one line of what an error body says, without a traceback; ``hide`` takes credentials out of it."""
    # Hidden before it is cut: half a credential would not be recognised.
    return " ".join(hide(_find(_decode(text))).split())[:_LONGEST]


def is_out_of_range(status: int, text: str) -> bool:
    """Say whether a number asked for is larger than any the service can have: it is absent."""
    return status == _SERVER_ERROR and _postgres_code(text) == _OUT_OF_RANGE


def error_for(
    method: str,
    status: int,
    text: str,
    where: str,
    retry_after: str | None = None,
    hide: Callable[[str], str] = str,
) -> MetadataError | TaskNotFoundError:
    """Return the error that a reply of 300 and above stands for; ``hide`` takes credentials out of what it says."""
    what = f"{method} {where}: HTTP {status}{_phrase(status)}"
    said = explain(text, hide)
    detail = f"{what}: {said}" if said else what
    context: dict[str, Any] = {"operation": method, "where": where}
    if status in _LATER or _is_fault_of_reading(method, status, text):
        return MetadataUnavailableError(detail, retry_after=_seconds(retry_after), **context)
    if method == "PATCH":
        return _tagging_error(status, text, detail, context)
    if text.startswith(NO_ROUTE):
        return MetadataError(f"{detail}; check the service's URL, or upgrade the service", **context)
    if _is_missing_parent(status, text):
        return TaskNotFoundError(f"{detail}; register its run, step and task first", **context)
    if status == 409:
        return MetadataConflictError(f"{detail}; something of that name is there already", **context)
    if status in {401, 403}:
        return MetadataError(
            f"{detail}; the service refused the credentials, set METAFLOW_SERVICE_AUTH_KEY or METAFLOW_SERVICE_HEADERS",
            **context,
        )
    if status < 400:
        return MetadataError(f"{detail}; redirects are not followed, set the URL that is meant", **context)
    return MetadataError(detail, **context)


def _tagging_error(status: int, text: str, detail: str, context: dict[str, Any]) -> MetadataError | TaskNotFoundError:
    if status == 409:
        return TaggingError(f"{detail}; another change of the run's tags came first", retryable=True, **context)
    if text.startswith(NO_ROUTE) or status == 405:
        return TaggingError(f"{detail}; changing tags needs a service of version 2.3.0 or later", **context)
    if status == 404:
        return TaskNotFoundError(f"{detail}; there is no such run", **context)
    return TaggingError(detail, **context)


def _is_fault_of_reading(method: str, status: int, text: str) -> bool:
    return status == _SERVER_ERROR and method == "GET" and not (_postgres_code(text) or "").startswith(_DATA_EXCEPTION)


def _is_missing_parent(status: int, text: str) -> bool:
    # The service answers 400 where a task is missing, and 500 with the KeyError of its own code for a missing run.
    if status == 404:
        return True
    said = explain(text)
    return (status == 400 and said.startswith("need to register")) or (status == 500 and said == "'run_number'")


def _decode(text: str) -> Any:
    """Return the JSON value of a body, which may be JSON inside a JSON string, or its text."""
    value: Any = text
    for _ in range(2):
        if not isinstance(value, str):
            break
        try:
            value = parse_json(value)
        except ValueError:
            break
    return value


def _find(value: Any) -> str:
    if not isinstance(value, dict):
        return value if isinstance(value, str) else ""
    fields: dict[str, Any] = value
    for key in ("err_msg", "pgerror", "message", "detail", "title"):
        if fields.get(key):
            return _find(fields[key])
    return ""


def _postgres_code(text: str) -> str | None:
    value = _decode(text)
    for key in ("err_msg", "pgcode"):
        fields: dict[str, Any] = value if isinstance(value, dict) else {}
        value = fields.get(key)
    return value if isinstance(value, str) else None


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""


def _seconds(retry_after: str | None) -> float | None:
    """Return a Retry-After header in seconds from now; it may be a number or a date."""
    if not retry_after:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time())
    except (ValueError, OverflowError):
        return None
