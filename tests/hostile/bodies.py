"""Section ``bodies``: very large, very long and very deep bodies, and the memory they cost."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.hostile.frames import JSON_TYPES, EventStream, Sessionless, Streamable
from tests.hostile.servers import Reply, Requests, Server, is_typed, leaks, running
from tests.proof import Progress, Section

NAME = "bodies"
TITLE = "Large bodies"
CHECKED = """\
Bodies of 100 MB (with a length, in chunks, and with a length that lies), arrays of 10^6 elements and nesting of depth 10^4 go to `/mcp` and `/messages`, as
the whole body and inside the arguments of a call. Each must be refused with a type, or answered as a tool's refusal, and the memory of the server process may
rise by 20 MB at most (`VmHWM` after it against `VmRSS` before, from `/proc`). The largest text that is taken, 4 MB in one argument, may cost 32 MB: the SDK copies it
several times.
"""
ROUNDS = 3
"""How often each body is sent, one after the other."""

MOST_MB = 20.0
TAKEN = "4 MB of one text"
MOST_TAKEN_MB = 32.0
LARGE = 100 * 1024 * 1024
MANY = 1_000_000
DEEP = 10_000
BLOCK = b" " * (1 << 16)


def _call(arguments: bytes) -> bytes:
    head = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"create_project","arguments":'
    return head + arguments + b"}}"


def _array(element: bytes) -> bytes:
    return b"[" + b",".join([element] * MANY) + b"]"


def _chunks() -> Iterator[bytes]:
    for _ in range(LARGE // len(BLOCK)):
        yield BLOCK


BODIES: dict[str, Callable[[], Any]] = {
    "100 MB in chunks": _chunks,
    "100 MB with a length": lambda: b" " * LARGE,
    TAKEN: lambda: _call(b'{"project_id":"x","name":"' + b"x" * 4_000_000 + b'"}'),
    "10^6 numbers": lambda: _array(b"0"),
    "10^6 objects": lambda: _array(b"{}"),
    "10^6 lists": lambda: _array(b"[]"),
    "10^6 numbers in an argument": lambda: _call(
        b'{"project_id":"x","name":"X","tags":' + _array(b"0") + b"}"
    ),
    "10^6 objects in an argument": lambda: _call(
        b'{"project_id":"x","name":"X","tags":' + _array(b"{}") + b"}"
    ),
    "10^5 arguments": lambda: _call(json.dumps({f"a{n}": n for n in range(100_000)}).encode()),
    "depth 10^4, lists": lambda: b"[" * DEEP + b"]" * DEEP,
    "depth 10^4, objects": lambda: b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "depth 10^4 in an argument": lambda: _call(b'{"project_id":' + b"[" * DEEP + b"]" * DEEP + b"}"),
    "depth 10^6": lambda: b"[" * MANY,
    "a number of 10^6 digits": lambda: _call(b'{"limit":' + b"9" * MANY + b"}"),
}


def run(rounds: int, seed: int, folder: Path, progress: Progress) -> Section:  # noqa: ARG001 - nothing is drawn
    """Send every body ``rounds`` times over each of the three."""
    section = Section(NAME)
    most: dict[str, float] = {}
    refusals: dict[str, set[str]] = {}
    with running(folder / "server", "serve", "-p", "0") as server:
        channels = {
            "/mcp": Streamable(server),
            "/mcp 2026": Sessionless(server),
            "/messages": EventStream(server),
        }
        requests = Requests(server)
        for channel in channels.values():
            channel.check()
        for done, (what, make) in enumerate(BODIES.items()):
            for where, channel in channels.items():
                for _ in range(rounds):
                    reply, rise = _send(server, requests, where, channel, make)
                    most[what] = max(most.get(what, 0.0), rise)
                    answer = _shown(reply)
                    refusals.setdefault(what, set()).add(answer)
                    if answer == "untyped" or leaks(reply.body):
                        section.violations.append(f"{what} to {where}: {reply.status} {reply.body[:200]!r}")
                    if rise > (MOST_TAKEN_MB if what == TAKEN else MOST_MB):
                        section.violations.append(f"{what} to {where}: the memory rose by {rise:.1f} MB")
                channel.check()
                section.violations += [f"{what} to {where}: {trouble}" for trouble in channel.troubles]
                channel.troubles.clear()
            progress(done + 1, len(BODIES))
        for connection in (*channels.values(), requests):
            connection.close()
        section.violations += server.complaints()
    section.figures += [
        (what, f"{', '.join(sorted(refusals[what]))}; +{rise:.1f} MB") for what, rise in most.items()
    ]
    return section


def _send(
    server: Server, requests: Requests, where: str, channel: Any, make: Callable[[], Any]
) -> tuple[Reply, float]:
    path = channel._path if where == "/messages" else "/mcp"
    headers = JSON_TYPES if where == "/messages" else channel.headers("tools/call", "create_project", None)
    server.forget_peak()
    before = server.memory_mb("VmRSS")
    reply = requests.post(path, make(), headers)
    if where == "/messages":
        channel.check()  # what was taken is dealt with once this is answered
    return reply, server.memory_mb("VmHWM") - before


def _shown(reply: Reply) -> str:
    """Say how a body was answered."""
    if reply.status == 202:
        return "202"
    events = [line[6:] for line in reply.body.splitlines() if line.startswith(b"data: {")]
    body = events[0] if events else reply.body
    if is_typed(body):
        code = json.loads(body)["error"]["code"]
        return f"{reply.status} {code}"
    try:
        content = json.loads(body)["result"]["structuredContent"]
    except (ValueError, KeyError, TypeError):
        return "untyped"
    return f"{reply.status} {content['error']['code']}" if "error" in content else "untyped"
