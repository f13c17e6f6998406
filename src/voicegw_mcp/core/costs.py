"""What requests cost: totals, splits and groups of a window, from rollups; exact in nano-USD until the last step.

Raw rows are read only for groups of sessions. May import ``store``, ``domain``, ``errors`` and ``core``.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from voicegw_mcp.core.answer_size import MOST_BYTES, OTHER, fitting, json_bytes
from voicegw_mcp.core.answers import Answer
from voicegw_mcp.core.periods import LocalBuckets, cell_size, iso, previous_window
from voicegw_mcp.core.untrusted import escape_untrusted
from voicegw_mcp.domain import Usage, to_usd
from voicegw_mcp.store.requests import read_sessions
from voicegw_mcp.store.rollups import SeriesFilter, read_cells, read_sums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from voicegw_mcp.domain import Window
    from voicegw_mcp.store.reader import Reader, Reads
    from voicegw_mcp.store.rollups import SeriesSums

CostGrouping = Literal["provider", "model", "project", "modality", "day", "hour", "session", "status"]

MOST_KEY_CHARACTERS: Final = 200
NO_SESSION: Final = "(no session)"
"""The key of the group of requests that belong to no session."""

_MOST_SESSIONS: Final = 1_000
# Bytes for each split; what the splits leave is for the groups.
_SPLIT_BYTES: Final = {"by_provider": 4_000, "by_model": 9_000, "by_project": 6_000, "by_modality": 1_500}

_DIMENSIONS: Final[dict[str, Callable[[SeriesSums], str]]] = {
    "provider": attrgetter("provider"),
    "model": attrgetter("model_id"),
    "project": attrgetter("project"),
    "modality": attrgetter("modality"),
    "status": attrgetter("status"),
}


class Units(Answer):
    """What was consumed; units that are zero are absent."""

    audio_seconds: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    characters: int | None = None

    @classmethod
    def of(cls, usage: Usage) -> Units:
        """Return the non-zero units of a usage."""
        return cls(
            audio_seconds=usage.audio_ms / 1000 or None,
            input_tokens=usage.input_tokens or None,
            output_tokens=usage.output_tokens or None,
            cached_tokens=usage.cached_tokens or None,
            characters=usage.characters or None,
        )


class CostEntry(Answer):
    """Cost in USD, number of requests and units of one provider, model, project or modality."""

    cost: float
    requests: int
    units: Units


class CostGroup(Answer):
    """One group. ``key`` is a name, or the ISO 8601 start of a local hour or day."""

    key: str
    cost: float
    requests: int


class PreviousCosts(Answer):
    """The window before. ``change_pct`` is absent when nothing was spent then."""

    total_usd: float
    change_pct: float | None = None


class CostReport(Answer):
    """The answer of ``get_costs``. Splits that were too long end in ``(other)``; ``truncated`` says that one did, or that groups are missing."""

    period: str
    project: str | None = None
    start: str
    end: str
    timezone: str
    total_usd: float
    by_provider: dict[str, CostEntry]
    by_model: dict[str, CostEntry]
    by_project: dict[str, CostEntry]
    by_modality: dict[str, CostEntry]
    groups: list[CostGroup] | None = None
    unpriced_requests: int
    estimated_requests: int
    previous: PreviousCosts | None = None
    truncated: bool | None = None


class Spend(NamedTuple):
    """What a project spent: nano-USD and number of requests."""

    cost_nanousd: int
    requests: int


@dataclass(slots=True)
class _Sum:
    """A running sum; money in nano-USD."""

    cost: int = 0
    requests: int = 0
    audio_ms: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    characters: int = 0

    def add(self, cost: int, requests: int) -> None:
        self.cost += cost
        self.requests += requests

    def add_units(self, row: SeriesSums | _Sum) -> None:
        """Add the units of a row or of another sum."""
        self.audio_ms += row.audio_ms
        self.input_tokens += row.input_tokens
        self.output_tokens += row.output_tokens
        self.cached_tokens += row.cached_tokens
        self.characters += row.characters


async def costs(
    store: Reader,
    window: Window,
    *,
    project: str | None = None,
    modality: str | None = None,
    provider_id: str | None = None,
    model_id: str | None = None,
    group_by: CostGrouping | None = None,
    compare_previous: bool = False,
) -> CostReport:
    """Return what the requests of a window cost.

    Args:
        store: an open store.
        window: the span of time.
        project, modality, provider_id, model_id: limit the report; None means all. Names nothing was recorded
            under give an empty report.
        group_by: adds ``groups``: the costliest first, hours and days in order of time.
        compare_previous: adds ``previous``, see ``periods.previous_window``.

    Raises:
        StoreUnavailable: the store cannot be read.
    """
    only = SeriesFilter(project, modality, provider_id, model_id)
    before = previous_window(window)
    earlier: list[SeriesSums] = []
    grouped: dict[str, _Sum] | None = None
    # One snapshot: the total, the groups and the comparison describe the same moment.
    async with store.snapshot() as reads:
        sums = await read_sums(reads, window.start_ms, window.end_ms, only)
        if compare_previous:
            earlier = await read_sums(reads, before.start_ms, before.end_ms, only)
        if group_by is not None:
            grouped = await _groups(reads, window, only, group_by, sums)
    total = sum(row.cost_nanousd for row in sums)
    splits = {
        f"by_{name}": _split(sums, _DIMENSIONS[name], _SPLIT_BYTES[f"by_{name}"])
        for name in ("provider", "model", "project", "modality")
    }
    report = CostReport(
        period=window.period,
        project=project,
        start=iso(window.start_ms, window.timezone),
        end=iso(window.end_ms, window.timezone),
        timezone=window.timezone,
        total_usd=to_usd(total),
        by_provider=splits["by_provider"],
        by_model=splits["by_model"],
        by_project=splits["by_project"],
        by_modality=splits["by_modality"],
        unpriced_requests=sum(row.unpriced for row in sums),
        estimated_requests=sum(row.estimated for row in sums),
        previous=_compared(total, sum(row.cost_nanousd for row in earlier)) if compare_previous else None,
        truncated=any(OTHER in split for split in splits.values()) or None,
    )
    if grouped is None:
        return report
    whole = Spend(total, sum(row.requests for row in sums))
    return _with_groups(report, grouped, whole, by_time=group_by in {"hour", "day"})


async def spend(store: Reads, window: Window, *, project: str | None = None) -> dict[str, Spend]:
    """Return what each project (or the one asked for) spent in a window, by project id as it was recorded.

    Raises:
        StoreUnavailable: the store cannot be read.
    """
    totals: dict[str, _Sum] = {}
    for row in await read_sums(store, window.start_ms, window.end_ms, SeriesFilter(project=project)):
        totals.setdefault(row.project, _Sum()).add(row.cost_nanousd, row.requests)
    return {name: Spend(total.cost, total.requests) for name, total in totals.items()}


async def _groups(
    reads: Reads, window: Window, only: SeriesFilter, group_by: CostGrouping, sums: list[SeriesSums]
) -> dict[str, _Sum]:
    """Return the sums by group key: in order of time, or unordered."""
    groups: dict[str, _Sum] = {}
    if group_by == "session":
        for session, cost, requests in await read_sessions(
            reads, window.start_ms, window.end_ms, only, limit=_MOST_SESSIONS
        ):
            groups.setdefault(NO_SESSION if session is None else _shown(session), _Sum()).add(cost, requests)
        return groups
    if group_by in ("hour", "day"):
        buckets = LocalBuckets(window.timezone, group_by)
        cells = await read_cells(
            reads, window.start_ms, window.end_ms, only, largest_ms=cell_size(window, group_by)
        )
        by_start: dict[int, _Sum] = {}
        for cell in sorted(cells):
            by_start.setdefault(buckets.start_of(cell.bucket_ms), _Sum()).add(
                cell.cost_nanousd, cell.requests
            )
        return {iso(start, window.timezone): total for start, total in by_start.items()}
    for row in sums:
        groups.setdefault(_shown(_DIMENSIONS[group_by](row)), _Sum()).add(row.cost_nanousd, row.requests)
    return groups


def _with_groups(
    report: CostReport, grouped: Mapping[str, _Sum], whole: Spend, *, by_time: bool
) -> CostReport:
    """Return the report with as many groups as fit: the newest hours or days, else the costliest.

    Sessions may not add up to the whole: only so many are read, and rows that were pruned have none any more.
    """
    groups = [
        CostGroup(key=key, cost=to_usd(total.cost), requests=total.requests) for key, total in grouped.items()
    ]
    groups = groups[::-1] if by_time else sorted(groups, key=lambda group: (-group.cost, group.key))
    left = MOST_BYTES - json_bytes(report) - 40
    kept = groups[: fitting(map(json_bytes, groups), left)]
    found = Spend(
        sum(total.cost for total in grouped.values()), sum(total.requests for total in grouped.values())
    )
    cut = report.truncated or len(kept) < len(groups) or found != whole
    return report.model_copy(update={"groups": kept[::-1] if by_time else kept, "truncated": cut or None})


def _split(sums: Iterable[SeriesSums], key: Callable[[SeriesSums], str], budget: int) -> dict[str, CostEntry]:
    """Return entries by key, costliest first; those beyond ``budget`` bytes become one under ``(other)``."""
    totals: dict[str, _Sum] = {}
    for row in sums:
        total = totals.get(name := key(row))
        if total is None:
            total = totals[name] = _Sum()
        total.add(row.cost_nanousd, row.requests)
        total.add_units(row)
    shown: dict[str, _Sum] = {}
    for name, total in totals.items():
        # Names that look alike after escaping are one entry.
        into = shown.setdefault(_shown(name), total)
        if into is not total:
            into.add(total.cost, total.requests)
            into.add_units(total)
    ranked = sorted(shown.items(), key=lambda item: (-item[1].cost, -item[1].requests, item[0]))
    entries = {name: _entry(total) for name, total in ranked}
    kept = fitting((json_bytes(name) + json_bytes(entry) for name, entry in entries.items()), budget)
    if kept == len(ranked):
        return entries
    rest = _Sum()
    for _, total in ranked[kept:]:
        rest.add(total.cost, total.requests)
        rest.add_units(total)
    return {**dict(list(entries.items())[:kept]), OTHER: _entry(rest)}


def _entry(total: _Sum) -> CostEntry:
    usage = Usage(
        total.audio_ms, total.input_tokens, total.output_tokens, total.cached_tokens, total.characters
    )
    return CostEntry(cost=to_usd(total.cost), requests=total.requests, units=Units.of(usage))


def _compared(total: int, before: int) -> PreviousCosts:
    change = round((total - before) / before * 100, 2) if before else None
    return PreviousCosts(total_usd=to_usd(before), change_pct=change)


def _shown(name: str) -> str:
    return escape_untrusted(name, MOST_KEY_CHARACTERS)
