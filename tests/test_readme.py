"""Every block of the README and every example in a docstring runs, and shows what it says."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import asyncstore
from tests.golden import extract

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, and the mark in a comment above it, if there is one."""

    line: int
    mark: str | None
    language: str
    text: str


def blocks() -> list[Block]:
    found = re.finditer(r"^(?:<!-- (\S+: \S+) -->\n)?```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [Block(README.count("\n", 0, match.start()) + 1, *match.groups()) for match in found]


def marked(mark: str) -> str:
    (text,) = (block.text for block in blocks() if block.mark == mark)
    return text


MARKED = {"command: quickstart", "command: tests"}
PYTHON = [(block, after) for block, after in zip(blocks(), blocks()[1:], strict=False) if block.language == "python"]
SESSIONS = [block for block in blocks() if block.language == "console" and block.mark is None]


def test_no_block_escapes() -> None:
    assert README.count("```") == 2 * len(blocks())
    assert [block.mark for block in blocks() if block.mark] == sorted(MARKED)
    for block, after in PYTHON:
        assert after.language == "text", f"line {block.line}: the output has to follow"
    accounted = [*(pair for pairs in PYTHON for pair in pairs), *SESSIONS]
    assert all(block in accounted or block.mark in MARKED for block in blocks())
    outside = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    assert re.search(r"^( {4}|\t)\S", outside, re.MULTILINE) is None, "an indented block is a block too"


@pytest.mark.parametrize("pair", PYTHON, ids=lambda pair: f"line {pair[0].line}")
def test_a_python_block_prints_what_stands_below_it(pair: tuple[Block, Block], tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    for part in ("TourFlow/data", "TourFlow/1795447905376589/start"):
        extract(tmp_path, below=part)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", pair[0].text], cwd=tmp_path, env=environ, capture_output=True, text=True
    )
    assert (done.stderr, done.stdout) == ("", pair[1].text)


def matches(expected: str, printed: str) -> bool:
    """Compare output line by line, where a run of dots in what is expected stands for anything."""
    pattern = re.escape(expected).replace(re.escape("..."), ".*")
    return re.fullmatch(pattern, printed) is not None


@pytest.mark.parametrize("block", SESSIONS, ids=lambda block: f"line {block.line}")
def test_a_session_on_the_command_line_goes_as_shown(block: Block, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "model.bin").write_bytes(b"weights" * 1000)
    (tmp_path / "results" / "notes.txt").write_bytes(b"all is well\n")
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    command = f"{shlex.quote(sys.executable)} -m asyncstore"
    for step in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        words, expected = step.split("\n", 1)
        script = f'asyncstore() {{ {command} "$@"; }}\n{words}'
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environ, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert matches(expected, done.stdout), done.stdout


@pytest.mark.servers
def test_the_first_command_sets_up_and_runs_the_main_job_on_a_fresh_machine(tmp_path: Path) -> None:
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.split("\0"):
        if name.startswith("asyncstore/") or name in {"pyproject.toml", "README.md", "LICENSE"}:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    environ = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", marked("command: quickstart")],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ *load, verified +[\d,]+ ", done.stdout, re.MULTILINE)


def test_ci_runs_the_readmes_own_command() -> None:
    assert "nox" in marked("command: tests")
    assert "command: tests -->" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def modules() -> list[str]:
    found = pkgutil.walk_packages(asyncstore.__path__, "asyncstore.")
    return ["asyncstore", *(module.name for module in found if module.name != "asyncstore.__main__")]


def test_every_example_in_a_docstring_runs() -> None:
    failed = {name: doctest.testmod(importlib.import_module(name)).failed for name in modules()}
    assert {name: count for name, count in failed.items() if count} == {}


def test_no_docstring_hides_an_example_from_the_test() -> None:
    """An example is one that doctest sees; a fenced or ``::`` block would never run."""
    hidden = [
        name
        for name in modules()
        for test in doctest.DocTestFinder(exclude_empty=False).find(importlib.import_module(name))
        if test.docstring and re.search(r"```|::\n\n", test.docstring)
    ]
    assert hidden == []
