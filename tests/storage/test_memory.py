"""The contract over objects in memory."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from asyncstore.runtime import Runtime
from asyncstore.storage.memory import MemoryStorage
from asyncstore.testing.conformance import Harness, StorageConformance
from asyncstore.testing.traits import MEMORY
from tests.storage.memory_raw import MemoryRaw
from tests.storage.stacks import RUNS, TEST_RUNS

ALL_RUNS = RUNS | TEST_RUNS


@pytest.mark.parametrize("run", ALL_RUNS)
class TestMemory(StorageConformance):
    @pytest.fixture
    def anyio_backend(self, run: str) -> Any:
        return ALL_RUNS[run][0]

    @pytest.fixture
    async def harness(self, run: str) -> AsyncGenerator[Harness]:
        async with Runtime() as runtime:
            storage = MemoryStorage("test", runtime=runtime)
            yield Harness(ALL_RUNS[run][1](storage), MemoryRaw(storage), MEMORY)
