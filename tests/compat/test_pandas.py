"""The presets of the trust policy admit what numpy and pandas write, in the versions that people have."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.environments import ensure
from tests.servers.fixtures import needed

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("version", ["pandas3", pytest.param("pandas2", marks=pytest.mark.slow)])
def test_arrays_and_frames_load_under_their_presets_and_not_without(version: str) -> None:
    with needed():
        python = ensure(version)
    done = subprocess.run(
        [python, Path(__file__).with_name("pandas_trust.py")],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.fspath(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr[-2000:]
