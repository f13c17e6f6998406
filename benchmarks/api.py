"""The JSON API: reports by many clients over real HTTP, beside an address that does nothing, and scrapes of /v1/metrics.

A scrape is measured in this process, from asking the gateway for its figures to the bytes of the answer: what HTTP costs
is told by ``/health``.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import time
from collections import defaultdict
from contextlib import closing
from typing import TYPE_CHECKING

import traffic
from figures import Figure
from http_client import Connection
from http_load import OURS, TOKEN, allow_descriptors
from http_server import HttpServer
from part import rows_text
from progress import Progress
from recording import recording

from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.metrics import read_metrics
from voicegw_mcp.domain import RequestRecord
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.schema import connect
from voicegw_mcp.web.api.metrics import EXPOSITIONS, expose

if TYPE_CHECKING:
    from pathlib import Path

    from part import Run

ROWS = 1_000_000
SERIES = 200
CLIENTS, ROUND_S, SHORT_ROUND_S = 8, 2.0, 0.2
SCRAPES, SHORT_SCRAPES = 20, 2
FOLLOWERS, SHORT_FOLLOWERS = 1_000, 20
IDLE_S, SHORT_IDLE_S = 5.0, 0.2
SCRAPE_BAR, RATE_BAR, P95_BAR = 50, 300, 4
SESSIONS = {"streamable_http": 0, "sse": 0}
HEALTH = "/health"
REPORTS = {
    "costs, today": "/v1/costs",
    "costs, month": "/v1/costs?period=month",
    "costs, month by day": "/v1/costs?period=month&group_by=day",
    "latency, month": "/v1/latency?period=month",
    "status": "/v1/status",
    "metrics": "/v1/metrics",
}
"""Addresses by name; the first two are judged."""
JUDGED = ("costs, today", "costs, month")
RECORDED = ((0, 0), (1, 5), (1, 50), (10, 5))
"""How many processes record meanwhile, and how many rows a second each; all addresses are asked at none, those that are judged at each."""

TITLE = "The JSON API and metrics"
METHOD = f"""\
On a store of {rows_text(ROWS)} rows. {CLIENTS} clients with a keep-alive connection each ask one `voicegw serve` again as soon as they are answered, for {ROUND_S:g} s; the addresses
take turns in every round, and `/health`, which passes the same connection, Host check and routes and does nothing, is one of them. The client is one process on the same machine. While nobody
writes, costs and latency are kept answers (`web/api/kept.py`) but for the first; `status` and `metrics` are made anew each time. Then processes of their own record so many rows a second
each into the store meanwhile, as voice agents do, four times a second each: no answer holds longer than that.

A scrape of `/v1/metrics` is measured in one process, on the same store with rows of as many more series as make {SERIES}, {SCRAPES} times in a round. Written to: before
each scrape every series gets a request, so that all that is remembered of the present hour, and every line, is made anew.

Followers hold a stream of `/v1/logs` each. Their memory is VmRSS of the server once it stays the same; CPU that of all its threads while no row comes in, for {IDLE_S:g} s; and then one
row is written in each round and timed from its commit until the last of them has it.
"""


def measure(run: Run) -> list[Figure]:
    """Return how long scrapes take, and rates and times of the addresses."""
    store = run.store(max(rows for rows in run.sizes if rows <= ROWS))
    figures = asyncio.run(_scrapes(run, _copied(run, store, "scraped")))
    copy = _copied(run, store, "recorded")
    for processes, rows_per_s in RECORDED[:2] if run.short else RECORDED:
        figures += asyncio.run(_reports(run, copy, processes, rows_per_s))
    return [*figures, *asyncio.run(_followers(run, copy))]


def _copied(run: Run, store: Path, name: str) -> Path:
    """Return a copy of a store that may be written to, with the file that fits."""
    copy = run.folder / name / "voicegw.db"
    copy.parent.mkdir()
    shutil.copy(store, copy)
    copy.with_name("voicegw.yaml").write_text(traffic.voicegw_yaml(), encoding="utf-8")
    return copy


async def _scrapes(run: Run, copy: Path) -> list[Figure]:
    environment = run.environment_on(copy)
    gateway = Gateway.open(environment["VOICEGW_CONFIG"], door="http", environment=environment)
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    with closing(connect(copy, timeout_s=5)) as connection:
        write = _Writer(connection)
        write.one_of_each()
        before = time.perf_counter()
        await _scrape(gateway, next(iter(EXPOSITIONS)))
        took["first of a process", ""].append((time.perf_counter() - before) * 1000)
        with Progress("scrapes", run.rounds) as progress:
            for _ in range(run.rounds):
                for kind in EXPOSITIONS:
                    for written in (False, True):
                        times: list[float] = []
                        for _ in range(SHORT_SCRAPES if run.short else SCRAPES):
                            if written:
                                write.one_of_each()
                            began = time.perf_counter()
                            body = await _scrape(gateway, kind)
                            times.append((time.perf_counter() - began) * 1000)
                        took[kind, "written to" if written else "unchanged"].append(statistics.median(times))
                progress.step()
    await gateway.close()
    judged = ROWS in run.sizes
    figures = [
        Figure(
            f"scrape, {SERIES} series: {', '.join(filter(None, which))}",
            "ms",
            tuple(values),
            bar=SCRAPE_BAR if judged and which[1] else None,
        )
        for which, values in took.items()
    ]
    return [*figures, Figure("size of a scrape", "KB", (len(body) / 1000,))]


async def _scrape(gateway: Gateway, kind: str) -> bytes:
    """Return a scrape, as the route makes it."""
    found = await read_metrics(gateway)
    return await asyncio.to_thread(expose, found, SESSIONS, kind)


class _Writer:
    """Writes one request into each of so many series."""

    def __init__(self, connection) -> None:
        self._connection = connection
        self._rounds = 0
        more = [f"more-{number}" for number in range(SERIES // len(traffic.OFFERS))]
        projects = (*traffic.PROJECTS, *more)
        self._series = [(project, offer) for project in projects for offer in traffic.OFFERS][:SERIES]

    def one(self) -> None:
        """Write one request."""
        self._write(self._series[:1])

    def one_of_each(self) -> None:
        """Write one request into each series."""
        self._write(self._series)

    def _write(self, series) -> None:
        self._rounds += 1
        now = time.time_ns() // 1_000_000
        self._connection.execute("BEGIN IMMEDIATE")
        insert_requests(
            self._connection,
            [
                RequestRecord(
                    f"bench-{self._rounds}-{number}",
                    now,
                    project,
                    offer.modality,
                    offer.provider,
                    offer.model_id,
                    cost_nanousd=1000,
                    ttfb_ms=offer.median_ms,
                    total_ms=offer.median_ms * 3,
                )
                for number, (project, offer) in enumerate(series)
            ],
        )
        self._connection.execute("COMMIT")


async def _reports(run: Run, store: Path, processes: int, rows_per_s: int) -> list[Figure]:
    environment = {**run.environment_on(store), "VOICEGW_MCP_TOKEN": TOKEN}
    round_s = SHORT_ROUND_S if run.short else ROUND_S
    reports = {name: REPORTS[name] for name in JUDGED} if processes else REPORTS
    addresses = {"/health": HEALTH, **reports}
    rates, p50, p95, cpu = (defaultdict[str, list[float]](list) for _ in range(4))
    with (
        HttpServer(OURS, environment, run.folder / "http-stderr.log", TOKEN) as server,
        recording(store, processes, rows_per_s),
    ):
        clients = [await Connection.open(server.address) for _ in range(CLIENTS)]
        names = list(addresses)
        with Progress("addresses", run.rounds + 1) as progress:
            for number in range(-1, run.rounds):
                for name in (*names[number % len(names) :], *names[: number % len(names)]):
                    used, began = server.cpu_s(), time.perf_counter()
                    times = await _ask(clients, addresses[name], round_s)
                    elapsed = time.perf_counter() - began
                    if number >= 0:
                        rates[name].append(len(times) / elapsed)
                        p50[name].append(statistics.median(times))
                        p95[name].append(sorted(times)[len(times) * 95 // 100])
                        cpu[name].append((server.cpu_s() - used) * 1000 / len(times))
                progress.step()
        for client in clients:
            client.reset()
    judged = ROWS in run.sizes
    writers = "one process" if processes == 1 else f"each of {processes} processes"
    table = f"{CLIENTS} clients of the API" + (f", {rows_per_s} rows/s from {writers}" if processes else "")
    figures: list[Figure] = []
    for name in names:
        bar = RATE_BAR if judged and name in JUDGED else None
        figures.append(
            Figure(name, "1/s", tuple(rates[name]), bar=bar, at_least=True, table=table, column="requests/s")
        )
        for column, values in (("p50", p50), ("p95", p95), ("server CPU", cpu)):
            figures.append(Figure(name, "ms", tuple(values[name]), table=table, column=column))
        ratio = tuple(own / none for own, none in zip(p95[name], p95["/health"], strict=True))
        bar = P95_BAR if judged and name in JUDGED else None
        figures.append(Figure(name, "x", ratio, bar=bar, table=table, column="p95 / p95 of /health"))
    return figures


async def _followers(run: Run, store: Path) -> list[Figure]:
    allow_descriptors()
    environment = {**run.environment_on(store), "VOICEGW_MCP_TOKEN": TOKEN}
    count, idle_s = (SHORT_FOLLOWERS, SHORT_IDLE_S) if run.short else (FOLLOWERS, IDLE_S)
    heard: list[float] = []
    with (
        closing(connect(store, timeout_s=5)) as connection,
        HttpServer(OURS, environment, run.folder / "http-stderr.log", TOKEN) as server,
    ):
        write = _Writer(connection)
        await (await Connection.open(server.address)).fetch(REPORTS["costs, today"])
        before_kib = await server.settled_kib()
        clients = [await Connection.open(server.address) for _ in range(count)]
        for client in clients:
            await client.get("/v1/logs?detail=concise")
        memory = (await server.settled_kib() - before_kib) * 1.024 / count
        used = server.cpu_s()
        await asyncio.sleep(idle_s)
        idle = (server.cpu_s() - used) / idle_s * 100
        with Progress("followers", run.rounds) as progress:
            for _ in range(run.rounds):
                write.one()
                began = time.perf_counter()
                await asyncio.gather(*(client.event() for client in clients))
                heard.append((time.perf_counter() - began) * 1000)
                progress.step()
        for client in clients:
            client.reset()
    name = f"{count:,} followers of the log"
    return [
        Figure(f"{name}: memory each", "KB", (memory,)),
        Figure(f"{name}: CPU while nothing comes in", "% of a core", (idle,)),
        Figure(f"{name}: all have a row after", "ms", tuple(heard)),
    ]


async def _ask(clients: list[Connection], path: str, round_s: float) -> list[float]:
    """Let every client ask as fast as it is answered for so many seconds; return how long each answer took, in ms."""
    until = time.perf_counter() + round_s
    took: list[float] = []

    async def repeat(client: Connection) -> None:
        now = time.perf_counter()
        while now < until:
            status, _, body = await client.fetch(path)
            if status != 200:
                raise RuntimeError(f"GET {path}: {status} {body[:500]!r}")
            began, now = now, time.perf_counter()
            took.append((now - began) * 1000)

    await asyncio.gather(*(repeat(client) for client in clients))
    return took
