"""Many clients that call as fast as they are answered: what they call, and the figures of it, whatever the transport."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from figures import Figure
from reading_calls import LOGS, Call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

NOOP = Call("", "no-op, bare", "noop")
HEALTH = Call("", "get_health", "get_health")
CALLS = (
    HEALTH,
    Call("", "get_costs month", "get_costs", {"period": "month"}),
    Call(LOGS, "get_logs(50)", "get_logs", {"limit": 50}),
)
RATES, P50, P95 = "Calls per second of all clients", "p50 of a call", "p95 of a call"
COSTS, SHARE = "CPU of the servers for a call", "CPUs that the client uses"


@dataclass(frozen=True)
class Load:
    """What is measured of one transport.

    Args:
        counts: numbers of clients at once.
        calls: what they call of ours, in turns with the bare server's no-op.
        rounds: how often, after one that does not count.
        round_s: how long the clients call in a round, in seconds.
    """

    counts: Sequence[int]
    calls: Sequence[Call]
    rounds: int
    round_s: float

    @property
    def turns(self) -> int:
        """How often some clients make some call."""
        return len(self.counts) * (len(self.calls) + 1) * (self.rounds + 1)


class Rounds:
    """What a crowd of clients measured, by call and round; ``row`` is what it is called in the tables."""

    def __init__(self, row: str, load: Load) -> None:
        self._row = row
        self._calls = (NOOP, *load.calls)
        self._rounds = load.rounds
        self._took: dict[tuple[str, str], list[float]] = defaultdict(list)

    def turns(self) -> Iterator[Turn]:
        """Yield what is to be measured, one after the other; who comes first changes from round to round."""
        for number in range(-1, self._rounds):
            at = number % len(self._calls)
            for call in (*self._calls[at:], *self._calls[:at]):
                turn = Turn(call)
                yield turn
                if number >= 0:
                    self._took[RATES, call.name].append(len(turn.took_ms) / turn.elapsed_s)
                    self._took[P50, call.name].append(statistics.median(turn.took_ms))
                    self._took[P95, call.name].append(sorted(turn.took_ms)[len(turn.took_ms) * 95 // 100])
                    self._took[COSTS, call.name].append(turn.servers_s * 1000 / len(turn.took_ms))
                    self._took[SHARE, call.name].append(turn.client_s / turn.elapsed_s)

    def figures(self, bar: float | None = None) -> list[Figure]:
        """Return the figures; ``bar`` is the least that the rate of get_health may be of that of the no-op."""
        figures = [
            Figure(self._row, unit, tuple(self._took[table, call.name]), table=table, column=call.name)
            for table, unit in ((RATES, "calls/s"), (P50, "ms"), (P95, "ms"), (COSTS, "ms"), (SHARE, "CPUs"))
            for call in self._calls
        ]
        if HEALTH in self._calls:
            pairs = zip(self._took[RATES, HEALTH.name], self._took[RATES, NOOP.name], strict=True)
            ratio = tuple(ours / bare for ours, bare in pairs)
            column = "get_health / no-op"
            figures.append(Figure(self._row, "x", ratio, bar=bar, at_least=True, table=RATES, column=column))
        return figures


class Turn:
    """One call by all clients, again and again: what each took, and what that cost."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.took_ms: list[float] = []
        self.elapsed_s = self.servers_s = self.client_s = 0.0

    @contextmanager
    def measured(self, servers_s: Callable[[], float]) -> Iterator[None]:
        """Measure what happens meanwhile; ``servers_s`` tells the CPU time of the servers so far."""
        began, client, servers = time.perf_counter(), time.process_time(), servers_s()
        yield
        self.elapsed_s = time.perf_counter() - began
        self.client_s = time.process_time() - client
        self.servers_s = servers_s() - servers


def crowd_name(count: int, transport: str) -> str:
    """Return what so many clients are called in the tables."""
    return f"{count} client{'s' if count > 1 else ''}, {transport}"


def by_table(figures: Sequence[Figure]) -> list[Figure]:
    """Return the figures with those of a table beside each other."""
    return sorted(figures, key=lambda figure: (RATES, P50, P95, COSTS, SHARE).index(figure.table))
