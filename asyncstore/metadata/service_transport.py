"""Requests to a metadata service that are tried again where that may help."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from random import Random
from typing import Any, Final, ParamSpec, TypeVar

import anyio

from asyncstore.concurrency import ThreadPool
from asyncstore.errors import AsyncStoreError, MetadataError
from asyncstore.metadata.rows import parse_json
from asyncstore.metadata.service_errors import NO_ROUTE, error_for, is_out_of_range
from asyncstore.metadata.service_session import Reply, Request, ServiceSession
from asyncstore.metadata.service_version import require
from asyncstore.retry import next_delay
from asyncstore.types import KIB, Json, RetryPolicy

T = TypeVar("T")
A = ParamSpec("A")

_LOG = logging.getLogger(__name__)

VERSION_HEADER: Final = "METADATA_SERVICE_VERSION"
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"

_SHOWN: Final = 64 * KIB
"""Characters of a reply that are looked at for an error's message."""
_IN_A_THREAD: Final = 256 * KIB
"""From this size on JSON is read in a thread: it takes milliseconds."""
_ROWS_IN_A_THREAD: Final = 1000
"""From this many on rows are parsed and sorted in a thread: each takes about 12 us."""


class ServiceTransport:
    """Speaks JSON with a service over one session.

    Connection errors, passed deadlines, 408, 429, 502, 503 and 504 are tried again as ``retry`` says, 500 only when
    reading. A repeated request has the same Idempotency-Key.
    """

    def __init__(self, session: ServiceSession, retry: RetryPolicy, pool: ThreadPool) -> None:
        self.version: str | None = None
        self._asked = False
        self._session = session
        self._retry = retry
        self._pool = pool

    @property
    def base(self) -> str:
        """The service's URL without credentials."""
        return self._session.url.base

    async def require(self, least: tuple[int, int, int], what: str) -> None:
        """Raise `MetadataError` if the service is older than ``least``; asks it once if no reply has told yet."""
        if self.version is None and not self._asked:
            await self.get("/ping")
            self._asked = True
        require(self.version, least, what, self.base)

    async def get(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Reply:
        """Read a list; a reply of 300 and above raises."""
        return self._checked("GET", path, await self._repeat(Request("GET", path, query)))

    async def get_or_none(self, path: str) -> Any:
        """Return an object, or None if there is none."""
        reply = await self._repeat(Request("GET", path))
        # A path that no service knows would otherwise make all objects look absent.
        missing = reply.status == 404 and not reply.text.startswith(NO_ROUTE)
        if missing or is_out_of_range(reply.status, reply.text):
            return None
        return await self.decode(path, self._checked("GET", path, reply))

    async def write(self, method: str, path: str, body: Json, *, accept_conflict: bool = False) -> Reply:
        """Send a document; a reply of 300 and above raises, 409 only unless it is accepted."""
        request = Request(
            method,
            path,
            body=json.dumps(body).encode("ascii"),
            headers={"Content-Type": "application/json", IDEMPOTENCY_HEADER: uuid.uuid4().hex},
        )
        reply = await self._repeat(request)
        return reply if accept_conflict and reply.status == HTTPStatus.CONFLICT else self._checked(method, path, reply)

    async def once(self, path: str, seconds: float) -> Reply:
        """Post an empty document with one try of at most ``seconds``, and return the reply whatever its status."""
        key = {"Content-Type": "application/json", IDEMPOTENCY_HEADER: uuid.uuid4().hex}
        return self._noted(await self._session.send(Request("POST", path, (), b"{}", key, seconds, beat=True)))

    async def decode(self, path: str, reply: Reply) -> Any:
        """Return the JSON value of a reply's body."""
        with suppress(ValueError):  # which holds the whole body: what is raised below does not bring it along
            if len(reply.body) < _IN_A_THREAD:
                return parse_json(reply.body)
            return await self._pool.run(parse_json, reply.body)
        said = " ".join(self._session.redact(reply.text[:_SHOWN]).split())[:80]
        raise MetadataError(
            f"{self.base}{path}: HTTP {reply.status} with a body that is not JSON: {said!r}; check the URL",
            operation="decode",
            where=f"{self.base}{path}",
        )

    async def work(self, rows: int, function: Callable[A, T], *args: A.args, **kwargs: A.kwargs) -> T:
        """Call a function that looks at so many rows: in a thread where they are enough to hold up the loop."""
        if rows < _ROWS_IN_A_THREAD:
            return function(*args, **kwargs)
        return await self._pool.run(function, *args, **kwargs)

    def error(self, method: str, path: str, reply: Reply) -> AsyncStoreError:
        """Return the error that a reply of 300 and above stands for."""
        retry_after = reply.headers.get("Retry-After")
        return error_for(method, reply.status, reply.text, f"{self.base}{path}", retry_after, self._session.redact)

    async def aclose(self) -> None:
        """Close the session."""
        await self._session.aclose()

    def _checked(self, method: str, path: str, reply: Reply) -> Reply:
        if reply.status >= 300:
            raise self.error(method, path, reply)
        return reply

    def _noted(self, reply: Reply) -> Reply:
        self.version = reply.headers.get(VERSION_HEADER) or self.version
        return reply

    async def _repeat(self, request: Request) -> Reply:
        """Return the first reply that is not worth another try; raises only what is left after the last."""
        random = Random()
        begun = anyio.current_time()
        failures = 0
        while True:
            elapsed = anyio.current_time() - begun
            try:
                reply = await self._session.send(replace(request, seconds=self._retry.total - elapsed))
                error = self.error(request.method, request.path, reply) if reply.status >= 300 else None
                if error is None or not error.retryable:
                    return replace(self._noted(reply), tries=failures + 1)
            except AsyncStoreError as failed:
                error = failed
            failures += 1
            elapsed = anyio.current_time() - begun
            delay = next_delay(self._retry, failures, elapsed, error, random)
            if delay is None:
                if failures > 1:
                    error.add_note(f"attempt {failures} after {elapsed:.1f} s")
                raise error
            _LOG.warning("%s; attempt %d of at most %d in %.1f s", error, failures + 1, self._retry.attempts, delay)
            await anyio.sleep(delay)
