from random import Random

import pytest

from asyncstore.errors import AccessDeniedError, StorageUnavailableError
from asyncstore.retry import is_retryable, next_delay
from asyncstore.types import RetryPolicy

POLICY = RetryPolicy(attempts=5, base=1.0, cap=4.0, total=100.0)
OUTAGE = StorageUnavailableError("busy")


class Edge(Random):
    """Gives the end of each window."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_the_window_doubles_up_to_the_cap() -> None:
    assert [next_delay(POLICY, failures, 0.0, OUTAGE, Edge()) for failures in range(1, 5)] == [1.0, 2.0, 4.0, 4.0]


def test_delays_are_spread_over_the_whole_window() -> None:
    random = Random(1)
    delays = [next_delay(POLICY, 3, 0.0, OUTAGE, random) or 0.0 for _ in range(1000)]
    assert min(delays) < 0.1
    assert max(delays) > 3.9
    assert all(0 <= delay <= 4 for delay in delays)


def test_the_last_attempt_is_final() -> None:
    assert next_delay(POLICY, 5, 0.0, OUTAGE, Edge()) is None


@pytest.mark.parametrize(
    "error", [AccessDeniedError("no"), ValueError("no"), StorageUnavailableError("x", retryable=False)]
)
def test_what_will_not_get_better_is_final_at_once(error: Exception) -> None:
    assert not is_retryable(error)
    assert next_delay(POLICY, 1, 0.0, error, Edge()) is None


def test_a_class_that_is_final_may_be_raised_as_retryable() -> None:
    assert next_delay(POLICY, 1, 0.0, AccessDeniedError("clock skew", retryable=True), Edge()) == 1.0


def test_a_server_s_wish_is_the_least_that_is_slept() -> None:
    error = StorageUnavailableError("busy", retry_after=7.0)
    assert 7.0 <= (next_delay(POLICY, 1, 0.0, error, Random(3)) or 0.0) <= 8.0


def test_a_sleep_that_would_end_after_the_deadline_is_not_begun() -> None:
    assert next_delay(POLICY, 1, 98.9, OUTAGE, Edge()) == 1.0
    assert next_delay(POLICY, 1, 99.0, OUTAGE, Edge()) is None
    assert next_delay(POLICY, 1, 0.0, StorageUnavailableError("busy", retry_after=3600.0), Edge()) is None


def test_very_many_attempts_do_not_overflow() -> None:
    assert next_delay(RetryPolicy(attempts=10_000), 9_999, 0.0, OUTAGE, Edge()) == 10.0
