import hashlib

import pytest

from asyncstore.errors import ConfigError, InvalidNameError
from asyncstore.types import ByteRange, Limits, RetryPolicy, Timeouts, parse_key


def test_a_key_is_forty_lower_case_hexadecimal_digits() -> None:
    digest = hashlib.sha1(b"x", usedforsecurity=False).hexdigest()
    assert parse_key(digest) == digest
    for text in ("", digest[:-1], digest + "0", digest.upper(), "g" * 40, "0" * 39 + "\n", "\uff10" * 40):
        with pytest.raises(InvalidNameError) as caught:
            parse_key(text)
        assert caught.value.where == text


@pytest.mark.parametrize(("start", "stop"), [(-1, None), (0, 0), (5, 5), (5, 4), (-2, -1)])
def test_a_range_that_is_empty_or_negative_is_refused(start: int, stop: int) -> None:
    with pytest.raises(ConfigError):
        ByteRange(start, stop)


@pytest.mark.parametrize("name", ["memory", "threads", "requests", "max_blob_bytes"])
def test_a_limit_below_one_is_refused_by_name(name: str) -> None:
    for value in (0, -1):
        with pytest.raises(ConfigError, match=name):
            Limits(**{name: value})
    assert getattr(Limits(**{name: 1}), name) == 1


def test_there_are_always_at_least_two_threads_by_default() -> None:
    assert 2 <= Limits().threads <= 32


def test_the_deadline_of_a_request_grows_with_its_bytes() -> None:
    timeouts = Timeouts(connect=10, idle=30, min_rate=1000)
    assert timeouts.for_bytes(0) == 40
    assert timeouts.for_bytes(5000) == 45
    assert Timeouts(connect=10, idle=30, min_rate=1000, total=42).for_bytes(5000) == 42


@pytest.mark.parametrize("field", ["connect", "idle", "min_rate", "total"])
def test_timeouts_are_positive(field: str) -> None:
    with pytest.raises(ConfigError, match="positive"):
        Timeouts(**{field: 0})


@pytest.mark.parametrize("fields", [{"attempts": 0}, {"base": 0}, {"base": 2, "cap": 1}, {"total": 0}])
def test_a_retry_policy_out_of_range_is_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        RetryPolicy(**fields)
