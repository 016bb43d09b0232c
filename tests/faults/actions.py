"""What can go wrong with one request: each function gives an action for `Fault`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from tests.faults.proxy import PIECE, Exchange

Action = Callable[[Exchange], Awaitable[None]]


def answer(status: int, code: str, headers: Mapping[str, str] | None = None) -> Action:
    """Answer with an S3 error after the body was read; the server never hears of the request."""

    async def act(exchange: Exchange) -> None:
        async for _ in exchange.body():
            pass
        body = f"<Error><Code>{code}</Code><Message>scripted</Message></Error>".encode()
        fields = {**(headers or {}), "Content-Length": str(len(body)), "Connection": "close"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        sent = b"" if exchange.line.startswith("HEAD") else body
        await exchange.send(f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode() + sent)
        exchange.fire()

    return act


def break_request(after: int, *, reset: bool) -> Action:
    """Break off after so many bytes of the request's body; the server gets those and then the same end."""

    async def act(exchange: Exchange) -> None:
        assert exchange.length > after, "the body is too short for this fault"
        async with exchange.server() as (_, server):
            async for piece in exchange.body(after):
                server.write(piece)
            await server.drain()
            if reset:
                exchange.reset(server)
            _end(exchange, reset=reset)
            exchange.fire()

    return act


def break_reply(after: int, *, reset: bool) -> Action:
    """Break off after so many bytes of the reply's body."""

    async def act(exchange: Exchange) -> None:
        async with _reply(exchange) as (head, pieces):
            await exchange.send(head)
            left = after
            async for piece in pieces:
                if len(piece) > left:
                    await exchange.send(piece[:left])
                    _end(exchange, reset=reset)
                    exchange.fire()
                    return
                await exchange.send(piece)
                left -= len(piece)

    return act


def lose_reply(*, reset: bool = True) -> Action:
    """Let the server do its work and answer, and break off without a byte of the answer."""

    async def act(exchange: Exchange) -> None:
        async with _reply(exchange) as (head, pieces):
            async for _ in pieces:
                pass
            first = exchange.fault is None or not exchange.fault.fired
            assert not first or head.split(b" ", 2)[1].startswith(b"2"), f"the server did not act: {head!r}"
            _end(exchange, reset=reset)
            exchange.fire()

    return act


def stall(after: int | None = None) -> Action:
    """Say nothing at all, or nothing more after so many bytes of the reply's body, until the client gives up."""

    async def act(exchange: Exchange) -> None:
        if after is None:
            await _until_the_client_gives_up(exchange)
            return
        async with _reply(exchange) as (head, pieces):
            await exchange.send(head)
            left = after
            async for piece in pieces:
                await exchange.send(piece[:left])
                if len(piece) > left:
                    await _until_the_client_gives_up(exchange)
                    return
                left -= len(piece)

    return act


def drip(step: int, pause: float) -> Action:
    """Send the reply's body ``step`` bytes at a time with a pause after each, until the client gives up."""

    async def act(exchange: Exchange) -> None:
        async with _reply(exchange) as (head, pieces):
            await exchange.send(head)
            async for piece in pieces:
                for start in range(0, len(piece), step):
                    try:
                        await exchange.send(piece[start : start + step])
                        await asyncio.sleep(pause)
                        if exchange.reader.at_eof():
                            raise ConnectionResetError
                    except ConnectionError:
                        exchange.fire()
                        raise

    return act


def flip_reply(at: int) -> Action:
    """Change one byte of the reply's body."""

    async def act(exchange: Exchange) -> None:
        async with _reply(exchange) as (head, pieces):
            await exchange.send(head)
            await _send_flipped(exchange, pieces, at, exchange.send)

    return act


def flip_request(at: int) -> Action:
    """Change one byte of the request's body."""

    async def act(exchange: Exchange) -> None:
        async with exchange.server() as (reader, writer):

            async def send(piece: bytes) -> None:
                writer.write(piece)
                await writer.drain()

            await _send_flipped(exchange, exchange.body(), at, send)
            async for piece in _until_end(reader):
                await exchange.send(piece)

    return act


async def _send_flipped(
    exchange: Exchange, pieces: AsyncIterator[bytes], at: int, send: Callable[[bytes], Awaitable[None]]
) -> None:
    position = 0
    async for piece in pieces:
        changed = bytearray(piece)
        if position <= at < position + len(piece):
            changed[at - position] ^= 0xFF
            exchange.fire()
        await send(bytes(changed))
        position += len(piece)


@asynccontextmanager
async def _reply(exchange: Exchange) -> AsyncIterator[tuple[bytes, AsyncIterator[bytes]]]:
    """Let the server work; give the head of its reply, and the body in pieces."""
    async with exchange.server() as (reader, writer):
        await exchange.forward_request(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        yield head, _until_end(reader)


async def _until_end(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while piece := await reader.read(PIECE):
        yield piece


async def _until_the_client_gives_up(exchange: Exchange) -> None:
    try:
        async for _ in _until_end(exchange.reader):
            pass
    except ConnectionError:
        pass
    exchange.fire()


def _end(exchange: Exchange, *, reset: bool) -> None:
    if reset:
        exchange.reset()
    else:
        exchange.writer.close()
