"""The shipped suite over the service provider, against the stand-in with pages and without."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from asyncstore.metadata.base import MetadataProvider
from asyncstore.metadata.service import ServiceMetadataProvider
from asyncstore.metadata.system import SystemInfo
from asyncstore.testing.metadata.base import RawRun
from asyncstore.testing.metadata.suite import MetadataProviderSuite
from tests.metadata.replay_server import ReplayServer, serve
from tests.metadata.replay_state import Service


class ServiceSuite(MetadataProviderSuite):
    @pytest.fixture
    async def server(self) -> AsyncIterator[ReplayServer]:
        async with serve(self.make_service()) as server:
            yield server
            posts = [request for request in server.received if request.method == "POST"]
            keys = [request.headers["Idempotency-Key"] for request in posts]
            assert len(set(keys)) == len(keys)

    def make_service(self) -> Service:
        return Service()

    @pytest.fixture
    def open_provider(self, server: ReplayServer) -> Callable[[], AbstractAsyncContextManager[MetadataProvider]]:
        return lambda: ServiceMetadataProvider(server.url, system=SystemInfo("tester"))

    @pytest.fixture
    def raw_run(self, server: ReplayServer) -> RawRun:
        def stored(flow: str, run: str) -> dict[str, object]:
            row = server.service.run(flow, run)
            assert row is not None
            return dict(row)

        return stored


class TestServiceMetadataProvider(ServiceSuite):
    pass


class TestServiceMetadataProviderWithoutPages(ServiceSuite):
    def make_service(self) -> Service:
        return Service(paged=False, version=None)
