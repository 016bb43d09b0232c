from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncstore.datastore.flow import FlowDataStore
from asyncstore.runtime import Runtime
from asyncstore.storage.base import DataStoreStorage
from asyncstore.storage.local import LocalStorage
from asyncstore.storage.memory import MemoryStorage
from asyncstore.storage.registry import open_storage
from tests.cas.plain import PlainStorage
from tests.golden import extract
from tests.servers.start import S3Server


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    async with Runtime() as runtime:
        yield runtime
        assert runtime.memory.used == 0
        assert runtime.requests.available == runtime.limits.requests


@pytest.fixture(params=["local", "memory", "single requests", pytest.param("s3", marks=pytest.mark.servers)])
async def storage(
    request: pytest.FixtureRequest, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[DataStoreStorage]:
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("moto")
        for name, value in server.environ().items():
            monkeypatch.setenv(name, value)
        async with open_storage(
            f"s3://{server.make_bucket()}/root", runtime=runtime, endpoint_url=server.endpoint
        ) as opened:
            yield opened
    elif request.param == "local":
        yield LocalStorage(tmp_path / "root", runtime=runtime, durability="fast")
    else:
        yield (MemoryStorage if request.param == "memory" else PlainStorage)("test", runtime=runtime)


@pytest.fixture
def plain(runtime: Runtime) -> PlainStorage:
    return PlainStorage("test", runtime=runtime)


@pytest.fixture
def flow(storage: DataStoreStorage) -> FlowDataStore:
    return FlowDataStore("Flow", storage)


@pytest.fixture(scope="session")
def golden_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The datastore that Metaflow wrote; not to be written to."""
    return extract(tmp_path_factory.mktemp("golden"))
