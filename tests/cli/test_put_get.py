"""What is put is got back, by key or by manifest."""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.maintain.conftest import picture, tree

__all__ = ["tree"]


def sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def test_put_prints_key_and_name_of_each_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "f").write_bytes(b"2")
    done = cli("put", "a", "d", "--to", "store")
    assert (done.code, done.err) == (0, "")
    assert done.lines == [f"{sha1(b'1')}  a", f"{sha1(b'2')}  d/f"]
    assert (tmp_path / "store" / "files" / "data" / sha1(b"1")[:2] / sha1(b"1")).exists()


def test_a_name_that_would_move_the_cursor_is_printed_harmlessly(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a\n\x1b[2J\udcff").write_bytes(b"1")
    done = cli("put", "a\n\x1b[2J\udcff", "--to", "store")
    assert done.lines == [f"{sha1(b'1')}  a\\n\\x1b[2J\\udcff"]


def test_what_json_prints_is_a_manifest_that_restores_the_tree(cli: Cli, tree: Path, tmp_path: Path) -> None:
    done = cli("put", tree, "--to", "store", "--prefix", "trees/data", "--json")
    assert done.code == 0
    first = json.loads(done.lines[0])
    assert first == {"format": "asyncstore-manifest", "version": 1, "prefix": "trees/data"}
    script = next(line for line in map(json.loads, done.lines) if line.get("name") == "tree/run.sh")
    assert script == {
        "kind": "file",
        "name": "tree/run.sh",
        "key": sha1(b"#!/bin/sh\n"),
        "size": 10,
        "mode": "0750",
        "existed": False,
        "stored_size": script["stored_size"],
    }
    (tmp_path / "manifest").write_text(done.out)
    restored = cli("get", "--manifest", "manifest", "--from", "store", "--output", "copy")
    assert (restored.code, restored.out, restored.err) == (0, "", "")
    assert picture(tmp_path / "copy" / "tree") == picture(tree)


def test_a_manifest_may_come_from_stdin(cli: Cli, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = cli("put", tree, "--to", "store", "--json").out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(manifest.encode())))
    assert cli("get", "--manifest", "-", "--from", "store", "--output", "copy").code == 0
    assert picture(tmp_path / "copy" / "tree") == picture(tree)


@pytest.mark.parametrize("form", [["--codec", "gzip"], ["--codec", "lz4"], ["--raw"]])
def test_a_file_comes_back_by_its_key_in_whatever_form_it_was_stored(cli: Cli, tmp_path: Path, form: list[str]) -> None:
    content = b"words words " * 10_000 + os.urandom(100)
    (tmp_path / "a").write_bytes(content)
    key = cli("put", "a", "--to", "store", *form).out.split()[0]
    stored = (tmp_path / "store" / "files" / "data" / key[:2] / key).stat().st_size
    assert (stored == len(content)) == (form == ["--raw"])
    done = cli("get", key, "--from", "store", "--output", "here")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert (tmp_path / "here" / key).read_bytes() == content
    assert cli("get", key, "--from", "store").code == 0
    assert (tmp_path / key).read_bytes() == content


def test_a_damaged_blob_is_healed_by_a_put_that_verifies(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    key = cli("put", "file", "--to", "store").out.split()[0]
    (tmp_path / "store" / "files" / "data" / key[:2] / key).write_bytes(b"CONTENT")
    # A save takes what has the right size for whole, without reading it.
    assert json.loads(cli("put", "file", "--to", "store", "--json").lines[1])["existed"] is True
    assert cli("check", "store").code == 1
    assert json.loads(cli("put", "file", "--to", "store", "--verify-existing", "--json").lines[1])["existed"] is False
    assert cli("check", "store").code == 0


def test_a_second_put_writes_nothing_new(cli: Cli, tree: Path) -> None:
    cli("put", tree, "--to", "store")
    again = [json.loads(line) for line in cli("put", tree, "--to", "store", "--json").lines]
    assert all(line["existed"] for line in again if line.get("kind") == "file")


def test_a_get_restores_all_but_what_is_damaged_or_missing_and_names_that(cli: Cli, tree: Path, tmp_path: Path) -> None:
    done = cli("put", tree, "--to", "store", "--json")
    (tmp_path / "manifest").write_text(done.out)
    data = tmp_path / "store" / "files" / "data"
    damaged, missing = sha1((tree / "random.bin").read_bytes()), sha1(b"odd")
    (data / damaged[:2] / damaged).write_bytes(b"torn")
    (data / missing[:2] / missing).unlink()
    got = cli("get", "--manifest", "manifest", "--from", "store", "--output", "copy")
    assert (got.code, got.err) == (1, "asyncstore: 2 files could not be restored\n")
    assert sorted(got.lines) == [
        f"damaged  tree/random.bin  {damaged}  its content hashes to {sha1(b'torn')}",
        f"missing  tree/deep/er/ümläut \\n name  {missing}  there is no blob at files/data/{missing[:2]}/{missing}",
    ]
    (tree / "random.bin").unlink()
    (tree / "deep" / "er" / "ümläut \n name").unlink()
    (tree / "deep" / "er").rmdir()  # known by what is in it alone
    assert picture(tmp_path / "copy" / "tree") == picture(tree)
    got = cli("get", missing, sha1(b"s"), damaged, "--from", "store", "--output", "keys")
    assert got.code == 1
    assert sorted(line.split()[:3] for line in got.lines) == [
        ["damaged", damaged, damaged],
        ["missing", missing, missing],
    ]
    assert [path.name for path in (tmp_path / "keys").iterdir()] == [sha1(b"s")]


@pytest.mark.parametrize("way", ["store", "alias"])
def test_a_store_within_a_tree_is_not_saved_into_itself(cli: Cli, tmp_path: Path, way: str) -> None:
    (tmp_path / "alias").symlink_to("store")
    (tmp_path / "store").mkdir()
    (tmp_path / "a").write_bytes(b"1")
    first = cli("put", ".", "--to", way, "--json")
    second = cli("put", ".", "--to", way, "--json")
    assert (first.code, second.code) == (0, 0)
    assert [json.loads(line).get("name") for line in second.lines] == [
        None,
        f"{tmp_path.name}/a",
        f"{tmp_path.name}/alias",
        None,
    ]
    assert second.err == "asyncstore: ./store: it is the store itself; left out\n"


def test_a_pipe_in_a_tree_is_named_and_the_rest_is_saved(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_bytes(b"1")
    os.mkfifo(tmp_path / "d" / "pipe\n")
    done = cli("put", "d", "--to", "store")
    assert (done.code, done.lines) == (0, [f"{sha1(b'1')}  d/a"])
    assert done.err == ("asyncstore: d/pipe\\n: it is neither a file nor a directory nor a symbolic link; left out\n")
