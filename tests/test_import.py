"""``import asyncstore`` is cheap, and its names are those that type checkers see."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import asyncstore

HEAVY = {"aiobotocore", "aiofiles", "aiohttp", "asyncpg", "azure", "botocore", "click", "gcloud", "rich", "uvloop"}


def modules_loaded_by(statement: str) -> set[str]:
    """Run a statement in a fresh Python and return what it loaded beyond an empty program."""
    code = f"""import sys; before = set(sys.modules)
{statement}
loaded = sorted(set(sys.modules) - before); import json; print(json.dumps(loaded))"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return set(json.loads(done.stdout))


def test_import_loads_no_module_but_the_package_itself_and_the_standard_librarys() -> None:
    loaded = modules_loaded_by("import asyncstore")
    assert {name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names} == {"asyncstore"}
    assert "asyncio" not in loaded


def test_a_name_loads_the_module_it_lives_in_and_nothing_heavy() -> None:
    for module, names in asyncstore._NAMES.items():
        loaded = modules_loaded_by(f"from asyncstore import {', '.join(names.split())}")
        assert module in loaded
        assert {name.partition(".")[0] for name in loaded} & HEAVY == set(), module


def test_import_takes_less_than_100_ms() -> None:
    # The best of five: a loaded machine makes any single one slow.
    code = "import time; start = time.perf_counter(); import asyncstore; print(time.perf_counter() - start)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout) for _ in range(5)
    ]
    assert min(times) < 0.1


def test_each_public_name_can_be_reached_and_listed() -> None:
    for name in asyncstore.__all__:
        assert getattr(asyncstore, name) is not None
    assert set(asyncstore.__all__) <= set(dir(asyncstore))
    with pytest.raises(AttributeError, match="module 'asyncstore' has no attribute 'Kay'"):
        asyncstore.Kay  # type: ignore[attr-defined]  # noqa: B018  # not there: that is the point


def test_type_checkers_and_python_see_the_same_names_in_the_same_modules() -> None:
    tree = ast.parse(Path(asyncstore.__file__).read_text(encoding="utf-8"))
    seen = {
        (node.module, alias.name)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {(module, name) for module, names in asyncstore._NAMES.items() for name in names.split()}
    assert sorted(name for _, name in seen) == asyncstore.__all__
