"""Calls that their client cancels leave a server behind that answers the next ones with what is true now."""

import asyncio
import json

import anyio
import pytest
from tests.factories import NOW, request_record
from tests.protocol.agents import ERAS

from voicegw_mcp import notices
from voicegw_mcp.server import build_server
from voicegw_mcp.transports.http import McpRoutes

BOUND_S = 20
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


async def cancelled(agent, tool, steps, **arguments):
    """Call a tool and cancel the call after so many turns of the event loop."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(agent.call, tool, arguments)
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("tool", ["get_costs", "get_latency_stats"])
async def test_a_report_is_true_after_many_of_its_calls_were_cancelled(house, era, tool):
    await house.log(request_record(timestamp_ms=NOW - 1_000, cost_nanousd=10**9, total_ms=5.0, ttfb_ms=5.0))
    async with house.agent(mode=era) as agent:
        first = await agent.ok(tool)
        for steps in range(60):
            await cancelled(agent, tool, steps)
        assert await agent.ok(tool) == first
        await house.log(
            request_record(id="s", timestamp_ms=NOW - 500, cost_nanousd=10**9, total_ms=9.0, ttfb_ms=9.0)
        )
        assert await agent.ok(tool) != first


@pytest.mark.parametrize("era", ERAS)
async def test_a_cancelled_change_is_whole_or_not_begun(house, era):
    async with house.agent(mode=era) as agent:
        for steps in range(0, 60, 2):
            await cancelled(agent, "create_project", steps, project_id=f"p{steps}", name="P")
        # A change stands in line behind those that were cancelled.
        await agent.ok("create_project", project_id="last", name="P")
        written = {item["id"] for item in (await agent.ok("list_projects"))["projects"]}
    states = {summary.split()[-1]: state for state, summary in house.journal("state, summary")}
    assert set(states.values()) == {"applied"}
    assert set(states) == written - {"support-line", "outbound", "default"}
    assert "last" in written


class Cut:
    """One modern HTTP request to an ASGI application whose client goes away when it is told to."""

    def __init__(self, method, name, params):
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
        self.body = json.dumps(body).encode()
        self.sent = False
        self.gone = anyio.Event()
        headers = {
            "host": "127.0.0.1",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": META["io.modelcontextprotocol/protocolVersion"],
            "mcp-method": method,
            **({"mcp-name": name} if name else {}),
        }
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/mcp",
            "raw_path": b"/mcp",
            "query_string": b"",
            "root_path": "",
            "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }

    async def receive(self):
        if not self.sent:
            self.sent = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        assert message.get("status", 200) == 200


async def until(condition):
    with anyio.fail_after(BOUND_S):
        while not condition():  # noqa: ASYNC110 - tasks tell nobody
            await anyio.sleep(0.01)


@pytest.mark.parametrize(
    "request_of",
    [
        ("tools/call", "get_logs", {"name": "get_logs", "arguments": {"follow_seconds": 25}}),
        ("subscriptions/listen", "", {"notifications": {"resourceSubscriptions": ["voicegw://logs"]}}),
    ],
    ids=["follow", "listen"],
)
async def test_a_closed_http_stream_ends_what_it_waited_for(house, request_of):
    gateway = house.gateway()
    routes = McpRoutes(build_server(gateway), {}, None)

    def waiting():
        followed = [tail for tail in gateway.log_tails._tails.values() if tail._turn.locked()]
        return followed or [task for task in asyncio.all_tasks() if task.get_name() == notices.TASK_NAME]

    stop = anyio.Event()
    events = iter(("lifespan.startup", "lifespan.shutdown"))

    async def receive():
        kind = next(events)
        if kind == "lifespan.shutdown":
            await stop.wait()
        return {"type": kind}

    up = anyio.Event()

    async def send(_message):
        up.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(routes, {"type": "lifespan"}, receive, send)
        await up.wait()
        cut = Cut(*request_of)
        tasks.start_soon(routes, cut.scope, cut.receive, cut.send)
        await until(waiting)
        cut.gone.set()
        await until(lambda: not waiting())
        stop.set()
    await gateway.close()
