"""Connections over real sockets, with an application that says what it received."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from autofocus.serve import connection
from autofocus.serve.connection import Connection, Connections
from autofocus.serve.exchange import Exchange, send_json
from autofocus.serve.settings import Settings

POST = b"POST /score HTTP/1.1\r\nHost: x\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the length of the body; `/big` with 8 MiB, `/refuse` before the body is read."""
    exchange = Exchange(scope, receive, send)
    if scope["path"] in ("/refuse", "/close"):
        extra = [(b"connection", b"close")] if scope["path"] == "/close" else []
        return await send_json(exchange.send, 401, b"{}", extra)
    length, more = 0, True
    while more:
        message = await exchange.receive()
        length += len(message["body"])
        more = message["more_body"]
    body = b"8" * (8 << 20) if scope["path"] == "/big" else json.dumps(length).encode()
    return await send_json(exchange.send, 200, body, [])


@contextlib.asynccontextmanager
async def serving(max_connections: int = 10) -> AsyncIterator[int]:
    """Yield the port of a server with the connections under test."""
    config = uvicorn.Config(echo, lifespan="off", ws="none", log_config=None)
    config.load()
    connections = Connections(Settings(header_timeout_s=0.3), max_connections)
    make = partial(Connection, config, ServerState(), {}, connections_of_worker=connections)
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def exchange(port: int, *pieces: bytes) -> bytes:
    """Send pieces and return all that comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
    try:
        return await asyncio.wait_for(reader.read(), 8)
    finally:
        writer.close()


def run(scenario: Callable[[int], Awaitable[None]], **arguments: Any) -> None:
    async def within() -> None:
        async with serving(**arguments) as port:
            await scenario(port)

    asyncio.run(within())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_TAKE_S", 0.5)


@pytest.mark.parametrize(
    "head",
    [
        b"X: " + b"a" * (2 << 20),
        b"".join(b"X%d: a\r\n" % i for i in range(129)),
        b"".join(b"X%d: a\r\n" % i for i in range(100_000)),
    ],
)
def test_a_head_has_a_limit(head: bytes) -> None:
    async def scenario(port: int) -> None:
        reply = await exchange(port, POST + head, b"\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 431 ")
        assert b'{"message":"The headers must have at most 65,536 bytes and 128 fields."}' in reply

    run(scenario)


def test_what_follows_a_body_has_a_limit_too() -> None:
    async def scenario(port: int) -> None:
        head = POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
        reply = await exchange(port, head, b"X: " + b"a" * 2_000_000)
        assert reply.startswith(b"HTTP/1.1 431 ")
        many = b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n"
        reply = await exchange(
            port, POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + many
        )
        assert reply.endswith(b"50000")

    run(scenario)


def test_an_endless_path_is_refused_too() -> None:
    async def scenario(port: int) -> None:
        reply = await exchange(port, b"GET /" + b"a" * 200_000)
        assert reply.startswith(b"HTTP/1.1 431 ")

    run(scenario)


def test_a_head_that_stays_half_sent_is_408_and_silence_is_closed() -> None:
    async def scenario(port: int) -> None:
        assert (await exchange(port, POST)).startswith(b"HTTP/1.1 408 ")
        assert await exchange(port) == b""

    run(scenario)


def test_what_is_no_http_gets_an_error_like_all_others() -> None:
    async def scenario(port: int) -> None:
        reply = await exchange(port, b"NONSENSE\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 400 ")
        assert reply.endswith(b'{"message":"The bytes are not an HTTP/1.1 request."}')

    run(scenario)


def test_an_offer_of_http_2_is_ignored_and_the_body_read() -> None:
    async def scenario(port: int) -> None:
        offer = (
            b"Connection: Upgrade, HTTP2-Settings, close\r\nupGrade: h2c\r\nHTTP2-Settings: AA\r\n"
        )
        reply = await exchange(port, POST + offer + b"Content-Length: 5\r\n\r\n", b"abc", b"de")
        assert reply.startswith(b"HTTP/1.1 200 ")
        assert reply.endswith(b"\r\n\r\n5")
        # A body is not touched.
        body = b"\r\nupgrade: h2c\r\n"
        head = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        assert (await exchange(port, head + body)).endswith(b"\r\n\r\n16")

    run(scenario)


def test_of_too_many_connections_the_one_that_waits_longest_makes_room() -> None:
    async def scenario(port: int) -> None:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        # One that has sent no more than a head waits like one that has said nothing.
        held[0][1].write(POST + b"Content-Length: 1\r\n\r\n")
        await asyncio.sleep(0.05)
        head = POST + b"Connection: close\r\nContent-Length: 1\r\n\r\n"
        assert (await exchange(port, head + b"x")).endswith(b"1")
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(held[0][0].read(), 0.1) == b""
        held[2][1].write(head + b"x")
        assert (await held[2][0].read()).endswith(b"1")
        for _, writer in held:
            writer.close()

    run(scenario, max_connections=3)


def test_requests_before_one_that_is_malformed_are_answered_and_a_broken_body_is_not() -> None:
    async def scenario(port: int) -> None:
        one = POST + b"Content-Length: 4\r\n\r\nabcd"
        reply = await exchange(port, one + one + b"NONSENSE\r\n\r\n")
        assert reply.count(b"HTTP/1.1 200 ") == 2
        assert reply.count(b"HTTP/1.1 400 ") == 1
        assert reply.endswith(b'are not an HTTP/1.1 request."}')
        chunked = POST + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
        reply = await exchange(port, chunked, b"1\r\nx\r\nNONSENSE\r\n")
        assert reply.count(b"HTTP/1.1 400 ") == 1
        assert b" 200 " not in reply

    run(scenario)


def test_at_the_end_of_the_files_some_connections_make_room_for_good() -> None:
    class Transport:
        aborted = 0

        def abort(self) -> None:
            Transport.aborted += 1

    class Held:
        transport = Transport()

    connections = Connections(Settings(), 4096)
    for _ in range(100):
        connections.opened(Held())  # type: ignore[arg-type]
    connections.shrink()
    assert Transport.aborted == 16
    connections.opened(Held())  # type: ignore[arg-type]
    assert Transport.aborted == 17


@pytest.mark.parametrize("path", [b"refuse", b"close"])
def test_a_client_that_sends_slowly_sees_why_it_was_refused(path: bytes) -> None:
    async def scenario(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" % path)
        for _ in range(10):
            await asyncio.sleep(0.01)
            writer.write(b"x" * 100_000)
            await writer.drain()
        started = asyncio.get_running_loop().time()
        assert (await reader.read()).startswith(b"HTTP/1.1 401 ")
        # Once all is read nothing is waited for.
        assert asyncio.get_running_loop().time() - started < 0.4
        writer.close()

    run(scenario)


def test_a_client_that_sends_for_ever_after_its_refusal_is_cut_off() -> None:
    async def scenario(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 401 ")
        num_sent = 0
        with contextlib.suppress(ConnectionError):
            while num_sent < 100:
                num_sent += 1
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        assert num_sent < 100
        writer.close()

    run(scenario)


def test_a_request_that_is_sent_before_the_last_is_answered_is_answered_too() -> None:
    async def scenario(port: int) -> None:
        one = POST + b"Content-Length: 4\r\n\r\nabcd"
        last = POST + b"Connection: close\r\nContent-Length: 300000\r\n\r\n" + b"x" * 200_000
        reply = await exchange(port, one + one + last, b"x" * 100_000)
        assert reply.count(b"HTTP/1.1 200 ") == 3
        assert reply.endswith(b"\r\n\r\n300000")

    run(scenario)


def test_a_reply_that_nobody_takes_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autofocus.serve.exchange._TAKE_S", 0.1)
    monkeypatch.setattr("autofocus.serve.exchange._TAKE_BYTES_A_SECOND", 1 << 30)

    async def scenario(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 10)
        writer.write(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.4)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(8 << 20), 3)
        writer.close()
        # One that reads gets all of it.
        monkeypatch.setattr("autofocus.serve.exchange._TAKE_S", 30.0)
        request = b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert (await exchange(port, request)).count(b"8") >= 8 << 20

    run(scenario)


def test_a_reply_is_one_write_and_so_one_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    write = Connection.write

    def noted(self: Connection, data: bytes) -> None:
        written.append(data)
        write(self, data)

    monkeypatch.setattr(Connection, "write", noted)

    async def scenario(port: int) -> None:
        head = POST + b"Content-Length: 1\r\nConnection: close\r\n"
        assert (await exchange(port, head + b"\r\nx")).endswith(b"\r\n\r\n1")
        assert [len(data) for data in written] == [len(written[0])]
        reply = await exchange(port, head + b"Expect: 100-continue\r\n\r\n", b"x")
        assert reply == b"HTTP/1.1 100 Continue\r\n\r\n" + written[0]

    run(scenario)


def test_a_reply_without_a_body_does_not_wait_for_one() -> None:
    async def scenario(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            reply = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert reply.startswith(b"HTTP/1.1 200")
        writer.close()

    run(scenario)
