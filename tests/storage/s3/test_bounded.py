"""Memory, tasks and connections are bounded, whatever the size and number of blobs; and nothing is left unclosed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncstore.types import GIB, MIB
from benchmarks.s3_responder import responding
from tests.storage.s3.bounded import REQUESTS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of a process")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with responding(None) as url:
        yield url


def run(endpoint: str, *arguments: str) -> dict[str, int]:
    environ = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "AKIANOTCHECKED",
        "AWS_SECRET_ACCESS_KEY": "notchecked",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    script = Path(__file__).with_name("bounded.py")
    command = [sys.executable, "-W", "error", str(script), "s3://bucket/root", endpoint]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stderr[-3000:]
    # "Unclosed client session" and its like come by the loop's handler or as ignored exceptions, on standard error.
    assert done.stderr == ""
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("size", [128 * MIB, pytest.param(GIB, marks=pytest.mark.slow)])
def test_a_large_blob_takes_at_most_128_mib_up_and_down(endpoint: str, size: int) -> None:
    found = run(endpoint, "large", str(size))
    assert found["moved"] == size
    assert found["peak"] <= 128 * MIB


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_many_small_blobs_take_few_tasks_and_connections(endpoint: str, count: int) -> None:
    found = run(endpoint, "small", str(count))
    assert found["moved"] == count
    assert found["tasks"] <= 4 * REQUESTS
    assert found["sockets"] <= REQUESTS + 8
    assert found["peak"] <= 64 * MIB
