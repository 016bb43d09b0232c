"""A proxy before a real server that breaks requests as scripted, and knows whether it did.

Every request goes over a connection of its own (``Connection: close`` is added, which no signature covers), so that
a fault hits one request and no other.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

PIECE = 16 * 1024
_RST = struct.pack("ii", 1, 0)  # SO_LINGER with zero seconds: closing sends a reset


class FaultNotFiredError(AssertionError):
    """A script did not do what it is for, so the test proved nothing."""


@dataclass
class Fault:
    """What happens to the first ``times`` requests whose "METHOD target" matches ``where``."""

    where: str
    action: Callable[[Exchange], Awaitable[None]]
    times: int = 1
    taken: int = 0
    """Requests that the fault got hold of."""
    fired: int = 0
    """Requests that it broke: actions count up when the harm is done."""

    def matches(self, line: str) -> bool:
        return self.taken < self.times and re.search(self.where, line) is not None


@dataclass
class Exchange:
    """One request, from its head on, and the way to the server."""

    line: str
    head: bytes
    length: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    upstream: tuple[str, int]
    fault: Fault | None = None

    def fire(self) -> None:
        """Note that the harm is done."""
        assert self.fault is not None
        self.fault.fired += 1

    async def body(self, stop: int | None = None) -> AsyncIterator[bytes]:
        """Give the request's body, or its first ``stop`` bytes."""
        left = self.length if stop is None else min(stop, self.length)
        while left:
            piece = await self.reader.read(min(PIECE, left))
            if not piece:
                raise ConnectionResetError("the client went away inside its body")
            left -= len(piece)
            yield piece

    @asynccontextmanager
    async def server(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Connect to the server and send it the request's head."""
        reader, writer = await asyncio.open_connection(*self.upstream)
        try:
            writer.write(self.head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            yield reader, writer
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def forward_request(self, server: asyncio.StreamWriter) -> None:
        async for piece in self.body():
            server.write(piece)
            await server.drain()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self, writer: asyncio.StreamWriter | None = None) -> None:
        """Break a connection (the client's) by a TCP reset."""
        writer = writer or self.writer
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
        writer.transport.abort()


class FaultProxy:
    """Listens on a port of its own and passes requests to ``endpoint``, but for those that a fault takes.

    Faults are set for a block by `scripted`.
    """

    def __init__(self, endpoint: str) -> None:
        url = urlsplit(endpoint)
        assert url.hostname is not None
        assert url.port is not None
        self._upstream = (url.hostname, url.port)
        self._listener: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._faults: list[Fault] = []
        self.lines: list[str] = []
        self.port = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def listen(self) -> None:
        """Accept connections, on the same port as before if there was one."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse new connections until `listen`."""
        assert self._listener is not None
        self._listener.close()
        self._listener = None

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listener is not None:
            self._listener.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    @asynccontextmanager
    async def scripted(self, *faults: Fault) -> AsyncIterator[None]:
        """Break requests inside the block. Raises `FaultNotFiredError` at its end if a fault did not do its harm."""
        self._faults = list(faults)
        self.lines = []
        try:
            yield
        finally:
            self._faults = []
        if self._open:
            await asyncio.wait(self._open, timeout=5)  # until the last fault has heard that the client gave up
        for fault in faults:
            if fault.fired != fault.times:
                raise FaultNotFiredError(f"{fault} fired {fault.fired} times; requests seen: {self.lines}")

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one of the two sides went away, or the test is over
        finally:
            self._open.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line = head.split(b" HTTP/", 1)[0].decode()
        found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        exchange = Exchange(line, head, int(found[1]) if found else 0, reader, writer, self._upstream)
        self.lines.append(line)
        exchange.fault = next((fault for fault in self._faults if fault.matches(line)), None)
        if exchange.fault is None:
            await pass_through(exchange)
        else:
            exchange.fault.taken += 1
            await exchange.fault.action(exchange)


async def pass_through(exchange: Exchange) -> None:
    """Do what a proxy does."""
    async with exchange.server() as (reader, writer):
        await exchange.forward_request(writer)
        while piece := await reader.read(PIECE):
            await exchange.send(piece)
