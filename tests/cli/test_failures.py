"""Each failure that can be foreseen is one clear line with what to do, an exit code, and no traceback."""

from __future__ import annotations

import errno
import os
import resource
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import NoReturn

import pytest

from asyncstore.cli import main
from asyncstore.cli.failures import exit_code, failure_lines
from asyncstore.errors import AsyncStoreError, BlobNotFoundError, ConfigError, CorruptBlobError
from tests.cli.conftest import Cli, command, in_process

KEY = "0" * 40


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def test_help_and_version_need_nothing(cli: Cli) -> None:
    assert cli("--version").out == "asyncstore 0.1.0\n"
    for words in ([], ["put"], ["get"], ["ls"], ["check"], ["quickstart"]):
        done = cli(*words, "--help")
        assert done.code == 0
        assert done.out.startswith(f"Usage: asyncstore {' '.join(words)}".rstrip())
    assert "asyncstore check ~/project/.metaflow" in cli("--help").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "No such command 'nothing'"),
        (["put", "--to", "store"], "Missing argument 'PATH...'"),
        (["put", "file"], "Missing option '--to'"),
        (["put", "missing", "--to", "store"], "Path 'missing' does not exist"),
        (["put", "file", "--to", "store", "--codec", "zip"], "'zip' is not one of 'gzip', 'lz4'"),
        (["put", "file", "--to", "store", "--codec", "lz4", "--raw"], "--raw does not pack"),
        (["put", "file", "--to", "store", "--prefix", "../a"], "asyncstore: object path '../a'"),
        (["get", "--from", "store"], "give keys, or --manifest FILE, and not both"),
        (["get", KEY, "--manifest", "file", "--from", "store"], "give keys, or --manifest FILE, and not both"),
        (["get", "--manifest", "file", "--from", "store"], "say where with --output DIR"),
        (
            ["get", "--manifest", "file", "--from", "store", "--output", "o"],
            "asyncstore: file, line 1: this is not JSON",
        ),
        (["get", "ABC", "--from", "store"], "asyncstore: 'ABC' is not a key: a key is the 40 lower-case hexadecimal"),
        (["ls", "store", "../a"], "asyncstore: object path '../a'"),
        (["ls", "ftp://host/path"], "asyncstore: 'ftp://host/path' is no storage URL: there is no scheme 'ftp'; it is"),
        (["check", "s3://"], "asyncstore: "),
        (["check", ""], "asyncstore: "),
    ],
)
def test_wrong_usage_is_told_and_ends_with_2(cli: Cli, file: Path, words: list[str], message: str) -> None:
    done = cli(*words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_a_setting_that_is_wrong_is_told_by_the_name_that_holds_it(
    cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASYNCSTORE_DURABILITY", "sometimes")
    done = cli("put", "file", "--to", "store")
    assert done.code == 2
    assert done.err.startswith("asyncstore: ASYNCSTORE_DURABILITY in the environment must be fast, safe or paranoid")
    assert done.err.count("\n") == 1


def test_a_blob_that_is_not_there_is_told_by_its_key(cli: Cli, file: Path) -> None:
    done = cli("get", KEY, "--from", "store", "--output", "o")
    assert done.code == 1
    assert done.out.startswith(f"missing  {KEY}")
    assert done.out.count("\n") == 1
    assert done.err == "asyncstore: 1 file could not be restored\n"


def test_a_damaged_blob_is_told_and_ends_with_1(cli: Cli, file: Path, tmp_path: Path) -> None:
    key = cli("put", "file", "--to", "store").out.split()[0]
    (tmp_path / "store" / "files" / "data" / key[:2] / key).write_bytes(b"damaged")
    done = cli("get", key, "--from", "store", "--output", "o")
    assert done.code == 1
    assert done.out.startswith(f"damaged  {key}")
    assert done.out.count("\n") == 1
    assert done.err == "asyncstore: 1 file could not be restored\n"
    assert list((tmp_path / "o").iterdir()) == []


def test_a_store_whose_extra_is_missing_is_told_with_the_command_that_installs_it(
    cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "aiobotocore", None)
    monkeypatch.setitem(__import__("sys").modules, "aiobotocore.session", None)
    for module in [name for name in __import__("sys").modules if name.startswith("asyncstore.storage.s3")]:
        monkeypatch.delitem(__import__("sys").modules, module)
    done = cli("put", "file", "--to", "s3://bucket/prefix")
    assert done.code == 3
    assert "pip install" in done.err
    assert "asyncstore[s3]" in done.err
    assert done.err.count("\n") == 1


def deny(*arguments: object, **options: object) -> NoReturn:
    raise PermissionError(errno.EACCES, "Permission denied")


def no_space(*arguments: object, **options: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_directory_that_may_not_be_written_is_told(cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.mkdir", deny)  # root may write everywhere, so the system's refusal is played
    done = cli("put", "file", "--to", "closed")
    assert done.code == 3
    assert "Permission denied; " in done.err
    assert "closed" in done.err
    assert done.err.count("\n") == 1


def test_a_full_disk_is_told_on_the_way_in_and_on_the_way_out(
    cli: Cli, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = cli("put", "file", "--to", "store").out.split()[0]
    (tmp_path / "other").write_bytes(b"other content")
    with monkeypatch.context() as patch:
        patch.setattr("os.write", no_space)
        patch.setattr("os.writev", no_space, raising=False)
        patch.setattr("os.pwrite", no_space, raising=False)
        for words in (["put", "other", "--to", "store"], ["get", key, "--from", "store", "--output", "o"]):
            done = cli(*words)
            assert done.code == 3
            assert "No space left on device; free space or raise the quota, then try again" in done.err
            assert done.err.count("\n") == 1
    assert list((tmp_path / "o").iterdir()) == []


def test_a_limit_on_file_size_is_met_by_the_real_system(file: Path, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(3_000_000))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = in_process("put", tmp_path / "large", "--to", tmp_path / "store", preexec_fn=limit)
    assert done.returncode == 3
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_several_failures_are_told_one_by_one_but_not_by_the_hundred() -> None:
    failures = [BlobNotFoundError(f"there is no blob {number}", key=str(number)) for number in range(100)]
    lines = failure_lines(ExceptionGroup("", [failures[0], ExceptionGroup("", failures)]))
    assert lines[:2] == ["there is no blob 0", "there is no blob 1"]
    assert lines[-1] == "and 80 more failures"
    assert len(lines) == 21
    assert failure_lines(AsyncStoreError("a\nb")) == ["a\\nb"]


def test_the_gravest_of_several_failures_decides_the_exit_code() -> None:
    damage, usage, other = CorruptBlobError("", key="", actual=None), ConfigError(""), AsyncStoreError("")
    assert exit_code(ExceptionGroup("", [other, usage, damage])) == 1
    assert exit_code(ExceptionGroup("", [other, usage])) == 2
    assert exit_code(other) == 3


def test_a_failure_that_nobody_foresaw_keeps_its_traceback_and_is_not_called_damage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> NoReturn:
        raise ExceptionGroup("", [AsyncStoreError("foreseen"), ZeroDivisionError()])

    monkeypatch.setattr("asyncstore.cli.ls.run_async", fail)
    monkeypatch.setattr("sys.argv", ["asyncstore", "ls", "store"])
    with pytest.raises(SystemExit, match=r"^3$"):
        main()
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "ZeroDivisionError" in shown


def test_a_file_that_may_not_be_read_is_told_by_its_name(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "secret\n").write_bytes(b"content")
    system = os.open

    def refuse(path: str, *arguments: int, **options: int) -> int:
        if "secret" in os.fspath(path):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return system(path, *arguments, **options)

    monkeypatch.setattr("os.open", refuse)  # root may read everything, so the system's refusal is played
    done = cli("put", "tree", "--to", "store")
    assert (done.code, done.err) == (3, "asyncstore: tree/secret\\n: Permission denied\n")


def test_a_manifest_of_other_bytes_is_refused_with_its_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    whole = cli("put", "file", "--to", "store", "--json").out.encode()
    for number, damaged in ((1, b"\xff\xfe" + whole), (2, whole.replace(b'"key"', b'\xff"key"'))):
        (tmp_path / "manifest").write_bytes(damaged)
        done = cli("get", "--manifest", "manifest", "--from", "store", "--output", "o")
        assert done.code == 2
        assert done.err.startswith(f"asyncstore: manifest, line {number}: this is not JSON, so it is no manifest, or")
        assert done.err.count("\n") == 1


@pytest.mark.parametrize("words", [["put", "file", "--to", "store"], ["quickstart"], ["--help"]])
def test_output_that_cannot_be_written_is_told(file: Path, words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(command(*words), stdout=full, stderr=subprocess.PIPE, text=True, cwd=file.parent)
    assert done.returncode == 3
    assert done.stderr.startswith("asyncstore: cannot write the output: No space left on device\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_do_no_harm(file: Path, closed: str) -> None:
    words = shlex.join(command("put", "file", "--to", "store"))
    assert subprocess.run(["sh", "-c", f"{words} {closed}"], cwd=file.parent, capture_output=True).returncode == 0
    assert in_process("check", file.parent / "store").returncode == 0


def test_a_reader_that_goes_away_ends_a_command_without_a_word(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / "tree" / f"{number:0200}").parent.mkdir(exist_ok=True)
        (tmp_path / "tree" / f"{number:0200}").write_bytes(b"")
    words = command("put", tmp_path / "tree", "--to", tmp_path / "store")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_an_interrupted_restore_ends_with_130_and_leaves_no_partial_file(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(200_000_000))
    store, output = tmp_path / "store", tmp_path / "output"
    environ = {**os.environ, "ASYNCSTORE_DURABILITY": "fast"}
    key = in_process("put", tmp_path / "large", "--to", store, "--raw", env=environ).stdout.split()[0]
    for _ in range(10):
        with subprocess.Popen(
            command("get", key, "--from", store, "--output", output), stderr=subprocess.PIPE, text=True
        ) as process:
            while not any(output.glob(".*.asyncstore-part")) and process.poll() is None:
                time.sleep(0.001)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate()
        if process.returncode != 0:
            break
        (output / key).unlink()  # this machine was too busy to send the signal in time
    assert (process.returncode, err) == (130, "asyncstore: interrupted\n")
    assert list(output.iterdir()) == []
