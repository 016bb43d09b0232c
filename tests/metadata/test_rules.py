"""Rules that need neither files nor a service."""

from __future__ import annotations

import json
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import Any

import pytest

from asyncstore.errors import ConfigError, MetadataError
from asyncstore.metadata.attempts import rows_of_attempt, tagged_attempt
from asyncstore.metadata.local_reading import RecordReader
from asyncstore.metadata.records import DataArtifactRecord, Kind, MetaDatum, MetaObject
from asyncstore.metadata.rows import parse_row, value_as_text
from asyncstore.metadata.service_errors import error_for, explain
from asyncstore.metadata.service_url import ServiceUrl
from asyncstore.metadata.service_version import is_too_old, parse_version
from asyncstore.metadata.system import SystemInfo
from tests.metadata.transcript import exchanges


def row(moment: int, field: str, value: str = "v", attempt: int | None = None) -> MetaObject:
    tags = () if attempt is None else (f"attempt_id:{attempt}",)
    datum = MetaDatum(field, value, field, tags)
    return MetaObject("metadata", ("F", "1", "s", "2"), moment, tags=frozenset(tags), attempt=attempt, datum=datum)


def test_rows_that_all_name_an_attempt_belong_to_that_one() -> None:
    rows = [row(9, "a", attempt=1), row(1, "b", attempt=0), row(0, "c", attempt=1)]
    assert rows_of_attempt(rows, 1) == [rows[0], rows[2]]
    assert rows_of_attempt(rows, 2) == []
    assert rows_of_attempt(rows, None) == rows


def test_with_a_row_that_names_none_rows_belong_to_the_attempt_in_whose_time_they_fall() -> None:
    before, start0, at0 = row(5, "x"), row(10, "attempt", "0", 0), row(10, "y", attempt=7)
    late0, start1, after = row(19, "z"), row(20, "attempt", "1", 1), row(99, "w")
    rows = [after, start1, late0, at0, start0, before]
    assert rows_of_attempt(rows, 0) == [late0, at0, start0]
    assert rows_of_attempt(rows, 1) == [after, start1]
    assert rows_of_attempt(rows, 2) == []
    assert rows_of_attempt([before], 0) == []


def test_the_first_tag_of_the_form_tells_the_attempt() -> None:
    assert tagged_attempt(["x", "attempt_id:3 and more", "attempt_id:1"]) == 3
    assert tagged_attempt(["my attempt_id:3", "attempt_id:x"]) is None


def test_values_become_the_text_that_the_recorded_service_kept() -> None:
    posted = [
        item["value"]
        for each in exchanges()
        if each["phase"] == "probe: metadata: value types" and each["response"] == {"metadata_created": 1}
        for item in each["request"]
    ]
    [listed] = [
        each["response"]
        for each in exchanges()
        if each["phase"] == "probe: metadata: get" and not each["query"] and "tasks/17/metadata" in each["path"]
    ]
    kept = [item["value"] for item in reversed(listed) if item["field_name"] == "vt"]
    assert [value_as_text(value) for value in posted] == kept
    assert len(kept) >= 8


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (["a b", 'b"q,x'], '{"a b","b\\"q,x"}'),
        (["", "null", "\\"], '{"","null","\\\\"}'),
        ([["x"], None], "{{x},NULL}"),
        (False, "false"),
        (2.5, "2.5"),
    ],
)
def test_other_values_become_array_literals_and_words(value: Any, text: str) -> None:
    assert value_as_text(value) == text


@pytest.mark.parametrize(
    "document",
    [None, 5, [], {}, {"flow_id": "F", "run_number": None, "ts_epoch": 1}, {"flow_id": "F", "run_number": "1"},
     {"flow_id": "F", "run_number": 1, "ts_epoch": "x"}, {"flow_id": "F", "run_number": 1, "ts_epoch": 1, "tags": "a"}],
)  # fmt: skip
def test_a_document_that_describes_nothing_is_one_clear_error(document: Any) -> None:
    with pytest.raises(MetadataError, match="here does not describe a run"):
        parse_row("run", document, "here")


ARTIFACT: dict[str, Any] = {
    "flow_id": "F", "run_number": 1, "step_name": "s", "task_id": 1, "name": "a", "ds_type": "local", "location": "x",
    "ts_epoch": 1,
}  # fmt: skip
DATUM: dict[str, Any] = {
    "flow_id": "F", "run_number": 1, "step_name": "s", "task_id": 1, "field_name": "f", "type": "t", "value": "v",
    "ts_epoch": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        *(("artifact", {**ARTIFACT, key: value}) for key, value in (
            ("location", None), ("location", 3), ("sha", 3), ("name", 3), ("content_type", []), ("ts_epoch", 1e999))),
        *(("metadata", {**DATUM, key: value}) for key, value in (("field_name", None), ("type", 3), ("user_name", {}))),
        ("flow", {"flow_id": True, "ts_epoch": 1}),
        ("run", {"flow_id": "F", "run_number": 1, "ts_epoch": 1, "last_heartbeat_ts": 1e999}),
    ],
)  # fmt: skip
def test_a_field_of_another_type_is_one_clear_error(kind: Kind, document: Any) -> None:
    parse_row("artifact", ARTIFACT, "here")
    parse_row("metadata", DATUM, "here")
    with pytest.raises(MetadataError, match=f"here does not describe a {kind}"):
        parse_row(kind, document, "here")


def test_a_document_nested_without_end_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(MetadataError, match=r"deep\.json is not JSON \(it is nested too deep"):
        RecordReader(str(tmp_path)).document("deep.json")
    assert explain("[" * 100_000) == "[" * 300


def test_an_artifacts_location_goes_both_ways() -> None:
    for location in (":root:/srv/.metaflow", "s3://elsewhere/object"):
        record = DataArtifactRecord.from_location("x", "s3", location, "pickle-v4", "0" * 40)
        assert record.location == location
    assert record.url == "s3://elsewhere/object"


def test_who_writes_is_told_by_metaflows_variables() -> None:
    environ = {
        "METAFLOW_RUNTIME_NAME": "argo",
        "METAFLOW_PRODUCTION_TOKEN": "prod-1",
        "METAFLOW_CODE_SHA": "abc",
        "METAFLOW_CODE_DS": "s3",
        "METAFLOW_CODE_URL": "s3://b/code",
    }
    system = SystemInfo.from_environment(environ, user_name="ada", script_name="flow.py")
    assert system.tags[0] == "runtime:argo"
    assert "production:prod-1" in system.tags
    assert not any(tag.startswith("user:") for tag in system.tags)
    fields = {item.field: item.value for item in system.metadata(2)}
    assert json.loads(str(fields["code-package"])) == {
        "ds_type": "s3", "sha": "abc", "location": "s3://b/code", "metadata": None
    }  # fmt: skip
    assert fields["script-name"] == "flow.py"
    assert {item.tags for item in system.metadata(2)} == {("attempt_id:2",)}
    assert "code-package" not in {item.field for item in SystemInfo("ada").metadata(0)}
    with pytest.raises(ConfigError, match="METAFLOW_USER"):
        SystemInfo.from_environment({}, user_name=None)


def test_git_information_leaves_out_what_is_empty() -> None:
    git = {"repo_url": "u", "branch_name": "", "commit_sha": None, "has_uncommitted_changes": False}
    fields = {item.field: item.value for item in SystemInfo("ada", git_info=git).metadata(0)}
    assert json.loads(str(fields["git-info"])) == {"repo_url": "u", "has_uncommitted_changes": False}


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("in 30", 30.0), ("30 ago", 0.0),
     ("soon", None), ("", None), (None, None), ("-5", None), ("Mon, 01 Jan " + 20 * "9" + " 00:00:00 GMT", None)],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None) -> None:
    moment = {"in 30": time() + 30, "30 ago": time() - 30}.get(str(header))
    error = error_for("GET", 503, "", "http://h/", header if moment is None else formatdate(moment, usegmt=True))
    assert error.retry_after == (None if seconds is None else pytest.approx(seconds, abs=2))


def test_error_bodies_of_all_shapes_are_explained_on_one_line() -> None:
    for body, said in (
        ('"{\\"err_msg\\": {\\"pgerror\\": \\"ERROR:  a\\\\n b\\", \\"pgcode\\": \\"1\\"}}"', "ERROR: a b"),
        ('{"traceback": "T", "detail": "d", "title": "t"}', "d"),
        ('"plain"', "plain"),
        ("500 Internal Server Error\n\nServer", "500 Internal Server Error Server"),
        ("{}", ""),
        ("[1]", ""),
        ("", ""),
    ):
        assert explain(body) == said
    assert len(explain("x" * 5000)) == 300


def test_versions_are_compared_by_their_leading_numbers() -> None:
    assert parse_version("2.10.0-rc1") == (2, 10, 0)
    assert parse_version("2.5") == (2, 5, 0)
    assert parse_version("custom") is parse_version(None) is None
    assert is_too_old("2.3.9", (2, 10, 0))
    assert not is_too_old("2.10", (2, 3, 0))
    assert not is_too_old("custom", (2, 3, 0))


def test_a_url_keeps_its_prefix_and_hides_its_user() -> None:
    url = ServiceUrl.parse(" https://u:p%40ss@[::1]:8080/api/ ")
    assert (url.base, url.userinfo) == ("https://[::1]:8080/api", "u:p@ss")
    assert "p@ss" not in repr(url)
