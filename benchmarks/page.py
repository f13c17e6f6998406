"""docs/performance.md and its plot, made of results and nothing else."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from figures import MISSED, Figure, Table, number, tables
from part import rows_text
from plot import line_chart
from reading import NOOP
from reading_calls import CATALOG, COSTS, LATENCY, LOGS
from results import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from part import Part
    from results import Result

PAGE = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "performance.svg"
LONG = 12
"""Rows from which on a table is folded."""
SAME_FACTS = ("machine", "versions")
DRAWN = (
    (LATENCY, "month"),
    (COSTS, "month, by model"),
    (COSTS, "all"),
    (COSTS, "today"),
    (LOGS, "newest"),
    (LOGS, "status error"),
    (LOGS, "search, 3 rows"),
    (CATALOG, "list_projects"),
    (CATALOG, "get_health"),
)
"""Which calls the plot shows: table and name."""

_HEAD = """\
# Performance

Written by `make bench`; do not edit. Its figures are those of this machine:

{facts}

Ours is the installed command `voicegw-mcp` (or `voicegw serve`). The floor beside it is `benchmarks/bare_server.py`, a low-level server on
the same SDK over the same transport with one tool that does nothing. The client is the same for both: JSON-RPC lines over
pipes. They take turns within one run, and a ratio is that of neighbours, so that a machine which gets slower or faster meanwhile
changes both. Bars are judged on the median of all rounds; the interval beside a median is the least and the most.
"""
_TAIL = """\
## Measure again

```sh
make bench                                             # everything on this page but the comparison; writes the page
make bench-peer                                        # the comparison with VoiceGateway; writes it into the page
python benchmarks/run.py --short                       # small stores, few rounds, as tables in the terminal
python benchmarks/run.py --only reading --json FILE    # one part, its figures as JSON; --help names the others
python benchmarks/run.py --check                       # exit code 1 when a bar is missed
python benchmarks/stores.py --rows 1000000 FILE        # a store to measure on
```

It needs Linux, for /proc, 2 GB in `.bench/` for stores, and a quiet machine. What is on this page took {minutes:.0f} minutes. A million rows are
filled in about half a minute, and anew on the next day, because reports of today and this month want recent rows: those before
the hour in which the store was filled. `--write-docs` keeps the figures in `.bench/results.json`, so that a part can be measured alone.
"""


def write(results: Mapping[str, Result], parts: Mapping[str, Part]) -> None:
    """Write the page and the plot.

    Args:
        results: of each part that was ever measured, by its name.
        parts: all there are, in the order of the page.
    """
    PAGE.write_text(document(results, parts), encoding="utf-8")
    PLOT.write_text(plot(results), encoding="utf-8")


def document(results: Mapping[str, Result], parts: Mapping[str, Part]) -> str:
    """Return the page."""
    measured = {name: results[name] for name in parts if name in results}
    newest = max(measured.values(), key=lambda result: result.facts["date"])
    missing = [name for name in parts if name not in results]
    sections = [
        _HEAD.format(facts="\n".join(f"- {name}: {newest.facts[name]}" for name in SAME_FACTS)),
        "## Bars\n\n" + _bars(measured, parts),
    ]
    if missing:
        sections.append(
            "Not measured here: " + ", ".join(f"`{name}` ({parts[name].TITLE})" for name in missing) + ".\n"
        )
    sections += [_section(parts[name], result) for name, result in measured.items()]
    minutes = sum(result.seconds for result in measured.values()) / 60
    sections.append(_TAIL.format(minutes=max(1, minutes)))
    return "\n".join(sections)


def _bars(measured: Mapping[str, Result], parts: Mapping[str, Part]) -> str:
    rows = [["part", "what", "bar", "median", ""]]
    for name, result in measured.items():
        columns: dict[tuple[str, ...], list[Figure]] = {}
        for figure in result.figures:
            if figure.bar is not None:
                alone = () if figure.table else (figure.name,)
                columns.setdefault((figure.table, figure.column, figure.bar_text, *alone), []).append(figure)
        rows += [
            [parts[name].TITLE, *(_summed(figures) if figures[0].table else _one(figures[0]))]
            for figures in columns.values()
        ]
    missed = sum(MISSED in row[-1] for row in rows)
    told = "All of them hold.\n\n" if not missed else f"{missed} of {len(rows) - 1} are missed.\n\n"
    return told + Table("", rows, frozenset({3})).markdown() + "\n"


def _one(figure: Figure) -> list[str]:
    shown = "holds" if figure.holds else MISSED
    return [f"{figure.name}, {figure.unit}", figure.bar_text, number(figure.median), shown]


def _summed(figures: list[Figure]) -> list[str]:
    """Return one line about the judged cells of a column: how the worst of them is."""
    worst = max(figures, key=lambda figure: figure.margin)
    missed = sum(figure.holds is False for figure in figures)
    what = f"{worst.table}, {worst.column}" + (f" ({worst.unit})" if worst.unit != "x" else "")
    if len(figures) == 1:
        return [f"{what}: {worst.name}", *_one(worst)[1:]]
    typical = statistics.median(figure.median for figure in figures)
    return [
        f"{what}: worst of {len(figures)}, {worst.name}",
        worst.bar_text,
        f"{number(worst.median)} (typical {number(typical)})",
        f"{MISSED} by {missed} of {len(figures)}" if missed else "holds",
    ]


def _section(part: Part, result: Result) -> str:
    facts = result.facts
    told = (
        f"Measured {facts['date']}, commit {facts['commit']}, rounds: {facts['rounds']}, {result.seconds:.0f} s, "
        f"load average {facts['load average at the start']} at the start."
    )
    drawn = (
        [f"![p50 of some calls by the size of the store]({PLOT.name})\n"] if _lines(result.figures) else []
    )
    shown = [_shown(table) for table in tables(result.figures)]
    return "\n".join([f"## {part.TITLE}\n", f"{told}\n", *drawn, *shown, part.METHOD])


def _shown(table: Table) -> str:
    if not table.title:
        return table.markdown() + "\n"
    count = len(table.rows) - 1
    if count <= LONG:
        return f"### {table.title}\n\n{table.markdown()}\n"
    return f"<details><summary>{table.title}: {count} calls</summary>\n\n{table.markdown()}\n\n</details>\n"


def plot(results: Mapping[str, Result]) -> str:
    """Return the plot of the calls in ``DRAWN``, empty when they were not measured."""
    lines = next((found for result in results.values() if (found := _lines(result.figures))), {})
    if not lines:
        return ""
    return line_chart(
        "Reading tools over stdio, p50",
        lines,
        x_label="rows in the store",
        y_label="ms",
        tick=lambda rows: rows_text(int(rows)),
    )


def _lines(figures: Sequence[Figure]) -> dict[str, list[tuple[float, float]]]:
    """Return p50 by rows of each call that is drawn, and the floor below them."""
    found: dict[str, list[tuple[float, float]]] = {}
    floor: list[float] = []
    for figure in figures:
        if figure.unit != "ms" or (figure.table, figure.name) not in DRAWN:
            continue
        rows = _rows(figure.column)
        if rows is not None:
            name = figure.name if figure.table == CATALOG else f"{figure.table} {figure.name}"
            found.setdefault(name, []).append((rows, figure.median))
        elif figure.column == NOOP:
            floor += figure.values
    if found and floor:
        found[NOOP] = [(rows, statistics.median(floor)) for rows, _ in next(iter(found.values()))]
    return found


def _rows(column: str) -> int | None:
    """Return how many rows ``rows_text`` wrote, None for any other text."""
    amount, _, unit = column.partition(" ")
    factor = {"": 1, "k": 1000, "M": 1_000_000}.get(unit)
    return int(amount) * factor if factor and amount.isdigit() else None
