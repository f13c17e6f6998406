"""What is left of a client of HTTP+SSE once it has gone."""

import asyncio
import gc
import json
import weakref

import pytest

from voicegw_mcp.server import build_server
from voicegw_mcp.transports.events import EventStreams

BOUND_S = 20
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2024-11-05",
        "capabilities": {},
        "clientInfo": {"name": "tests", "version": "1"},
    },
}


class Client:
    """One request; ``events`` are what its answer has brought so far."""

    def __init__(self, method, query=b"", body=None):
        self.scope = {
            "type": "http",
            "method": method,
            "path": "/sse",
            "query_string": query,
            "headers": [],
        }
        self.body = None if body is None else json.dumps(body).encode()
        self.events = asyncio.Queue()
        self.gone = asyncio.Event()

    async def receive(self):
        body, self.body = self.body, None
        if body is None:
            await self.gone.wait()
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": body}

    async def send(self, message):
        if message["type"] == "http.response.body":
            self.events.put_nowait(message["body"])

    async def event(self):
        return await asyncio.wait_for(self.events.get(), BOUND_S)


@pytest.mark.parametrize("introduced", [False, True], ids=["silent", "introduced"])
async def test_the_connection_of_a_session_that_ended_waits_for_no_garbage_collector(house, introduced):
    gateway = house.gateway()
    streams = EventStreams(build_server(gateway), "/messages/", 10)
    client = Client("GET")
    answering = asyncio.create_task(streams.stream(client.scope, client.receive, client.send))
    endpoint = await client.event()
    if introduced:
        query = endpoint.partition(b"?")[2].strip()
        post = Client("POST", query, INITIALIZE)
        await streams.post(post.scope, post.receive, post.send)
        assert b"serverInfo" in await client.event()
    client.gone.set()
    await asyncio.wait_for(answering, BOUND_S)
    known = weakref.ref(client)
    gc.disable()
    try:
        del client, answering
        assert known() is None
    finally:
        gc.enable()
        await gateway.close()
