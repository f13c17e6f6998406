"""Which calls of the reading tools are measured, on which store: every report and every filter of the log."""

from __future__ import annotations

import datetime as dt
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import traffic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PERIODS: Final = ("today", "week", "month", "all")
COST_GROUPS: Final = ("provider", "model", "project", "modality", "status", "day", "hour")
LATENCY_GROUPS: Final = ("provider", "model", "project", "modality", "day", "hour")
PROJECT: Final = traffic.PROJECTS[0]
USUAL: Final = traffic.OFFERS[0]
FEW: Final = 30
"""Rows that a rare threshold lets through; less than a page, so that none of the log can be left out."""
OTHER_ZONE: Final = "Asia/Kathmandu"
"""UTC+5:45: its midnights are neither whole days nor whole hours of UTC."""

COSTS, LATENCY, CATALOG, LOGS = "get_costs", "get_latency_stats", "projects, lists and health", "get_logs"


@dataclass(frozen=True)
class Call:
    """A call that is measured. ``table`` is where its figures belong; ``judged``: there is a bar for it."""

    table: str
    name: str
    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    judged: bool = True


class Landmarks(NamedTuple):
    """What arguments need to know about a store; times are ISO 8601."""

    start: str
    end: str
    session_id: str
    slow_ms: float
    slowest_ms: float
    costly_usd: float
    costliest_usd: float


def landmarks(store: Path) -> Landmarks:
    """Look up what the arguments on a store need; an empty one gives what matches nothing."""
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as connection:

        def one(sql: str, *values: object) -> Any:
            return connection.execute(sql, values).fetchone()

        (rows,) = one("SELECT COUNT(*) FROM requests")
        if not rows:
            return Landmarks("2026-01-01", "2026-01-02", "room-0", 1e6, 1e6, 1e3, 1e3)
        at_ms, session_id = one("SELECT timestamp_ms, session_id FROM requests WHERE seq = ?", rows // 2)
        thresholds = [
            one(
                f"SELECT {column} FROM requests WHERE {column} IS NOT NULL ORDER BY {column} DESC LIMIT 1 OFFSET ?",  # noqa: S608
                place,
            )[0]
            for column in ("total_us", "cost_nanousd")
            for place in (rows // 50, min(FEW, rows) - 1)
        ]
    middle = dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).replace(minute=0, second=0, microsecond=0)
    slow_us, slowest_us, costly, costliest = thresholds
    return Landmarks(
        middle.isoformat(),
        (middle + dt.timedelta(hours=1)).isoformat(),
        session_id,
        slow_us / 1000,
        slowest_us / 1000,
        costly / 1e9,
        costliest / 1e9,
    )


def calls_on(store: Path) -> list[Call]:
    """Return the calls for a store, in the order of the tables; the same names whatever the store."""
    known = landmarks(store)
    return [*_costs(known), *_latency(known), *_catalog(), *_logs(known)]


def _costs(known: Landmarks) -> Iterator[Call]:
    hour = {"start": known.start, "end": known.end}
    for period in (*PERIODS, "an hour"):
        span = hour if period == "an hour" else {"period": period}
        yield Call(COSTS, period, "get_costs", span)
        for group in COST_GROUPS:
            yield Call(COSTS, f"{period}, by {group}", "get_costs", {**span, "group_by": group})
        yield Call(
            COSTS,
            f"{period}, by session",
            "get_costs",
            {**span, "group_by": "session"},
            judged=False,
        )
    month = {"period": "month"}
    yield Call(COSTS, "month, of a project", "get_costs", {**month, "project": PROJECT})
    yield Call(COSTS, "month, of a model", "get_costs", {**month, "model_id": USUAL.model_id})
    yield Call(COSTS, "month, with the one before", "get_costs", {**month, "compare_to": "previous"})
    yield Call(COSTS, f"month, {OTHER_ZONE}", "get_costs", {**month, "timezone": OTHER_ZONE})
    yield Call(
        COSTS,
        f"month, by day, {OTHER_ZONE}",
        "get_costs",
        {**month, "timezone": OTHER_ZONE, "group_by": "day"},
    )


def _latency(known: Landmarks) -> Iterator[Call]:
    hour = {"start": known.start, "end": known.end}
    for period in (*PERIODS, "an hour"):
        span = hour if period == "an hour" else {"period": period}
        yield Call(LATENCY, period, "get_latency_stats", span)
        for group in LATENCY_GROUPS:
            yield Call(LATENCY, f"{period}, by {group}", "get_latency_stats", {**span, "group_by": group})
    for modality in ("stt", "llm", "tts"):
        span = {"period": "month", "modality": modality}
        yield Call(LATENCY, f"month, of {modality}", "get_latency_stats", span)
    span = {"period": "month", "project": PROJECT}
    yield Call(LATENCY, "month, of a project", "get_latency_stats", span)


def _catalog() -> Iterator[Call]:
    yield Call(CATALOG, "list_projects", "list_projects")
    yield Call(CATALOG, "get_project", "get_project", {"project_id": PROJECT})
    for tool, arguments in (
        ("get_health", {}),
        ("get_provider_status", {}),
        ("list_providers", {}),
        ("get_provider", {"provider_id": USUAL.provider}),
        ("list_models", {}),
    ):
        yield Call(CATALOG, tool, tool, arguments, judged=False)


def _logs(known: Landmarks) -> Iterator[Call]:
    rare = traffic.RARE.model_id
    filters: dict[str, Mapping[str, Any]] = {
        "newest": {},
        "oldest": {"order": "oldest"},
        "a project": {"project": traffic.PROJECTS[-1]},
        "a modality": {"modality": "llm"},
        "a provider": {"provider_id": USUAL.provider},
        "a model": {"model_id": USUAL.model_id},
        "a model of 50 rows": {"model_id": rare},
        "a model of 50 rows, oldest": {"model_id": rare, "order": "oldest"},
        "a model no row of the project has": {"model_id": rare, "project": traffic.PROJECTS[-1]},
        "a session": {"session_id": known.session_id},
        "no such session": {"session_id": "room-none"},
        "status success": {"status": "success"},
        "status error": {"status": "error"},
        "status error, oldest": {"status": "error", "order": "oldest"},
        "status error, a model": {"status": "error", "model_id": USUAL.model_id},
        "status cancelled (5 rows)": {"status": "cancelled"},
        "an hour": {"start": known.start, "end": known.end},
        "an hour, a project": {"start": known.start, "end": known.end, "project": PROJECT},
        "an hour, errors": {"start": known.start, "end": known.end, "status": "error"},
        "latency, 2 % of the rows": {"min_latency_ms": known.slow_ms},
        f"latency, {FEW} rows": {"min_latency_ms": known.slowest_ms},
        f"latency, {FEW} rows, oldest": {"min_latency_ms": known.slowest_ms, "order": "oldest"},
        "latency, no row": {"min_latency_ms": 1e8},
        "cost, 2 % of the rows": {"min_cost_usd": known.costly_usd},
        f"cost, {FEW} rows": {"min_cost_usd": known.costliest_usd},
        "cost, no row": {"min_cost_usd": 1000},
        f"latency, {FEW} rows, a project": {"min_latency_ms": known.slowest_ms, "project": PROJECT},
        "search, an eighth of the errors": {"search": "is overloaded"},
        "search, 3 rows": {"search": traffic.RARE_ERROR},
        "search, 3 rows, oldest": {"search": traffic.RARE_ERROR, "order": "oldest"},
        "search, no row": {"search": "no such text anywhere"},
        "search, no row, a model": {"search": "no such text anywhere", "model_id": USUAL.model_id},
    }
    for name, arguments in filters.items():
        yield Call(LOGS, name, "get_logs", {"limit": 50, **arguments})
