"""An S3 server in memory that costs next to nothing: what a benchmark measures is the client.

    python -m benchmarks.s3_responder PORT [--core N]

Answers GET (with ranges), PUT (with create), HEAD, DELETE, listings, uploads in parts, and keeps user metadata and
checks nothing: no signatures, no checksums. `ceiling` measures its own limit, to be reported beside every result.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast
from urllib.parse import parse_qsl, unquote

import httptools

from benchmarks.s3_objects import Objects, Request


class Connection(asyncio.Protocol):
    """One client connection; requests are answered in order, pipelined or not."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue":
            assert self._transport is not None
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        assert self._transport is not None
        method = self._parser.get_method().decode()
        path, _, query = self._url.decode().partition("?")
        bucket, _, key = unquote(path.lstrip("/")).partition("/")
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        request = Request(method, bucket, key, dict(parse_qsl(query, keep_blank_values=True)), self._headers, body)
        answer = self._objects.answer(request)
        fields = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        head = f"HTTP/1.1 {answer.status} X\r\ncontent-length: {answer.length}\r\n{fields}\r\n".encode("latin-1")
        if method == "HEAD" or not answer.body:
            self._transport.write(head)
        else:
            self._transport.writelines((head, answer.body))
        if self._headers.get("connection", "").lower() == "close":
            self._transport.close()


@contextmanager
def responding(core: int | None) -> Iterator[str]:
    """Run a responder in a process of its own, pinned to ``core``, inside the block; gives its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pin = [] if core is None else ["--core", str(core)]
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.s3_responder", str(port), *pin])
    try:
        _wait(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What the responder can do at most: pipelined GETs of 1 KiB a second."""

    gets_per_second: float


def ceiling(url: str, seconds: float = 2.0) -> Ceiling:
    """Measure a responder by a client that does nothing but send and count bytes."""
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"PUT /ceiling/k HTTP/1.1\r\ncontent-length: 1024\r\n\r\n" + bytes(1024))
        client.recv(65536)
        request = b"GET /ceiling/k HTTP/1.1\r\nhost: x\r\n\r\n"
        client.sendall(request)
        size = _read_reply(client)
        batch, count = request * 64, 0
        began = time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds:
            client.sendall(batch)
            left = size * 64
            while left:
                left -= len(client.recv(min(left, 1 << 18)))
            count += 64
    return Ceiling(count / passed)


def _read_reply(client: socket.socket) -> int:
    got = b""
    while b"\r\n\r\n" not in got or len(got) < got.index(b"\r\n\r\n") + 4 + 1024:
        got += client.recv(65536)
    return len(got)


def _wait(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


async def _serve(port: int) -> None:
    objects = Objects()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(objects), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.s3_responder")
    parser.add_argument("port", type=int)
    parser.add_argument("--core", type=int, help="run on this core alone")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    import uvloop

    uvloop.run(_serve(options.port))


if __name__ == "__main__":
    main()
