"""Every reading tool over stdio, on stores of growing size: how long a call takes, and how little the size matters.

For each size one server; they and the bare server take turns within a round, and so do the plain statements. A ratio is
that of one round.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from figures import Figure
from part import rows_text
from progress import Progress
from reading_calls import LOGS, calls_on
from statements import PlainReader, statements_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from part import Run
    from reading_calls import Call

    Timed = Callable[[int], list[float]]

NOOP = "no-op, bare"
REPORT_ROWS, LOG_ROWS, BASE_ROWS = 1_000_000, 5_000_000, 100_000
"""Where reports are judged, where the log is, and what growth is measured from."""
REPORT_BAR, LOG_BAR, GROWTH_BAR = 8, 5, 1.3
MB_BAR = 250
TURNS, BLOCK_MS, MOST, WARM_UP, SLOW_MS = 4, 25.0, 7, 2, 500.0

TITLE = "Reading tools by the size of the store"
METHOD = f"""\
One server per store over stdio; the clock stops when the client has read the answer's line. In a round the servers, the bare server
and the plain statements take {TURNS} turns, each of as many calls as fit into {BLOCK_MS:g} ms ({MOST} at most; a call that takes longer is made
once a round); the round's value is the median of its calls. Each call was made {WARM_UP} times before it counts (once when that took {SLOW_MS:g} ms), so the pages it reads
are in SQLite's cache or the system's. "SQL alone" is what the call's statements take in plain `sqlite3` in this process, all rows
fetched: the part of the answer that no server can save. Growth is the largest store by the one with {rows_text(BASE_ROWS)} rows.

The rows are synthetic (`benchmarks/traffic.py`): 20 models of 8 providers, 4 projects, spread evenly over the last 30 days, sessions
of 12 calls, 2 % errors. Named rare rows are there: 50 of a model, 5 cancelled, 3 with an error text that no other has.
Thresholds of latency and cost are those that let 2 % of the rows of a store through, or 30 in all. Stores are filled through
the product's own write path and kept in `.bench/` until the next day.

The first call opens the store and checks its totals, once in a process; the second is the same call again. File system caches are warm.
"""


@dataclass
class _Call:
    """A call on each store: how to time it, and what was measured, per target and round."""

    call: Call
    timed: dict[str, Timed]
    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def measure(self, rounds: int, *, short: bool) -> None:
        counts: dict[str, int] = {}
        for target, timed in self.timed.items():
            (warm,) = timed(1)
            if warm < SLOW_MS:
                warm = min(warm, *timed(WARM_UP - 1))
            counts[target] = max(1, min(MOST, int(BLOCK_MS / warm))) if not short else 1
        order = list(self.timed)
        for number in range(rounds):
            took: dict[str, list[float]] = {target: [] for target in order}
            for turn in range(TURNS):
                for target in order[(number + turn) % len(order) :] + order[: (number + turn) % len(order)]:
                    if turn == 0 or counts[target] > 1:
                        took[target] += self.timed[target](counts[target])
            for target, times in took.items():
                self.took[target].append(statistics.median(times))

    def ratio(self, target: str, base: str) -> tuple[float, ...]:
        return tuple(a / b for a, b in zip(self.took[target], self.took[base], strict=True))


def measure(run: Run) -> list[Figure]:
    """Return p50 of every call on every store, against the floors, and the first calls of a server."""
    stores = {rows: run.store(rows) for rows in run.sizes}
    return [*_sizes(run), *_first_calls(run), *_calls(run, {rows: calls_on(stores[rows]) for rows in stores})]


def _sizes(run: Run) -> list[Figure]:
    """What a store takes, per million rows."""
    return [
        Figure(
            f"store size per million rows, at {rows_text(rows)}",
            "MB",
            (run.store(rows).stat().st_size / rows,),
            bar=MB_BAR if rows >= REPORT_ROWS else None,
        )
        for rows in run.sizes
        if rows
    ]


def _first_calls(run: Run) -> list[Figure]:
    took: dict[tuple[str, int], list[float]] = defaultdict(list)
    with Progress("first calls", run.rounds * len(run.sizes)) as progress:
        for _ in range(run.rounds):
            for rows in run.sizes:
                with run.ours(run.environment_on(run.store(rows))) as client:
                    client.initialize()
                    first, second = client.timed("get_costs", {"period": "month"}, 2)
                    took["first get_costs of a server", rows].append(first)
                    took["second", rows].append(second)
                progress.step()
    return [
        Figure(name, "ms", tuple(values), table="First call", column=rows_text(rows))
        for (name, rows), values in sorted(took.items(), key=lambda item: item[0][1])
    ]


def _calls(run: Run, calls: dict[int, list[Call]]) -> list[Figure]:
    figures: list[Figure] = []
    with ExitStack() as stack:
        bare = stack.enter_context(run.bare())
        bare.initialize()
        clients = {
            rows: stack.enter_context(run.ours(run.environment_on(run.store(rows)))) for rows in run.sizes
        }
        for client in clients.values():
            client.initialize()
        plain = {
            rows: (
                stack.enter_context(closing(PlainReader(run.store(rows)))),
                statements_of(calls[rows], run.environment_on(run.store(rows))),
            )
            for rows in {_judged_rows(call, run.sizes) for call in calls[run.sizes[0]]}
        }
        same = list(zip(*calls.values(), strict=True))
        with Progress("reading tools", len(same)) as progress:
            for number, one in enumerate(same):
                by_rows = dict(zip(calls, one, strict=True))
                timed: dict[str, Timed] = {
                    rows_text(rows): lambda count, call=call, client=clients[rows]: client.timed(
                        call.tool, call.arguments, count
                    )
                    for rows, call in by_rows.items()
                }
                timed[NOOP] = lambda count: bare.timed("noop", {}, count)
                judged = _judged_rows(one[0], run.sizes)
                reader, statements = plain[judged]
                sql = statements[number]
                timed[_sql_column(judged)] = lambda count, reader=reader, sql=sql: reader.timed(sql, count)
                measured = _Call(one[0], timed)
                measured.measure(run.rounds, short=run.short)
                figures += _figures(measured, run.sizes)
                progress.step()
    return figures


def _judged_rows(call: Call, sizes: Sequence[int]) -> int:
    """Return on which store a call is judged: the largest of those that are not larger than the bar's."""
    wanted = LOG_ROWS if call.table == LOGS else REPORT_ROWS
    return max((rows for rows in sizes if rows <= wanted), default=sizes[0])


def _sql_column(rows: int) -> str:
    return f"SQL alone, {rows_text(rows)}"


def _figures(measured: _Call, sizes: Sequence[int]) -> list[Figure]:
    call = measured.call

    def figure(column: str, values: Sequence[float], unit: str = "ms", *, bar: float | None = None) -> Figure:
        return Figure(call.name, unit, tuple(values), bar=bar, table=call.table, column=column)

    judged = _judged_rows(call, sizes)
    bars = {LOGS: (LOG_ROWS, LOG_BAR, None)}.get(call.table, (REPORT_ROWS, REPORT_BAR, GROWTH_BAR))
    wanted, bar, growth_bar = bars if call.judged else (0, None, None)
    figures = [figure(column, values) for column, values in measured.took.items()]
    figures.append(
        figure(
            f"{rows_text(judged)} / no-op",
            measured.ratio(rows_text(judged), NOOP),
            "x",
            bar=bar if judged == wanted else None,
        )
    )
    if BASE_ROWS in sizes and sizes[-1] > BASE_ROWS:
        growth = measured.ratio(rows_text(sizes[-1]), rows_text(BASE_ROWS))
        name = f"{rows_text(sizes[-1])} / {rows_text(BASE_ROWS)}"
        figures.append(figure(name, growth, "x", bar=growth_bar if sizes[-1] >= LOG_ROWS else None))
    return figures
