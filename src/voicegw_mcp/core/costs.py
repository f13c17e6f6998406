"""What requests cost: totals, splits and groups of a window, from rollups; exact in nano-USD until the last step.

Raw rows are read only for groups of sessions. May import ``store``, ``domain``, ``errors`` and ``core``.
"""

from __future__ import annotations

from functools import cache, lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeVar

from pydantic import TypeAdapter

from voicegw_mcp.core.answer_size import BRACKETS, MOST_BYTES, OTHER, fitting, fitting_shown, json_bytes
from voicegw_mcp.core.answers import Answer
from voicegw_mcp.core.buckets import read_newest
from voicegw_mcp.core.periods import day_window, iso, previous_window
from voicegw_mcp.core.untrusted import escape_untrusted
from voicegw_mcp.domain import Usage, to_usd
from voicegw_mcp.store.part_reading import cut, read_parts
from voicegw_mcp.store.parts import CostRow, SeriesCosts, StatusCosts, StatusRow, TimedCosts
from voicegw_mcp.store.requests import read_sessions
from voicegw_mcp.store.rollups import SeriesFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from voicegw_mcp.domain import Window
    from voicegw_mcp.store.parts import SeriesRow
    from voicegw_mcp.store.reader import Reads

CostGrouping = Literal["provider", "model", "project", "modality", "day", "hour", "session", "status"]

MOST_KEY_CHARACTERS: Final = 200
NO_SESSION: Final = "(no session)"
"""The key of the group of requests that belong to no session."""

_MOST_SESSIONS: Final = 1_000
_MOST_TIMED: Final = 530
"""Hours or days that an answer has room for when each takes as little as it can."""
# Bytes for each split; what the splits leave is for the groups.
_SPLIT_BYTES: Final = {"provider": 4_000, "model": 9_000, "project": 6_000, "modality": 1_500}
_NAMES: Final[dict[str, Callable[[SeriesRow], str]]] = {
    "provider": lambda row: row.provider,
    "model": lambda row: row.model_id,
    "project": lambda row: row.project,
    "modality": lambda row: row.modality,
}

R = TypeVar("R", bound="CostRow | StatusRow")


class Units(Answer):
    """What was consumed; units that are zero are absent."""

    audio_seconds: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    characters: int | None = None


def show_units(usage: Usage) -> dict[str, float]:
    """Return the fields of ``Units``: the non-zero units of a usage."""
    shown = {
        "audio_seconds": usage.audio_ms / 1000,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "characters": usage.characters,
    }
    return {name: units for name, units in shown.items() if units}


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
    family_priced_requests: int
    estimated_requests: int
    previous: PreviousCosts | None = None
    truncated: bool | None = None


class Spend(NamedTuple):
    """What a project spent: nano-USD and number of requests."""

    cost_nanousd: int
    requests: int


def costs(
    reads: Reads,
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
        reads: the store; groups of sessions read rows in proportion to the log (``Reader.ask_slowly``).
        window: the span of time.
        project, modality, provider_id, model_id: limit the report; None means all. Names nothing was recorded
            under give an empty report.
        group_by: adds ``groups``: the costliest first, hours and days in order of time.
        compare_previous: adds ``previous``, see ``periods.previous_window``.

    Raises:
        StoreUnavailable: the store cannot be read.
    """
    only = SeriesFilter(project, modality, provider_id, model_id)
    spans, before = cut(window), previous_window(window)
    own = [SeriesCosts(*span) for span in spans]
    earlier = [SeriesCosts(*span) for span in cut(before)] if compare_previous else []
    by_status = [StatusCosts(*span) for span in spans] if group_by == "status" else []
    parts = [*own, *earlier, *by_status]
    timed: Mapping[int, Sequence[int]] = {}
    if group_by in ("hour", "day"):
        values, (timed,), _ = read_newest(
            reads, window, group_by, (TimedCosts,), only, most=_MOST_TIMED, also=parts
        )
    else:
        values = read_parts(reads, parts)
    rows = only.among(values.of_all(own))
    splits = {split: _split(rows, name, _SPLIT_BYTES[split]) for split, name in _NAMES.items()}
    whole = _spent(rows)
    report = CostReport(
        period=window.period,
        project=only.project,
        start=iso(window.start_ms, window.timezone),
        end=iso(window.end_ms, window.timezone),
        timezone=window.timezone,
        total_usd=to_usd(whole.cost_nanousd),
        by_provider=splits["provider"],
        by_model=splits["model"],
        by_project=splits["project"],
        by_modality=splits["modality"],
        unpriced_requests=sum(row.unpriced for row in rows),
        family_priced_requests=sum(row.family for row in rows),
        estimated_requests=sum(row.estimated for row in rows),
        previous=_compared(whole, _spent(only.among(values.of_all(earlier)))) if compare_previous else None,
        truncated=any(OTHER in split for split in splits.values()) or None,
    )
    if group_by is None:
        return report
    if group_by in ("hour", "day"):
        starts = list(timed)[: -_MOST_TIMED - 1 : -1]
        newest = ((iso(start, window.timezone), timed[start]) for start in starts)
        return _with_groups(report, newest, complete=_total(timed.values()) == whole, reverse=True)
    if group_by == "session":
        sessions = read_sessions(reads, window.start_ms, window.end_ms, only, limit=_MOST_SESSIONS)
        groups = _added(
            (NO_SESSION if session is None else _shown(session), Spend(cost, requests))
            for session, cost, requests in sessions
        )
    elif group_by == "status":
        of_status = only.among(values.of_all(by_status))
        groups = {
            name: _spent(own) for name, own in _by_shown_name(of_status, lambda row: row.status).items()
        }
    else:
        groups = {name: _spent(own) for name, own in _by_shown_name(rows, _NAMES[group_by]).items()}
    ranked = sorted(groups.items(), key=lambda item: (-item[1].cost_nanousd, item[0]))
    # Sessions may not add up to the whole: only so many are read, and rows that were pruned have none any more.
    return _with_groups(report, ranked, complete=_total(groups.values()) == whole)


def spend(reads: Reads, window: Window, *, project: str | None = None) -> dict[str, Spend]:
    """Return what each project (or the one asked for) spent in a window, by project id as it was recorded.

    Raises:
        StoreUnavailable: the store cannot be read.
    """
    parts = [SeriesCosts(*span) for span in cut(window)]
    rows = SeriesFilter(project=project).among(read_parts(reads, parts).of_all(parts))
    return _added((row.project, Spend(row.cost_nanousd, row.requests)) for row in rows)


def spend_today(reads: Reads, zones: Iterable[str], now_ms: int) -> dict[str, dict[str, Spend]]:
    """Return what each project spent on the calendar day of each zone: by zone, then by project id.

    Args:
        reads: the store; it is asked once for each zone, however many projects there are.
        zones: IANA names.
        now_ms: the moment whose day counts, UTC epoch ms.

    Raises:
        StoreUnavailable: the store cannot be read.
    """
    return {zone: spend(reads, day_window(zone, now_ms)) for zone in dict.fromkeys(zones)}


def _with_groups(
    report: CostReport, ranked: Iterable[tuple[str, Sequence[int]]], *, complete: bool, reverse: bool = False
) -> CostReport:
    """Return the report with as many groups as fit, the first of ``ranked``; ``complete`` says that all are the whole."""
    shown = (_show_group(key, *spent) for key, spent in ranked)
    kept, all_fit = fitting_shown(shown, MOST_BYTES - json_bytes(report) - 40)
    cut_off = report.truncated or not complete or not all_fit
    groups = kept[::-1] if reverse else kept
    return report.model_copy(update={"groups": groups, "truncated": cut_off or None})


@lru_cache(maxsize=2048)
def _show_group(key: str, cost_nanousd: int, requests: int) -> tuple[CostGroup, int]:
    """Return a group and its length in bytes. Remembered: of hundreds of hours only the last one changes."""
    group = CostGroup(key=key, cost=to_usd(cost_nanousd), requests=requests)
    return group, json_bytes(group)


def _split(rows: Sequence[CostRow], name_of: Callable[[CostRow], str], budget: int) -> dict[str, CostEntry]:
    """Return entries by name, costliest first; those beyond ``budget`` bytes become one under ``(other)``."""
    sums = {name: _sum(own) for name, own in _by_shown_name(rows, name_of).items()}
    ranked = sorted(sums.items(), key=lambda item: (-item[1].cost_nanousd, -item[1].requests, item[0]))
    entries = _entries().validate_python({name: _entry(total) for name, total in ranked})
    if json_bytes(entries) - BRACKETS <= budget:
        return entries
    count = fitting((json_bytes(name) + json_bytes(entry) for name, entry in entries.items()), budget)
    rest = _sum([left for _, left in ranked[count:]])
    folded = _entries().validate_python({OTHER: _entry(rest)})
    return dict([*entries.items()][:count]) | folded


@cache
def _entries() -> TypeAdapter[dict[str, CostEntry]]:
    """Return what makes entries in one go, in half the time of one by one."""
    return TypeAdapter(dict[str, CostEntry])


def _by_shown_name(rows: Iterable[R], name_of: Callable[[R], str]) -> dict[str, list[R]]:
    """Return rows by a name of theirs as it is shown; names that look alike after escaping are one."""
    by_name: dict[str, list[R]] = {}
    for row in rows:
        by_name.setdefault(name_of(row), []).append(row)
    shown: dict[str, list[R]] = {}
    for name, own in by_name.items():
        shown.setdefault(_shown(name), []).extend(own)
    return shown


def _sum(rows: Sequence[CostRow]) -> CostRow:
    return CostRow("", "", "", "", *map(sum, list(zip(*rows, strict=True))[4:]))


def _spent(rows: Sequence[CostRow | StatusRow]) -> Spend:
    return Spend(sum(row.cost_nanousd for row in rows), sum(row.requests for row in rows))


def _total(spent: Iterable[Sequence[int]]) -> Spend:
    """Return the sum of pairs of nano-USD and requests."""
    known = list(spent)
    return Spend(sum(map(itemgetter(0), known)), sum(map(itemgetter(1), known)))


def _added(spent: Iterable[tuple[str, Spend]]) -> dict[str, Spend]:
    found: dict[str, Spend] = {}
    for name, (cost, requests) in spent:
        known = found.get(name)
        found[name] = Spend(cost, requests) if known is None else Spend(known[0] + cost, known[1] + requests)
    return found


def _entry(total: CostRow) -> dict[str, object]:
    return {
        "cost": to_usd(total.cost_nanousd),
        "requests": total.requests,
        "units": show_units(Usage(*total[9:])),
    }


def _compared(spent: Spend, earlier: Spend) -> PreviousCosts:
    total, before = spent.cost_nanousd, earlier.cost_nanousd
    change = round((total - before) / before * 100, 2) if before else None
    return PreviousCosts(total_usd=to_usd(before), change_pct=change)


def _shown(name: str) -> str:
    return escape_untrusted(name, MOST_KEY_CHARACTERS)
