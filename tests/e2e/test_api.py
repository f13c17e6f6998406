"""The JSON API over real HTTP: ``voicegw serve`` and ``voicegw mcp -t http`` as real processes."""

# ruff: noqa: F811 - serve and stop are fixtures of another module

import csv
import io
import json
import signal
import sqlite3
from pathlib import Path

import anyio
import httpx2
import pytest
from tests.e2e.conftest import WAIT_S
from tests.e2e.test_http import COMMANDS, OTHER, TOKEN, bearer, http, serve, stop  # noqa: F401 - two are fixtures
from tests.factories import request_record

from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.store.requests import insert_requests

KEYS = """
auth:
  api_keys:
    - {token: "${VIEW_TOKEN}", name: wall-board, role: viewer, projects: [support]}
"""


@pytest.fixture
def record(environment):
    """Write rows into the store of the servers."""

    def record(*rows):
        async def write():
            gateway = Gateway.open(environment["VOICEGW_CONFIG"], door="test", environment=environment)
            try:
                store = await gateway.store()
                await store.write(lambda connection: insert_requests(connection, rows))
            finally:
                await gateway.close()

        anyio.run(write)

    return record


@pytest.mark.parametrize("command", COMMANDS)
def test_both_commands_serve_the_api_behind_the_same_token(serve, stop, record, command):
    record(request_record(id="a", project="support", cost_nanousd=2_000_000_000))
    server = serve(*COMMANDS[command], VOICEGW_MCP_TOKEN=TOKEN)
    with http() as client:
        for path in ("/v1/costs", "/v1/logs", "/v1/openapi.json", "/v1/nothing"):
            refused = client.get(f"{server.base}{path}")
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "FORBIDDEN")
            assert "bearer" in refused.headers["www-authenticate"].lower()
    with http(TOKEN) as client:
        costs = client.get(f"{server.base}/v1/costs", params={"period": "all"}).json()
        assert (costs["total"], list(costs["by_project"])) == (2.0, ["support"])
        assert [row["id"] for row in client.get(f"{server.base}/v1/logs").json()] == ["a"]
        head = client.head(f"{server.base}/v1/logs", headers={"accept": "text/csv"})
        assert (head.status_code, head.content) == (200, b"")
        assert client.get(f"{server.base}/v1/costs", headers={"host": "evil.example"}).status_code == 421
        assert (
            client.get(f"{server.base}/v1/costs", headers={"origin": "https://evil.example"}).status_code
            == 403
        )
        assert client.post(f"{server.base}/v1/providers", json={"provider_id": "x"}).status_code == 405
    assert stop(server) == 0


def test_wrong_tokens_lock_an_address_out_of_the_api_too(serve, stop):
    server = serve(VOICEGW_MCP_TOKEN=TOKEN)
    with http(OTHER) as client:
        statuses = [client.get(f"{server.base}/v1/status").status_code for _ in range(11)]
    assert statuses == [401] * 10 + [429]
    assert stop(server) == 0


def test_one_project_s_server_and_a_bound_token_show_no_other(serve, stop, record, environment):
    file = Path(environment["VOICEGW_CONFIG"])
    both = "projects:\n  support: {name: Support}\n  sales: {name: Sales}\n"
    file.write_text(file.read_text("utf-8").replace("projects:\n", both) + KEYS, "utf-8")
    record(request_record(id="a", project="support"), request_record(id="b", project="sales"))
    server = serve(VOICEGW_MCP_TOKEN=TOKEN, VIEW_TOKEN=OTHER)
    # What agents are offered closes nothing here: rights are those of the token and the project.
    pinned = serve(
        *("serve", "--project", "support", "--tools", "get_health"), VOICEGW_MCP_TOKEN=TOKEN, VIEW_TOKEN=OTHER
    )
    for place, token in ((server, OTHER), (pinned, TOKEN), (pinned, OTHER)):
        with http(token) as client:
            assert [row["id"] for row in client.get(f"{place.base}/v1/logs").json()] == ["a"]
            assert client.get(f"{place.base}/v1/logs", params={"project": "sales"}).status_code == 404
            assert client.get(f"{place.base}/v1/changes").status_code == 403
            assert "sales" not in client.get(f"{place.base}/v1/projects").text
    assert stop(server) == stop(pinned) == 0


def test_an_export_of_many_rows_arrives_whole(serve, stop, record):
    record(*(request_record(id=f"r{n}", project="=1+1") for n in range(5_000)))
    server = serve()
    with http() as client:
        answer = client.get(f"{server.base}/v1/logs", headers={"accept": "text/csv"})
        rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
        assert {row["id"] for row in rows} == {f"r{n}" for n in range(5_000)}
        assert {row["project"] for row in rows} == {"'=1+1"}
        lines = client.get(
            f"{server.base}/v1/logs", headers={"accept": "application/x-ndjson"}
        ).text.splitlines()
        assert [json.loads(line)["id"] for line in lines] == [row["id"] for row in rows]
    assert stop(server) == 0


def test_an_export_that_the_server_s_end_cuts_is_seen_to_be_cut(serve, record):
    message = {"status": "error", "error_message": "x" * 2000}
    record(*(request_record(id=f"r{n}", **message) for n in range(5_000)))
    server = serve()
    with (
        http() as client,
        client.stream("GET", f"{server.base}/v1/logs", headers={"accept": "text/csv"}) as answer,
    ):
        parts = answer.iter_raw()
        next(parts)  # more than buffers take is still to come
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(httpx2.RemoteProtocolError):
            for _ in parts:
                pass
    assert server.process.wait(WAIT_S) == 0
    assert "Traceback" not in server.errors.read_text()


def test_rows_of_another_process_are_told_to_who_follows(serve, record):
    record(request_record(id="past"))
    server = serve()
    with (
        http() as client,
        client.stream("GET", f"{server.base}/v1/logs", headers={"accept": "text/event-stream"}) as stream,
    ):
        lines = stream.iter_lines()
        assert next(lines) == ": following"
        for name in ("a", "b"):
            record(request_record(id=name))
            data = next(line for line in lines if line.startswith("data: "))
            assert json.loads(data.removeprefix("data: "))["id"] == name
        server.process.send_signal(signal.SIGTERM)
        assert not [line for line in lines if line.startswith("data: ")]
    assert server.process.wait(WAIT_S) == 0
    assert "Traceback" not in server.errors.read_text()


def test_a_token_that_is_taken_out_ends_its_stream(serve, stop, environment):
    file = Path(environment["VOICEGW_CONFIG"])
    plain = file.read_text("utf-8")
    file.write_text(plain + KEYS, "utf-8")
    server = serve(VOICEGW_MCP_TOKEN=TOKEN, VIEW_TOKEN=OTHER)
    headers = {"accept": "text/event-stream", **bearer(OTHER)}
    with http() as client, client.stream("GET", f"{server.base}/v1/logs", headers=headers) as stream:
        lines = stream.iter_lines()
        assert next(lines) == ": following"
        file.write_text(plain, "utf-8")
        assert not [line for line in lines if line.startswith("data: ")]
    assert stop(server) == 0


def test_reading_writes_nothing(serve, stop, record, environment):
    record(request_record(id="a"))
    server = serve("serve", "--read-only")
    with http() as client:
        for path in ("status", "providers", "models", "projects", "costs", "latency", "logs", "changes"):
            assert client.get(f"{server.base}/v1/{path}").status_code == 200
    assert stop(server) == 0
    with sqlite3.connect(environment["VOICEGW_DB_PATH"]) as connection:
        assert connection.execute("SELECT COUNT(*) FROM changes").fetchone() == (0,)
    connection.close()
