"""What the log holds of each series since it began, as the label sets of metrics: few, and the same ones at every scrape.

A counter that falls is taken for one that began anew, and all of it for an increase: a request must not move from one label
set to another while rows come in. So whether a series has labels of its own is decided by what stays: whether it is among the first that were
ever recorded, which no later row changes, or whether what it is of is configured. The most used ones were the other
choice: there a series that falls back goes to ``other``, and whatever rises to its place is taken out of that. May import
``store``, ``domain``, ``core.costs`` and ``core.untrusted``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from voicegw_mcp.core.costs import show_units
from voicegw_mcp.core.untrusted import escape_untrusted
from voicegw_mcp.domain import UNCOUNTED, Modality, RequestStatus, Usage
from voicegw_mcp.store.histogram import counts_up_to

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from voicegw_mcp.core.catalog import Catalog
    from voicegw_mcp.store.parts import HistogramRow, TotalRow
    from voicegw_mcp.store.series import Series

OTHER: Final = "other"
"""What stands for an id that is not shown."""

FIRST_RECORDED: Final = 200
"""So many series have labels of their own whatever their names; of others only what is configured."""
MOST_SERIES: Final = 1000

TTFB_S: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
TOTAL_S: Final = (0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0)
"""Upper bounds of the buckets, in seconds."""

_MOST_CHARACTERS: Final = 200
_ALWAYS: Final = (RequestStatus.SUCCESS.value, RequestStatus.ERROR.value)
_COUNTED: Final = frozenset(status.value for status in RequestStatus if status not in UNCOUNTED)
_BILLED: Final = {
    Modality.STT.value: ("audio_seconds",),
    Modality.LLM.value: ("input_tokens", "output_tokens", "cached_tokens"),
    Modality.TTS.value: ("characters",),
}


def label_value(name: str) -> str:
    """Return an id as labels show it: nothing in it hides, and it is short."""
    return escape_untrusted(name, _MOST_CHARACTERS)


Names: TypeAlias = tuple[str, str, str, str]
"""Project, modality, provider and model id."""


class Latencies(NamedTuple):
    """How many requests took at most each bound of ``TTFB_S`` or ``TOTAL_S``, how many there are, and their sum in seconds."""

    up_to: tuple[int, ...]
    requests: int
    sum_seconds: float


class LabelSet(NamedTuple):
    """The lifetime figures of one label set. Money is nano-USD.

    ``billed_nanousd`` is what requests cost when they were recorded, and what repricing added since; ``credited_nanousd``
    what it took off. Both only grow; their difference is the cost of reports.
    """

    names: Names
    requests: dict[str, int]
    unpriced: int
    billed_nanousd: int
    credited_nanousd: int
    units: dict[str, float]
    ttfb: Latencies
    total: Latencies


class _Sums:
    """What is added up of one label set; latencies as in the store."""

    __slots__ = ("cost", "credited", "requests", "total", "total_us", "ttfb", "ttfb_us", "units", "unpriced")

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.units = [0] * len(fields(Usage))
        self.unpriced = self.cost = self.credited = 0
        self.ttfb = self.ttfb_us = self.total = self.total_us = 0

    def add(self, row: TotalRow) -> None:
        if row.requests:
            self.requests[row.status if row.status in _COUNTED else OTHER] += row.requests
        self.unpriced += row.unpriced
        self.cost += row.cost_nanousd
        for place, amount in enumerate(row[8:13]):
            self.units[place] += amount
        self.ttfb_us += row.ttfb_sum_us
        self.total_us += row.total_sum_us

    def figures(self, names: Names) -> LabelSet:
        return LabelSet(
            names,
            # Those of zero, too: of a counter that begins with its first request that one is not seen as an increase.
            {status: self.requests[status] for status in dict.fromkeys((*_ALWAYS, *self.requests))},
            self.unpriced,
            self.cost + self.credited,
            self.credited,
            dict.fromkeys(_BILLED.get(names[1], ()), 0.0) | show_units(Usage(*self.units)),
            _latencies(self.ttfb, self.ttfb_us, TTFB_S),
            _latencies(self.total, self.total_us, TOTAL_S),
        )


def label_sets(
    catalog: Catalog | None,
    series: Sequence[Series],
    totals: Iterable[TotalRow],
    spread: Iterable[HistogramRow],
) -> list[LabelSet]:
    """Return the figures of every label set, in the order of their names.

    Args:
        catalog: what is configured, None when that is not known.
        series: all there are, in the order in which they were first recorded.
        totals: sums of any times, by series and status.
        spread: histograms, by series.
    """
    shown = _shown_names(catalog, series)
    sums: dict[Names, _Sums] = {}

    def of(row: Series | TotalRow | HistogramRow) -> _Sums:
        return sums.setdefault(shown[row[0], row[1], row[2], row[3]], _Sums())

    for row in totals:
        of(row).add(row)
    for row in spread:
        own = of(row)
        own.ttfb += row.ttfb
        own.total += row.total
    for row in series:
        if row.credited_nanousd:
            of(row).credited += row.credited_nanousd
    return [own.figures(names) for names, own in sorted(sums.items())]


def _shown_names(catalog: Catalog | None, series: Sequence[Series]) -> dict[Names, Names]:
    """Return the labels of each series. The project of one that is folded stays while that is configured."""
    named = set(_named(catalog, series))
    projects = catalog.projects if catalog else {}
    shown: dict[Names, Names] = {}
    for row in series:
        names = row[:4]
        if names in named:
            project, modality, provider, model_id = map(label_value, names)
            shown[names] = project, modality, provider, model_id
        else:
            project = label_value(row.project) if row.project in projects else OTHER
            shown[names] = project, row.modality if row.modality in _BILLED else OTHER, OTHER, OTHER
    return shown


def _named(catalog: Catalog | None, series: Sequence[Series]) -> Iterator[Names]:
    """Give the series that have labels of their own."""
    yield from (row[:4] for row in series[:FIRST_RECORDED])
    if catalog is not None:
        configured = (row[:4] for row in series[FIRST_RECORDED:] if _is_configured(catalog, row))
        yield from islice(configured, MOST_SERIES - FIRST_RECORDED)


def _is_configured(catalog: Catalog, row: Series) -> bool:
    return (
        row.model_id in catalog.models
        and row.project in catalog.projects
        and row.provider in catalog.providers
        and row.modality in _BILLED
    )


def _latencies(lanes: int, sum_us: int, bounds_s: tuple[float, ...]) -> Latencies:
    *up_to, requests = counts_up_to(lanes, tuple(bound * 1000 for bound in bounds_s))
    return Latencies(tuple(up_to), requests, sum_us / 1_000_000)
