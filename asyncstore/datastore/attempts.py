"""Which attempts of a task count: rules on the names in its directory, without I/O.

Follows Metaflow 2.19 ``datastore/flow_datastore.py``. A newer attempt that was started hides an older one that is
done, for the task may be running again. Attempts from 6 on do not exist for Metaflow and are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from asyncstore.errors import ConfigError
from asyncstore.layout import ATTEMPT_DONE, ATTEMPT_STARTED, MAX_ATTEMPTS, split_attempt_name


@dataclass(slots=True)
class Attempts:
    """The attempts of one task, by number."""

    started: set[int]
    done: set[int]

    @classmethod
    def of(cls, names: Iterable[str] = ()) -> Attempts:
        """Return the attempts that the file names of a task's directory tell."""
        attempts = cls(set(), set())
        for name in names:
            attempts.note(name)
        return attempts

    def note(self, name: str) -> None:
        """Take one file name into account."""
        number, kind = split_attempt_name(name) or (MAX_ATTEMPTS, "")
        if number < MAX_ATTEMPTS and kind == ATTEMPT_STARTED:
            self.started.add(number)
        elif number < MAX_ATTEMPTS and kind == ATTEMPT_DONE:
            self.done.add(number)

    @property
    def latest(self) -> int | None:
        """The newest attempt that was started."""
        return max(self.started, default=None)

    def select(self, *, attempt: int | None, allow_not_done: bool, include_prior: bool) -> list[int]:
        """Return the attempts that a look-up of several tasks gives, in ascending order.

        Only ``attempt`` is looked at if it is given, or up to it with ``include_prior``. Of those: the newest started
        one if it is done; with ``allow_not_done`` even if it is not; with ``include_prior`` all that are done too.
        """
        last = MAX_ATTEMPTS - 1 if attempt is None else attempt
        seen = set(range(0 if attempt is None or include_prior else attempt, last + 1))
        started, done = self.started & seen, self.done & seen
        latest = {max(started)} if started else set[int]()
        if include_prior:
            return sorted(done | latest if allow_not_done else done)
        return sorted(latest if allow_not_done else latest & done)


def check_attempt(attempt: int) -> int:
    """Return an attempt number, or raise `ConfigError` if there cannot be such an attempt."""
    if not 0 <= attempt < MAX_ATTEMPTS:
        raise ConfigError(f"attempt {attempt} does not exist: attempts are numbered from 0 to {MAX_ATTEMPTS - 1}")
    return attempt
