"""Idle sessions over HTTP in a real server process: what they leave behind when their clients die, and how many there may be."""

import json
import os
import signal
import socket
import struct
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.e2e.conftest import WAIT_S

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted in /proc")

SERVER = Path(__file__).with_name("observed_server.py")
LIMIT = 60
IDLE = 50
RESET = struct.pack("ii", 1, 0)
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
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


@pytest.fixture
def server(spawn):
    return start(spawn, kept_s=WAIT_S * 100)


def start(spawn, *, kept_s):
    process = spawn(LIMIT, kept_s, command=(sys.executable, SERVER))
    process.port = int(process.line())
    return process


@pytest.fixture
def streams():
    """Sockets that are closed at the end."""
    with ExitStack() as stack:
        yield stack


def send(server, streams, method, path, message=None, **headers):
    """Send one request on a new connection; return it and a reader at its answer."""
    body = b"" if message is None else json.dumps(message).encode()
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{server.port}", f"Content-Length: {len(body)}"]
    lines += ["Accept: application/json, text/event-stream", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    connection = streams.enter_context(socket.create_connection(("127.0.0.1", server.port), WAIT_S))
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return connection, streams.enter_context(connection.makefile("rb"))


def head(reader):
    """Return status and headers of an answer."""
    status = int(reader.readline().split()[1])
    lines = iter(lambda: reader.readline().strip(), b"")
    return status, {
        name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)
    }


def data(reader):
    """Return the data of the next event."""
    line = next(line for line in iter(reader.readline, b"") if line.startswith(b"data: "))
    return line.removeprefix(b"data: ").decode().strip()


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    os.close(connection.detach())  # a socket is not closed while it has a reader


def post(server, path, message, **headers):
    """Post a message on a connection of its own that is reset afterwards; return the status and headers."""
    with ExitStack() as own:
        connection, reader = send(server, own, "POST", path, message, **headers)
        answer = head(reader)
        if answer[0] == 200:
            data(reader)
        reset(connection)
    return answer


def open_event_session(server, streams):
    """Open an SSE session, shake hands, keep the stream open; return its connection."""
    connection, reader = send(server, streams, "GET", "/sse")
    assert head(reader)[0] == 200
    path = data(reader)
    assert post(server, path, INITIALIZE)[0] == 202
    assert json.loads(data(reader))["result"]["serverInfo"]
    assert post(server, path, INITIALIZED)[0] == 202
    return connection


def open_session(server, streams):
    """Open a session over Streamable HTTP and its stream of notices; return its connection and the session's header."""
    status, headers = post(server, "/mcp", INITIALIZE)
    assert status == 200
    named = {"mcp_session_id": headers[b"mcp-session-id"].decode()}
    assert post(server, "/mcp", INITIALIZED, **named)[0] == 202
    connection, reader = send(server, streams, "GET", "/mcp", **named)
    assert head(reader)[0] == 200
    return connection, named


def end_session(server, streams, connection, named):
    """Drop the stream and delete the session."""
    reset(connection)
    connection, reader = send(server, streams, "DELETE", "/mcp", **named)
    assert head(reader)[0] == 200
    reset(connection)


def observe(server):
    """Return tasks, sessions and descriptors of the process."""
    server.process.send_signal(signal.SIGUSR1)
    told = json.loads(server.line())
    return {**told, "descriptors": len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))}


def observe_until(server, expected):
    """Observe until what is expected is there or WAIT_S have passed; return what was seen last."""
    until = time.monotonic() + WAIT_S
    while not expected.items() <= (seen := observe(server)).items() and time.monotonic() < until:
        pass
    return seen


def test_idle_sse_sessions_whose_clients_die_leave_no_session_task_or_descriptor_behind(server, streams):
    before = observe(server)
    connections = [open_event_session(server, streams) for _ in range(IDLE)]
    during = observe(server)
    assert all(during[what] >= before[what] + IDLE for what in before)
    for connection in connections:
        reset(connection)
    assert observe_until(server, before) == before


def test_streams_of_streamable_http_that_die_leave_sessions_only_until_these_are_deleted(server, streams):
    empty = observe(server)
    end_session(server, streams, *open_session(server, streams))
    before = {
        **empty,
        "tasks": empty["tasks"] + 1,
    }  # one for all streams, which the SDK starts with the first
    assert observe_until(server, before) == before
    opened = [open_session(server, streams) for _ in range(IDLE)]
    during = observe(server)
    assert all(during[what] >= before[what] + IDLE for what in before)
    for session in opened:
        end_session(server, streams, *session)
    assert observe_until(server, before) == before


def test_one_session_too_many_is_told_when_to_come_again_and_finds_room_when_another_has_gone(
    server, streams
):
    first, *_ = [open_event_session(server, streams) for _ in range(LIMIT)]
    full = observe(server)
    _, reader = send(server, streams, "GET", "/sse")
    status, headers = head(reader)
    assert (status, int(headers[b"retry-after"]) > 0) == (503, True)
    assert json.loads(reader.read(int(headers[b"content-length"])))["error"]["message"]
    reset(first)
    left = full["sessions"] - 1
    assert observe_until(server, {"sessions": left})["sessions"] == left
    open_event_session(server, streams)


def test_the_other_kind_of_session_has_a_limit_of_its_own(server, streams):
    open_event_session(server, streams)
    for _ in range(LIMIT):
        assert post(server, "/mcp", INITIALIZE)[0] == 200
    status, headers = post(server, "/mcp", INITIALIZE)
    assert (status, int(headers[b"retry-after"]) > 0) == (503, True)


def test_one_session_too_many_takes_the_place_of_the_one_that_was_idle_longest(spawn, streams):
    server = start(spawn, kept_s=0)
    following, kept = open_session(server, streams)  # the oldest, and it has a stream
    idle = [post(server, "/mcp", INITIALIZE)[1][b"mcp-session-id"].decode() for _ in range(LIMIT - 1)]
    assert post(server, "/mcp", INITIALIZED, mcp_session_id=idle[0])[0] == 202  # is the youngest from now on
    full = observe_until(server, {"sessions": LIMIT})
    assert post(server, "/mcp", INITIALIZE)[0] == 200
    assert post(server, "/mcp", INITIALIZED, mcp_session_id=idle[1])[0] == 404
    for named in (kept, {"mcp_session_id": idle[0]}, {"mcp_session_id": idle[2]}):
        assert post(server, "/mcp", INITIALIZED, **named)[0] == 202
    assert observe_until(server, {"sessions": LIMIT})["sessions"] == full["sessions"] == LIMIT
    end_session(server, streams, following, kept)


def test_sessions_that_all_have_a_stream_are_given_up_for_nobody(spawn, streams):
    server = start(spawn, kept_s=0)
    for _ in range(LIMIT):
        open_session(server, streams)
    assert post(server, "/mcp", INITIALIZE)[0] == 503
