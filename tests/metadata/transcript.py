"""The recorded conversation of Metaflow with a real metadata service, one exchange at a time."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("metadata-service-transcript.jsonl.gz")


@cache
def exchanges() -> list[dict[str, Any]]:
    """Return all 749 exchanges, in order of arrival; not to be changed."""
    with gzip.open(FILE, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def request_text(exchange: dict[str, Any]) -> str:
    """Return a request's body as it was sent."""
    if exchange.get("request_text") is not None:
        return str(exchange["request_text"])
    return "" if exchange.get("request") is None else json.dumps(exchange["request"])


def response_text(exchange: dict[str, Any]) -> str:
    """Return a reply's body as it was sent."""
    if exchange.get("response_text") is not None:
        return str(exchange["response_text"])
    return json.dumps(exchange["response"]) if "response" in exchange else ""
