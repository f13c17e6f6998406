"""``voicegw serve`` and ``voicegw mcp -t http`` as real processes on free loopback ports, ended by their own pid."""

import json
import signal
import socket
import sqlite3
import subprocess
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from urllib.parse import urlsplit

import httpx2
import pytest
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from tests.e2e.conftest import BIN, WAIT_S
from tests.protocol.agents import ERAS

VOICEGW = BIN / "voicegw"
TOKEN = "fake-token-0001"
OTHER = "fake-token-0002"
COMMANDS = {"serve": ("serve",), "mcp": ("mcp", "-t", "http")}
STOPPED_S = 20
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "tests", "version": "1"},
    },
}
LIST_TOOLS = {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}}
ACCEPT = {"accept": "application/json, text/event-stream"}
TWO_KEYS = """
auth:
  api_keys:
    - {token: "${OPS_TOKEN}", name: ops-desk, role: operator}
    - {token: "${VIEW_TOKEN}", name: wall-board, scopes: [read]}
"""


@pytest.fixture
def serve(spawn):
    """Start a server on a free port and return it when it says that it is ready."""

    def serve(*command, **variables):
        server = spawn(*(command or ("serve",)), "-p", "0", command=(VOICEGW,), **variables)
        lines = [server.line().decode()]
        while "claude mcp add" not in lines[-1]:
            assert lines[-1], server.errors.read_text()
            lines.append(server.line().decode())
        server.mcp, server.sse = (line.split()[0] for line in lines[1:3])
        server.base = server.mcp.removesuffix("/mcp")
        return server

    return serve


@pytest.fixture
def stop():
    """End a server with a signal; return its exit code, having looked at what it wrote."""

    def stop(server, number=signal.SIGTERM):
        server.process.send_signal(number)
        code = server.process.wait(STOPPED_S)
        assert "Traceback" not in server.errors.read_text()
        return code

    return stop


def bearer(token):
    return {"authorization": f"Bearer {token}"} if token else {}


@asynccontextmanager
async def connected(server, mode, token=None):
    """A client of the official SDK: of one era over Streamable HTTP, or over SSE."""
    async with AsyncExitStack() as stack:
        if mode == "sse":
            transport, mode = sse_client(server.sse, bearer(token), WAIT_S, WAIT_S), "legacy"
        else:
            http = await stack.enter_async_context(
                httpx2.AsyncClient(headers=bearer(token), timeout=WAIT_S, trust_env=False)
            )
            transport = streamable_http_client(server.mcp, http_client=http)
        yield await stack.enter_async_context(Client(transport, mode=mode, read_timeout_seconds=WAIT_S))


async def call(client, tool, **arguments):
    result = await client.call_tool(tool, arguments)
    assert json.loads(result.content[0].text) == result.structured_content
    return result.structured_content


def http(token=None, **options):
    return httpx2.Client(headers=bearer(token), timeout=WAIT_S, trust_env=False, **options)


@contextmanager
def event_stream(client, url, token=None):
    """Open an event stream for the length of the block; give the path to which its messages go."""
    with client.stream("GET", url, headers=bearer(token)) as stream:
        lines = stream.iter_lines()  # a generator that is dropped would close the stream
        yield next(line for line in lines if line.startswith("data: ")).removeprefix("data: ")


def run(environment, folder, *arguments, **variables):
    return subprocess.run(
        [str(VOICEGW), *arguments],
        env={**environment, **variables},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=WAIT_S,
        text=True,
        check=False,
    )


def journal(environment):
    with closing(sqlite3.connect(environment["VOICEGW_DB_PATH"])) as connection:
        return connection.execute("SELECT tool, actor, door FROM changes ORDER BY rowid").fetchall()


async def converse(client):
    assert "status" in await call(client, "get_health")
    await call(client, "add_provider", provider_id="groq", provider_type="groq", api_key="${GROQ_API_KEY}")
    assert "groq" in json.dumps(await call(client, "list_providers"))
    asked = await call(client, "delete_provider", provider_id="groq")
    assert asked["error"]["code"] == "CONFIRMATION_REQUIRED"
    await call(client, "delete_provider", provider_id="groq", confirm=True)
    assert "groq" not in json.dumps(await call(client, "list_providers"))


@pytest.mark.cover_processes
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
async def test_the_official_client_manages_the_file_in_both_eras_and_over_sse(serve, stop, config, command):
    before = config.read_bytes()
    server = serve(*command)
    for mode in (*ERAS, "sse"):
        async with connected(server, mode) as client:
            await converse(client)
        assert config.read_bytes() == before
    assert stop(server) == 0


@pytest.mark.cover_processes
@pytest.mark.parametrize("mode", [*ERAS, "sse"])
async def test_the_token_s_role_and_name_hold_over_every_transport(serve, stop, config, environment, mode):
    config.write_text(config.read_text() + TWO_KEYS)
    server = serve(VOICEGW_MCP_TOKEN=TOKEN, OPS_TOKEN=OTHER, VIEW_TOKEN="fake-token-0003")
    async with connected(server, mode, "fake-token-0003") as client:
        assert "status" in await call(client, "get_health")
        refused = await call(client, "add_provider", provider_id="groq", provider_type="groq")
        assert refused["error"]["details"] == {"role": "viewer", "needed": "operator"}
    async with connected(server, mode, OTHER) as client:
        await call(client, "add_provider", provider_id="groq", provider_type="groq")
        refused = await call(client, "delete_provider", provider_id="groq", confirm=True)
        assert refused["error"]["code"] == "FORBIDDEN"
    async with connected(server, mode, TOKEN) as client:
        await call(client, "delete_provider", provider_id="groq", confirm=True)
    assert stop(server) == 0
    assert journal(environment) == [
        ("add_provider", "ops-desk", "http"),
        ("delete_provider", "token", "http"),
    ]
    assert "fake-token" not in server.errors.read_text()


def test_a_wrong_or_missing_token_is_refused_on_every_path_but_health(serve):
    server = serve(VOICEGW_MCP_TOKEN=TOKEN)
    assert TOKEN.encode() not in server.seen
    with http() as client:
        assert client.get(f"{server.base}/health").json() == {"status": "ok"}
        for token in (None, OTHER):
            for path in ("/mcp", "/mcp/", "/sse", "/messages", "/messages/?session_id=1", "/nothing"):
                if token is not None and path == "/nothing":  # five wrong ones are enough here
                    continue
                answer = client.post(
                    f"{server.base}{path}", json=INITIALIZE, headers={**ACCEPT, **bearer(token)}
                )
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"].startswith("Bearer ")
                assert answer.json()["error"]["code"] == "FORBIDDEN"
        assert client.get(f"{server.base}/health", headers={"host": "evil.com"}).status_code == 421
        assert client.get(f"{server.base}/health", headers={"origin": "null"}).status_code == 403
    with http(TOKEN) as client:
        assert client.post(server.mcp, json=INITIALIZE, headers=ACCEPT).status_code == 200


@pytest.mark.cover_processes
@pytest.mark.parametrize("change", ["revoked", "another role"])
def test_an_open_stream_ends_when_its_token_no_longer_allows_what_it_did(serve, stop, config, change):
    before = config.read_text()
    config.write_text(before + TWO_KEYS)
    server = serve(VOICEGW_MCP_TOKEN=TOKEN, OPS_TOKEN=OTHER, VIEW_TOKEN="fake-token-0003")
    with (
        http() as client,
        closing(httpx2.Client(timeout=WAIT_S)) as other,
        client.stream("GET", server.sse, headers=bearer("fake-token-0003")) as ending,
        other.stream("GET", server.sse, headers=bearer(OTHER)) as staying,
    ):
        events, others = ending.iter_raw(), staying.iter_raw()
        assert b"endpoint" in next(events)
        assert b"endpoint" in next(others)
        changed = (
            TWO_KEYS.replace("scopes: [read]", "role: operator")
            if change != "revoked"
            else "\n".join(line for line in TWO_KEYS.splitlines() if "VIEW_TOKEN" not in line)
        )
        config.write_text(before + changed + "\n")
        assert list(events) == []  # read to its end, within the client's patience
        assert others  # the other one is still open
        posted = client.post(server.mcp, json=INITIALIZE, headers={**ACCEPT, **bearer(OTHER)})
        assert posted.status_code == 200
    assert stop(server) == 0


def test_a_session_is_unknown_to_any_other_token(serve, config):
    config.write_text(config.read_text() + TWO_KEYS)
    server = serve(VOICEGW_MCP_TOKEN=TOKEN, OPS_TOKEN=OTHER, VIEW_TOKEN="fake-token-0003")
    with http() as client:
        opened = client.post(server.mcp, json=INITIALIZE, headers={**ACCEPT, **bearer(TOKEN)})
        session = {
            **ACCEPT,
            "mcp-session-id": opened.headers["mcp-session-id"],
            "mcp-protocol-version": "2025-06-18",
        }
        for token, status in ((OTHER, 404), ("fake-token-0003", 404), (TOKEN, 200)):
            answer = client.post(server.mcp, json=LIST_TOOLS, headers={**session, **bearer(token)})
            assert answer.status_code == status
        assert client.delete(server.mcp, headers={**session, **bearer(OTHER)}).status_code == 404
        assert client.delete(server.mcp, headers={**session, **bearer(TOKEN)}).status_code == 200


def test_an_event_stream_is_unknown_to_any_other_token(serve, config):
    config.write_text(config.read_text() + TWO_KEYS)
    server = serve(VOICEGW_MCP_TOKEN=TOKEN, OPS_TOKEN=OTHER, VIEW_TOKEN="fake-token-0003")
    with http() as client, event_stream(client, server.sse, TOKEN) as path:
        url = f"{server.base}{path}"
        for token, status in ((OTHER, 404), ("fake-token-0003", 404), (TOKEN, 202)):
            assert client.post(url, json=INITIALIZE, headers=bearer(token)).status_code == status


def test_a_slash_too_many_or_too_few_gives_no_redirect(serve):
    server = serve()
    with http(follow_redirects=False) as client, event_stream(client, server.sse) as endpoint:
        query = urlsplit(endpoint).query
        for path in ("/messages", "/messages/"):
            answer = client.post(f"{server.base}{path}?{query}", json=INITIALIZE)
            assert (answer.status_code, answer.headers.get("location")) == (202, None)
        for path in ("/mcp", "/mcp/"):
            answer = client.post(f"{server.base}{path}", json=INITIALIZE, headers=ACCEPT)
            assert (answer.status_code, answer.headers.get("location")) == (200, None)


@pytest.mark.cover_processes
def test_an_odd_session_of_an_event_stream_is_refused(serve, stop):
    server = serve()
    with http() as client:
        for named in ("%FF", "%00", "%E2%80%A6", "../x", "", "a&session_id=b"):
            answer = client.post(f"{server.base}/messages/?session_id={named}", json=INITIALIZE)
            assert answer.status_code == (404 if named else 400), named
            assert answer.json()["error"]["code"] == "VALIDATION_ERROR", named
    assert stop(server) == 0


def test_who_reads_no_answers_is_given_no_more(serve):
    server = serve()
    with http() as client, event_stream(client, server.sse) as endpoint:
        for asked in range(2_000):
            answer = client.post(f"{server.base}{endpoint}", json=INITIALIZE if asked == 0 else LIST_TOOLS)
            if answer.status_code != 202:
                break
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["error"]["code"] == "SERVER_UNREACHABLE"


def test_unknown_paths_have_the_one_error_shape(serve):
    server = serve()
    with http(follow_redirects=False) as client:
        for path in (
            "/index.html",
            "/mcp/x",
            "/MCP",
            "/sse/",
            "/health/",
            "/favicon.ico",
            "/%2e%2e/mcp",
            "/messages/x",
        ):
            answer = client.get(f"{server.base}{path}")
            assert answer.status_code == 404, path
            assert answer.json()["error"]["code"] == "VALIDATION_ERROR"
            assert "/health" in answer.json()["error"]["hint"]
        assert client.post(f"{server.base}/health").headers["allow"] == "GET, HEAD"
        assert client.post(server.sse).status_code == 405
        head = client.head(f"{server.base}/health")
        assert (head.status_code, head.content) == (200, b"")
        assert "server" not in head.headers


def test_a_large_body_is_refused_with_and_without_a_length(serve):
    server = serve()
    large = b" " * (5 * 1024 * 1024)
    headers = {**ACCEPT, "content-type": "application/json"}
    host, port = urlsplit(server.base).netloc.split(":")
    with socket.create_connection(
        (host, int(port)), WAIT_S
    ) as connection:  # only its headers: the answer comes first
        head = f"POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(large)}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
    with http() as client:
        answer = client.post(server.mcp, content=iter([large]), headers=headers)
        assert answer.status_code == 413
        assert client.get(f"{server.base}/health").status_code == 200


def test_call_reaches_it_by_url_and_sends_the_token_of_a_variable(serve, environment, tmp_path):
    server = serve(VOICEGW_MCP_TOKEN=TOKEN)
    for path in ("/mcp", "/mcp/", "/sse"):
        asked = ("call", "list_providers", "--url", f"{server.base}{path}")
        good = run(environment, tmp_path, *asked, "--token-env", "MY_TOKEN", MY_TOKEN=TOKEN)
        assert (good.returncode, good.stderr) == (0, ""), path
        assert "deepgram" in good.stdout
        for arguments, token in (((), ""), (("--token-env", "MY_TOKEN"), OTHER)):
            bad = run(environment, tmp_path, *asked, *arguments, MY_TOKEN=token)
            assert bad.returncode == 1, path
            assert "token" in bad.stdout + bad.stderr
            assert "fake-token" not in bad.stdout + bad.stderr


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_without_a_token_it_does_not_listen_for_other_machines(environment, tmp_path, command, host):
    found = run(environment, tmp_path, *command, "-p", "0", "--host", host)
    assert (found.returncode, found.stdout) == (2, "")
    assert "VOICEGW_MCP_TOKEN" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("option", [("--allowed-host", "*"), ("--allowed-origin", "ops.example.com")])
def test_a_typo_in_a_list_of_names_keeps_it_from_starting(environment, tmp_path, option):
    found = run(environment, tmp_path, "serve", "-p", "0", *option)
    assert (found.returncode, found.stdout) == (2, "")
    assert option[0] in found.stderr


@pytest.mark.cover_processes
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_port_in_use_ends_it_with_3(environment, tmp_path, command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = run(environment, tmp_path, *command, "-p", port)
    assert (found.returncode, found.stdout) == (3, "")
    assert port in found.stderr
    assert "--port" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.cover_processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_although_a_stream_is_open(serve, stop, number):
    server = serve()
    with http() as client, event_stream(client, server.sse) as endpoint:
        assert endpoint.startswith("/messages/?session_id=")
        assert stop(server, number) == 0


def test_a_token_added_while_it_runs_closes_it_and_one_taken_out_is_refused(serve, config):
    before = config.read_text()
    server = serve(OPS_TOKEN=OTHER, VIEW_TOKEN="fake-token-0003")
    with http() as client:

        def status(token=None):
            answer = client.post(server.mcp, json=INITIALIZE, headers={**ACCEPT, **bearer(token)})
            return answer.status_code

        assert status() == 200
        config.write_text(before + TWO_KEYS)
        assert (status(), status(OTHER), status("fake-token-0003")) == (401, 200, 200)
        config.write_text(before + TWO_KEYS.replace("VIEW_TOKEN", "NOT_SET"))
        assert (status(), status(OTHER), status("fake-token-0003")) == (401, 200, 401)
