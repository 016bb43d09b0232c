from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.runtime import Runtime
from asyncstore.storage.memory import MemoryStorage
from tests.cas.plain import PlainStorage


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    async with Runtime() as runtime:
        yield runtime
        assert runtime.memory.used == 0
        assert runtime.requests.available == runtime.limits.requests


@pytest.fixture(params=["batches", "single requests"])
def storage(request: pytest.FixtureRequest, runtime: Runtime) -> MemoryStorage:
    kind = MemoryStorage if request.param == "batches" else PlainStorage
    return kind("test", runtime=runtime)


@pytest.fixture
def plain(runtime: Runtime) -> PlainStorage:
    return PlainStorage("test", runtime=runtime)


@pytest.fixture
def store(storage: MemoryStorage) -> ContentAddressedStore:
    return ContentAddressedStore("Flow/data", storage)
