"""Calls that are still running when their token is revoked, lowered or bound to other projects, over every HTTP transport."""

import json
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from tests.e2e.conftest import WAIT_S
from tests.e2e.test_http import ACCEPT, INITIALIZE, OTHER, bearer, http, serve as serve, stop as stop  # noqa: PLC0414 - fixtures
from tests.factories import request_record

from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.schema import connect

WAYS = [("http", "legacy"), ("http", "auto"), ("sse", "legacy")]
KEYS = """
auth:
  api_keys:
    - {token: "${OPS_TOKEN}", name: ops-desk, role: admin}
"""
CHANGES = {
    "revoked": KEYS.replace("OPS_TOKEN", "NOT_SET"),
    "lowered": KEYS.replace("admin", "operator"),
    "bound to a project": KEYS.replace("role: admin", "role: admin, projects: [kept]"),
}
pytestmark = pytest.mark.filterwarnings(
    f"ignore::{MCPDeprecationWarning.__module__}.{MCPDeprecationWarning.__name__}"
)


@asynccontextmanager
async def connected(server, way, era, ask=None):
    async with AsyncExitStack() as stack:
        if way == "sse":
            transport = sse_client(server.sse, bearer(OTHER), WAIT_S, WAIT_S)
        else:
            client = httpx2.AsyncClient(headers=bearer(OTHER), timeout=WAIT_S, trust_env=False)
            transport = streamable_http_client(
                server.mcp, http_client=await stack.enter_async_context(client)
            )
        client = Client(transport, mode=era, read_timeout_seconds=WAIT_S, elicitation_callback=ask)
        yield await stack.enter_async_context(client)


async def error_of(client, tool, progress=None, **arguments):
    """Return the error of a call that must not succeed; what its stream says when that ended instead."""
    try:
        result = await client.call_tool(tool, arguments, progress_callback=progress)
    except MCPError as error:
        return {"code": "ended", "message": error.error.message}
    assert result.is_error, result.structured_content
    return result.structured_content["error"]


def insert(environment, *records):
    with closing(connect(Path(environment["VOICEGW_DB_PATH"]), timeout_s=WAIT_S)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        insert_requests(connection, records)
        connection.execute("COMMIT")


@pytest.mark.cover_processes
@pytest.mark.parametrize(("way", "era"), WAYS)
async def test_a_call_that_follows_the_log_ends_when_its_token_is_not_what_it_was(
    serve, stop, config, environment, way, era
):
    before = config.read_text()
    config.write_text(before + KEYS)
    server = serve(OPS_TOKEN=OTHER, VOICEGW_MCP_TOKEN="fake-token-0003")
    for change, keys in CHANGES.items():
        config.write_text(before + KEYS)
        came = anyio.Event()

        async def progress(_progress, _total, message, came=came, change=change):
            assert [row["id"] for row in json.loads(message)] == [change]
            came.set()

        with anyio.fail_after(2 * WAIT_S):
            async with connected(server, way, era) as client, anyio.create_task_group() as tasks:
                begun = (await client.call_tool("get_logs", {"follow_seconds": 0})).structured_content

                async def revoke(came=came, change=change, keys=keys):
                    insert(environment, request_record(id=change))
                    await came.wait()
                    config.write_text(before + keys)

                tasks.start_soon(revoke)
                error = await error_of(
                    client, "get_logs", progress, follow_seconds=25, cursor=begun["next_cursor"]
                )
        if way == "sse" and error["code"] == "ended":  # the stream itself ends at the same look
            continue
        assert error["code"] == "FORBIDDEN", change
        assert "token" in error["message"]
    assert stop(server) == 0


@pytest.mark.parametrize(("way", "era"), WAYS)
async def test_a_delete_is_refused_when_the_token_was_changed_while_its_person_was_asked(
    serve, stop, config, way, era
):
    before = config.read_text()
    config.write_text(before + KEYS)
    server = serve(OPS_TOKEN=OTHER, VOICEGW_MCP_TOKEN="fake-token-0003")
    for change, keys in CHANGES.items():
        config.write_text(before + KEYS)
        error = await delete_asking(server, way, era, lambda keys=keys: config.write_text(before + keys))
        assert error["code"] in allowed(way, era), change
        assert config.read_text() == before + keys, change
    assert stop(server) == 0


@pytest.mark.parametrize(("way", "era"), WAYS)
async def test_a_delete_is_refused_when_the_token_was_taken_out_of_secrets_env_meanwhile(
    serve, stop, config, way, era
):
    """The file, and with it config_version, stays what it was."""
    secrets = config.with_name("secrets.env")
    secrets.write_text(f"OPS_TOKEN={OTHER}\n")
    secrets.chmod(0o600)
    config.write_text(config.read_text() + KEYS)
    server = serve(VOICEGW_MCP_TOKEN="fake-token-0003")
    error = await delete_asking(server, way, era, lambda: secrets.write_text("OPS_TOKEN=fake-token-0009\n"))
    assert stop(server) == 0
    assert error["code"] in allowed(way, era)
    assert "deepgram" in config.read_text()


def allowed(way, era):
    """Return how such a call may end: a revoked token does not get as far as an answer where each message needs one."""
    return {"FORBIDDEN"} if (way, era) == ("http", "legacy") else {"FORBIDDEN", "ended"}


async def delete_asking(server, way, era, change):
    async def ask(_context, params):
        assert "deepgram" in params.message
        change()
        return types.ElicitResult(action="accept", content={})

    arguments = {"provider_id": "deepgram", "confirm": True, "cascade": True}
    with anyio.fail_after(2 * WAIT_S):
        async with connected(server, way, era, ask) as client:
            return await error_of(client, "delete_provider", **arguments)


def test_a_stream_that_was_opened_without_a_token_ends_once_one_is_asked_for(serve, stop, config):
    server = serve()
    with http() as client, client.stream("GET", server.sse) as stream:
        events = stream.iter_raw()
        assert b"endpoint" in next(events)
        config.write_text(config.read_text() + KEYS)
        assert list(events) == []
    assert stop(server) == 0


@pytest.mark.cover_processes
def test_a_session_ends_when_its_token_is_bound_to_other_projects(serve, stop, config):
    """Else it would be told of what it subscribed to before."""
    before = config.read_text()
    config.write_text(before + KEYS)
    server = serve(OPS_TOKEN=OTHER)
    with http(OTHER) as client:
        opened = client.post(server.mcp, json=INITIALIZE, headers=ACCEPT)
        session = {"mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": "2025-06-18"}
        subscribe = {
            "jsonrpc": "2.0", "id": 2, "method": "resources/subscribe", "params": {"uri": "voicegw://logs"}
        }  # fmt: skip
        assert client.post(server.mcp, json=subscribe, headers={**ACCEPT, **session}).status_code == 200
        config.write_text(before + CHANGES["bound to a project"])
        with client.stream("GET", server.mcp, headers={**ACCEPT, **session}) as stream:
            assert stream.status_code == 404
    assert stop(server) == 0
