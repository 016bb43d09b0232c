"""Fixtures that every test module may use."""

from __future__ import annotations

import pytest
from hypothesis import settings

# Hypothesis must not time its examples: on a loaded machine any single one may be slow.
settings.register_profile("asyncstore", deadline=None)
settings.load_profile("asyncstore")

pytest.register_assert_rewrite("asyncstore.testing")

pytest_plugins = ["tests.servers.fixtures"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
