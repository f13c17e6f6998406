"""/v1/metrics of a real server: sessions of real clients, rows of other processes, and counters over a restart."""

# ruff: noqa: F811 - fixtures of other modules

import anyio
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.test_api import record  # noqa: F401 - a fixture
from tests.e2e.test_http import (
    ACCEPT,
    INITIALIZE,
    OTHER,
    TOKEN,
    bearer,
    connected,
    event_stream,
    http,
    serve,  # noqa: F401 - a fixture
    stop,  # noqa: F401 - likewise
)
from tests.factories import request_record


def scrape(server, token=TOKEN):
    with http(token) as client:
        answer = client.get(f"{server.base}/v1/metrics", headers={"accept": "text/plain"})
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def open_sessions(server):
    found = scrape(server)
    return tuple(found["voicegw_mcp_sessions", kind] for kind in ("streamable_http", "sse"))


def test_open_sessions_are_told_by_transport(serve, stop):
    server = serve(VOICEGW_MCP_TOKEN=TOKEN)
    assert open_sessions(server) == (0, 0)
    with http(TOKEN) as client, event_stream(client, server.sse, TOKEN), http(TOKEN) as other:
        begun = other.post(server.mcp, json=INITIALIZE, headers=ACCEPT)
        assert begun.status_code == 200
        assert open_sessions(server) == (1, 1)
        ended = {"mcp-session-id": begun.headers["mcp-session-id"], **ACCEPT}
        assert other.delete(server.mcp, headers=ended).status_code == 200
        assert open_sessions(server)[1] == 1
    assert stop(server) == 0


async def test_calls_of_a_real_client_and_rows_of_another_process_are_counted_over_a_restart(
    serve, stop, record
):
    server = serve(VOICEGW_MCP_TOKEN=TOKEN)
    before = scrape(server)
    async with connected(server, "auto", TOKEN) as client:
        await client.call_tool("get_health", {})
        await client.call_tool("get_project", {"project_id": "nobody"})
    row = request_record(id="a", cost_nanousd=2_000_000_000, ttfb_ms=100.0)
    await anyio.to_thread.run_sync(record, row)  # its own gateway, as another process has it
    after = scrape(server)
    assert after["voicegw_mcp_tool_calls_total", "get_health", "ok"] == 1
    assert after["voicegw_mcp_tool_calls_total", "PROJECT_NOT_FOUND", "get_project"] == 1
    cost = ("voicegw_cost_usd_total", "p0", "stt", "v0", "v0/m")
    assert (before.get(cost), after[cost]) == (None, 2.0)
    assert stop(server) == 0
    again = serve(VOICEGW_MCP_TOKEN=TOKEN)
    held = scrape(again)
    stored = [key for key in after if len(key) >= len(cost)]
    assert {key: held[key] for key in stored} == {key: after[key] for key in stored}
    with http() as nobody, http(OTHER) as stranger:
        for client in (nobody, stranger):
            assert client.get(f"{again.base}/v1/metrics").status_code == 401
        wrong = {**bearer(TOKEN), "host": "evil.example"}
        assert nobody.get(f"{again.base}/v1/metrics", headers=wrong).status_code == 421
        head = nobody.head(f"{again.base}/v1/metrics", headers=bearer(TOKEN))
        assert (head.status_code, head.content) == (200, b"")
    assert stop(again) == 0
