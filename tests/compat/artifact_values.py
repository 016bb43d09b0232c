"""Values of every kind that tasks hold; imported here and, without asyncstore, in Metaflow's environment."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import fractions
import pathlib
import uuid
from typing import Any


class Colour(enum.Enum):
    RED = 1


def plain_values() -> dict[str, Any]:
    shared = ["shared"]
    loop: list[Any] = []
    loop.append({"loop": loop})
    return {
        "nothing": None,
        "flags": [True, False],
        "numbers": [0, 42, -(10**9), 2**200, 3.141592653589793, float("inf"), complex(1, -2)],
        "not_a_number": float("nan"),
        "texts": ["", "plain", "héllo ✓ 日本 \U0001f40d", "\ud800", "a\0b"],
        "big_text": "0123456789abcdef" * 20_000,
        "raw": bytes(range(256)),
        "empty_bytes": b"",
        "big_bytes": b"The quick brown fox jumps over the lazy dog. " * 70_000,
        "mutable": bytearray(b"mutable"),
        "nested": {"id": 1, "tags": ["x", ("y", {"k": (1, 2)})], (1, 2): None},
        "numbered": {i: str(i) for i in range(2500)},
        "long_list": list(range(3000)),
        "exact_batch": {i: i for i in range(1000)},
        "sets": [{1, 2, 3}, frozenset({4, 5}), set()],
        "shared": [shared, shared, (shared,)],
        "span": [range(0, 10, 3), slice(1, None, 2)],
        "times": [
            dt.datetime(2024, 2, 29, 12, 30, 15, 123456),  # noqa: DTZ001
            dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2))),
            dt.date(2000, 1, 1),
            dt.timedelta(3, 4, 5),
        ],
        "money": decimal.Decimal("12.50"),
        "ids": uuid.UUID(int=7),
        "paths": [pathlib.PurePosixPath("a/b"), pathlib.PureWindowsPath("c:/d")],
        "containers": [
            collections.OrderedDict([("b", 1), ("a", 2)]),
            collections.Counter("aab"),
            collections.deque([1, 2], maxlen=3),
            collections.defaultdict(collections.OrderedDict, {1: collections.OrderedDict()}),
        ],
        "_hidden": "private by name",
    }


def other_values() -> dict[str, Any]:
    """Values for keys only: what they name is not trusted by default, or their repr says little."""
    loop: list[Any] = []
    loop.append({"loop": loop})
    return {
        "loop": loop,
        "fraction": fractions.Fraction(1, 3),
        "types": [int, dict, collections.Counter, Colour, len, str.upper],
        "path": pathlib.Path("a/b"),
        "exception": ValueError("text", 3),
        "enum": Colour.RED,
        "many_strings": [f"string number {i} " * 20 for i in range(2000)],
        "frames": [b"x" * size for size in (65535, 65536, 65537, 200_000)],
        "words": {"one", "two", "three", "four"},
    }


def framework_values(frame: Any, wrapper: Any, included: Any) -> dict[str, Any]:
    """Values that hold Metaflow's classes; ``wrapper`` is called without an exception at hand, as for a text."""
    failure = wrapper()
    failure.__dict__.update(exception="deliberate", type="builtins.ValueError", stacktrace="Traceback: deliberate\n")
    bare = wrapper(KeyError("k"))
    url = "local:///srv/data/Flow/" + "0" * 40
    descriptor = {"type": "uploader-v2", "url": url, "is_text": True, "encoding": "utf-8", "size": 3,
                  "note": "Internal representation of IncludeFile", "sub-type": "uploaded"}  # fmt: skip
    frames = [frame("inner", "items", 3, 1, "value"), frame("outer", None, 2, 0)]
    return {
        "_foreach_stack": frames,
        "_exception": failure,
        "bare": bare,
        "included": included(descriptor),
        "mixed": {"many": {i: frames[i % 2] for i in range(1000)}, "both": [failure, bare, frames], "s": {1, 2}},
        "list_of_1001": [frames[0]] * 1001 + [b"x" * 70_000],
    }


def describe(value: Any) -> list[Any]:
    """Return what both sides must agree on of a value, as JSON."""
    if type(value).__name__ == "MetaflowExceptionWrapper":
        return ["MetaflowExceptionWrapper", value.exception, value.type, value.stacktrace]
    if isinstance(value, (set, frozenset)):
        return [type(value).__name__, sorted(map(describe, value))]
    if isinstance(value, dict):
        return [type(value).__name__, [[describe(key), describe(item)] for key, item in value.items()]]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, [describe(item) for item in value]]
    return [type(value).__name__, ascii(value)]
