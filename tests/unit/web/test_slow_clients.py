"""Clients that are slow to ask, or to take what they asked for, against real sockets."""

import asyncio
import socket
from functools import partial

import pytest
import uvicorn
from uvicorn.server import ServerState

from voicegw_mcp.transports import http

BOUND_S = 20


@pytest.fixture
async def connect():
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

    config = uvicorn.Config(app, http=http._Patient, ws="none", lifespan="off", log_config=None)
    config.load()
    loop = asyncio.get_running_loop()
    protocol = partial(http._Patient, config=config, server_state=ServerState(), app_state={})
    server = await loop.create_server(protocol, "127.0.0.1", 0)
    clients = []

    async def connect():
        client = socket.socket()
        clients.append(client)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, server.sockets[0].getsockname())
        return client, left

    yield connect
    for client in clients:
        client.close()
    server.close()
    await server.wait_closed()


async def test_who_takes_nothing_is_dropped(connect, monkeypatch):
    monkeypatch.setattr(http, "STALLED_S", 0.05)
    client, left = await connect()
    await asyncio.get_running_loop().sock_sendall(client, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    await asyncio.wait_for(left.wait(), BOUND_S)


async def test_who_takes_slowly_is_not(connect, monkeypatch):
    monkeypatch.setattr(http, "STALLED_S", 5.0)
    client, left = await connect()
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    taken = 0
    while taken < 20_000_000:
        taken += len(await asyncio.wait_for(loop.sock_recv(client, 1 << 20), BOUND_S))
    assert not left.is_set()


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nhost"])
async def test_who_asks_nothing_is_dropped(connect, monkeypatch, begun):
    monkeypatch.setattr(http, "HEADERS_S", 0.05)
    client, left = await connect()
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, begun)
    assert await asyncio.wait_for(loop.sock_recv(client, 100), BOUND_S) == b""
    assert not left.is_set()
