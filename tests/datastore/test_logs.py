"""Structured log lines are read, written and merged as Metaflow does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncstore.datastore.logs import (
    format_line,
    is_structured,
    merge_logs,
    parse_line,
    redacted,
    set_should_persist,
    unset_should_persist,
)

LINE = b"[MFLOG|0|2026-11-23T15:31:54.610822Z|runtime|e1a2]attempt 1\n"


def line(message: str, microsecond: int, source: str = "runtime", line_id: str = "i") -> bytes:
    time = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=microsecond)
    return format_line(message.encode() + b"\n", source=source, time=time, line_id=line_id)


def messages(*logs: bytes) -> list[str]:
    return [item.text for item in merge_logs(logs)]


def test_a_structured_line_is_parsed_without_its_newline() -> None:
    parsed = parse_line(LINE)
    assert parsed is not None
    assert (parsed.message, parsed.source, parsed.id) == (b"attempt 1", "runtime", "e1a2")
    assert parsed.time == datetime(2026, 11, 23, 15, 31, 54, 610822, tzinfo=UTC)
    assert not parsed.should_persist


@pytest.mark.parametrize(
    "text",
    [
        b"plain\n",
        b"",
        b"[MFLOG|1|2026-11-23T15:31:54.610822Z|runtime|id]another version\n",
        b"[MFLOG|0|2026-11-23T15:31:54Z|runtime|id]no fraction\n",
        b"[MFLOG|0|2026-13-23T15:31:54.1Z|runtime|id]no such month\n",
        b"[MFLOG|0|not-really-structured] looks like a header\n",
        b"[MFLOG|0|2026-11-23T15:31:54.610822Z|runtime|]no id\n",
        b" [MFLOG|0|2026-11-23T15:31:54.610822Z|runtime|id]not at the beginning\n",
    ],
)
def test_anything_else_is_not_parsed(text: bytes) -> None:
    assert parse_line(text) is None


def test_fields_end_at_the_first_separator_and_the_header_at_the_first_bracket() -> None:
    parsed = parse_line(b"[MFLOG|0|2026-11-23T15:31:54.1Z|a|b|c]d]e\r\n")
    assert parsed is not None
    assert (parsed.source, parsed.id, parsed.message) == ("a", "b|c", b"d]e\r")


def test_a_written_line_is_parsed_back_and_its_time_is_utc() -> None:
    time = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    written = format_line(b"hi\n", source="task", time=time, line_id="z")
    assert written == b"[MFLOG|0|2026-01-01T10:00:00.000000Z|task|z]hi\n"
    before = datetime.now(UTC)
    parsed = parse_line(format_line(b"now", source="task"))
    assert parsed is not None
    assert parsed.time is not None
    assert before <= parsed.time <= datetime.now(UTC)
    assert parsed.id is not None
    assert len(parsed.id) == 36


def test_the_mark_to_persist_is_set_once_and_taken_away() -> None:
    marked = set_should_persist(LINE)
    assert marked == b"[!" + LINE
    assert set_should_persist(marked) == marked
    parsed = parse_line(marked)
    assert parsed is not None
    assert parsed.should_persist
    assert unset_should_persist(marked) == LINE
    assert unset_should_persist(b"plain") == set_should_persist(b"plain") == b"plain"
    assert is_structured(marked)
    assert is_structured(LINE)
    assert not is_structured(b"plain")


def test_logs_merge_by_time_and_unstructured_lines_come_last_with_their_newline() -> None:
    runtime = line("a", 1) + b"odd\n" + line("c", 3)
    task = line("b", 2, "task") + line("d", 4, "task") + b"no newline"
    assert messages(runtime, task) == ["a", "b", "c", "d", "odd\n", "no newline"]


def test_lines_of_one_microsecond_keep_their_order_whatever_their_ids() -> None:
    log = line("one", 7, line_id="z") + line("two", 7, line_id="a") + line("three", 7, line_id="m")
    assert messages(log, b"") == ["one", "two", "three"]


def test_a_carriage_return_does_not_end_a_line() -> None:
    assert messages(line("10%\r20%", 1)) == ["10%\r20%"]


def test_bytes_that_are_not_utf8_are_shown_as_replacement_characters() -> None:
    log = format_line(b"\xff\n", source="runtime", time=datetime(2026, 1, 1, tzinfo=UTC))
    assert messages(log) == ["\ufffd"]


def test_no_logs_have_no_lines() -> None:
    assert messages() == messages(b"", b"") == []


@given(st.lists(st.tuples(st.integers(0, 20), st.text(st.characters(exclude_characters="\n", codec="utf-8")))))
def test_any_messages_come_back_in_the_order_of_their_times(items: list[tuple[int, str]]) -> None:
    log = b"".join(line(text, at) for at, text in items)
    assert messages(log) == [text for _, text in sorted(items, key=lambda item: item[0])]


def test_a_scrubbed_log_says_so() -> None:
    assert redacted("runtime", "stdout") == b"[REDACTED runtime stdout]"
