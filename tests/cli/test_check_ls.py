"""`check` names what is damaged and ends accordingly; `ls` prints what is there."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asyncstore.cas.result import BlobStatus
from asyncstore.cas.store import ContentAddressedStore
from asyncstore.errors import StorageUnavailableError
from asyncstore.types import Key
from tests.cli.conftest import Cli
from tests.golden import expected, extract

BLOBS = "TourFlow/data"


def test_the_golden_datastore_is_clean(cli: Cli, tmp_path: Path) -> None:
    extract(tmp_path, below=BLOBS)
    done = cli("check", ".metaflow")
    assert (done.code, done.err) == (0, "")
    assert done.lines == ["132 blobs in 1 store, 3.3 MiB verified: 0 damaged, 0 unreadable"]
    assert len(expected()["blobs"]) == 132


def test_without_a_url_metaflows_own_datastore_is_checked(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(tmp_path, below=BLOBS)
    (tmp_path / "src").mkdir()
    monkeypatch.chdir(tmp_path / "src")
    assert cli("check").lines[-1].startswith("132 blobs in 1 store, ")
    monkeypatch.setenv("METAFLOW_DEFAULT_DATASTORE", "s3")
    done = cli("check")
    assert (done.code, done.out) == (2, "")
    assert "set METAFLOW_DATASTORE_SYSROOT_S3, or give a URL" in done.err


def test_exactly_the_damaged_blobs_are_named_with_path_key_and_cause(cli: Cli, tmp_path: Path) -> None:
    root = extract(tmp_path, below=BLOBS)
    files = [root / blob["stored_file"] for _, blob in sorted(expected()["blobs"].items())]
    body = bytearray(files[7].read_bytes())
    body[-1] ^= 0x10
    files[7].write_bytes(body)
    files[70].write_bytes(b"")
    files[100].write_bytes(gzip.compress(b"something else"))
    done = cli("check", root)
    assert done.code == 1
    lines = sorted(done.lines[:-1], key=lambda line: line.split()[2])
    assert [line.split()[:3] for line in lines] == [
        ["damaged", file.relative_to(root).as_posix(), file.name] for file in (files[7], files[70], files[100])
    ]
    assert lines[0].endswith("  it cannot be decoded")
    assert lines[2].endswith(f"  its content hashes to {hashlib.sha1(b'something else').hexdigest()}")
    assert done.lines[-1].startswith("132 blobs in 1 store, ")
    assert done.lines[-1].endswith(": 3 damaged, 0 unreadable")


def test_a_check_that_finds_no_blob_could_not_do_its_work(cli: Cli, tmp_path: Path) -> None:
    done = cli("check", "typo")
    assert (done.code, done.out) == (3, "")
    nothing = f"there is no blob below {tmp_path / 'typo'}, so nothing was checked"
    assert done.err == f"asyncstore: {nothing}: give the root of a datastore\n"


def test_blobs_that_gave_no_answer_leave_a_check_unfinished(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def silent(store: object, keys: Iterable[Key]) -> AsyncIterator[AsyncIterator[BlobStatus]]:
        async def statuses() -> AsyncIterator[BlobStatus]:
            for key in keys:
                yield BlobStatus(key, None, StorageUnavailableError("no answer"))

        yield statuses()

    (tmp_path / "a").write_bytes(b"1")
    cli("put", "a", "--to", "store")
    monkeypatch.setattr(ContentAddressedStore, "verify_blobs", silent)
    done = cli("check", "store")
    assert done.code == 3
    assert done.lines[0].startswith("unreadable  files/data/")
    assert done.lines[0].endswith("  no answer")


def test_ls_prints_size_time_and_path(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    key = cli("put", "a", "--to", "store", "--raw").out.split()[0]
    top = cli("ls", "store")
    assert (top.code, top.out.strip()) == (0, "files/")
    (line,) = cli("ls", "store", "files", "--recursive").lines
    path = f"files/data/{key[:2]}/{key}"
    assert re.fullmatch(rf" +1  \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d  {path}", line)
    assert cli("ls", "store", path).lines == [line]
    missing = cli("ls", "store", "nothing")
    assert missing.code == 3
    assert missing.err.startswith("asyncstore: there is no object or directory 'nothing' in ")


def test_the_attempts_of_the_golden_datastore_are_complete_and_registered(cli: Cli, tmp_path: Path) -> None:
    extract(tmp_path)
    done = cli("check", ".metaflow")
    assert (done.code, done.err) == (0, "")
    tasks = [task for run in expected()["flow"]["runs"].values() for step in run["steps"].values()
             for task in step["tasks"].values()]  # fmt: skip
    markers = sum(name.endswith(".DONE.lock") for task in tasks for name in task["datastore_files"])
    assert done.lines[1] == f"{markers} finished attempts: 0 incomplete, 0 not registered"


def test_attempts_that_are_incomplete_or_not_registered_are_named_with_what_to_do(cli: Cli, tmp_path: Path) -> None:
    root = extract(tmp_path)
    run = root / "TourFlow/1795447905376589"
    for row in (run / "end/25/_meta").glob("*attempt-done*"):
        row.unlink()
    (run / "start/1/0.data.json").unlink()
    done = cli("check", root)
    assert done.code == 1
    assert len(done.lines) == 4
    told = sorted(done.lines[:2])
    assert told[0].startswith("attempt  TourFlow/1795447905376589/end/25 attempt 0  done, not registered: ")
    assert told[1].startswith("incomplete  TourFlow/1795447905376589/start/1 attempt 0  ")
    assert "0.data.json is not there" in told[1]
    assert done.lines[3].endswith(": 1 incomplete, 1 not registered")


@pytest.mark.parametrize("sidecar", [b"", b"x{", b'{"cas_raw": true, "cas_version": 1}'])
def test_a_sound_body_beside_a_bad_sidecar_is_named_and_healed(cli: Cli, tmp_path: Path, sidecar: bytes) -> None:
    (tmp_path / "a").write_bytes(b"words " * 1000)
    key = cli("put", "a", "--to", "store").out.split()[0]
    path = f"files/data/{key[:2]}/{key}"
    (tmp_path / "store" / f"{path}_meta").write_bytes(sidecar)
    done = cli("check", "store")
    assert done.code == 1
    assert done.lines[0].split()[:3] == ["damaged", path, key]
    assert f"{path}_meta" in done.lines[0]
    assert done.lines[1].endswith(" verified: 1 damaged, 0 unreadable")
    assert cli("put", "a", "--to", "store", "--verify-existing").code == 0
    assert cli("check", "store").code == 0
