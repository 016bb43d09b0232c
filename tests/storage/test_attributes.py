import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncstore.errors import ConfigError, IntegrityError
from asyncstore.storage.attributes import decode_attributes, encode_attributes

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), JSON, min_size=1, max_size=4))
def test_any_json_object_comes_back_equal(attributes: dict[str, Any]) -> None:
    text = encode_attributes(attributes)
    assert text is not None
    assert text.isascii()
    assert decode_attributes(text) == attributes


def test_the_text_is_what_metaflow_writes() -> None:
    attributes: dict[str, Any] = {"cas_raw": False, "cas_version": 1, "name": "ä"}
    assert encode_attributes(attributes) == json.dumps(attributes)


@pytest.mark.parametrize("nothing", [None, {}])
def test_no_attributes_have_no_text(nothing: Any) -> None:
    assert encode_attributes(nothing) is None


def test_the_limit_is_2000_bytes_of_ascii() -> None:
    overhead = len(json.dumps({"k": ""}))
    assert len(encode_attributes({"k": "x" * (2000 - overhead)}) or "") == 2000
    with pytest.raises(ConfigError, match="2001 bytes"):
        encode_attributes({"k": "x" * (2001 - overhead)})
    with pytest.raises(ConfigError, match="2000"):
        encode_attributes({"k": "ä" * 334})


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({"a": math.nan}, r"attributes\['a'\] is nan"),
        ({"a": {"b": [1, -math.inf]}}, r"attributes\['a'\]\['b'\]\[1\] is -inf"),
        ({1: 2}, "no str: 1"),
        ({"a": {None: 2}}, r"attributes\['a'\] has a key that is no str: None"),
        ({"a": (1, 2)}, r"attributes\['a'\] is a tuple"),
        ({"a": b"x"}, "bytes"),
        ({"a": _nested(100_000)}, "too deeply"),
    ],
)
def test_what_json_would_change_is_refused_by_name(attributes: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        encode_attributes(attributes)


@pytest.mark.parametrize(
    "attributes",
    [
        {"cas_raw": False, "cas_version": 1, "cas_size": 1024},
        {"cas_raw": True, "cas_version": 1001, "cas_codec": "lz4-frame"},
        {f"n{number}" * 8: -number for number in range(30)},
        {"big": 1 << 63, "small": -(1 << 70)},
        {"flag": True, "float": 1.0, "null": None},
        {"quote": 'a"b', "line": "a\nb", "back": "\\", "ü": "ü", "empty": "", "": 1, "a b": "c d"},
        {"x": {"y": [1, True]}},
    ],
)
def test_the_short_way_for_plain_attributes_gives_the_text_of_json_dumps(attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        assert encode_attributes({name: value}) == json.dumps({name: value})
    assert encode_attributes(attributes) == json.dumps(attributes)


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "null", "\x00", b"\xff\xfe\xfa", "[" * 100_000])
def test_a_text_that_is_no_json_object_is_an_integrity_error(text: str | bytes) -> None:
    with pytest.raises(IntegrityError):
        decode_attributes(text)
