"""The HTTP door under load: a thousand idle sessions, and many clients at once, against ``bare_http_server.py``.

The client runs in this process; its share of a CPU is told with the rates: where that comes near 1, the client is what
was measured. So is the CPU time of a call, which tells most of the same on a machine that others use as well.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from at_once import HEALTH, NOOP, Rounds, crowd_name
from figures import Figure
from http_client import EventSession, Session, StatefulSession, StatelessSession
from http_server import HttpServer
from progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from at_once import Load
    from part import Run
    from reading_calls import Call

OURS = [str(Path(sys.executable).with_name("voicegw")), "serve", "--port", "0"]
BARE = [sys.executable, str(Path(__file__).with_name("bare_http_server.py"))]
TOKEN = "fake-token-0001"  # noqa: S105 - of a server that ends with this run
TOOLS = {"ours": HEALTH.tool, "bare": NOOP.tool}

SESSIONS = 1000
SERVERS = 3
"""Servers whose memory is measured: only the first thousand sessions of a process grow its heap."""
CYCLES = 4
"""How often a thousand sessions come and go on each of ours."""
AT_ONCE = 50
"""Sessions opened at the same time."""
CALLS, WARM_UP = 200, 100

CLIENTS, RATE_BAR = 64, 0.85
"""With how many clients the rate of get_health is judged, and the least it may be of the no-op's."""
DESCRIPTORS = 8192
"""Files and sockets that this process and the servers may have open."""


TITLE = "Idle sessions over HTTP"
METHOD = f"""\
{SESSIONS:,} clients open an event stream, shake hands and stay silent; memory is VmRSS once it stays the same, of a server that
never had so many before ({SERVERS} servers). Then all connections are reset at once, {CYCLES} times on each server. What is left per
session is the growth of the memory with a thousand sessions, from the first thousand to the last: without them it varies by what
the allocator gives back. p50 is that of {CALLS} calls of another session over the same transport,
before, with and after them. Over /mcp the clients then also send DELETE: a session waits for its client half an hour otherwise.
"""


def measure(run: Run) -> list[Figure]:
    """Return the figures of idle sessions."""
    allow_descriptors()
    return asyncio.run(_Load(run.folder, run.environment, run.rounds).figures())


def measure_busy(run: Run, environment: Mapping[str, str], load: Load) -> list[Figure]:
    """Return the figures of many clients at once, over each transport.

    Args:
        run: gives the folder for the standard error of the servers.
        environment: of ours; names file and store.
        load: who calls what.
    """
    allow_descriptors()
    return asyncio.run(_Load(run.folder, environment, load.rounds).busy(load))


def allow_descriptors() -> None:
    """Let this process, and the servers that it starts, have ``DESCRIPTORS`` open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, hard), hard))


@dataclass
class _Idle:
    """What idle sessions of one kind cost, by server and cycle."""

    kb: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    alone: list[float] = field(default_factory=list)
    loaded: list[float] = field(default_factory=list)
    ratio: list[float] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    growth: list[float] = field(default_factory=list)

    def figures(self, kind: str) -> list[Figure]:
        name = f"{SESSIONS:,} idle sessions, {kind}"
        return [
            # Over /mcp it is the SDK's: the figure of the bare server tells.
            Figure(f"{name}: memory each", "KB", tuple(self.kb["ours"]), bar=80 if kind == "/sse" else None),
            Figure(f"{name}: memory each, bare", "KB", tuple(self.kb["bare"])),
            Figure(f"{name}: get_health p50 without", "ms", tuple(self.alone)),
            Figure(f"{name}: get_health p50 with", "ms", tuple(self.loaded)),
            Figure(f"{name}: get_health p50, ratio", "x", tuple(self.ratio), bar=1.2),
            Figure(f"{name}: descriptors left after", "files", tuple(self.left), bar=0),
            Figure(f"{name}: memory left per session", "KB", tuple(self.growth), bar=1),
        ]


class _Load:
    def __init__(self, folder: Path, environment: Mapping[str, str], rounds: int) -> None:
        self._errors = folder / "http-stderr.log"
        self._environment = {**environment, "VOICEGW_MCP_TOKEN": TOKEN}
        self._rounds = rounds

    def _server(self, which: str) -> HttpServer:
        if which == "ours":
            return HttpServer(OURS, self._environment, self._errors, TOKEN)
        return HttpServer(BARE, self._environment, self._errors)

    async def figures(self) -> list[Figure]:
        return [
            *await self._idle(EventSession),
            *await self._idle(StatefulSession),
        ]

    async def _idle(self, kind: type[EventSession | StatefulSession]) -> list[Figure]:
        found = _Idle()
        for _ in range(SERVERS):
            for which in ("bare", "ours"):
                with self._server(which) as server:
                    await _come_and_go(server, which, kind, found)
        return found.figures(kind.kind)

    async def busy(self, load: Load) -> list[Figure]:
        figures: list[Figure] = []
        kinds = (StatefulSession, StatelessSession, EventSession)
        with ExitStack() as stack:
            servers = {which: stack.enter_context(self._server(which)) for which in TOOLS}
            progress = stack.enter_context(Progress("clients over HTTP", len(kinds) * load.turns))
            for kind in kinds:
                for count in load.counts:
                    figures += await self._rates(servers, kind, count, load, progress)
        return figures

    async def _rates(
        self, servers: dict[str, HttpServer], kind: type[Session], count: int, load: Load, progress: Progress
    ) -> list[Figure]:
        clients = {
            which: await asyncio.gather(*(kind.open(server.address) for _ in range(count)))
            for which, server in servers.items()
        }
        measured = Rounds(crowd_name(count, kind.kind), load)
        for turn in measured.turns():
            which = "bare" if turn.call is NOOP else "ours"
            with turn.measured(servers[which].cpu_s):
                turn.took_ms += await _call_at_once(clients[which], turn.call, load.round_s)
            progress.step()
        for session in (*clients["ours"], *clients["bare"]):
            session.drop()
        return measured.figures(bar=RATE_BAR if count == CLIENTS else None)


async def _call_at_once(clients: Sequence[Session], call: Call, round_s: float) -> list[float]:
    """Let every client call as fast as it is answered for so many seconds; return how long each call took, in ms."""
    until = time.perf_counter() + round_s
    took: list[float] = []

    async def repeat(client: Session) -> None:
        now = time.perf_counter()
        while now < until:
            await client.call(call.tool, call.arguments)
            began, now = now, time.perf_counter()
            took.append((now - began) * 1000)

    await asyncio.gather(*(repeat(client) for client in clients))
    return took


async def _come_and_go(
    server: HttpServer, which: str, kind: type[EventSession | StatefulSession], found: _Idle
) -> None:
    """Let a thousand sessions come, stay idle and be dropped; on our server again and again."""
    caller, tool = await kind.open(server.address), TOOLS[which]
    await _p50_ms(caller, tool, WARM_UP)
    kept: list[int] = []
    before = await server.settled_kib()
    for cycle in range(CYCLES if which == "ours" else 1):
        descriptors = server.descriptors()
        alone = await _p50_ms(caller, tool, CALLS)
        sessions = await _open_idle(server, kind)
        kept.append(await server.settled_kib())
        if cycle == 0:
            found.kb[which].append((kept[0] - before) * 1.024 / SESSIONS)
        loaded = await _p50_ms(caller, tool, CALLS)
        for session in sessions:
            session.drop()
        left = await server.wait_for_descriptors(descriptors)
        await asyncio.gather(*(session.end() for session in sessions if isinstance(session, StatefulSession)))
        after = await _p50_ms(caller, tool, CALLS)
        if which == "ours":
            found.alone += [alone, after]
            found.loaded.append(loaded)
            found.ratio.append(loaded / statistics.mean([alone, after]))
            found.left.append(left)
    if which == "ours":
        found.growth.append((kept[-1] - kept[0]) * 1.024 / SESSIONS / (CYCLES - 1))
    caller.drop()


async def _open_idle(
    server: HttpServer, kind: type[EventSession | StatefulSession]
) -> list[EventSession | StatefulSession]:
    """Return a thousand sessions, each with one open event stream."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def open_one() -> EventSession | StatefulSession:
        async with gate:
            session = await kind.open(server.address)
            await session.idle()
            return session

    return await asyncio.gather(*(open_one() for _ in range(SESSIONS)))


async def _p50_ms(caller: Session, tool: str, count: int) -> float:
    took: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        await caller.call(tool)
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)
