from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncstore.datastore.flow import FlowDataStore
from asyncstore.runtime import Runtime
from asyncstore.storage.local import LocalStorage
from asyncstore.storage.memory import MemoryStorage
from tests.cas.plain import PlainStorage
from tests.golden import extract


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    async with Runtime() as runtime:
        yield runtime
        assert runtime.memory.used == 0
        assert runtime.requests.available == runtime.limits.requests


@pytest.fixture(params=["local", "memory", "single requests"])
def storage(
    request: pytest.FixtureRequest, runtime: Runtime, tmp_path: Path
) -> LocalStorage | MemoryStorage | PlainStorage:
    if request.param == "local":
        return LocalStorage(tmp_path / "root", runtime=runtime, durability="fast")
    kind = MemoryStorage if request.param == "memory" else PlainStorage
    return kind("test", runtime=runtime)


@pytest.fixture
def plain(runtime: Runtime) -> PlainStorage:
    return PlainStorage("test", runtime=runtime)


@pytest.fixture
def flow(storage: LocalStorage | MemoryStorage | PlainStorage) -> FlowDataStore:
    return FlowDataStore("Flow", storage)


@pytest.fixture(scope="session")
def golden_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The datastore that Metaflow wrote; not to be written to."""
    return extract(tmp_path_factory.mktemp("golden"))
