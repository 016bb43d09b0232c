"""S3 storages over the test servers, each in a bucket of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from asyncstore.runtime import Runtime
from asyncstore.storage.s3 import S3Storage
from asyncstore.storage.s3_settings import S3Settings
from asyncstore.types import Limits, Timeouts
from tests.servers.start import S3Server

OpenS3 = Callable[..., Awaitable[S3Storage]]


@pytest.fixture(autouse=True)
def only_the_tests_own_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(params=["moto", "moto_iam", "rclone"])
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    server: S3Server = request.getfixturevalue(request.param)
    return server


def credentials_file(directory: Path, server: S3Server) -> str:
    """Write the credentials of a server into a file and return its path."""
    path = directory / f"credentials-{server.kind}"
    path.write_text(
        f"[default]\naws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n"
    )
    path.chmod(0o600)
    return str(path)


def settings_for(server: S3Server, directory: Path, **changes: Any) -> S3Settings:
    """Return the settings with which a test reaches a server."""
    settings: dict[str, Any] = {
        "endpoint_url": server.endpoint,
        "credentials_file": credentials_file(directory, server),
        "conditional_writes": server.kind != "rclone",
    }
    return S3Settings(**{**settings, **changes})


@pytest.fixture
async def open_s3(tmp_path: Path) -> AsyncIterator[OpenS3]:
    """Open storages in new buckets of a server; all are closed after the test."""
    async with AsyncExitStack() as stack:

        async def open_one(
            server: S3Server,
            *,
            url: str | None = None,
            runtime: Runtime | None = None,
            timeouts: Timeouts | None = None,
            **changes: Any,
        ) -> S3Storage:
            if runtime is None:
                runtime = await stack.enter_async_context(Runtime(Limits(requests=16)))
            storage = S3Storage(
                url or f"s3://{server.make_bucket()}/some/prefix",
                runtime=runtime,
                timeouts=timeouts,
                settings=settings_for(server, tmp_path, **changes),
            )
            stack.push_async_callback(storage.aclose)
            return storage

        yield open_one
