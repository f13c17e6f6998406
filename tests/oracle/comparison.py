"""Record the calls through the recorder, ask every report of every period, and compare with the oracle."""

import random
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import anyio
from tests.oracle import nights as oracle
from tests.oracle.calls import (
    NOW,
    PERIODS,
    ZONE,
    counted,
    grouped,
    make_calls,
    percentile,
    span_of,
    timed,
    usd_of,
    within,
)

from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.recording import open_recorder
from voicegw_mcp.tools import TOOLS

COST_GROUPS = ["provider", "model", "project", "modality", "day", "hour", "session", "status"]
LATENCY_GROUPS = ["model", "provider", "project", "modality", "hour", "day"]
ROUNDING_MS = 0.0056
"""Answers are rounded to 0.01 ms, and values are stored in whole microseconds."""


@dataclass
class Comparison:
    """What was compared, and what differed."""

    calls: int = 0
    rows_per_s: float = 0.0
    nights: int = 0
    compared: int = 0
    percentiles: int = 0
    worst_percentile: float = 0.0
    differences: list[str] = field(default_factory=list)

    def equal(self, what, found, expected):
        self.compared += 1
        if found != expected:
            self.differences.append(f"{what}: {found!r} instead of {expected!r}")

    def near(self, what, found, exact, relative):
        self.percentiles += 1
        off = max(0.0, abs(found - exact) - ROUNDING_MS) / exact
        self.worst_percentile = max(self.worst_percentile, off)
        if off > relative:
            self.differences.append(f"{what}: {found} is {off:.4f} off {exact}")

    def __str__(self):
        return (
            f"{self.calls} calls recorded at {self.rows_per_s:.0f} rows/s, some around {self.nights} nights on which a "
            f"clock changes; {self.compared} sums and counts and "
            f"{self.percentiles} percentiles compared; {len(self.differences)} differences; "
            f"worst percentile {self.worst_percentile:.4%} off"
        )


TOOL = {tool.name: tool for tool in TOOLS}


def compare(folder: Path, count: int) -> Comparison:
    """Return how the reports on ``count`` calls compare; every tenth of them is around a night on which a clock changes."""
    comparison = Comparison(calls=count)
    for name in ("month", "nights"):
        (folder / name).mkdir()
    anyio.run(_compare_nights, folder / "nights", count // 10, comparison)
    anyio.run(_compare_month, folder / "month", count - count // 10, comparison)
    return comparison


def _gateway(folder, now_ms):
    environment = {"VOICEGW_DB_PATH": str(folder / "voicegw.db")}
    return Gateway.open(str(folder / "voicegw.yaml"), door="oracle", environment=environment, now_ms=now_ms)


async def _compare_month(folder, count, comparison):
    (folder / "voicegw.yaml").write_text(f"timezone: {ZONE}\n", encoding="utf-8")
    gateway = _gateway(folder, lambda: NOW)
    calls = make_calls(count)
    _record(gateway, calls, comparison)

    async def ask(name, **arguments):
        return await TOOL[name].run(gateway, TOOL[name].parse(arguments))

    try:
        comparison.equal("rows", (await ask("get_health")).store.rows, counted(calls))
        for period in PERIODS:
            span = span_of(period, calls)
            own = within(calls, span)
            groups = {name: grouped(own, name) for name in COST_GROUPS}
            for name in COST_GROUPS:
                _costs(
                    comparison,
                    await ask("get_costs", period=period, group_by=name),
                    name,
                    own,
                    groups[name],
                    span,
                )
            for name in LATENCY_GROUPS:
                report = await ask("get_latency_stats", period=period, group_by=name)
                _latencies(comparison, report, name, own, groups[name])
    finally:
        await gateway.close()


async def _compare_nights(folder, count, comparison):
    rng = random.Random(3)  # noqa: S311 - the same nights in every run
    nights = oracle.make_nights(max(2, min(len(oracle.NIGHTS), count // 2500)), rng)
    comparison.nights = len(nights)
    calls = oracle.make_calls(nights, count // len(nights), rng)
    now = 0
    gateway = _gateway(folder, lambda: now)
    (folder / "voicegw.yaml").touch()
    _record(gateway, calls, comparison)

    async def ask(name, **arguments):
        return await TOOL[name].run(gateway, TOOL[name].parse(arguments))

    try:
        for night in nights:
            now = night.now_ms
            elsewhere = rng.choice(oracle.NIGHTS)[0]
            (folder / "voicegw.yaml").write_text(
                f"timezone: {night.zone}\nprojects:\n  project-0: {{name: Here}}\n"
                f"  project-1: {{name: There, timezone: {elsewhere}}}\n",
                encoding="utf-8",
            )
            clock = oracle.Clock(night.zone)
            asked = [
                oracle.Asked({"period": name}, clock.period(name, now, calls[0].at_ms, calls[-1].at_ms))
                for name in oracle.PERIODS
            ]
            for one in [*asked, *oracle.windows(night, 20, rng)]:
                await _compare_window(comparison, ask, night, clock, one, calls, rng)
            for name, zone in (("project-0", night.zone), ("project-1", elsewhere)):
                await _compare_project(comparison, ask, oracle.Clock(zone), name, calls, now)
    finally:
        await gateway.close()


async def _compare_window(comparison, ask, night, clock, asked, calls, rng):
    span = oracle.outward(asked.span)
    own = within(calls, span)
    for unit in ("hour", "day"):
        groups = oracle.by(own, clock.key(unit))
        in_words = {"timezone": night.zone} if rng.random() < 0.5 else {}
        report = await ask("get_costs", **asked.arguments, **in_words, group_by=unit, compare_to="previous")
        about = f"{night.zone} at {night.now_ms}, {asked.arguments}"
        _costs(comparison, report, unit, own, groups, span, about)
        if "period" in asked.arguments:
            before = clock.before(asked.arguments["period"], night.now_ms, span)
            earlier = float(usd_of(within(calls, before)))
            comparison.equal(f"{about}: before", report.previous.total_usd, earlier)
        keys = [group.key for group in report.groups]
        comparison.equal(f"{about}: keys", len(keys), len(set(keys)))
        newest = sorted(groups, key=datetime.fromisoformat)[len(groups) - len(keys) :]
        comparison.equal(f"{about}: newest {unit}s in order", keys, newest)
        report = await ask("get_latency_stats", **asked.arguments, group_by=unit)
        _latencies(comparison, report, unit, own, groups, about)


async def _compare_project(comparison, ask, clock, name, calls, now):
    own = [call for call in calls if call.project == name]
    start, end = clock.today(now)
    today, week = (
        within(own, oracle.outward((since, end))) for since in (start, clock.period("week", now, 0, 0)[0])
    )
    project = await ask("get_project", project_id=name)
    about = f"{name} in {project.timezone} at {now}"
    found = (project.today_spend, project.today_requests, project.week_spend, project.week_requests)
    expected = (float(usd_of(today)), counted(today), float(usd_of(week)), counted(week))
    comparison.equal(f"{about}: spend", found, expected)
    comparison.equal(f"{about}: reset", project.reset_at, clock.iso(end))
    listed = {view.id: view.today_spend for view in (await ask("list_projects")).projects}
    comparison.equal(f"{about}: in the list", listed[name], expected[0])


def _record(gateway, calls, comparison):
    records = [call.record() for call in calls]
    with open_recorder(gateway) as recorder:
        began = time.perf_counter()
        for start in range(0, len(records), 50_000):
            # Later calls first within a part: the order rows come in is not that of their time.
            for record in reversed(records[start : start + 50_000]):
                recorder.record(record)
            recorder.flush(600)
        comparison.rows_per_s = len(records) / (time.perf_counter() - began)
        counts = recorder.counts()
    comparison.equal("recorded", (counts.written, counts.waiting, counts.lost), (len(calls), 0, {}))


def _costs(comparison, report, group_by, calls, expected, span, where=ZONE):
    about = f"costs {report.period} by {group_by}, {where}"
    edges = tuple(int(datetime.fromisoformat(edge).timestamp() * 1000) for edge in (report.start, report.end))
    comparison.equal(f"{about}: window", edges, span)
    comparison.equal(f"{about}: total", report.total_usd, float(usd_of(calls)))
    comparison.equal(f"{about}: unpriced", report.unpriced_requests, sum(call.usd is None for call in calls))
    if group_by in {"provider", "model", "project", "modality"}:
        comparison.equal(
            f"{about}: split",
            {
                key: (entry.cost, entry.requests, entry.units.input_tokens)
                for key, entry in getattr(report, f"by_{group_by}").items()
            },
            {
                key: (float(usd_of(own)), counted(own), sum(call.tokens for call in own))
                for key, own in expected.items()
            },
        )
    for group in report.groups:
        own = expected[group.key]
        comparison.equal(
            f"{about}: {group.key}", (group.cost, group.requests), (float(usd_of(own)), counted(own))
        )
    if not report.truncated:
        comparison.equal(f"{about}: groups", {group.key for group in report.groups}, set(expected))


def _latencies(comparison, report, group_by, calls, expected, where=ZONE):
    about = f"latency {report.period} by {group_by}, {where}"
    _stats(comparison, f"{about}: overall", report.overall, calls, report.relative_error)
    if group_by == "model":
        comparison.equal(f"{about}: models", set(report.by_model), set(expected))
        for key, stats in report.by_model.items():
            _stats(comparison, f"{about}: {key}", stats, expected[key], report.relative_error)
    for group in report.groups:
        _stats(comparison, f"{about}: {group.key}", group, expected[group.key], report.relative_error)


def _stats(comparison, about, stats, calls, relative):
    comparison.equal(f"{about}: requests", stats.request_count, counted(calls))
    comparison.equal(f"{about}: errors", stats.error_count, sum(call.status == "error" for call in calls))
    answered = timed(calls)
    for name, average, percentiles in (
        ("ttfb", stats.avg_ttfb_ms, stats.ttfb_percentiles),
        ("total", stats.avg_latency_ms, stats.latency_percentiles),
    ):
        values = sorted(value for call in answered if (value := getattr(call, name)) is not None)
        comparison.equal(f"{about}: {name} is told", average is not None, bool(values))
        if not values:
            continue
        exact = sum(values) / len(values)
        comparison.equal(f"{about}: average {name}", abs(average - exact) <= ROUNDING_MS, True)
        for percent in (50, 95, 99):
            found = percentiles[f"p{percent}"]
            comparison.near(f"{about}: {name} p{percent}", found, percentile(values, percent), relative)
