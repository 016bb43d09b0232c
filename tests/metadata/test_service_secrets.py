"""Credentials of a service appear in no message, log, repr or pickle, even when the service echoes them."""

from __future__ import annotations

import base64
import logging
import pickle
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from asyncstore.errors import AsyncStoreError, ConfigError, MetadataUnavailableError
from asyncstore.metadata.base import fetch_objects
from asyncstore.metadata.heartbeat import MetadataHeartBeat
from asyncstore.metadata.records import DataArtifactRecord, MetaDatum
from asyncstore.metadata.service import ServiceMetadataProvider
from asyncstore.metadata.service_headers import EnvironmentHeaders, StaticHeaders
from asyncstore.metadata.service_url import ServiceUrl
from asyncstore.metadata.system import SystemInfo
from asyncstore.types import RetryPolicy, Timeouts
from tests.metadata.replay_server import Fault, ReplayServer, serve
from tests.metadata.replay_state import Answer

KEY = 'k3y-of-"the"-gäteway'
TOKEN = "t0ken-of-a-header"
USER, PASSWORD = "joe-the-user", "pa55word-in-the-url"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
SECRETS = (KEY, TOKEN, PASSWORD, BASIC)
HEADERS = {"x-api-key": KEY, "Authorization-2": f"Bearer {TOKEN}", "x-token": TOKEN}

Call = Callable[[ServiceMetadataProvider], Awaitable[Any]]
RECORD = DataArtifactRecord("x", "local", "/r", None, "pickle-v4", "0" * 40)
CALLS: list[Call] = [
    lambda p: p.version(),
    lambda p: p.new_run_id("F"),
    lambda p: p.register_run_id("F", "name"),
    lambda p: p.new_task_id("F", "1", "s"),
    lambda p: p.register_task_id("F", "1", "s", "name"),
    lambda p: p.register_metadata("F", "1", "s", "2", [MetaDatum("f", "v", "t")]),
    lambda p: p.register_data_artifacts("F", "1", "s", "2", attempt=0, artifacts=[RECORD]),
    lambda p: p.mutate_user_tags_for_run("F", "1", add=["a"]),
    lambda p: p.get_object("F"),
    lambda p: fetch_objects(p, "run", "F"),
    lambda p: p.filter_tasks_by_metadata("F", "1", "s"),
    lambda p: p.beat("F", "1"),
]


@pytest.fixture
async def server() -> AsyncIterator[ReplayServer]:
    async with serve() as server:
        yield server


def open_provider(url: str) -> ServiceMetadataProvider:
    return ServiceMetadataProvider(
        url.replace("://", f"://{USER}:{PASSWORD}@"),
        headers=HEADERS,
        system=SystemInfo("tester"),
        retry=RetryPolicy(attempts=2, base=0.001, cap=0.001),
        timeouts=Timeouts(connect=0.05, idle=0.05, min_rate=10_000_000),
        beat_timeout=0.05,
    )


def check(text: str) -> None:
    for secret in SECRETS:
        assert secret not in text


def shown(error: BaseException) -> str:
    chain = "".join(traceback.format_exception(error))
    behind = [error]  # what a debugger or a collector of errors would look at
    while (above := behind[-1].__cause__ or behind[-1].__context__) is not None:
        behind.append(above)
    parts = "".join(f"{one} {one!r} {one.args!r} {vars(one)}" for one in behind)
    return f"{chain} {parts} {pickle.dumps(error)!r}"


ECHO = f"refused: x-api-key={KEY} authorization={TOKEN} basic {BASIC} {PASSWORD}"  # in JSON, the key is escaped


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault("answer", "", 99, Answer(status, ECHO)) for status in (301, 400, 401, 404, 409, 422, 429, 500, 503)),
        Fault("answer", "", 99, Answer(500, {"detail": ECHO, "traceback": ECHO})),
        Fault("answer", "", 99, Answer(200, text=ECHO)),
        Fault("answer", "", 99, Answer(404, text=f"404: Not Found {ECHO}")),
        Fault("refuse", "", 99),
        Fault("hang", "", 99),
        Fault("cut", "", 99, Answer(200, ECHO)),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.answer.status}",
)
async def test_no_failure_shows_a_credential(
    server: ReplayServer, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.faults = [fault]
    failed = 0
    for call in CALLS:
        async with open_provider(server.url) as provider:
            try:
                await call(provider)
            except AsyncStoreError as error:
                failed += 1
                check(shown(error))
    assert failed >= 2
    assert {request.headers["x-api-key"] for request in server.received} == {KEY}
    assert {request.headers["Authorization"] for request in server.received} == {f"Basic {BASIC}"}
    check(caplog.text)
    check("".join(str(vars(record)) for record in caplog.records))


async def test_the_heartbeat_logs_no_credential(server: ReplayServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.faults = [Fault("answer", "", 99, Answer(400, ECHO))]
    async with open_provider(server.url) as provider, MetadataHeartBeat(lambda: provider.beat("F", "1")):
        pass
    assert "heartbeat" in caplog.text
    check(caplog.text)


async def test_nothing_that_is_printed_shows_a_credential(server: ReplayServer) -> None:
    provider = open_provider(server.url)
    url = ServiceUrl.parse(f"https://{USER}:{PASSWORD}@host:1/p")
    assert url.userinfo == f"{USER}:{PASSWORD}"
    for item in (provider, provider.info, url, StaticHeaders(HEADERS), provider._options):
        check(f"{item!r} {item!s}")
    with pytest.raises(ConfigError, match="not pickled") as caught:
        pickle.dumps(provider)
    check(shown(caught.value))
    with pytest.raises(ConfigError, match="not pickled") as caught:
        pickle.dumps(ServiceMetadataProvider(server.url, headers=HEADERS))
    check(shown(caught.value))


@pytest.mark.parametrize(
    "headers", [{"x-api-key": f"{KEY}\r\nInjected: 1"}, {"x-api-key\n": KEY}, {"x-api-key": KEY.encode()}, {"": KEY}]
)
async def test_headers_that_cannot_be_sent_are_named_without_their_value(server: ReplayServer, headers: Any) -> None:
    async with ServiceMetadataProvider(server.url, headers=headers) as provider:
        with pytest.raises(ConfigError, match="header") as caught:
            await provider.version()
    check(shown(caught.value))


def test_a_wrong_url_shows_no_password() -> None:
    for url in (f"ftp://{USER}:{PASSWORD}@host", f"http://{USER}:{PASSWORD}@host:bad/"):
        with pytest.raises(ConfigError) as caught:
            ServiceMetadataProvider(url)
        check(shown(caught.value))


@pytest.mark.parametrize("before", [66, 70, 74, 286, 290, 294])
@pytest.mark.parametrize("status", [200, 401])
async def test_a_credential_where_a_message_is_cut_does_not_show_in_part(
    server: ReplayServer, status: int, before: int
) -> None:
    server.faults = [Fault("answer", "", 99, Answer(status, text="-" * before + TOKEN + "-" * 400))]
    async with open_provider(server.url) as provider:
        with pytest.raises(AsyncStoreError) as caught:
            await provider.get_object("F")
    assert TOKEN[:4] not in shown(caught.value)


@pytest.mark.parametrize(
    "reply",
    [
        b"garbage",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
        b"HTTP/1.1 200 OK\r\nwrong " + TOKEN.encode(),
        b"",
    ],
    ids=lambda reply: ascii(reply[:50]),
)
async def test_a_reply_that_is_no_http_is_one_clear_error_without_a_credential(reply: bytes) -> None:
    async def answer(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(reply + b"\r\n\r\n")

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, answer)
        port = listener.extra(SocketAttribute.local_port)
        async with open_provider(f"http://{USER}:{PASSWORD}@127.0.0.1:{port}") as provider:
            with pytest.raises(MetadataUnavailableError) as caught:
                await provider.get_object("F")
        group.cancel_scope.cancel()
    check(shown(caught.value))


@pytest.mark.parametrize("host", ["host:bad", "127.0.0.1:1"])
async def test_a_wrong_proxy_shows_no_password(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{USER}:{PASSWORD}@{host}")
    monkeypatch.delenv("no_proxy", raising=False)
    async with open_provider("http://metadata.invalid") as provider:
        with pytest.raises(MetadataUnavailableError) as caught:
            await provider.get_object("F")
    check(shown(caught.value))


async def test_a_header_that_is_no_unicode_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", TOKEN + "\udcff")
    source = EnvironmentHeaders((("x-api-key", "MY_KEY"),))
    async with ServiceMetadataProvider("http://127.0.0.1:1", headers=source) as provider:
        with pytest.raises(ConfigError, match="'x-api-key' of the metadata service cannot be sent") as caught:
            await provider.get_object("F")
    check(shown(caught.value))
