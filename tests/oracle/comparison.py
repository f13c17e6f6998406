"""Record the calls through the recorder, ask every report of every period, and compare with the oracle."""

import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import anyio
from tests.oracle.calls import NOW, PERIODS, ZONE, grouped, make_calls, percentile, span_of, usd_of, within

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
            f"{self.calls} calls recorded at {self.rows_per_s:.0f} rows/s; {self.compared} sums and counts and "
            f"{self.percentiles} percentiles compared; {len(self.differences)} differences; "
            f"worst percentile {self.worst_percentile:.4%} off"
        )


def compare(folder: Path, count: int) -> Comparison:
    """Return how the reports on ``count`` calls compare."""
    return anyio.run(_compare, folder, count)


async def _compare(folder, count):
    comparison = Comparison(calls=count)
    (folder / "voicegw.yaml").write_text(f"timezone: {ZONE}\n", encoding="utf-8")
    environment = {"VOICEGW_DB_PATH": str(folder / "voicegw.db")}
    gateway = Gateway.open(
        str(folder / "voicegw.yaml"), door="oracle", environment=environment, now_ms=lambda: NOW
    )
    calls = make_calls(count)
    _record(gateway, calls, comparison)
    tools = {tool.name: tool for tool in TOOLS}

    async def ask(name, **arguments):
        return await tools[name].run(gateway, tools[name].parse(arguments))

    try:
        comparison.equal("rows", (await ask("get_health")).store.rows, count)
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
    return comparison


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


def _costs(comparison, report, group_by, calls, expected, span):
    about = f"costs {report.period} by {group_by}"
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
                key: (float(usd_of(own)), len(own), sum(call.tokens for call in own))
                for key, own in expected.items()
            },
        )
    for group in report.groups:
        own = expected[group.key]
        comparison.equal(
            f"{about}: {group.key}", (group.cost, group.requests), (float(usd_of(own)), len(own))
        )
    if not report.truncated:
        comparison.equal(f"{about}: groups", {group.key for group in report.groups}, set(expected))


def _latencies(comparison, report, group_by, calls, expected):
    about = f"latency {report.period} by {group_by}"
    _stats(comparison, f"{about}: overall", report.overall, calls, report.relative_error)
    if group_by == "model":
        comparison.equal(f"{about}: models", set(report.by_model), set(expected))
        for key, stats in report.by_model.items():
            _stats(comparison, f"{about}: {key}", stats, expected[key], report.relative_error)
    for group in report.groups:
        _stats(comparison, f"{about}: {group.key}", group, expected[group.key], report.relative_error)


def _stats(comparison, about, stats, calls, relative):
    comparison.equal(f"{about}: requests", stats.request_count, len(calls))
    comparison.equal(f"{about}: errors", stats.error_count, sum(call.status == "error" for call in calls))
    answered = [call for call in calls if call.status != "error"]
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
