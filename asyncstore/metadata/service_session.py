"""One pooled aiohttp session, and one request on it with its deadline."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Final
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio

from asyncstore.concurrency import CLEANUP_SECONDS, ThreadPool
from asyncstore.errors import AsyncStoreError, ConfigError, MetadataError, MetadataUnavailableError
from asyncstore.metadata.service_headers import HeaderSource, check_headers, redact, secrets_in, secrets_of_proxy
from asyncstore.metadata.service_url import ServiceUrl
from asyncstore.types import KIB, MIB, Timeouts

MAX_REPLY: Final = 512 * MIB
"""Largest reply taken, in bytes."""
_CHUNK: Final = 64 * KIB
_BEATS_PER_CONNECTION: Final = 5


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    ``path`` is percent-encoded, ``seconds`` the most it may take whatever its size. A ``beat`` waits for other beats
    only, never behind long lists.
    """

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    body: bytes | None = None
    headers: Mapping[str, str] | None = None
    seconds: float = float("inf")
    beat: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply, whatever its status. ``tries`` is how many requests it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    tries: int = 1

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")


class ServiceSession:
    """Sends requests, at most ``connections`` at once, and a few times as many heartbeats, which are small.

    Opened at the first request, and anew after a fork or on another event loop.
    """

    def __init__(
        self,
        url: ServiceUrl,
        source: HeaderSource,
        timeouts: Timeouts,
        pool: ThreadPool,
        connections: int,
        ca_file: str | None,
    ) -> None:
        self.url = url
        self._source = source
        self._timeouts = timeouts
        self._pool = pool
        self._connections = connections
        self._ca_file = ca_file
        self._open: _Open | None = None
        # What the parent of a fork has open is kept: collected, it would take its connections out of the parent's loop.
        self._inherited: list[_Open] = []

    async def send(self, request: Request) -> Reply:
        """Send a request and read the whole reply.

        Raises `MetadataUnavailableError` for connections that fail and deadlines that pass, which is connect + idle
        + bytes / min_rate, counting the bytes of the reply as they come.
        """
        opened = await self._opened()
        import aiohttp  # loaded by then, in a thread: it takes a tenth of a second

        try:
            async with opened.beats if request.beat else opened.places:
                return await self._send(opened, request)
        except (aiohttp.ClientError, OSError) as error:
            failure = self._failure(request, error, opened.secrets)
        # Raised here and not above: the client's own error holds the request's headers, and would come along.
        raise failure

    def redact(self, text: str) -> str:
        """Return ``text`` without the values of headers."""
        return redact(text, self._open.secrets) if self._open is not None else text

    async def aclose(self) -> None:
        """Close the connections; at most `CLEANUP_SECONDS`."""
        opened = self._let_go()
        if opened is not None:
            with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                await opened.session.close()

    def _failure(self, request: Request, error: Exception, secrets: Iterable[str]) -> AsyncStoreError:
        """Return what a request that got no whole reply raises, without a credential and without ``error`` itself."""
        import aiohttp

        where = f"{self.url.base}{request.path}"
        kind: type[AsyncStoreError] = MetadataUnavailableError
        if isinstance(error, TimeoutError):
            said = "no reply within the deadline; see whether the service is overloaded"
        elif isinstance(error, aiohttp.ClientConnectorCertificateError):
            kind, said = MetadataError, "its certificate is not trusted; set ca_file if it is your own"
        else:
            # Hidden before it is cut: half a credential would not be recognised.
            text = " ".join(redact(str(error), secrets).split())[:300] or type(error).__name__
            said = f"{text}; see whether the service runs and can be reached"
        return kind(f"{request.method} {where}: {said}", operation=request.method, where=where)

    async def _send(self, opened: _Open, request: Request) -> Reply:
        from yarl import URL

        query = f"?{urlencode(request.query)}" if request.query else ""
        begun = anyio.current_time()
        sent = len(request.body or b"")

        def deadline(received: int) -> float:
            return begun + min(request.seconds, self._timeouts.for_bytes(sent + received + _CHUNK))

        with anyio.CancelScope(deadline=deadline(0)) as scope:
            async with opened.session.request(
                request.method,
                URL(f"{self.url.base}{request.path}{query}", encoded=True),
                data=request.body,
                headers=request.headers,
                proxy=opened.proxy,
                allow_redirects=False,
            ) as response:
                body = bytearray()
                async for chunk in response.content.iter_chunked(_CHUNK):
                    body += chunk
                    if len(body) > MAX_REPLY:
                        raise MetadataError(
                            f"{request.method} {request.path}: the reply is larger than {MAX_REPLY} bytes; ask for less"
                        )
                    scope.deadline = deadline(len(body))
                return Reply(response.status, response.headers, bytes(body))
        raise TimeoutError

    async def _opened(self) -> _Open:
        if self._open is None or not self._open.is_ours():
            headers, proxy, context = await self._pool.run(self._prepare)
            # Another task may have opened it in the meantime.
            if self._open is None or not self._open.is_ours():
                self._let_go()
                self._open = _Open(headers, proxy, context, self.url, self._timeouts, self._connections)
        return self._open

    def _let_go(self) -> _Open | None:
        """Forget what is open and return it, if it is ours to close."""
        opened, self._open = self._open, None
        if opened is not None and opened.is_inherited():
            self._inherited.append(opened)
        return opened if opened is not None and opened.is_ours() else None

    def _prepare(self) -> tuple[dict[str, str], str | None, ssl.SSLContext | None]:
        import_module("aiohttp")  # in this thread, since it takes a tenth of a second
        base = urlsplit(self.url.base)
        try:
            # Reading the system's certificates takes 20 ms.
            context = ssl.create_default_context(cafile=self._ca_file) if base.scheme == "https" else None
        except OSError as error:
            raise ConfigError(
                f"ca_file {self._ca_file}: {error.strerror or error}; name a file of certificates"
            ) from None
        proxy = None if proxy_bypass(base.hostname or "") else getproxies().get(base.scheme)
        return {**check_headers(self._source()), **self.url.headers}, proxy, context


class _Open:
    """An open session, and the process and loop that it belongs to."""

    def __init__(
        self,
        headers: Mapping[str, str],
        proxy: str | None,
        context: ssl.SSLContext | None,
        url: ServiceUrl,
        timeouts: Timeouts,
        connections: int,
    ) -> None:
        import aiohttp

        self.proxy = proxy
        self.places = anyio.Semaphore(connections)
        self.beats = anyio.Semaphore(_BEATS_PER_CONNECTION * connections)
        self.secrets = secrets_in([*headers.values(), *(url.userinfo or "").split(":", 1), *secrets_of_proxy(proxy)])
        self._owner = (os.getpid(), asyncio.get_running_loop())
        self.session = aiohttp.ClientSession(
            # Waiting for a place is not part of a request's deadline, so places are counted above.
            connector=aiohttp.TCPConnector(limit=0, ssl=True if context is None else context),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect, sock_read=timeouts.idle),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    def is_inherited(self) -> bool:
        """Say whether it came by a fork."""
        return self._owner[0] != os.getpid()

    def is_ours(self) -> bool:
        """Say whether this process and loop opened it; then no other may use or close it."""
        return self._owner == (os.getpid(), asyncio.get_running_loop())
