"""Spans of calls over MCP and of requests to the API: what was called and how it ended, never with what and what came out."""

from types import SimpleNamespace

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from tests.protocol.agents import ERAS
from tests.protocol.api_client import Site
from tests.span_collector import PARENT_ID, TRACE_ID, TRACEPARENT, collecting

from voicegw_mcp.core.answers import Answer
from voicegw_mcp.core.tracing import find_tracer
from voicegw_mcp.message_spans import MessageSpans
from voicegw_mcp.server import build_server
from voicegw_mcp.tools.define import Input, tool

SECRET = "nobody-may-read-this"
TOKEN = "a-token-of-the-tests-0001"


@pytest.fixture
def collected(monkeypatch):
    with collecting(monkeypatch) as collected:
        yield collected


@pytest.fixture
async def traced_site(house, collected):  # noqa: ARG001 - collecting begins first
    house.environment["VOICEGW_MCP_TOKEN"] = TOKEN
    gateway = house.gateway("http")
    yield Site(gateway, open_without_token=False)
    await gateway.close()


class Text(Input):
    """Something private."""

    text: str


class Echo(Answer):
    """The same."""

    text: str


@tool("Wait", read_only=True)
async def wait_forever(gateway, args: Text) -> Echo:  # noqa: ARG001
    """Never answer.

    Use when testing.
    """
    await anyio.sleep_forever()
    return Echo(text="")


@tool("Break", read_only=True)
async def break_down(gateway, args: Text) -> Echo:  # noqa: ARG001
    """Raise what nobody expected.

    Use when testing.
    """
    raise RuntimeError(args.text)


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_is_a_span_with_tool_door_and_outcome(house, collected, era):
    async with house.agent(mode=era) as agent:
        await agent.ok("get_provider", provider_id="deepgram")
    span = collected.span
    assert span.name == "tools/call get_provider"
    assert span.kind is SpanKind.SERVER
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes)
    assert attributes.pop("jsonrpc.request.id").isdigit()
    assert attributes.pop("mcp.protocol.version") == ("2025-11-25" if era == "legacy" else "2026-07-28")
    assert attributes == {
        "mcp.method.name": "tools/call",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "get_provider",
        "network.transport": "pipe",
        "voicegw.door": "test",
        "voicegw.outcome": "ok",
    }
    assert span.start_time < span.end_time


@pytest.mark.parametrize("era", ERAS)
async def test_a_refused_call_is_told_by_its_code_and_not_by_its_words(house, collected, era):
    async with house.agent(mode=era, tools=[break_down]) as agent:
        await agent.refused("break_down", text=SECRET)
    async with house.agent(mode=era) as agent:
        await agent.refused("get_provider", provider_id=SECRET)
        await agent.refused("get_costs", period=SECRET)
    outcomes = [span.attributes["voicegw.outcome"] for span in collected.spans]
    assert outcomes == ["INTERNAL_ERROR", "PROVIDER_NOT_FOUND", "VALIDATION_ERROR"]
    for span in collected.spans:
        assert span.attributes["error.type"] == "tool_error"
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description is None
        assert not span.events
    assert not collected.holds(SECRET)


@pytest.mark.parametrize("era", ERAS)
async def test_names_that_clients_invent_are_in_no_span(house, collected, era):
    async with house.agent(mode=era) as agent:
        with pytest.raises(MCPError):
            await agent.client.call_tool(SECRET, {})
        with pytest.raises(MCPError):
            await agent.client.get_prompt(SECRET)
        with pytest.raises(MCPError):
            await agent.client.read_resource(f"voicegw://{SECRET}")
    assert [span.name for span in collected.spans] == ["tools/call", "prompts/get", "resources/read"]
    for span in collected.spans:
        assert span.attributes["voicegw.outcome"] == "VALIDATION_ERROR"
        assert span.attributes["error.type"] == span.attributes["rpc.response.status_code"] == "-32602"
    assert not collected.holds(SECRET)


@pytest.mark.parametrize("era", ERAS)
async def test_resources_and_prompts_have_spans_and_lists_have_none(house, collected, era):
    async with house.agent(mode=era) as agent:
        await agent.resource("voicegw://config")
        name = (await agent.client.list_prompts()).prompts[0].name
        await agent.client.list_tools()
        with pytest.raises(MCPError):
            await agent.client.get_prompt(name, {"nothing": SECRET})
    read, got = collected.spans
    assert (read.name, read.attributes["voicegw.outcome"]) == ("resources/read", "ok")
    assert (got.name, got.attributes["gen_ai.prompt.name"]) == (f"prompts/get {name}", name)
    assert got.attributes["voicegw.outcome"] == "VALIDATION_ERROR"
    assert not collected.holds(SECRET)


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_that_is_cancelled_has_a_span_that_says_so(house, collected, era):
    async with house.agent(mode=era, tools=[wait_forever]) as agent:
        with anyio.move_on_after(0.2):
            await agent.client.call_tool("wait_forever", {"text": SECRET})
        with anyio.fail_after(20):
            while not collected.spans:
                await anyio.lowlevel.checkpoint()
    assert collected.span.attributes["voicegw.outcome"] == "cancelled"
    assert "error.type" not in collected.span.attributes
    assert not collected.holds(SECRET)


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (RuntimeError(SECRET), "INTERNAL_ERROR"),
        (MCPError(-32601, SECRET), "VALIDATION_ERROR"),
        (
            MCPError(-32603, SECRET, {"error": {"code": "STORE_UNAVAILABLE", "message": SECRET}}),
            "STORE_UNAVAILABLE",
        ),
    ],
)
async def test_a_failure_of_the_protocol_is_told_without_its_words(collected, failure, outcome):
    async def fail(_):
        raise failure

    message = SimpleNamespace(
        method="resources/read",
        params={"uri": SECRET},
        request_id=SECRET * 9,
        meta=None,
        request=None,
        protocol_version="1",
    )
    with pytest.raises(type(failure)):
        await MessageSpans(find_tracer(), "test", {})(message, fail)
    assert collected.span.attributes["voicegw.outcome"] == outcome
    assert not collected.span.events
    assert collected.span.status.description is None
    assert len(collected.span.attributes["jsonrpc.request.id"]) == 64


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("meta", "belongs"),
    [
        ({"traceparent": TRACEPARENT, "tracestate": "host=1"}, True),
        ({"traceparent": TRACEPARENT, "tracestate": 5, "baggage": SECRET}, True),
        ({"traceparent": TRACEPARENT[:-3]}, False),
        ({"traceparent": [TRACEPARENT]}, False),
        ({"tracestate": "host=1"}, False),
    ],
)
async def test_a_call_belongs_to_the_trace_its_message_names(house, collected, era, meta, belongs):
    async with house.agent(mode=era) as agent:
        await agent.client.call_tool("get_health", {}, meta=meta)
    assert (collected.span.context.trace_id == TRACE_ID) is belongs
    if belongs:
        assert (collected.span.parent.span_id, collected.span.parent.is_remote) == (PARENT_ID, True)
    assert not collected.holds(SECRET)


async def test_a_request_to_the_api_is_a_span_in_the_trace_of_its_header(traced_site, collected):
    answer = await traced_site.get(
        "/v1/costs?period=all&project=support-line", token=TOKEN, traceparent=TRACEPARENT
    )
    assert answer.status == 200
    span = collected.span
    assert span.name == "GET /v1/costs"
    assert span.kind is SpanKind.SERVER
    assert (span.context.trace_id, span.parent.span_id) == (TRACE_ID, PARENT_ID)
    assert dict(span.attributes) == {
        "http.request.method": "GET",
        "http.route": "/v1/costs",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "voicegw.door": "http",
    }


@pytest.mark.parametrize(
    ("target", "method", "name", "status"),
    [
        (f"/v1/projects/{SECRET}", "GET", "GET /v1/projects/{project_id}", 404),
        (f"/v1/{SECRET}", "GET", "GET", 404),
        (f"/v1/costs?period={SECRET}", "HEAD", "HEAD /v1/costs", 400),
        ("/v1/metrics", SECRET, "HTTP /v1/metrics", 405),
        ("/v1/openapi.json", "GET", "GET /v1/openapi.json", 200),
    ],
)
async def test_no_value_of_a_request_to_the_api_is_in_its_span(
    traced_site, collected, target, method, name, status
):
    await traced_site.get(target, method=method, token=TOKEN)
    assert collected.span.name == name
    assert collected.span.attributes["http.response.status_code"] == status
    assert collected.span.status.status_code is StatusCode.UNSET
    assert not collected.holds(SECRET)


async def test_what_the_server_cannot_do_is_an_error_of_its_span(traced_site, house, collected):
    house.database.mkdir()
    assert (await traced_site.get("/v1/costs", token=TOKEN)).status == 503
    assert collected.span.status.status_code is StatusCode.ERROR
    assert collected.span.attributes["error.type"] == "503"


async def test_who_has_no_token_makes_no_spans(traced_site, collected):
    assert (await traced_site.get("/v1/costs", traceparent=TRACEPARENT)).status == 401
    assert (await traced_site.get("/health")).status == 200
    assert collected.spans == []


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "00",
        TRACEPARENT + "-more",
        TRACEPARENT.upper(),
        "0" * 100_000,
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
    ],
)
async def test_a_header_that_names_no_trace_begins_one(traced_site, collected, caplog, traceparent):
    answer = await traced_site.get("/v1/status", token=TOKEN, traceparent=traceparent, tracestate="=,;" * 999)
    assert answer.status == 200
    assert collected.span.parent is None
    assert caplog.text == ""  # who calls cannot fill the log


async def test_where_nobody_collects_there_is_no_middleware(house):
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    gateway = house.gateway()
    assert build_server(gateway).middleware == []
    await gateway.close()
