"""Section "restarts": servers that are killed or stopped under their clients, and started again on the same port and store."""

import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import httpx2
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_REQUEST
from tests.conformance.scene import Scene, Server
from tests.proof import Progress, Section

NAME = "restarts"
TITLE = "Restarts"
ROUNDS = 100
WAIT_S = 30
WENT_ON = "restarts after which every client went on"
STOP_S = 5.0
"""What `docs/http.md` promises of a stop with open streams."""

CHECKED = """\
A server is ended with clients of the official Python SDK connected to it, by `SIGKILL` and by `SIGTERM` in turns, and started
again on the same port and store. A client of the session-less revision (2026-07-28) has to go on as if nothing had been. A
client with a session has to be told that its session is gone (404, and an error of the protocol, not a timeout), and a new
session of the same client has to work at once. An open `/sse` stream has to end, and a new one to work. The change
that was answered last before the end has to be there afterwards. A stop by `SIGTERM` with a stream open has to take less than
5 s and to end with 0.
"""


class Round:
    """One server's life and what its clients see of its end.

    Args:
        scene: the gateway.
        number: of the round; names its project.
        port: to listen on, 0 for a free one.
    """

    def __init__(self, scene: Scene, number: int, port: int) -> None:
        self.scene, self.project = scene, f"p{number}"
        self.signal = signal.SIGKILL if number % 2 else signal.SIGTERM
        self.server = scene.start("-p", str(port))
        self.stop_s = 0.0

    async def hold(self) -> Server:
        """Connect, end the server, start it again, go on; return the new server. Raises AssertionError."""
        async with AsyncExitStack() as stack:
            modern = await stack.enter_async_context(_client(await _http(stack), self.server.mcp, "auto"))
            http = await _http(stack)
            legacy = await stack.enter_async_context(_client(http, self.server.mcp, "legacy"))
            watcher = await _http(stack)
            stream = await stack.enter_async_context(watcher.stream("GET", self.server.sse))
            lines = stream.aiter_lines()
            assert (await anext(lines)).startswith("event: endpoint")
            await _made(legacy, self.project)
            session = http.headers_sent["mcp-session-id"]
            await self._end()
            await _ended(lines)
            again = self.scene.start("-p", str(self.server.port))
            try:
                await _told_that_it_is_gone(legacy, http, again, session)
                await _sees(modern, self.project)
            except BaseException:
                again.end(signal.SIGKILL)
                raise
        await self._anew(again)
        return again

    async def _end(self) -> None:
        started = time.monotonic()
        code = await anyio.to_thread.run_sync(self.server.end, self.signal)
        self.stop_s = time.monotonic() - started
        assert code == (0 if self.signal is signal.SIGTERM else -signal.SIGKILL), f"exit code {code}"

    async def _anew(self, server: Server) -> None:
        """Connect as if for the first time, over /mcp and /sse."""
        async with AsyncExitStack() as stack:
            for client in (
                _client(await _http(stack), server.mcp, "legacy"),
                Client(sse_client(server.sse), mode="legacy", read_timeout_seconds=WAIT_S),
            ):
                await _sees(await stack.enter_async_context(client), self.project)


class _Recording(httpx2.AsyncClient):
    """An HTTP client that keeps the headers of its last request: the session's id is among them."""

    headers_sent: httpx2.Headers

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        self.headers_sent = request.headers
        return await super().send(request, **options)


async def _http(stack: AsyncExitStack) -> _Recording:
    return await stack.enter_async_context(_Recording(timeout=WAIT_S, trust_env=False))


def _client(http: httpx2.AsyncClient, url: str, era: str) -> Client:
    transport = streamable_http_client(url, http_client=http, terminate_on_close=False)
    return Client(transport, mode=era, read_timeout_seconds=WAIT_S)


async def _made(client: Client, project: str) -> None:
    result = await client.call_tool("create_project", {"project_id": project, "name": project})
    assert not result.is_error, result.structured_content


async def _sees(client: Client, project: str) -> None:
    result = await client.call_tool("get_project", {"project_id": project})
    assert not result.is_error, result.structured_content


async def _ended(lines: Any) -> None:
    """Wait until an open stream ends, cleanly or by a reset of the connection."""
    with anyio.fail_after(WAIT_S):
        try:
            async for _ in lines:
                pass
        except httpx2.TransportError:
            pass


async def _told_that_it_is_gone(
    client: Client, http: httpx2.AsyncClient, server: Server, session: str
) -> None:
    """Call once more in a session of the server that was: by hand for the status, and as the SDK's client does."""
    answer = await http.post(
        server.mcp,
        json={"jsonrpc": "2.0", "id": 99, "method": "tools/list", "params": {}},
        headers={
            "accept": "application/json, text/event-stream",
            "mcp-session-id": session,
            "mcp-protocol-version": "2025-11-25",
        },
    )
    assert answer.status_code == 404, f"HTTP {answer.status_code}"
    assert answer.json()["error"]["message"], answer.text
    try:
        await client.call_tool("get_health", {})
    except MCPError as error:
        if error.error.code != INVALID_REQUEST:  # such as a timeout
            raise AssertionError(f"not told that the session is gone: {error}") from error
        return
    raise AssertionError("a call in a session that is gone was answered")


async def _rounds(scene: Scene, rounds: int, section: Section) -> float:
    port, done, stops = 0, 0, [0.0]
    for number in range(rounds):
        one = Round(scene, number, port)
        port = one.server.port
        try:
            again = await one.hold()
            done += 1
            again.end()
        except (AssertionError, MCPError, httpx2.HTTPError, OSError, TimeoutError, ExceptionGroup) as error:
            section.violations.append(f"restart {number} ({one.signal.name}): {type(error).__name__} {error}")
        finally:
            if one.server.process.poll() is None:
                one.server.end(signal.SIGKILL)
        if one.signal is signal.SIGTERM:
            stops.append(one.stop_s)
    section.figures.append((WENT_ON, f"{done} of {rounds}"))
    return max(stops)


def end_and_start(folder: Path, rounds: int) -> tuple[Section, float]:
    """End and start servers ``rounds`` times; return what was found, and the seconds of the longest stop by SIGTERM."""
    section = Section(NAME, columns=("measured", "figure"))
    return section, anyio.run(_rounds, Scene(folder), rounds, section)


def run(rounds: int, _seed: int, folder: Path, _progress: Progress) -> Section:
    """End and start servers, and judge how long a stop took."""
    section, longest_s = end_and_start(folder, rounds)
    section.figures.append(("longest stop by SIGTERM with a stream open", f"{longest_s:.2f} s"))
    if longest_s >= STOP_S:
        section.violations.append(f"a stop took {longest_s:.1f} s")
    return section
