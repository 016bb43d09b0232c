"""The contract over a storage of which every fourth call fails: `Retrying` hides all of it."""

from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace

import pytest

from asyncstore.runtime import Runtime
from asyncstore.storage.limited import Limited
from asyncstore.storage.memory import MemoryStorage
from asyncstore.storage.retrying import Retrying
from asyncstore.testing.conformance import Harness, StorageConformance
from asyncstore.testing.faults import RandomFaults
from asyncstore.testing.faulty import Faulty
from asyncstore.testing.traits import MEMORY
from asyncstore.types import RetryPolicy
from tests.storage.memory_raw import MemoryRaw

POLICY = RetryPolicy(attempts=30, base=1e-6, cap=1e-5)
TRAITS = replace(
    MEMORY,
    name="flaky memory",
    lacks={
        **MEMORY.lacks,
        "atomic create by parts": "a complete whose reply was lost is settled by size and attributes, here all alike",
    },
)


@pytest.fixture(scope="module")
def fired() -> Iterator[Counter[tuple[str, str]]]:
    fired: Counter[tuple[str, str]] = Counter()
    yield fired
    assert {kind for _, kind in fired} == {"refuse", "lose", "break", "cut"}
    assert {verb for verb, _ in fired} >= {"get", "put", "head", "list", "delete", "put_part", "complete", "put_batch"}


class TestFlaky(StorageConformance):
    @pytest.fixture
    async def harness(self, request: pytest.FixtureRequest, fired: Counter[tuple[str, str]]) -> AsyncGenerator[Harness]:
        faults = RandomFaults(sum(request.node.name.encode()), 0.25)
        async with Runtime() as runtime:
            memory = MemoryStorage("test", runtime=runtime)
            storage = Retrying(Limited(Faulty(memory, faults)), POLICY)
            yield Harness(storage, MemoryRaw(memory), TRAITS)
        fired.update(faults.fired)
