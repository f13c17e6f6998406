"""A measured figure, its bar, and the tables that show figures: one row each, or a matrix where they belong together."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Figure:
    """One measured thing.

    ``values`` are what was measured, one per round; ``bar`` is judged on their median. Figures of one ``table`` make a
    matrix of its own: a row per ``name``, a column per ``column``.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    bar: float | None = None
    at_least: bool = False
    table: str = ""
    column: str = ""
    interval: bool = False
    """Whether a matrix shows the least and the most beside the median, as it does of ratios."""

    @property
    def median(self) -> float:
        """What is judged."""
        return statistics.median(self.values)

    @property
    def holds(self) -> bool | None:
        """Whether the bar holds; None without a bar."""
        if self.bar is None:
            return None
        return self.median >= self.bar if self.at_least else self.median <= self.bar

    @property
    def margin(self) -> float:
        """How far it is from its bar: 1 is at the bar, more is beyond it."""
        assert self.bar is not None
        if self.at_least:
            return self.bar / self.median if self.median else float("inf")
        return self.median / self.bar if self.bar else float("inf") if self.median else 0.0

    @property
    def bar_text(self) -> str:
        """The bar as it is shown."""
        return "" if self.bar is None else f"{'>=' if self.at_least else '<='} {self.bar:g}"


@dataclass(frozen=True)
class Table:
    """Cells as text; the first row is the header. ``right`` are the columns of numbers, aligned to the right."""

    title: str
    rows: list[list[str]]
    right: frozenset[int]

    def text(self) -> str:
        """Return it for a terminal."""
        widths = [max(len(row[column]) for row in self.rows) for column in range(len(self.rows[0]))]
        lines = [
            "  ".join(
                cell.rjust(width) if at in self.right else cell.ljust(width)
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in self.rows
        ]
        return "\n".join([self.title, *lines] if self.title else lines).replace(
            MISSED, MISSED.strip("*").upper()
        )

    def markdown(self) -> str:
        """Return it as Markdown, without its title."""
        head, *body = (
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in self.rows
        )
        rule = (
            "|" + "|".join(" ---: " if at in self.right else " --- " for at in range(len(self.rows[0]))) + "|"
        )
        return "\n".join([head, rule, *body])


MISSED = "**missed**"
HEADER = ["what", "unit", "min", "median", "max", "bar", ""]


def tables(figures: Iterable[Figure]) -> list[Table]:
    """Return the tables that show the figures, in their order."""
    return [
        _matrix(title, list(group)) if title else _list(list(group))
        for title, group in groupby(figures, key=lambda figure: figure.table)
    ]


def _list(figures: Sequence[Figure]) -> Table:
    rows = [HEADER]
    for figure in figures:
        spread = [min(figure.values), figure.median, max(figure.values)]
        shown = {None: "", True: "holds", False: MISSED}[figure.holds]
        rows.append([figure.name, figure.unit, *map(number, spread), figure.bar_text, shown])
    return Table("", rows, frozenset({2, 3, 4}))


def _matrix(title: str, figures: Sequence[Figure]) -> Table:
    columns = list(dict.fromkeys(figure.column for figure in figures))
    cells = {(figure.name, figure.column): figure for figure in figures}
    names = dict.fromkeys(figure.name for figure in figures)
    rows = [
        ["", *(_head(column, figures) for column in columns)],
        *([name, *(_cell(cells.get((name, column))) for column in columns)] for name in names),
    ]
    return Table(title, rows, frozenset(range(1, len(columns) + 1)))


def _head(column: str, figures: Sequence[Figure]) -> str:
    units = {figure.unit for figure in figures if figure.column == column}
    return f"{column}, {units.pop()}" if len(units) == 1 and units != {"x"} else column


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    told = number(figure.median) + (_interval(figure.values) if figure.unit == "x" or figure.interval else "")
    return f"{told} {MISSED} {figure.bar_text}" if figure.holds is False else told


def _interval(values: Sequence[float]) -> str:
    """Return the least and the most, nothing when there is only one."""
    return f" ({number(min(values))}-{number(max(values))})" if len(values) > 1 else ""


def ratios(measured: dict[str, list[float]]) -> tuple[float, ...]:
    """Return ours by the bare server's, of each round."""
    return tuple(ours / bare for ours, bare in zip(measured["ours"], measured["bare"], strict=True))


def number(value: float) -> str:
    """Return a number with three digits or more."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
