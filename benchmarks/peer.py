"""Ours against VoiceGateway 0.4.0 and 0.27.0, on the same rows and through the same client, over stdio."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import traffic
from figures import Figure
from part import rows_text
from peer_setup import PEERS, Peer, ask
from progress import Progress
from reading_calls import Call

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from client import LineClient
    from part import Run

OURS = "ours"
MOST_ROUNDS = 5
BLOCK_MS, MOST = 400.0, 40
MOST_ROWS = 1_000_000
"""Larger stores only when no other is asked for: a call of theirs then takes half a minute."""
JUDGED_ROWS, JUDGED_VERSION, FASTER_BAR = 1_000_000, "0.4.0", 100
MICRO_USD = 1e-6
PERCENTILE_BAR = 2.1
"""Per cent: the stated 2 % of ours, and a little for rows of the quarter of an hour that ours begins earlier."""

TITLE = "Against VoiceGateway"
METHOD = f"""\
`make bench-peer` measures this. VoiceGateway is installed by name into environments of its own in `.bench/`, makes its stores itself
(its own tables and indexes), and is given the rows of ours by plain SQL. All are driven over stdio (`voicegw mcp`, `voicegw-mcp`) by
the same client on the same machine in turns: a round is a block of calls (as many as fit into {BLOCK_MS:.0f} ms, {MOST} at most, 1 at
least), its value the block's median, a ratio theirs over ours in that round. Each was called once before it counts.

A fresh `pip install` of either does not start its MCP server with today's packages. 0.4.0 is installed as `voicegateway[mcp]==0.4.0` with
`mcp<2`, because it uses decorators that the low-level server of mcp 2 no longer has. 0.27.0 is installed as `voicegateway[dashboard]==0.27.0`,
because its MCP server imports its web application, with `fastapi<0.155`, which still takes an argument that it passes.

The comparison counts only when the answers are equal: of `get_costs` over all rows every sum (total, providers, models, projects) to a
micro-dollar and every count of requests; the newest 50 rows; the percentiles of the last 30 days over all models to {PERCENTILE_BAR} % (ours are
read off histograms, theirs are exact). Their month is the last 30 times 24 hours, ours 30 calendar days with today: the rows are
nearly the same ones. The projects' sums of today differ for that reason, and are not compared.

Starts, memory and pings are those of the largest store. "Longest ping" is how long a ping waits at most while the tool runs for the same client: what all other calls wait.
"""


TIMES, PINGS, STARTS, EQUAL = "p50 of a call", "Longest ping meanwhile", "Start and memory", "Equal answers"
TABLES = (TIMES, PINGS, STARTS, EQUAL)
CALLS = (
    Call(TIMES, "get_costs all", "get_costs", {"period": "all"}),
    Call(TIMES, "get_costs month", "get_costs", {"period": "month"}, judged=False),
    Call(TIMES, "get_latency_stats month", "get_latency_stats", {"period": "month"}),
    Call(TIMES, "get_logs(50)", "get_logs", {"limit": 50}, judged=False),
    Call(TIMES, "list_projects", "list_projects", judged=False),
    Call(TIMES, "get_project", "get_project", {"project_id": traffic.PROJECTS[0]}, judged=False),
)
HEAVY = tuple(call for call in CALLS if call.judged)


def measure(run: Run) -> list[Figure]:
    """Return the figures of ours against the peers, at most ``MOST_ROUNDS`` rounds: their heavy calls take seconds.

    Raises:
        RuntimeError: a peer could not be installed or started.
    """
    commands = {peer: peer.install(run.kept) for peer in PEERS}
    sizes = [rows for rows in run.sizes if 0 < rows <= MOST_ROWS] or run.sizes[-1:]
    figures: list[Figure] = []
    for rows in sizes:
        ours = run.store(rows)
        stores = {peer: peer.store_of(ours, command, run.folder) for peer, command in commands.items()}
        compared = _Comparison(run, rows, commands, stores)
        figures += compared.figures(whole=rows == sizes[-1])
    return sorted(figures, key=lambda figure: TABLES.index(figure.table.partition(",")[0]))


class _Comparison:
    """Ours and the peers on stores of one size."""

    def __init__(
        self, run: Run, rows: int, commands: Mapping[Peer, Path], stores: Mapping[Peer, Path]
    ) -> None:
        self._run = run
        self._rows = rows_text(rows)
        self._judged = rows == JUDGED_ROWS
        self._rounds = min(run.rounds, MOST_ROUNDS)
        self._ours = run.environment_on(run.store(rows))
        self._peers = {peer.name: (peer, commands[peer], stores[peer]) for peer in commands}
        self._names = [OURS, *self._peers]

    def figures(self, *, whole: bool) -> list[Figure]:
        """Return the times and whether the answers are equal; of the ``whole``, also starts, memory and waits."""
        figures = self._starts() if whole else []
        with ExitStack() as stack:
            clients = {name: stack.enter_context(self._serve(name)) for name in self._names}
            for client in clients.values():
                client.initialize()
            figures += [*self._equal_answers(clients), *self._times(clients)]
            if whole:
                figures += [*self._pings(clients), *self._memory(clients)]
        return figures

    def _memory(self, clients: Mapping[str, LineClient]) -> list[Figure]:
        row = f"peak memory after all calls, {self._rows} rows (MiB)"
        return [
            Figure(row, "MiB", (client.peak_mib(),), table=STARTS, column=name)
            for name, client in clients.items()
        ]

    def _serve(self, name: str) -> LineClient:
        if name == OURS:
            return self._run.ours(self._ours)
        peer, command, store = self._peers[name]
        return peer.serve(command, store, self._run.folder)

    def _starts(self) -> list[Figure]:
        """Cold start until tools/list is answered, and the memory it takes."""
        took: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        with Progress(f"cold starts, {self._rows} rows", self._rounds + 1) as progress:
            for turn in range(-1, self._rounds):
                for name in _turned(self._names, turn):
                    with self._serve(name) as client:
                        client.initialize()
                        client.tools()
                        if turn >= 0:  # the first one fills the caches
                            took["cold start", "ms", name].append(client.elapsed_s() * 1000)
                            took["peak memory at the start", "MiB", name].append(client.peak_mib())
                progress.step()
        return [
            Figure(f"{what}, {self._rows} rows ({unit})", unit, tuple(values), table=STARTS, column=name)
            for (what, unit, name), values in sorted(took.items(), key=lambda item: item[0][0])
        ]

    def _times(self, clients: Mapping[str, LineClient]) -> list[Figure]:
        figures: list[Figure] = []
        with Progress(f"calls, {self._rows} rows", len(CALLS) * self._rounds) as progress:
            for call in CALLS:
                took: dict[str, list[float]] = {name: [] for name in clients}
                for client in clients.values():
                    ask(client, call.tool, call.arguments)
                for turn in range(self._rounds):
                    for name in _turned(self._names, turn):
                        took[name].append(_p50_ms(clients[name], call))
                    progress.step()
                figures += self._shown(call, took)
        return figures

    def _shown(self, call: Call, took: Mapping[str, list[float]]) -> list[Figure]:
        table = f"{TIMES}, {self._rows} rows"
        figures = [
            Figure(call.name, "ms", tuple(took[name]), table=table, column=name) for name in self._names
        ]
        for name, (peer, *_) in self._peers.items():
            ratio = tuple(theirs / ours for theirs, ours in zip(took[name], took[OURS], strict=True))
            judged = call.judged and self._judged and peer.version == JUDGED_VERSION
            bar, column = FASTER_BAR if judged else None, f"{peer.version} / ours"
            figures.append(Figure(call.name, "x", ratio, bar=bar, at_least=True, table=table, column=column))
        return figures

    def _pings(self, clients: Mapping[str, LineClient]) -> list[Figure]:
        """The longest that a ping waits while a heavy call of the same client runs."""
        longest: dict[tuple[str, str], list[float]] = defaultdict(list)
        with Progress(f"pings meanwhile, {self._rows} rows", len(HEAVY) * self._rounds) as progress:
            for call in HEAVY:
                for turn in range(self._rounds):
                    for name in _turned(self._names, turn):
                        pings = clients[name].pings_during(call.tool, call.arguments)
                        longest[call.name, name].append(max(pings))
                    progress.step()
        return [
            Figure(f"{call}, {self._rows} rows", "ms", tuple(longest[call, name]), table=PINGS, column=name)
            for call, name in sorted(longest, key=lambda key: self._names.index(key[1]))
        ]

    def _equal_answers(self, clients: Mapping[str, LineClient]) -> list[Figure]:
        figures: list[Figure] = []
        ours = clients[OURS]
        for name in self._peers:
            theirs = clients[name]
            usd, requests = compare_costs(*(ask(it, "get_costs", {"period": "all"}) for it in (ours, theirs)))
            other_rows = len(_newest(ours) ^ _newest(theirs)) / 2
            percent = compare_percentiles(_percentiles(ours, "last_30d"), _percentiles(theirs, "month"))
            for what, unit, difference, bar in (
                ("largest difference of a cost", "micro-USD", usd / MICRO_USD, 1),
                ("largest difference of a count", "requests", requests, 0),
                ("newest 50 rows that are others", "rows", other_rows, 0),
                ("largest difference of a percentile", "%", percent, PERCENTILE_BAR),
            ):
                row = f"{what} ({unit}), {self._rows} rows"
                figures.append(
                    Figure(row, unit, (difference,), bar=bar, table=EQUAL, column=f"{name} and ours")
                )
        return figures


def compare_costs(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[float, float]:
    """Compare two answers of get_costs; return the largest difference of a sum (USD) and of a count of requests.

    An entry that only one of them has counts as 0 of the other.
    """
    usd, requests = abs(ours["total_usd"] - theirs["total_usd"]), 0.0
    nothing = {"cost": 0.0, "requests": 0}
    for group in ("by_provider", "by_model", "by_project"):
        for key in {**ours[group], **theirs[group]}:
            one, other = ours[group].get(key, nothing), theirs[group].get(key, nothing)
            usd = max(usd, abs(one["cost"] - other["cost"]))
            requests = max(requests, abs(one["requests"] - other["requests"]))
    return usd, requests


def compare_percentiles(ours: Mapping[str, float], theirs: Mapping[str, float]) -> float:
    """Return by how many per cent of theirs a percentile of ours is off at most; infinite when they are not the same ones."""
    if ours.keys() != theirs.keys():
        return math.inf
    return max(abs(ours[name] - theirs[name]) / theirs[name] * 100 for name in theirs)


def _percentiles(client: LineClient, period: str) -> dict[str, float]:
    """Return the percentiles over all models; only these, because the p99 of a model's fifty rows is a matter of definition."""
    overall = ask(client, "get_latency_stats", {"period": period})["overall"]
    return {
        f"{kind} {name}": value
        for kind in ("ttfb_percentiles", "latency_percentiles")
        for name, value in overall[kind].items()
    }


def _newest(client: LineClient) -> set[str]:
    """Return the ids of the newest 50 rows; ours wraps the list, to give a cursor with it."""
    answer = ask(client, "get_logs", {"limit": 50})
    return {row["id"] for row in (answer["logs"] if isinstance(answer, dict) else answer)}


def _p50_ms(client: LineClient, call: Call) -> float:
    (first,) = client.timed(call.tool, call.arguments, 1)
    more = min(MOST, int(BLOCK_MS / first)) - 1
    return statistics.median([first, *client.timed(call.tool, call.arguments, max(0, more))])


def _turned(names: Sequence[str], turn: int) -> list[str]:
    """Return the names in an order in which each comes first in its turn."""
    at = turn % len(names)
    return [*names[at:], *names[:at]]
