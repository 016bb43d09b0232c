"""What is worth another try, and when: pure, so that it is tested without a clock."""

from __future__ import annotations

from random import Random

from asyncstore.errors import AsyncStoreError
from asyncstore.types import RetryPolicy


def is_retryable(error: BaseException) -> bool:
    """Say whether the same call may succeed later. Backends decide by the class and ``retryable`` they raise with."""
    return isinstance(error, AsyncStoreError) and error.retryable


def next_delay(
    policy: RetryPolicy, failures: int, elapsed: float, error: BaseException, random: Random
) -> float | None:
    """Return the seconds to sleep after ``failures`` failed attempts (from 1), or None to give up.

    Full jitter over an exponentially growing window, so that clients who failed together do not come back
    together. A server's ``retry_after`` is the least that is slept. A sleep that would end after ``policy.total``
    is not begun.
    """
    if not is_retryable(error) or failures >= policy.attempts:
        return None
    window = min(policy.cap, policy.base * 2.0 ** min(failures - 1, 64))
    delay = random.uniform(0, window)
    wish = error.retry_after if isinstance(error, AsyncStoreError) else None
    if wish is not None:
        delay += wish
    return delay if elapsed + delay < policy.total else None
