"""The stand-in for a service on a loopback socket, with scripted faults."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web

from tests.metadata.replay_state import Answer, Service


@dataclass
class Received:
    """A request as it came."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: Mapping[str, str]
    text: str

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Fault:
    """What happens to the next ``times`` requests whose "METHOD path" ``match`` is found in.

    ``refuse`` closes before the request has an effect, ``lose`` after it, ``hang`` never answers, ``answer`` says
    something else, ``cut`` breaks off within the body.
    """

    kind: Literal["refuse", "lose", "hang", "answer", "cut"]
    match: str = ""
    times: int = 1
    answer: Answer = field(default_factory=Answer)


class ReplayServer:
    """``url`` is where it listens; ``received`` has all requests, ``faults`` those that have not come up."""

    def __init__(self, service: Service, prefix: str) -> None:
        self.service = service
        self.prefix = prefix
        self.url = ""
        self.received: list[Received] = []
        self.faults: list[Fault] = []
        self.seconds = 0.0  # that each answer takes
        self.now = self.most = 0  # requests under way

    @property
    def lines(self) -> list[str]:
        return [request.line for request in self.received]

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.seconds)
            return await self.reply(request)
        finally:
            self.now -= 1

    async def reply(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path.removeprefix(self.prefix)
        query = [(key, value) for key, value in request.query.items()]
        received = Received(request.method, path, query, request.headers, await request.text())
        self.received.append(received)
        fault = self.due(received)
        if fault is not None and fault.kind == "hang":
            await asyncio.Event().wait()
        if fault is not None and fault.kind == "refuse":
            return self.drop(request)
        if fault is not None and fault.kind == "answer":
            answer = fault.answer
        else:
            answer = self.service.handle(received.method, path, query, received.text)
        if fault is not None and fault.kind == "lose":
            return self.drop(request)
        content = answer.content().encode()
        headers = {"Content-Type": "text/plain; charset=utf-8", **answer.headers}
        if fault is not None and fault.kind == "cut":
            response = web.StreamResponse(
                status=answer.status, headers={**headers, "Content-Length": str(len(content))}
            )
            await response.prepare(request)
            await response.write(content[: len(content) // 2])
            return self.drop(request)
        return web.Response(status=answer.status, body=content, headers=headers)

    def due(self, received: Received) -> Fault | None:
        for fault in self.faults:
            if re.search(fault.match, received.line):
                fault.times -= 1
                if fault.times == 0:
                    self.faults.remove(fault)
                return fault
        return None

    @staticmethod
    def drop(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()


@asynccontextmanager
async def serve(
    service: Service | None = None, *, prefix: str = "", context: ssl.SSLContext | None = None
) -> AsyncGenerator[ReplayServer]:
    """Run a server on a free port of the loopback."""
    server = ReplayServer(service or Service(), prefix)
    runner = web.ServerRunner(web.Server(server.answer), shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        # Not site.name, which told port 0 before aiohttp 3.14.
        server.url = f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}{prefix}"
        yield server
    finally:
        await runner.cleanup()
