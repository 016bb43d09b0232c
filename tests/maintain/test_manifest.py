"""A manifest is read as it was written, or refused by line and reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncstore.errors import AsyncStoreError, ConfigError, InvalidNameError
from asyncstore.maintain.manifest import (
    DirectoryEntry,
    Entry,
    FileEntry,
    LinkEntry,
    ManifestReader,
    end_line,
    entry_line,
    header_line,
    stays_inside,
)
from asyncstore.types import Key

KEY = Key("11f6ad8ec52a2984abaafd7c3b516503785c2072")
ENTRIES: list[Entry] = [
    FileEntry("t/a \udcff\n", KEY, 3, 0o640),
    DirectoryEntry("t/empty"),
    LinkEntry("t/deep/link", "../a"),
]


def manifest(*entries: Entry) -> list[str]:
    return [header_line("files/data"), *map(entry_line, entries), end_line(len(entries))]


def test_a_manifest_comes_back_as_it_was_written() -> None:
    lines = manifest(*ENTRIES)
    assert json.loads(lines[0]) == {"format": "asyncstore-manifest", "version": 1, "prefix": "files/data"}
    assert all(line.isascii() and "\n" not in line for line in lines)
    reader = ManifestReader([f"{line}\n" for line in lines], "m")
    assert (reader.prefix, list(reader.entries())) == ("files/data", ENTRIES)


def test_what_a_reader_does_not_know_about_an_entry_is_ignored() -> None:
    line = entry_line(ENTRIES[0], existed=True)
    assert json.loads(line)["existed"] is True
    assert list(ManifestReader([header_line(""), line, end_line(1)], "m").entries()) == ENTRIES[:1]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "m is no manifest"),
        (["{}"], "m is no manifest"),
        (["da39a3ee5e6b4b0d3255bfef95601890afd80709  name"], "m, line 1: this is not JSON"),
        (["[" * 100_000], "m, line 1: this is not JSON"),
        (["[]"], "m, line 1: this is not a JSON object"),
        (
            [header_line(""), json.dumps({"kind": "file", "name": "a", "key": ["a"] * 40, "size": 1, "mode": "0644"})],
            "is not a key",
        ),
        (['{"format": "asyncstore-manifest", "version": 2}'], "m is a manifest of version 2, and this asyncstore"),
        (manifest(*ENTRIES)[:-1], "m, line 4: there is no end line, so the manifest was cut off: run put again"),
        ([*manifest(*ENTRIES)[:2], end_line(3)], "m, line 3: the end counts 3 entries where 1 were read"),
        (
            [header_line(""), '{"kind": "file", "name": "a"}'],
            "m, line 2: a field is missing or wrong: KeyError('mode')",
        ),
        ([header_line(""), '{"kind": "pipe", "name": "a"}'], "m, line 2: kind 'pipe' is not known"),
        ([header_line(""), '{"kind": "file", "name": "a", "mode": 8}'], "m, line 2: a field is missing or wrong"),
    ],
)
def test_what_is_no_whole_manifest_is_refused_with_its_line(lines: list[str], message: str) -> None:
    with pytest.raises((ConfigError, InvalidNameError)) as failure:
        list(ManifestReader(lines, "m").entries())
    assert message in str(failure.value)


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "a/../../b", "", "a//b", ".", "a/.", "a\0b", "..", "\ud800"])
def test_a_name_that_would_leave_the_directory_is_refused(name: str) -> None:
    with pytest.raises(InvalidNameError, match="do not restore this manifest unless you trust it"):
        list(ManifestReader(manifest(FileEntry(name, KEY, 1, 0o600)), "m").entries())


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("t/a", "/etc/passwd"),
        ("t/a", "../b"),
        ("t/a", ""),
        ("t/a", "b\0"),
        ("t/a", "\ud800"),
        ("t/a/b", "../../other/c"),
        ("t/a", "d/../b"),  # d may be a link itself, and its parent anywhere
        ("a", "b"),  # nothing else is in the tree of a link that is the whole tree
    ],
)
def test_a_link_that_would_leave_its_tree_is_refused(name: str, target: str) -> None:
    with pytest.raises(InvalidNameError, match="leads out of its tree"):
        list(ManifestReader(manifest(LinkEntry(name, target)), "m").entries())


@pytest.mark.parametrize(
    ("name", "target"), [("t/a", "b"), ("t/a/b", "../c"), ("t/a", "./b/c"), ("t/a/b/c", ".././../d")]
)
def test_a_link_that_stays_in_its_tree_is_kept(name: str, target: str) -> None:
    assert stays_inside(name, target)


DOCUMENTS = st.sampled_from([None, True, -1, 7, 1.5, float("inf"), "", "8", "x", "a/../b", [], ["a"], {}, {"a": 1}])


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "kind": st.sampled_from(["file", "directory", "link", "end"]) | DOCUMENTS,
            "name": st.just("t/a") | DOCUMENTS,
            "key": st.just(KEY) | DOCUMENTS,
            "size": DOCUMENTS,
            "mode": st.just("0644") | DOCUMENTS,
            "target": st.just("b") | DOCUMENTS,
            "entries": DOCUMENTS,
        },
    )
)
def test_whatever_a_line_holds_it_is_an_entry_or_an_error_of_ours(document: dict[str, Any]) -> None:
    reader = ManifestReader([header_line(""), json.dumps(document), end_line(1)], "m")
    try:
        entries = list(reader.entries())
    except AsyncStoreError:
        return
    assert document["kind"] in {"file", "directory", "link", "end"}
    assert all(isinstance(entry.name, str) for entry in entries)
