"""The shipped suite over the local provider."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from asyncstore.metadata.base import MetadataProvider
from asyncstore.metadata.local import LocalMetadataProvider
from asyncstore.metadata.system import SystemInfo
from asyncstore.testing.metadata.base import RawRun
from asyncstore.testing.metadata.suite import MetadataProviderSuite


class TestLocalMetadataProvider(MetadataProviderSuite):
    @pytest.fixture
    def open_provider(self, tmp_path: Path) -> Callable[[], AbstractAsyncContextManager[MetadataProvider]]:
        def provider() -> AbstractAsyncContextManager[MetadataProvider]:
            return LocalMetadataProvider(tmp_path / ".metaflow", system=SystemInfo("tester"), durability="fast")

        return provider

    @pytest.fixture
    def raw_run(self, tmp_path: Path) -> RawRun:
        return lambda flow, run: json.loads((tmp_path / ".metaflow" / flow / run / "_meta/_self.json").read_text())
