import json
import os
import socket
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anyio
import pytest
import uvicorn

from voicegw_mcp.cli.call import exit_code_of, holding, parse_arguments
from voicegw_mcp.cli.conditions import parse_condition
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.errors import InvalidInput, ServerUnreachable, StoreUnavailable
from voicegw_mcp.server import build_server
from voicegw_mcp.tools import TOOLS
from voicegw_mcp.transports import client as transports

WAIT_S = 20


@contextmanager
def serving(app):
    """Serve an ASGI application on a free port of the loopback address until the block ends."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
    started = threading.Event()
    plain_startup = server.startup

    async def startup(sockets=None):
        await plain_startup(sockets)
        started.set()

    server.startup = startup
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        assert started.wait(WAIT_S)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(WAIT_S)
        listening.close()
    assert not thread.is_alive()


class Guarded:
    """Passes requests on that carry the token, and remembers nothing else."""

    def __init__(self, app, token=None):
        self.app = app
        self.token = token

    async def __call__(self, scope, receive, send):
        headers = dict(scope.get("headers", ()))
        if (
            self.token
            and scope["type"] == "http"
            and headers.get(b"authorization") != f"Bearer {self.token}".encode()
        ):
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b"no"})
            return
        await self.app(scope, receive, send)


@pytest.fixture
def gateway(config):
    opened = Gateway.open(str(config("timezone: UTC\n")), door="test")
    yield opened
    anyio.run(opened.close)


@pytest.fixture
def http(gateway):
    """A running server over Streamable HTTP; the last part of its URL is /mcp."""
    with serving(build_server(gateway).streamable_http_app()) as url:
        yield f"{url}/mcp"


def test_a_tool_is_called_by_url(voicegw, http):
    found = voicegw("call", "get_health", "--url", http)
    assert (found.code, found.err) == (0, "")
    assert found.json["status"] == "ok"


def test_values_are_text_where_the_tool_takes_text_and_json_elsewhere(voicegw, http, gateway):
    arguments = [
        "project_id=p1",
        "name=123",
        "daily_budget=2.5",
        'tags:=["a","b"]',
        "dry_run=false",
        "description={}",
    ]
    answer = voicegw("call", "create_project", *arguments, "--url", http).json
    assert answer["name"] == "123"
    assert answer["description"] == "{}"
    assert answer["daily_budget"] == 2.5
    assert answer["tags"] == ["a", "b"]
    assert gateway.catalog().projects["p1"].settings.name == "123"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["get_logs", "limit=0"], "limit"),
        (["get_logs", "limit=null"], "limit"),
        (["get_logs", "limit=NaN"], "limit"),
        (["get_logs", "limitt=5"], "limitt"),
        (["get_costs", "period:=5"], "period"),
        (["get_helth"], "tool"),
        (["smell"], "tool"),
    ],
)
def test_what_the_server_refuses_ends_with_2_and_names_the_field(voicegw, http, arguments, field):
    found = voicegw("call", *arguments, "--url", http)
    assert found.code == 2
    assert found.json["error"]["code"] == "VALIDATION_ERROR"
    assert found.json["error"]["details"]["field"] == field


def test_an_unknown_tool_is_answered_with_near_names(voicegw, http):
    assert "get_health" in voicegw("call", "get_helth", "--url", http).json["error"]["hint"]
    assert "list_models" in voicegw("call", "smell", "--url", http).json["error"]["hint"]


def test_other_errors_of_a_tool_end_with_1(voicegw, http):
    found = voicegw("call", "get_project", "project_id=nope", "--url", http)
    assert found.code == 1
    assert found.json["error"]["code"] == "PROJECT_NOT_FOUND"


@pytest.mark.parametrize("argument", ["period", "=week", "1period=week", "", "--", "period:week"])
def test_an_argument_that_is_no_pair_is_refused_without_repeating_it(argument):
    with pytest.raises(InvalidInput, match="Argument 2 is not KEY=VALUE"):
        parse_arguments(["a=1", argument])


def test_an_argument_given_twice_and_json_that_is_none_are_refused(voicegw, http):
    with pytest.raises(InvalidInput, match="given twice"):
        parse_arguments(["a=1", "a:=2"])
    found = voicegw("call", "get_logs", "limit:={", "--url", http)
    assert found.code == 2
    assert found.json["error"]["message"] == "'limit' is not JSON."


def test_pairs_keep_everything_behind_the_first_sign():
    assert parse_arguments(["a=b=c", "d:=[1]", "e=", "f=:=", "g=x\ny"]) == {
        "a": (False, "b=c"),
        "d": (True, "[1]"),
        "e": (False, ""),
        "f": (False, ":="),
        "g": (False, "x\ny"),
    }


def test_a_token_comes_from_a_variable_and_is_never_shown(voicegw, gateway, monkeypatch):
    monkeypatch.setenv("GATE_TOKEN", "fake-key-0001")
    with serving(Guarded(build_server(gateway).streamable_http_app(), "fake-key-0001")) as url:
        allowed = voicegw("call", "get_health", "--url", f"{url}/mcp", "--token-env", "GATE_TOKEN")
        refused = voicegw("call", "get_health", "--url", f"{url}/mcp")
    assert allowed.code == 0
    assert refused.code == 1
    assert refused.json["error"]["code"] == "SERVER_UNREACHABLE"
    assert "wants a token (HTTP 401)" in refused.json["error"]["message"]
    assert "fake-key-0001" not in allowed.out + allowed.err + refused.out + refused.err
    unset = voicegw("call", "get_health", "--url", "http://127.0.0.1:1/mcp", "--token-env", "NOT_SET")
    assert unset.code == 2


@pytest.mark.parametrize("path", ["mcp", "sse"])
def test_a_server_that_is_not_there_ends_with_1(voicegw, path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = voicegw("call", "get_health", "--url", f"http://127.0.0.1:{port}/{path}")
    assert found.code == 1
    assert found.json["error"]["code"] == "SERVER_UNREACHABLE"
    assert "ConnectError" in found.json["error"]["message"]


@pytest.mark.parametrize("path", ["mcp", "sse"])
def test_a_server_that_speaks_no_mcp_ends_with_1(voicegw, path):
    class Plain(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html>")

        do_POST = do_GET  # noqa: N815 - the names that http.server calls

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Plain)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        found = voicegw("call", "get_health", "--url", f"http://127.0.0.1:{server.server_port}/{path}")
    finally:
        server.shutdown()
        thread.join(WAIT_S)
        server.server_close()
    assert found.code == 1
    assert found.json["error"]["code"] == "SERVER_UNREACHABLE"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/mcp",
        "127.0.0.1:8080",
        "http://u:fake-key-0001@h/mcp",
        "http:///mcp",
        "",
        "http://h/a b",
    ],
)
def test_a_url_of_another_kind_is_refused_without_its_password(voicegw, url):
    found = voicegw("call", "get_health", "--url", url)
    assert found.code == 2
    assert found.json["error"]["details"]["field"] == "url"
    assert "fake-key-0001" not in found.out + found.err


def test_options_that_exclude_each_other_are_refused(voicegw, config):
    path = config("timezone: UTC\n")
    assert (
        voicegw("call", "get_health", "--url", "http://h/mcp", "-c", path).json["error"]["details"]["field"]
        == "url"
    )
    assert voicegw("call", "get_health", "--token-env", "X").json["error"]["details"]["field"] == "token_env"


def test_exit_codes_are_those_of_the_error_table():
    codes = {
        "VALIDATION_ERROR": 2,
        "CONFIG_INVALID": 2,
        "STORE_UNAVAILABLE": 3,
        "INTERNAL_ERROR": 70,
        "CONFLICT": 1,
    }
    assert {code: exit_code_of({"error": {"code": code}}) for code in codes} == codes
    for odd in ({}, {"error": "x"}, {"error": {}}, [], "text", None):
        assert exit_code_of(odd) == 1


def test_a_server_over_http_and_sse_is_reached_too(voicegw, gateway):
    from mcp.server.sse import SseServerTransport
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Mount, Route

    transport = SseServerTransport("/messages/")
    server = build_server(gateway)

    async def connect(request):
        async with transport.connect_sse(request.scope, request.receive, request._send) as (
            incoming,
            outgoing,
        ):
            await server.run(incoming, outgoing, server.create_initialization_options())
        return Response()

    app = Starlette(routes=[Route("/sse", connect), Mount("/messages/", app=transport.handle_post_message)])
    with serving(app) as url:
        found = voicegw("call", "list_providers", "--url", f"{url}/sse")
    assert found.code == 0
    assert found.json["providers"] == []


async def call_own(server_tools, name="get_health", **prepared):
    """Call a server in this process through the transport function, without HTTP."""
    return await transports.call_tool(server_tools, name, lambda _tools: prepared)


async def test_an_answer_without_structured_content_is_read_from_its_text(monkeypatch):
    import mcp_types as types
    from mcp.server.lowlevel import Server

    texts = {"json": '{"a": 1}', "text": "plain words"}

    async def list_tools(_context, page):
        # Two pages: clients must go on with the cursor.
        first = page is None or page.cursor is None
        tool = types.Tool(name="json" if first else "text", input_schema={"type": "object"})
        return types.ListToolsResult(tools=[tool], next_cursor="2" if first else None)

    async def call_tool(_context, params):
        if params.name == "gone":
            from mcp.shared.exceptions import MCPError

            raise MCPError(-32603, "gone", {"error": {"code": "STORE_UNAVAILABLE", "message": "locked"}})
        if params.name == "odd":
            raise ValueError("odd")
        content = [types.TextContent(type="text", text=texts[params.name])] if params.name in texts else []
        return types.CallToolResult(content=content, is_error=params.name == "empty")

    server = Server("other", on_list_tools=list_tools, on_call_tool=call_tool)

    async def in_process(_server, _stack, _refusals):
        return server

    monkeypatch.setattr(transports, "_transport", in_process)
    address = transports.Address("http://127.0.0.1:1/mcp")
    seen = []
    answer = await transports.call_tool(address, "json", lambda tools: seen.append(sorted(tools)) or {})
    assert (answer.data, answer.is_error, seen) == ({"a": 1}, False, [["json", "text"]])
    answer = await call_own(address, "text")
    assert answer.data["content"][0]["text"] == "plain words"
    assert (await call_own(address, "empty")) == transports.CallAnswer({"content": []}, is_error=True)
    answer = await call_own(address, "gone")
    assert exit_code_of(answer.data) == StoreUnavailable.exit_code
    with pytest.raises(ServerUnreachable):
        await call_own(address, "odd")


def test_the_token_and_the_environment_are_not_in_any_repr():
    launch = transports.Launch("python", (), {"OPENAI_API_KEY": "fake-key-0001"})
    assert "fake-key-0001" not in repr(launch) + repr(transports.Address("http://h", "fake-key-0001"))


@pytest.mark.parametrize("command", [sys.executable, "/nowhere/voicegw-mcp"])
async def test_a_program_that_is_no_server_is_unreachable(monkeypatch, command):
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)  # the program writes to a real one
    launch = transports.Launch(command, ("-c", "pass"), dict(os.environ))
    with anyio.fail_after(WAIT_S), pytest.raises(ServerUnreachable):
        await call_own(launch)


def test_every_tool_is_there_over_http(voicegw, http):
    hint = voicegw("call", "zzz", "--url", http).json["error"]["hint"]
    assert all(tool.name in hint for tool in TOOLS)
    assert json.dumps(hint)


def test_a_condition_that_holds_ends_with_4_and_the_answer_is_printed_all_the_same(voicegw, http):
    found = voicegw(
        "call", "list_projects", "--url", http, "--fail-if", "count == 1 and projects[0].id == 'default'"
    )
    assert found.code == 4
    assert found.json["count"] == 1
    assert found.err == (
        "voicegw: --fail-if count == 1 and projects[0].id == 'default' holds: "
        'count = 1, projects[0].id = "default"\n'
    )


def test_conditions_that_do_not_hold_leave_no_trace(voicegw, http):
    conditions = ("--fail-if", "status != 'ok'", "--fail-if", "len(warnings) > 100")
    found = voicegw("call", "get_health", "--url", http, *conditions)
    assert (found.code, found.err) == (0, "")


def test_each_of_several_conditions_that_holds_is_told(voicegw, http):
    conditions = ("--fail-if", "true", "--fail-if", "status == 'no'", "--fail-if", "status == 'ok'")
    found = voicegw("call", "get_health", "--url", http, *conditions)
    assert found.code == 4
    assert found.err.splitlines() == [
        "voicegw: --fail-if true holds",
        "voicegw: --fail-if status == 'ok' holds: status = \"ok\"",
    ]


def test_a_path_that_the_answer_lacks_ends_with_2_and_names_the_nearest(voicegw, http):
    found = voicegw("call", "get_costs", "--url", http, "--fail-if", "totl_usd > 10")
    assert found.code == 2
    assert found.json["error"]["details"]["field"] == "fail_if"
    assert "total_usd" in found.json["error"]["hint"]


def test_a_condition_that_cannot_be_read_is_refused_before_anything_is_called(voicegw, http, gateway):
    arguments = ("project_id=p1", "name=P", "--url", http, "--fail-if", "name = 'P'")
    found = voicegw("call", "create_project", *arguments)
    assert found.code == 2
    assert "p1" not in gateway.catalog().projects


def test_an_error_of_the_tool_is_no_answer_to_check(voicegw, http):
    found = voicegw("call", "get_project", "project_id=nope", "--url", http, "--fail-if", "nope > 1")
    assert found.code == 1
    assert found.json["error"]["code"] == "PROJECT_NOT_FOUND"


def test_a_long_or_hidden_value_is_cut_and_escaped():
    (line,) = holding([parse_condition("name != ''")], {"name": "n\u202e" + "x" * 150})
    assert line.startswith("--fail-if name != '' holds: name = \"n\\u202exxx")
    assert len(line) < 150
    assert line.isprintable()


@pytest.mark.parametrize("token", ["two words", "naïve-token", "line\nbreak", " ", "x" * 5000])
def test_what_cannot_be_a_token_is_refused_and_not_shown(voicegw, monkeypatch, token):
    monkeypatch.setenv("GATE_TOKEN", token)
    found = voicegw("call", "get_health", "--url", "http://127.0.0.1:1/mcp", "--token-env", "GATE_TOKEN")
    assert (found.code, found.err) == (2, "")
    assert found.json["error"]["details"]["field"] == "token_env"
    assert token.strip() == "" or token not in found.out


def test_a_line_end_behind_the_token_is_left_out(voicegw, gateway, monkeypatch):
    monkeypatch.setenv("GATE_TOKEN", "fake-key-0001\n")
    with serving(Guarded(build_server(gateway).streamable_http_app(), "fake-key-0001")) as url:
        assert voicegw("call", "get_health", "--url", f"{url}/mcp", "--token-env", "GATE_TOKEN").code == 0


@contextmanager
def answering(status, headers, body):
    """A server that answers everything with the same."""

    class Same(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_DELETE = do_GET  # noqa: N815 - the names that http.server calls

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Same)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(WAIT_S)
        server.server_close()


def said(message, hint="", **headers):
    body = json.dumps({"error": {"code": "FORBIDDEN", "message": message, "hint": hint}}).encode()
    return {"content-type": "application/json", "content-length": str(len(body)), **headers}, body


REFUSALS = {
    "401": (401, *said("A bearer token is needed.", "Send it."), ["wants a token", "bearer token is needed", "--token-env"]),
    "403": (403, *said("Pages of that Origin may not call.", "Ask."), ["does not let", "of that Origin", "Ask."]),
    "421": (421, *said("Not that name.", "Use --allowed-host."), ["under that name", "Not that name.", "--allowed-host"]),
    "429": (429, *said("Too many.", "Wait.", **{"retry-after": "42"}), ["too many wrong tokens", "in 42 seconds"]),
    "503": (503, {"retry-after": "5"}, b"Too many open sessions", ["no room", "in 5 seconds"]),
    "404": (404, {}, b"nope", ["nothing at that address", "/mcp or /sse"]),
    "500": (500, *said("Out of\u202e order."), ["refuses (HTTP 500)", "Out of\\\\u202e order."]),
    "not JSON": (403, {"content-type": "application/json", "content-length": "3"}, b"{x}", ["does not let"]),
    "odd shape": (403, {"content-type": "application/json", "content-length": "13"}, b'{"error": [1]}'[:13], ["does not"]),
    "no length": (403, {"content-type": "application/json"}, b'{"error": {"message": "endless', ["does not let"]),
    "too long": (429, {"content-type": "application/json", "content-length": "99999", "retry-after": "soon"}, b"{}", ["Try again later"]),
}  # fmt: skip


@pytest.mark.parametrize("path", ["mcp", "sse"])
@pytest.mark.parametrize(("status", "headers", "body", "told"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_told_in_the_server_s_own_words(voicegw, path, status, headers, body, told):
    with answering(status, headers, body) as url:
        found = voicegw("call", "get_health", "--url", f"{url}/{path}")
    assert found.code == 1
    error = found.json["error"]
    assert error["code"] == "SERVER_UNREACHABLE"
    assert error["details"]["http_status"] == status
    assert "Is it running" not in found.out
    for part in told:
        assert part.replace("\\\\", "\\") in f"{error['message']} {error['hint']}"


def test_a_spawned_server_offers_every_toolset(voicegw, config, monkeypatch):
    config("timezone: UTC\n")
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)  # the server writes to a real one
    found = voicegw("call", "list_changes")
    assert found.code == 0
    assert found.json["changes"] == []
