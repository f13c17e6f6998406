"""Following, notices and questions with the official client over real stdio, Streamable HTTP and SSE, in both eras."""

import contextlib
import json
import signal
import socket
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPDeprecationWarning
from tests.e2e.conftest import BIN, COMMAND, WAIT_S
from tests.factories import NOW, request_record

from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.schema import connect

WAYS = (
    ("stdio", "legacy"),
    ("stdio", "auto"),
    ("http", "legacy"),
    ("http", "auto"),
    ("sse", "legacy"),
)
pytestmark = pytest.mark.filterwarnings(
    f"ignore::{MCPDeprecationWarning.__module__}.{MCPDeprecationWarning.__name__}"
)


@pytest.fixture
def serve(spawn):
    """Start ``voicegw serve`` on a free port; return it when it takes requests."""

    def serve():
        server = spawn("serve", "-p", "0", command=(BIN / "voicegw",))
        lines = [server.line().decode()]
        while "claude mcp add" not in lines[-1]:
            assert lines[-1], server.errors.read_text()
            lines.append(server.line().decode())
        urls = [line.split()[0] for line in lines if line.split()[0].startswith("http://")]
        server.mcp, server.sse = urls[:2]
        return server

    return serve


class Person:
    """Answers questions, and keeps what was heard."""

    def __init__(self):
        self.answers = ["decline", "accept"]
        self.heard = set()
        self.came = anyio.Event()

    async def ask(self, _context, params):
        assert "groq" in params.message
        action = self.answers.pop(0)
        return types.ElicitResult(action=action, content={} if action == "accept" else None)

    async def message(self, message):
        if isinstance(message, types.ResourceUpdatedNotification):
            self.hear(str(message.params.uri))

    def hear(self, uri):
        self.heard.add(uri)
        self.came.set()

    async def wait(self, *uris):
        with anyio.fail_after(WAIT_S):
            while not set(uris) <= self.heard:
                await self.came.wait()
                self.came = anyio.Event()
        self.heard.clear()


@asynccontextmanager
async def connected(way, era, serve, environment, person):
    """A client of one era over one transport, and its server when that is a process of ours."""
    async with AsyncExitStack() as stack:
        server = None if way == "stdio" else serve()
        if way == "stdio":
            transport = StdioServerParameters(command=str(COMMAND), env=environment)
        elif way == "sse":
            transport = sse_client(server.sse, {}, WAIT_S, WAIT_S)
        else:
            http = await stack.enter_async_context(httpx2.AsyncClient(timeout=WAIT_S, trust_env=False))
            transport = streamable_http_client(server.mcp, http_client=http)
        client = Client(
            transport,
            mode=era,
            read_timeout_seconds=WAIT_S,
            elicitation_callback=person.ask,
            message_handler=person.message if era == "legacy" else None,
        )
        yield await stack.enter_async_context(client), server


async def call(client, tool, progress=None, **arguments):
    result = await client.call_tool(tool, arguments, progress_callback=progress)
    assert json.loads(result.content[0].text) == result.structured_content
    return result.structured_content


def insert(environment, *records):
    with closing(connect(Path(environment["VOICEGW_DB_PATH"]), timeout_s=WAIT_S)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        insert_requests(connection, records)
        connection.execute("COMMIT")


@asynccontextmanager
async def subscribed(client, era, person, *uris):
    if era == "legacy":
        for uri in uris:
            await client.subscribe_resource(uri)
        yield
        return
    async with client.listen(resource_subscriptions=uris) as stream, anyio.create_task_group() as tasks:

        async def listen():
            async for event in stream:
                person.hear(event.uri)

        tasks.start_soon(listen)
        yield
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(("way", "era"), WAYS)
async def test_the_official_client_asks_follows_and_hears(serve, environment, config, way, era):
    person = Person()
    async with connected(way, era, serve, environment, person) as (client, _):
        await call(client, "add_provider", provider_id="groq", provider_type="groq")
        delete = partial(call, client, "delete_provider", provider_id="groq", confirm=True)
        assert (await delete())["error"]["details"]["reason"] == "decline"
        assert "groq" in config.read_text()

        before = await call(client, "get_logs", follow_seconds=0)
        reported, came = [], anyio.Event()

        async def progress(_progress, _total, message):
            reported.extend(row["id"] for row in json.loads(message))
            came.set()

        async with subscribed(client, era, person, "voicegw://logs", "voicegw://config"):
            followed = {}

            async def follow():
                followed.update(
                    await call(
                        client,
                        "get_logs",
                        progress,
                        follow_seconds=25,
                        limit=2,
                        cursor=before["next_cursor"],
                    )
                )

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(follow)
                insert(environment, request_record(id="a", timestamp_ms=NOW))
                with anyio.fail_after(WAIT_S):
                    await came.wait()
                insert(environment, request_record(id="b", timestamp_ms=NOW - 99))
            assert [row["id"] for row in followed["logs"]] == ["a", "b"]
            assert reported[:1] == ["a"]  # the last one may be overtaken by the answer
            await person.wait("voicegw://logs")
            config.write_text(config.read_text().replace("Kept", "Renamed"))
            await person.wait("voicegw://config")
            assert (await delete())["action"] == "deleted"
        assert person.answers == []
    assert "groq" not in config.read_text()


@pytest.mark.parametrize(("way", "era"), WAYS[2:])
async def test_a_signal_ends_a_server_whose_clients_follow_and_listen(serve, environment, way, era):
    person, code = Person(), None
    with anyio.fail_after(2 * WAIT_S):
        # How a client tells that its server went is its own affair.
        with contextlib.suppress(Exception):
            async with (
                connected(way, era, serve, environment, person) as (client, server),
                subscribed(client, era, person, "voicegw://logs"),
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(partial(call, client, "get_logs", follow_seconds=25))
                insert(environment, request_record(id="a"))
                await person.wait("voicegw://logs")
                server.process.send_signal(signal.SIGTERM)
                code = await anyio.to_thread.run_sync(server.process.wait, WAIT_S)
                tasks.cancel_scope.cancel()
    assert code == 0
    assert "Traceback" not in server.errors.read_text()


async def test_connections_that_are_cut_leave_a_server_that_answers_and_stops(serve, environment):
    server = serve()
    host, port = server.mcp.removeprefix("http://").removesuffix("/mcp").split(":")
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    bodies = [
        ("tools/call", "get_logs", {"name": "get_logs", "arguments": {"follow_seconds": 25}}),
        ("subscriptions/listen", "", {"notifications": {"resourceSubscriptions": ["voicegw://logs"]}}),
    ]
    for method, name, params in bodies * 10:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}})
        named = f"Mcp-Name: {name}\r\n" if name else ""
        with socket.create_connection((host, int(port)), WAIT_S) as connection:
            connection.sendall(
                f"POST /mcp HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
                f"Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n"
                f"Mcp-Method: {method}\r\n{named}Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            if method == "subscriptions/listen":
                assert connection.recv(12) == b"HTTP/1.1 200"
    async with connected("http", "auto", lambda: server, environment, Person()) as (client, _):
        assert "status" in await call(client, "get_health")
    server.process.send_signal(signal.SIGTERM)
    assert await anyio.to_thread.run_sync(server.process.wait, WAIT_S) == 0
    assert "Traceback" not in server.errors.read_text()
