"""The eleven-step conversation by an official Python client, 1.x or 2.x, over any transport; and what it has to give.

``python conversation.py ORDER`` is run by the interpreter that has the client; it prints the same JSON object as
``tests/e2e/typescript/conversation.mjs`` and imports nothing of this project. ORDER is a JSON object with ``era``
(``legacy`` or ``auto``, 2.x only), ``transport`` (``stdio``, ``http`` or ``sse``), ``command``, ``args``, ``env``, ``url``,
``token`` and ``steps``.
"""

import asyncio
import json
import sys
from contextlib import AsyncExitStack

WAIT_S = 30


def steps(provider_url):
    """Return the calls: set a provider, a model and a project up, look, and take it all down again."""
    provider, project = {"provider_id": "loop"}, {"project_id": "clinic"}
    key = {"api_key": "${DEEPGRAM_API_KEY}"}
    added = {**provider, "provider_type": "deepgram", **key, "base_url": provider_url}
    budget = {"daily_budget": 2.5, "stt_model": "loop/nova-3"}
    return [
        ("add_provider", added),
        ("test_provider", provider),
        ("register_model", {**provider, "modality": "stt", "model_name": "nova-3"}),
        ("create_project", {**project, "name": "Clinic", **budget}),
        ("get_project", project),
        ("get_logs", {"project": "clinic"}),
        ("get_costs", {"project": "clinic"}),
        ("delete_project", project),
        ("delete_provider", {**provider, "cascade": True}),
        ("delete_project", {**project, "confirm": True}),
        ("delete_provider", {**provider, "cascade": True, "confirm": True}),
    ]


def check(told):
    """Raise AssertionError unless the conversation went as it has to."""
    made = told["steps"]
    failed = [step["isError"] for step in made]
    assert failed == [False] * 7 + [True] * 2 + [False] * 2, made
    assert all(step["same"] for step in made), "text and structured content differ"
    answers = [step["answer"] for step in made]
    assert {answer["error"]["code"] for answer in answers[7:9]} == {"CONFIRMATION_REQUIRED"}
    assert answers[1]["status"] == "ok"
    assert all(answers[number]["diff"] for number in (0, 2, 3))
    assert answers[4]["stt_model"] == "loop/nova-3"
    assert answers[9]["action"] == answers[10]["action"] == "deleted"
    assert told["server"]["name"] == "voicegw-mcp"


async def _connect_v1(order, stack):
    """Return a session of the 1.x client and what the server says of itself."""
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.sse import sse_client
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamablehttp_client

    if order["transport"] == "stdio":
        transport = stdio_client(
            StdioServerParameters(command=order["command"], args=order["args"], env=order["env"])
        )
    else:
        client = sse_client if order["transport"] == "sse" else streamablehttp_client
        transport = client(order["url"], headers=_headers(order))
    reading, writing, *_ = await stack.enter_async_context(transport)
    session = await stack.enter_async_context(ClientSession(reading, writing))
    told = await session.initialize()
    return session, told.serverInfo, told.protocolVersion


async def _connect_v2(order, stack):
    """Return a 2.x client and what the server says of itself."""
    import httpx2
    from mcp import Client, StdioServerParameters
    from mcp.client.sse import sse_client
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamable_http_client

    if order["transport"] == "stdio":
        transport = stdio_client(
            StdioServerParameters(command=order["command"], args=order["args"], env=order["env"])
        )
    elif order["transport"] == "sse":
        transport = sse_client(order["url"], _headers(order))
    else:
        http = await stack.enter_async_context(
            httpx2.AsyncClient(headers=_headers(order), timeout=WAIT_S, trust_env=False)
        )
        transport = streamable_http_client(order["url"], http_client=http)
    client = await stack.enter_async_context(Client(transport, mode=order["era"]))
    return client, client.server_info, client.protocol_version


def _headers(order):
    return {"Authorization": f"Bearer {order['token']}"} if order["token"] else {}


async def _converse(order):
    import mcp

    connect = _connect_v2 if hasattr(mcp, "Client") else _connect_v1
    made = []
    async with AsyncExitStack() as stack:
        client, server, protocol = await connect(order, stack)
        tools = [tool.name for tool in (await client.list_tools()).tools]
        for name, arguments in order["steps"]:
            result = (await client.call_tool(name, arguments)).model_dump(by_alias=True)
            answer = result["structuredContent"]
            same = json.loads(result["content"][0]["text"]) == answer
            made.append({"name": name, "isError": bool(result["isError"]), "same": same, "answer": answer})
        told = {"server": {"name": server.name, "version": server.version}, "protocol": protocol}
    return {**told, "tools": tools, "steps": made}


async def _bounded(order):
    return await asyncio.wait_for(_converse(order), WAIT_S)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_bounded(json.loads(sys.argv[1])))))
