"""Fixtures of the metadata tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden import extract


@pytest.fixture(scope="session")
def golden_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden datastore, extracted once: to be read only."""
    return extract(tmp_path_factory.mktemp("golden"))
