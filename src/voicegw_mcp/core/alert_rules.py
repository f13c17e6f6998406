"""The rules of alerts: what is measured, and what is over its threshold now. May import ``config``, ``store``, ``domain``, ``core``.

Everything is read from sums, one query for each time zone and window however many projects and models there are. Budgets
go by the same sums and the same comparison as every other place that speaks of them (``core.costs``, ``core.budgets``).
A rate is over when it is above its threshold, and under again at four fifths of that: one that swings around its threshold
is told of once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from voicegw_mcp.core.budgets import budgets_of, decide, has_reached, usd_text
from voicegw_mcp.core.costs import spend_today
from voicegw_mcp.core.periods import iso, next_midnight_ms
from voicegw_mcp.core.untrusted import escape_untrusted
from voicegw_mcp.domain import QUARTER_MS, to_nano_usd, to_usd
from voicegw_mcp.store.alerts import Key
from voicegw_mcp.store.histogram import percentiles_of
from voicegw_mcp.store.part_reading import read_parts
from voicegw_mcp.store.parts import SeriesHistograms, SeriesLatencies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from voicegw_mcp.config.alerts import Grouping, WindowedAlerts
    from voicegw_mcp.core.budgets import Budget
    from voicegw_mcp.core.catalog import Catalog
    from voicegw_mcp.store.parts import HistogramRow, LatencyRow
    from voicegw_mcp.store.reader import Reads

Rule = Literal["budget", "daily_total", "error_rate", "ttfb"]

CLEARED: Final = 0.8
"""A rate is under again at this part of its threshold."""

_PERCENTILE: Final = 95.0
_NAME_CHARACTERS: Final = 200
_COLUMNS: Final = {"project": 0, "provider": 2, "model": 3}
"""Where the name of a kind of subject stands in a row of a series."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """A subject that is over a threshold, or is no more. ``figures`` are for programs, ``message`` is for people.

    ``ends_ms`` is when it is over by itself: at the end of a budget's day (UTC epoch ms).
    """

    key: Key
    message: str
    figures: Mapping[str, Any]
    ends_ms: int | None = None

    @property
    def project(self) -> str:
        """The project it is about, "" when it is about another thing."""
        kind, _, name = self.key.subject.partition(":")
        return name if kind == "project" else ""


@dataclass(slots=True)
class Findings:
    """What a look found: what is over its threshold, and what is under again (only those that were over are told)."""

    over: list[Crossing] = field(default_factory=list[Crossing])
    under: list[Crossing] = field(default_factory=list[Crossing])


class RuleText(NamedTuple):
    """A rule that is in force, in words; ``kind`` is that of the subjects that it looks at."""

    rule: Rule
    kind: str
    text: str

    def looks_at(self, key: Key) -> bool:
        """Whether this rule still finds out how a subject stands; it does not when it went by another kind before."""
        return (key.rule, key.subject.partition(":")[0]) == (self.rule, self.kind)


class _Tally(NamedTuple):
    """What the requests of a subject were; ``ttfb`` is a histogram as one number."""

    requests: int = 0
    errors: int = 0
    timed: int = 0
    ttfb: int = 0


class _Rate(NamedTuple):
    """How a rule judges what it measures: ``value`` of ``count`` requests, None when there was nothing to measure."""

    rule: Rule
    settings: WindowedAlerts
    threshold: float
    unit: str

    def measure(self, tally: _Tally) -> tuple[float | None, int]:
        if self.rule == "error_rate":
            share = 100 * tally.errors / tally.requests if tally.requests else None
            return share, tally.requests
        values = percentiles_of(tally.ttfb, (_PERCENTILE,))
        return (values[0] if values else None), tally.timed


def rules_in_force(catalog: Catalog) -> list[RuleText]:
    """Return what is looked at, in words; nothing when alerts are off."""
    alerts, found = catalog.settings.alerts, list[RuleText]()
    if not alerts.enabled:
        return found
    budgets = _budgets(catalog)
    if budgets and alerts.budget.percent:
        projects = "1 project" if len(budgets) == 1 else f"{len(budgets)} projects"
        percents = ", ".join(f"{percent:g}" for percent in alerts.budget.percent)
        found.append(RuleText("budget", "project", f"{percents} % of the daily budget, {projects}"))
    total = _total(catalog)
    if total:
        found.append(RuleText("daily_total", "all", f"{usd_text(total)} USD a day, all projects together"))
    for rate in _rates(catalog):
        what = "of requests fail" if rate.rule == "error_rate" else "time to first byte (95th percentile)"
        each = "all together" if rate.settings.by == "all" else f"each {rate.settings.by}"
        found.append(
            RuleText(
                rate.rule,
                rate.settings.by,
                f"over {rate.threshold:g} {rate.unit} {what} within {rate.settings.window_minutes} minutes, {each}, "
                f"{rate.settings.least_requests} requests or more",
            )
        )
    return found


def look(reads: Reads, catalog: Catalog, now_ms: int, standing: Iterable[Key]) -> Findings:
    """Measure everything that rules speak of.

    Args:
        reads: the store.
        catalog: the configuration.
        now_ms: the present, UTC epoch ms.
        standing: what is over by what was told.

    Raises:
        StoreUnavailable: the store cannot be read.
    """
    findings = Findings()
    budgets, total, zone = _budgets(catalog), _total(catalog), catalog.settings.timezone
    zones = {budget.timezone for budget in budgets.values()}.union([zone] if total else [])
    spent = spend_today(reads, zones, now_ms)
    for budget in budgets.values():
        of_project = spent[budget.timezone].get(budget.project)
        decision = decide(budget, of_project.cost_nanousd if of_project else 0, 0, now_ms)
        for percent in catalog.settings.alerts.budget.percent:
            if has_reached(decision.spent_nanousd, budget.nanousd, percent):
                # Of another budget the same part is another threshold: raised in the middle of the day it is told anew.
                key = Key("budget", f"project:{budget.project}", f"{percent:g}% of {budget.nanousd}")
                figures = {
                    "threshold_percent": percent,
                    "spent_usd": to_usd(decision.spent_nanousd),
                    "daily_budget_usd": to_usd(budget.nanousd),
                    "reset_at": decision.reset_at,
                }
                ends_ms = next_midnight_ms(budget.timezone, now_ms)
                message = f"{percent:g} % of a budget is reached. {decision.told()}"
                findings.over.append(Crossing(key, message, figures, ends_ms))
    if total:
        whole = sum(each.cost_nanousd for each in spent[zone].values())
        if has_reached(whole, total, 100):
            findings.over.append(_total_crossing(whole, total, zone, now_ms))
    for rate in _rates(catalog):
        _look_at_rate(rate, reads, now_ms, [key for key in standing if key.rule == rate.rule], findings)
    return findings


def _budgets(catalog: Catalog) -> dict[str, Budget]:
    only = catalog.settings.alerts.budget.projects
    return {name: found for name, found in budgets_of(catalog).items() if only is None or name in only}


def _total(catalog: Catalog) -> int:
    """Return ``cost_tracking.daily_budget_alert`` in nano-USD, 0 for none."""
    return to_nano_usd(catalog.settings.cost_tracking.daily_budget_alert or 0)


def _rates(catalog: Catalog) -> Iterator[_Rate]:
    alerts = catalog.settings.alerts
    if alerts.error_rate is not None:
        yield _Rate("error_rate", alerts.error_rate, alerts.error_rate.percent, "%")
    warning_ms = catalog.settings.latency.ttfb_warning_ms
    if alerts.ttfb is not None and warning_ms:
        yield _Rate("ttfb", alerts.ttfb, warning_ms, "ms")


def _total_crossing(spent: int, total: int, zone: str, now_ms: int) -> Crossing:
    ends_ms = next_midnight_ms(zone, now_ms)
    reset_at = iso(ends_ms, zone)
    figures = {"spent_usd": to_usd(spent), "daily_budget_alert_usd": to_usd(total), "reset_at": reset_at}
    message = (
        f"All projects together have spent {usd_text(spent)} USD today; cost_tracking.daily_budget_alert is "
        f"{usd_text(total)} USD. The day ends at {reset_at}."
    )
    return Crossing(Key("daily_total", "all:", str(total)), message, figures, ends_ms)


def _look_at_rate(
    rate: _Rate, reads: Reads, now_ms: int, standing: Sequence[Key], findings: Findings
) -> None:
    start_ms = (now_ms - rate.settings.window_minutes * 60_000) // QUARTER_MS * QUARTER_MS
    end_ms = now_ms // QUARTER_MS * QUARTER_MS + QUARTER_MS
    sums, spread = SeriesLatencies(start_ms, end_ms), SeriesHistograms(start_ms, end_ms)
    values = read_parts(reads, [sums, spread] if rate.rule == "ttfb" else [sums])
    drawn = values.of(spread) if rate.rule == "ttfb" else []
    tallies = _tallies(rate.settings, values.of(sums), drawn)
    for subject, tally in tallies.items():
        value, count = rate.measure(tally)
        if value is not None and value > rate.threshold and count >= rate.settings.least_requests:
            findings.over.append(_rate_crossing(rate, Key(rate.rule, subject), value, tally, start_ms))
    for key in standing:
        if key.subject.partition(":")[0] == rate.settings.by:
            tally = tallies.get(key.subject, _Tally())
            value, _ = rate.measure(tally)
            if value is None or value <= rate.threshold * CLEARED:
                findings.under.append(_rate_crossing(rate, key, value, tally, start_ms))


def _tallies(
    settings: WindowedAlerts, sums: Sequence[LatencyRow], spread: Sequence[HistogramRow]
) -> dict[str, _Tally]:
    """Return what the requests of each subject were, by ``kind:name``."""
    found: dict[str, _Tally] = {}

    def add(row: LatencyRow | HistogramRow, requests: int, errors: int, timed: int, ttfb: int) -> None:
        if settings.projects is None or row.project in settings.projects:
            subject = _subject(settings.by, row)
            known = found.get(subject, _Tally())
            found[subject] = _Tally(
                known.requests + requests, known.errors + errors, known.timed + timed, known.ttfb + ttfb
            )

    for row in sums:
        add(row, row.requests, row.errors, row.ttfb_count, 0)
    for row in spread:
        add(row, 0, 0, 0, row.ttfb)
    return found


def _subject(by: Grouping, row: LatencyRow | HistogramRow) -> str:
    return f"{by}:{row[_COLUMNS[by]] if by != 'all' else ''}"


def _rate_crossing(rate: _Rate, key: Key, value: float | None, tally: _Tally, start_ms: int) -> Crossing:
    kind, _, name = key.subject.partition(":")
    who = (
        "All requests" if kind == "all" else f"{kind.capitalize()} {escape_untrusted(name, _NAME_CHARACTERS)}"
    )
    since = iso(start_ms, "UTC")
    if rate.rule == "error_rate":
        figures: dict[str, Any] = {"threshold_percent": rate.threshold, "requests": tally.requests}
        figures |= {"errors": tally.errors}
        if value is not None:
            figures["error_percent"] = round(value, 2)
        measured = f"{tally.errors} of {tally.requests} requests failed"
        allowed = f"{rate.threshold:g} %"
    else:
        figures = {"threshold_ms": rate.threshold, "requests": tally.timed}
        if value is not None:
            figures["ttfb_p95_ms"] = round(value, 2)
        measured = (
            "no request was timed"
            if value is None
            else f"the 95th percentile of the time to first byte is {value:.0f} ms over {tally.timed} requests"
        )
        allowed = f"{rate.threshold:g} ms"
    figures["window_start"] = since
    return Crossing(key, f"{who}: {measured} since {since}; the threshold is {allowed}.", figures)
