"""The contract over files."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from asyncstore.runtime import Runtime
from asyncstore.storage.local import LocalStorage
from asyncstore.testing.conformance import Harness, StorageConformance
from asyncstore.testing.traits import LOCAL
from tests.storage.local_raw import LocalRaw
from tests.storage.stacks import RUNS


@pytest.mark.parametrize("run", RUNS)
class TestLocal(StorageConformance):
    @pytest.fixture
    def anyio_backend(self, run: str) -> Any:
        return RUNS[run][0]

    @pytest.fixture
    async def harness(self, run: str, scratch: Path) -> AsyncGenerator[Harness]:
        root = scratch / "root"
        async with Runtime() as runtime:
            storage = RUNS[run][1](LocalStorage(root, runtime=runtime, durability="fast"))
            yield Harness(storage, LocalRaw(root), LOCAL)
            await storage.aclose()
