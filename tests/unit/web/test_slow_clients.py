"""Clients that are slow to ask, or to take what they asked for, against real sockets."""

import asyncio
import socket
from functools import partial

import pytest
import uvicorn
from uvicorn.server import ServerState

from voicegw_mcp.transports import connections
from voicegw_mcp.transports.connections import Connection
from voicegw_mcp.web import guard

BOUND_S = 20


@pytest.fixture
async def serve():
    """Serve an application; return how to open a socket to it."""
    loop = asyncio.get_running_loop()
    clients, servers = [], []

    async def serve(app):
        config = uvicorn.Config(app, http=Connection, ws="none", lifespan="off", log_config=None)
        config.load()
        protocol = partial(Connection, config=config, server_state=ServerState(), app_state={})
        servers.append(await loop.create_server(protocol, "127.0.0.1", 0))

        async def connect():
            client = socket.socket()
            clients.append(client)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await loop.sock_connect(client, servers[-1].sockets[0].getsockname())
            return client

        return connect

    yield serve
    for client in clients:
        client.close()
    for server in servers:
        server.close()
        await server.wait_closed()


@pytest.fixture
async def connect(serve):
    """Return an open socket to an application that answers without end."""
    left = asyncio.Event()

    async def app(_scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        ending = asyncio.ensure_future(receive())
        while not ending.done():
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
            await asyncio.sleep(0)
            if ending.done() and ending.result()["type"] == "http.request":
                ending = asyncio.ensure_future(receive())
        left.set()

    opened = await serve(app)

    async def connect():
        return await opened(), left

    return connect


async def test_who_takes_nothing_is_dropped(connect, monkeypatch):
    monkeypatch.setattr(connections, "STALLED_S", 0.05)
    client, left = await connect()
    await asyncio.get_running_loop().sock_sendall(client, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    await asyncio.wait_for(left.wait(), BOUND_S)


async def test_who_takes_slowly_is_not(connect, monkeypatch):
    monkeypatch.setattr(connections, "STALLED_S", 5.0)
    client, left = await connect()
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    taken = 0
    while taken < 20_000_000:
        taken += len(await asyncio.wait_for(loop.sock_recv(client, 1 << 20), BOUND_S))
    assert not left.is_set()


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nhost"])
async def test_who_asks_nothing_is_dropped(connect, monkeypatch, begun):
    monkeypatch.setattr(connections, "HEADERS_S", 0.05)
    client, left = await connect()
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, begun)
    assert await asyncio.wait_for(loop.sock_recv(client, 100), BOUND_S) == b""
    assert not left.is_set()


HEAD = b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\n"


async def answer_to(client, *parts):
    """Send these one after another, each once the server has had time to read the one before; return the answer's first line."""
    loop = asyncio.get_running_loop()
    for part in parts:
        await loop.sock_sendall(client, part)
        for _ in range(20):
            await asyncio.sleep(0)
    answer = await asyncio.wait_for(loop.sock_recv(client, 4096), BOUND_S)
    return answer.partition(b"\r\n")[0]


@pytest.mark.parametrize("begun", [b"", b"ab"])
async def test_a_body_that_does_not_come_as_a_whole_is_refused_in_the_end(
    serve, lenient, inner, monkeypatch, begun
):
    monkeypatch.setattr(guard, "BODY_S", 0.05)
    client = await (await serve(lenient))()
    assert await answer_to(client, HEAD + begun) == b"HTTP/1.1 408 Request Timeout"
    assert inner.came == []


@pytest.mark.parametrize(
    "parts", [(HEAD + b"abcd",), (HEAD, b"abcd"), (HEAD + b"ab", b"cd"), (HEAD[:30], HEAD[30:] + b"abcd")]
)
async def test_a_body_arrives_in_whatever_parts_it_comes(serve, lenient, inner, parts):
    client = await (await serve(lenient))()
    for _ in range(2):
        assert await answer_to(client, *parts) == b"HTTP/1.1 200 OK"
    assert [message["body"] for message in inner.messages] == [b"abcd"] * 2


async def test_a_body_that_is_there_costs_no_timer(serve, lenient, inner, monkeypatch):
    monkeypatch.setattr(guard, "BODY_S", 0.0)  # a timer would have run out before
    client = await (await serve(lenient))()
    assert await answer_to(client, HEAD + b"abcd") == b"HTTP/1.1 200 OK"
    assert inner.came == ["/mcp"]
