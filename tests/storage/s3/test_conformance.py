"""The contract over S3: moto taking every credential, moto checking signatures, rclone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from asyncstore.runtime import Runtime
from asyncstore.storage.s3 import S3Storage
from asyncstore.storage.s3_settings import S3Settings
from asyncstore.testing.conformance import Harness, StorageConformance
from asyncstore.testing.traits import MOTO, RCLONE
from asyncstore.types import Limits
from tests.servers.start import S3Server
from tests.storage.s3.conftest import settings_for
from tests.storage.s3.raw import RawS3
from tests.storage.stacks import RUNS

# moto answers concurrent writes of one object with 500 now and then, so it needs the retries.
# After a cancelled call, a reused connection to rclone now and then gives what is left of an earlier body; the SDK's
# transport tells it as a broken reply, which the retries repeat. Bare, that is a failure: it runs in the long form
# until connections are closed on every cancellation.
OVER = [
    "rclone: retrying-limited",
    "moto_iam: retrying-limited",
    pytest.param("rclone: bare", marks=pytest.mark.slow),
    pytest.param("moto: retrying-limited-uvloop", marks=pytest.mark.slow),
    pytest.param("rclone: retrying-limited-uvloop", marks=pytest.mark.slow),
]


@dataclass
class Site:
    """A bucket, and the runtime whose client all cases share: to make one takes longer than most cases."""

    server: S3Server
    runtime: Runtime
    settings: S3Settings
    bucket: str
    roots: Iterator[int]


@pytest.fixture(scope="class")
def server(over: str, request: pytest.FixtureRequest) -> S3Server:
    found: S3Server = request.getfixturevalue(over.partition(": ")[0])
    return found


@pytest.fixture(scope="class")
async def site(server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Site]:
    bucket = server.make_bucket()
    settings = settings_for(server, tmp_path_factory.mktemp("s3"))
    async with Runtime(Limits(requests=64)) as runtime:
        keeper = S3Storage(f"s3://{bucket}", runtime=runtime, settings=settings)
        assert await keeper.head("nothing") is None
        yield Site(server, runtime, settings, bucket, count())
        await keeper.aclose()


@pytest.mark.servers
@pytest.mark.parametrize("over", OVER, scope="class")
class TestS3(StorageConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def anyio_backend(cls, over: str) -> Any:
        return RUNS[over.partition(": ")[2]][0]

    @pytest.fixture
    async def harness(self, over: str, site: Site) -> AsyncGenerator[Harness]:
        prefix = f"the/root-{next(site.roots)}"
        s3 = S3Storage(f"s3://{site.bucket}/{prefix}", runtime=site.runtime, settings=site.settings)
        storage = RUNS[over.partition(": ")[2]][1](s3)
        traits = RCLONE if site.server.kind == "rclone" else MOTO
        yield Harness(storage, RawS3(site.server.shared_client, site.bucket, prefix), traits)
        await storage.aclose()
