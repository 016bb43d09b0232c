"""The benchmark runner counts right, and gives no numbers for wrong results."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.contents import Case
from benchmarks.process import Rival, RivalFailedError
from benchmarks.report import markdown, print_table
from benchmarks.result import ratio
from benchmarks.runner import run_stores

HERE = Path(__file__).parent
CASE = Case("3 x 1 KiB", 3, 1024, "records")


def rival(name, fault=""):
    return Rival(name, "scripted", Path(sys.executable), {"fault": fault}, {"PYTHONPATH": str(HERE / "rivals")})


def test_every_repeat_of_every_rival_is_counted_and_compared_with_the_first(tmp_path):
    result = run_stores("test", [rival("slow"), rival("fast")], [CASE], {"here": tmp_path}, repeats=3)
    assert result.rows() == [("3 x 1 KiB", "here")]
    for one in result.series:
        assert len(one.wall) == len(one.cpu) == len(one.peak) == 3
        assert all(seconds > 0 for seconds in one.wall)
        assert one.stored == one.bytes > 3000
    assert {(one.rival, one.operation) for one in result.series} == {
        (name, operation) for name in ("slow", "fast") for operation in ("save", "load")
    }
    assert result.rivals["fast"]["versions"] == {"python": sys.version.split()[0], "scripted": "1"}
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"

    result.write(tmp_path / "new" / "result.json")
    written = json.loads((tmp_path / "new" / "result.json").read_text())
    assert (written["format"], written["version"], written["repeats"]) == ("asyncstore-benchmark", 1, 3)
    assert len(written["ratios"]) == 2
    assert {"commit", "cpus", "load", "system"} <= set(written["machine"])
    assert "| 3 x 1 KiB, here | " in markdown(result)
    console = Console(record=True, width=200, file=io.StringIO())
    print_table(result, console)
    assert console.export_text().count("3 x 1 KiB") == 4


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("wrong keys", "bad saved 3 x 1 KiB under wrong keys"),
        ("wrong bytes", "bad loaded other bytes"),
        ("raises", "ZeroDivisionError: scripted"),
        ("dies", "bad: the process ended during 'save'"),
    ],
)
def test_a_rival_that_fails_or_answers_wrongly_ends_the_run(tmp_path, fault, words):
    with pytest.raises(RivalFailedError, match=words):
        run_stores("test", [rival("good"), rival("bad", fault)], [CASE], {"here": tmp_path}, repeats=1)


def test_ratios_are_taken_pair_by_pair():
    found = ratio([1.0, 10.0, 3.0], [0.5, 1.0, 1.0])
    assert (found.median, found.least, found.most) == (3.0, 2.0, 10.0)
    assert str(found) == "3.0x [2.0-10.0]"


def test_contents_are_the_same_in_every_run(tmp_path):
    assert CASE.write(tmp_path / "a") == CASE.write(tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


@pytest.mark.servers
def test_the_local_benchmark_works_against_metaflow(tmp_path, metaflow_python):
    command = [sys.executable, "-m", "benchmarks.bench_local", "--quick", "--repeats", "1", "--markdown"]
    output = tmp_path / "result.json"
    done = subprocess.run([*command, "--output", output, "--disk", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| 1 x 10 MiB, disk | " in done.stdout
    result = json.loads(output.read_text())
    assert result["rivals"]["Metaflow"]["versions"]["metaflow"] == "2.19.39"
    assert len(result["series"]) == 3 * len(result["places"]) * 6
