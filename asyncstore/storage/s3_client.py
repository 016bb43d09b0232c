"""The SDK's clients: one for each runtime, endpoint and choice of credentials, made off the event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Hashable
from typing import Any

import anyio
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError

from asyncstore.concurrency import CLEANUP_SECONDS
from asyncstore.errors import ConfigError
from asyncstore.runtime import Runtime
from asyncstore.storage.s3_errors import translate
from asyncstore.storage.s3_settings import S3Settings, is_aws


class S3Clients:
    """The clients of one runtime, each open as long as a storage uses it."""

    def __init__(self) -> None:
        # The loop itself, not its id, which another one may get. What a fork inherits stays here unused: closing it
        # would take the parent's sockets out of the epoll set that both share.
        self._open: dict[Hashable, _Shared] = {}

    async def borrow(self, settings: S3Settings, connect_timeout: float, runtime: Runtime, root: str) -> Loan:
        """Return a client for these settings and this event loop; give it back with `Loan.end`."""
        key = (settings, connect_timeout, os.getpid(), asyncio.get_running_loop())
        shared = self._open.setdefault(key, _Shared())
        loan = Loan(self, key, shared)
        shared.users += 1
        try:
            async with shared.lock:
                if shared.client is None:
                    connections = runtime.limits.requests
                    try:
                        shared.client = await runtime.pool.run(_make_client, settings, connect_timeout, connections)
                    except BotoCoreError as error:
                        raise translate(error, "open", "", root) from error
        except BaseException:
            await loan.end()
            raise
        return loan

    async def release(self, key: Hashable, shared: _Shared) -> None:
        """Close a client that its last user gave back."""
        shared.users -= 1
        if shared.users == 0:
            del self._open[key]
            if shared.client is not None:
                with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                    await shared.client.close()


class _Shared:
    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.client: Any = None
        self.users = 0


class Loan:
    """The use of a client by one storage, on one event loop of one process."""

    def __init__(self, clients: S3Clients, key: Hashable, shared: _Shared) -> None:
        self._clients = clients
        self._key = key
        self._shared = shared
        self._ended = False
        self.process = os.getpid()
        self.loop = asyncio.get_running_loop()

    @property
    def client(self) -> Any:
        return self._shared.client

    @property
    def current(self) -> bool:
        """Whether this is still the process and the event loop that the client's connections belong to."""
        return self.process == os.getpid() and self.loop is asyncio.get_running_loop()

    async def end(self) -> None:
        """Give the client back; a second call does nothing."""
        if not self._ended:
            self._ended = True
            await self._clients.release(self._key, self._shared)


class _SingleTrySession(AIOHTTPSession):  # type: ignore[misc]  # the SDK ships no types
    """aiohttp repeats idempotent requests once when a connection breaks; only one layer may, and that is ours.

    A create whose reply was lost would meet its own object and be taken for a conflict.
    """

    async def _get_session(self, proxy_url: str | None) -> Any:
        session: Any = await super()._get_session(proxy_url)
        session._retry_connection = False  # noqa: SLF001  # aiohttp has no public way; the fault suite would notice
        return session


def _make_client(settings: S3Settings, connect_timeout: float, connections: int) -> Any:
    # In a thread with a loop of its own, since the SDK parses 2 MiB of JSON here and reads the files (and asks the
    # endpoints) of its credential chain. The client opens its connections later, on the loop of its first call.
    if isinstance(settings.verify, str) and not os.path.exists(settings.verify):
        raise ConfigError(f"verify: there is no file {settings.verify}; give one with CA certificates, or leave it out")
    return asyncio.run(_create(settings, connect_timeout, connections))


async def _create(settings: S3Settings, connect_timeout: float, connections: int) -> Any:
    session = AioSession(profile=settings.profile)
    if settings.credentials_file is not None:
        session.set_config_variable("credentials_file", settings.credentials_file)
    own_endpoint = settings.endpoint_url is not None and not is_aws(settings.endpoint_url)
    s3: dict[str, Any] = {
        # The checksum header is signed, so the body is bound to the signature without one more hash of it.
        "payload_signing_enabled": False,
    }
    if settings.addressing != "auto" or own_endpoint:
        s3["addressing_style"] = "virtual" if settings.addressing == "virtual" else "path"
    config = AioConfig(
        signature_version="s3v4",
        s3=s3,
        connect_timeout=connect_timeout,
        read_timeout=None,  # each call has a deadline of ours, which knows how many bytes move
        http_session_cls=_SingleTrySession,
        max_pool_connections=connections,
        retries={"total_max_attempts": 1, "mode": "standard"},
        parameter_validation=False,  # would refuse memoryviews; parameters are built here and typed
        # Checksums are sent explicitly. The SDK's own way (trailers, checks of ranges) breaks on several servers.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="asyncstore",
    )
    region = settings.region or session.get_config_variable("region") or ("us-east-1" if own_endpoint else None)
    context = session.create_client(
        "s3", region_name=region, endpoint_url=settings.endpoint_url, verify=settings.verify, config=config
    )
    return await context.__aenter__()
