from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncstore.errors import InvalidNameError
from asyncstore.layout import blob_path, check_directory, check_path, split_blob_path
from asyncstore.types import parse_key

KEY = parse_key("0a" * 20)


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a/b/c",
        "ä/ü",
        "0.data.json",
        "a b",
        "x" * 250,
        "_metal",
        "meta",
        "_parameters/1",
        "a..b",
        "...",
        "ab:c",
        ":a",
    ],
)
def test_legal_paths_are_returned(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    ["", "/a", "a/", "a//b", ".", "a/../b", "a\0b", "a\\b", "x" * 251, "ü" * 126, "_meta", "a/_meta/b", "a_meta",
     ".asyncstore/tmp/x", "a/.asyncstore", "C:/x", "a:b", "\ud800"],
)  # fmt: skip
def test_illegal_paths_are_refused_with_the_path_named(path: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        check_path(path)
    assert caught.value.where == path


@given(st.text("aZ0-_./:\\ ü\n\0", max_size=12) | st.integers(248, 252).map(lambda size: "d/" + "a" * size))
def test_plain_paths_pass_the_same_rules_as_all_others(path: str) -> None:
    def allowed(check: Callable[[str], str]) -> bool:
        try:
            check(path)
        except InvalidNameError:
            return False
        return True

    # A directory never takes the short way of `check_path`.
    assert allowed(check_path) == (allowed(check_directory) and path != "" and not path.endswith("_meta"))


def test_the_root_is_a_directory_and_not_an_object() -> None:
    assert check_directory("") == ""
    assert check_directory("a_meta/b") == "a_meta/b"


@pytest.mark.parametrize("prefix", ["", "Flow/data"])
def test_blob_paths_go_both_ways(prefix: str) -> None:
    assert split_blob_path(blob_path(prefix, KEY)) == (prefix, KEY)


def test_old_raw_blob_names_are_understood() -> None:
    assert split_blob_path(f"F/data/0a/r_{KEY}") == ("F/data", KEY)


@pytest.mark.parametrize("path", ["F/data/0b/" + "0a" * 20, "F/data/0a/" + "0A" * 20, "F/data/0a/xyz", "0a"])
def test_other_paths_are_no_blobs(path: str) -> None:
    assert split_blob_path(path) is None
