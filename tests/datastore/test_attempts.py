"""Which attempts a look-up gives, checked against the rules in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncstore.datastore.attempts import Attempts, check_attempt
from asyncstore.errors import ConfigError, InvalidPathspecError
from asyncstore.layout import attempt_name, split_attempt_name, split_task_pathspec, task_path

numbers = st.frozensets(st.integers(0, 5))


def select(
    started: set[int], done: set[int], *, attempt: int | None = None, not_done: bool = False, prior: bool = False
) -> list[int]:
    return Attempts(started, done).select(attempt=attempt, allow_not_done=not_done, include_prior=prior)


def test_names_tell_which_attempts_were_started_and_done() -> None:
    ours = ["0.attempt.json", "0.data.json", "0.DONE.lock", "1.attempt.json", "1.runtime_stdout.log"]
    others = ["_resume_leader", "attempt.json", "x.DONE.lock", "01.DONE.lock", "6.attempt.json"]
    attempts = Attempts.of([*ours, *others])
    assert (attempts.started, attempts.done, attempts.latest) == ({0, 1}, {0}, 1)
    assert Attempts.of().latest is None


def test_a_newer_attempt_that_was_started_hides_an_older_one_that_is_done() -> None:
    assert select({0}, {0}) == [0]
    assert select({0, 1}, {0}) == []
    assert select({0, 1}, {0}, not_done=True) == [1]
    assert select({0, 1}, {0, 1}) == [1]


def test_prior_attempts_come_with_it_on_demand() -> None:
    assert select({0, 1, 2}, {0, 1}, prior=True) == [0, 1]
    assert select({0, 1, 2}, {0, 1}, prior=True, not_done=True) == [0, 1, 2]


def test_a_given_attempt_is_looked_at_alone_or_with_those_before_it() -> None:
    assert select({0, 1, 2}, {0, 1}, attempt=1) == [1]
    assert select({0, 1, 2}, {0, 1}, attempt=2) == []
    assert select({0, 1, 2}, {0, 1}, attempt=2, not_done=True) == [2]
    assert select({0, 1, 2}, {0, 1, 2}, attempt=1, prior=True) == [0, 1]
    assert select({0}, {0}, attempt=3) == []


@given(numbers, numbers, st.none() | st.integers(0, 5), st.booleans(), st.booleans())
def test_every_combination_follows_metaflows_set_algebra(
    started: frozenset[int], done: frozenset[int], attempt: int | None, not_done: bool, prior: bool
) -> None:
    probed = set(range(6)) if attempt is None else set(range(attempt + 1)) if prior else {attempt}
    latest = {max(started & probed)} if started & probed else set[int]()
    finished = done & probed
    told = (latest if not_done else set()) | (finished if prior else latest & finished)
    assert select(set(started), set(done), attempt=attempt, not_done=not_done, prior=prior) == sorted(told)


@pytest.mark.parametrize("attempt", [-1, 6, 100])
def test_attempts_are_numbered_from_0_to_5(attempt: int) -> None:
    with pytest.raises(ConfigError, match="from 0 to 5"):
        check_attempt(attempt)


def test_file_names_split_at_the_first_dot_only() -> None:
    assert split_attempt_name("0.data.json") == (0, "data.json")
    assert split_attempt_name(attempt_name(3, "runtime_stdout.log")) == (3, "runtime_stdout.log")
    for name in ("data.json", "x.data.json", "0", "0.", ".json", "-1.x", "²x.y", "00.x"):
        assert split_attempt_name(name) is None


def test_pathspecs_of_tasks_may_name_an_attempt() -> None:
    assert split_task_pathspec("1/start/2") == ("1", "start", "2", None)
    assert split_task_pathspec("1/start/2/0") == ("1", "start", "2", 0)
    for pathspec in ("", "1/start", "Flow/1/start/2/0", "1//2", "1/start/2/x", "1/start/2/"):
        with pytest.raises(InvalidPathspecError, match="run/step/task"):
            split_task_pathspec(pathspec)


def test_ids_with_a_slash_or_that_leave_the_flow_are_refused() -> None:
    assert task_path("F", "1", "_parameters", "0") == "F/1/_parameters/0"
    for ids in (("F", "..", "s", "t"), ("F", "a/b", "s", "t"), ("F", "1", "", "t"), ("F", "1", "s", "_meta")):
        with pytest.raises(ValueError, match=r"id|component"):
            task_path(*ids)
