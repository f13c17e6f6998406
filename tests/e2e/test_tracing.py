"""Servers that send their spans over OTLP to a collector on loopback: they, and the end of the process, are real."""

import json
import signal
import socket

import pytest
from tests.e2e.conftest import KEY
from tests.e2e.test_http import ACCEPT, TOKEN, http, serve, stop  # noqa: F401 - fixtures
from tests.otlp_receiver import attributes_of, receiving
from tests.span_collector import TRACE_ID, TRACEPARENT

TRACE = TRACE_ID.to_bytes(16)
SECRET = "nobody-may-read-this"


@pytest.fixture
def collector():
    with receiving() as receiver:
        yield receiver


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.cover_processes
@pytest.mark.parametrize("ending", ["input", "signal"])
def test_a_server_over_stdio_sends_what_it_did_before_it_ends(spawn, collector, ending):
    server = spawn(**collector.variables)
    server.initialize()
    server.request(
        "tools/call", name="get_project", arguments={"project_id": "kept"}, _meta={"traceparent": TRACEPARENT}
    )
    server.call("get_project", project_id=SECRET)
    if ending == "input":
        assert server.close() == 0
    else:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
    assert server.errors.read_text() == ""
    (resource, found), (_, refused) = collector.exported()
    assert (resource["service.name"], found.name) == ("voicegw-mcp", "tools/call get_project")
    assert resource["service.version"]
    assert found.trace_id == TRACE
    assert attributes_of(found)["voicegw.door"] == "stdio"
    assert attributes_of(refused)["voicegw.outcome"] == "PROJECT_NOT_FOUND"
    for text in (SECRET, KEY, "kept", "Kept"):
        assert text.encode() not in collector.bodies


def test_a_message_that_is_none_has_a_span_without_what_was_sent(spawn, collector):
    server = spawn(**collector.variables)
    server.initialize()
    for params in ({"name": 5, "arguments": SECRET}, {"arguments": {"text": SECRET}}, {}):
        assert server.request("tools/call", **params)["error"]["code"] == -32602
    server.send({"jsonrpc": "2.0", "method": "tools/call", "params": {"name": SECRET}})  # no request
    server.request(SECRET)
    assert server.health()
    assert server.close() == 0
    outcomes = [attributes_of(span)["voicegw.outcome"] for _, span in collector.exported()]
    assert outcomes == ["VALIDATION_ERROR"] * 3 + ["ok"]
    assert SECRET.encode() not in collector.bodies


@pytest.mark.cover_processes
def test_a_server_over_http_takes_the_trace_of_header_and_message(serve, stop, collector):  # noqa: F811
    server = serve(VOICEGW_MCP_TOKEN=TOKEN, OTEL_SERVICE_NAME="gateway-eu", **collector.variables)
    other = TRACEPARENT.replace("4bf92f35", "11111111")
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call"}
    info = {"name": "tests", "version": "1"}
    era = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": info,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    with http(TOKEN) as client:
        assert client.get(server.base + "/v1/status", headers={"traceparent": TRACEPARENT}).status_code == 200
        for meta in ({}, {"traceparent": other}):
            params = {"name": "get_health", "arguments": {}, "_meta": {**era, **meta}}
            answer = client.post(
                server.mcp,
                json={**message, "params": params},
                headers={
                    **ACCEPT,
                    "traceparent": TRACEPARENT,
                    "mcp-protocol-version": "2026-07-28",
                    "mcp-method": "tools/call",
                    "mcp-name": "get_health",
                },
            )
            assert answer.status_code == 200, answer.text
    assert stop(server) == 0
    assert [span.name for _, span in collector.exported()] == [
        "GET /v1/status",
        *["tools/call get_health"] * 2,
    ]
    (resource, read), (_, plain), (_, linked) = collector.exported()
    assert resource["service.name"] == "gateway-eu"
    assert read.trace_id == plain.trace_id == TRACE
    assert linked.trace_id == bytes.fromhex(other.split("-")[1])
    assert [link.trace_id for link in linked.links] == [TRACE]
    assert attributes_of(plain)["network.transport"] == "tcp"
    assert TOKEN.encode() not in collector.bodies


@pytest.mark.cover_processes
@pytest.mark.parametrize("collects", ["nobody", "silence"])
def test_a_collector_that_does_not_answer_holds_up_neither_answers_nor_the_end(spawn, collects):
    with receiving(hang=True) as receiver:
        port = receiver.port if collects == "silence" else free_port()
        server = spawn(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}", OTEL_BSP_SCHEDULE_DELAY="20")
        server.initialize()
        for _ in range(20):
            assert server.health()
        assert server.close() == 0  # the receiver is silent until this block ends
    assert "Traceback" not in server.errors.read_text()
    for line in server.seen.splitlines():
        assert json.loads(line)["jsonrpc"] == "2.0"


@pytest.mark.cover_processes
def test_without_the_extra_the_server_starts_and_says_what_to_install(spawn, tmp_path, collector):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['opentelemetry.exporter.otlp.proto.http.trace_exporter'] = None\n"
    )
    server = spawn(PYTHONPATH=str(tmp_path), **collector.variables)
    server.initialize()
    assert server.health()
    assert server.close() == 0
    assert "install voicegw-mcp[otel]" in server.errors.read_text()
    assert collector.exported() == []
