"""A measured figure, its bar, and the table that shows them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Figure:
    """One measured thing. ``values`` are what was measured, one per round; ``bar`` is judged on their median."""

    name: str
    unit: str
    values: tuple[float, ...]
    bar: float | None = None
    at_least: bool = False

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

    def cells(self) -> list[str]:
        """Return its row of the table."""
        bar = "" if self.bar is None else f"{'>=' if self.at_least else '<='} {self.bar:g}"
        shown = {None: "", True: "holds", False: "MISSED"}[self.holds]
        spread = [min(self.values), self.median, max(self.values)]
        return [self.name, self.unit, *(number(value) for value in spread), bar, shown]


def ratios(measured: dict[str, list[float]]) -> tuple[float, ...]:
    return tuple(ours / bare for ours, bare in zip(measured["ours"], measured["bare"], strict=True))


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


HEADER = ["what", "unit", "min", "median", "max", "bar", ""]


def table(figures: Iterable[Figure]) -> str:
    rows = [HEADER, *(figure.cells() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [
        "  ".join(
            cell.rjust(width) if 2 <= at <= 4 else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines)
