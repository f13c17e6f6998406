"""The answers of the observing tools as tables for people. May import ``cli.terminal``; the answers are types only."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.cli.terminal import Column, print_line, print_table, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voicegw_mcp.core.costs import CostEntry, CostReport, Units
    from voicegw_mcp.core.health import Health
    from voicegw_mcp.core.log_pages import LogEntry, LogPage
    from voicegw_mcp.tools.observe import ProviderStatuses
    from voicegw_mcp.tools.projects import ProjectPage

_MOMENT: Final = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(:\d\d(?:\.\d+)?)([+-]\d\d:\d\d)")


def money(usd: float | None) -> str:
    """Show USD with the digits that matter: $1,234.50, $0.0123, $0.00000425; a dash for "no price known"."""
    if usd is None:
        return "-"
    if usd == 0:
        return "$0"
    if usd >= 1:
        return f"${usd:,.2f}"
    if usd >= 0.01:
        return f"${usd:.4f}"
    digits = 2 - math.floor(math.log10(usd))  # three that count
    return f"${usd:.{min(digits, 9)}f}"


def milliseconds(value: float | None) -> str | None:
    """Show a latency in whole ms."""
    return None if value is None else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Show a length of time in the unit that suits it."""
    if seconds >= 3_600:
        return f"{seconds / 3_600:,.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def moment(iso: str, *, whole_day: bool = False) -> str:
    """Show an ISO 8601 time without what a column of times does not need: seconds of zero, and UTC's offset."""
    parts = _MOMENT.fullmatch(iso)
    if parts is None:
        return iso
    day, minute, seconds, zone = parts.groups()
    if whole_day:
        return day
    return f"{day} {minute}{'' if seconds == ':00' else seconds}{'' if zone == '+00:00' else zone}"


def units(consumed: Units) -> str:
    """Show what was consumed, kind by kind."""
    parts = {
        "audio": consumed.audio_seconds and duration(consumed.audio_seconds),
        "tokens in": consumed.input_tokens and f"{consumed.input_tokens:,}",
        "tokens out": consumed.output_tokens and f"{consumed.output_tokens:,}",
        "tokens cached": consumed.cached_tokens and f"{consumed.cached_tokens:,}",
        "characters": consumed.characters and f"{consumed.characters:,}",
    }
    return ", ".join(f"{amount} {name}" for name, amount in parts.items() if amount)


def show_status(health: Health, statuses: ProviderStatuses | None) -> None:
    """Print get_health, and get_provider_status where the file can be read."""
    print_line(
        f"voicegw {health.version}: {health.status}", style="bold" if health.status == "ok" else "bold red"
    )
    print_line(
        f"  Configuration  {health.config.path}  {f'version {health.config.version}' if health.config.version else ''}".rstrip()
    )
    if health.config.error is not None:
        error = health.config.error
        print_line(f"                 {error.message}", style="red")
    size = (
        ""
        if health.store.rows is None
        else f"  {health.store.rows:,} requests, {(health.store.size_bytes or 0) / 1e6:,.1f} MB"
    )
    print_line(f"  Store          {health.store.path}{size}")
    if health.store.error is not None:
        print_line(f"                 {health.store.error}", style="red")
    print_line(
        f"  Configured     {health.provider_count} providers, {health.model_count} models, {health.project_count} projects"
    )
    if statuses is not None and statuses.providers:
        print_line()
        print_table(
            [
                Column("Provider"),
                Column("Type", 2),
                Column("Models", 3, "right"),
                Column("Ready"),
                Column("Missing", 1, fills=True),
            ],
            [
                (name, found.type, found.model_count, "yes" if found.configured else "no", found.reason)
                for name, found in statuses.providers.items()
            ],
        )
    if health.warnings:
        print_line()
        for warning in health.warnings:
            print_line(f"warning: {warning}", style="yellow")


def show_costs(report: CostReport, group_by: str | None) -> None:
    """Print get_costs: the groups that were asked for, else every split."""
    of_project = f" of {report.project}" if report.project else ""
    print_line(
        f"Costs{of_project}, {report.period}: {report.start} to {report.end} ({report.timezone})",
        style="bold",
    )
    total = f"Total {money(report.total_usd)}"
    if report.previous is not None:
        change = report.previous.change_pct
        total += (
            f"  (before: {money(report.previous.total_usd)}{'' if change is None else f', {change:+.1f} %'})"
        )
    print_line(total)
    if report.unpriced_requests:
        print_line(
            f"{report.unpriced_requests:,} requests have no known price and are not in the total.",
            style="yellow",
        )
    if report.family_priced_requests:
        print_line(
            f"{report.family_priced_requests:,} requests are priced by a relative of their model (get_logs names it)."
        )
    if report.estimated_requests:
        print_line(f"{report.estimated_requests:,} requests have an estimated cost.")
    if report.groups is not None:
        print_line()
        cut = group_by in {"day", "hour"}
        rows = [
            (
                moment(group.key, whole_day=group_by == "day") if cut else group.key,
                money(group.cost),
                f"{group.requests:,}",
            )
            for group in report.groups
        ]
        title = (group_by or "group").capitalize()
        print_table([Column(title), Column("Cost", align="right"), Column("Requests", 1, "right")], rows)
    else:
        for title in ("provider", "model", "project", "modality"):
            _show_split(title, getattr(report, f"by_{title}"))
    if report.truncated:
        print_line(
            "Some rows are left out: narrow the report down by project, provider or time.", style="yellow"
        )


def _show_split(title: str, entries: Mapping[str, CostEntry]) -> None:
    if not entries:
        return
    print_line()
    print_table(
        [
            Column(title.capitalize()),
            Column("Cost", align="right"),
            Column("Requests", 1, "right"),
            Column("Units", 2),
        ],
        [
            (name, money(entry.cost), f"{entry.requests:,}", units(entry.units))
            for name, entry in entries.items()
        ],
    )


def show_logs(page: LogPage, *, full: bool) -> None:
    """Print get_logs."""
    if not page.logs:
        print_line("No request matches.")
        return
    columns = [
        Column("Time (UTC)"),
        Column("Project", 5),
        Column("Model"),
        Column("Status", 1),
        Column("Cost", 2, "right"),
        Column("TTFB ms", 6, "right"),
        Column("Total ms", 4, "right"),
        Column("Session", 7),
        Column("Error", 3, fills=True),
    ]
    rows: list[tuple[object, ...]] = [
        (
            moment(entry.timestamp),
            entry.project,
            entry.model_id,
            entry.status,
            money(entry.cost_usd),
            milliseconds(entry.ttfb_ms),
            milliseconds(entry.total_latency_ms),
            entry.session_id,
            entry.error_message,
        )
        for entry in page.logs
    ]
    if full:
        columns[-1:-1] = [Column("Units", 8), Column("Price", 9), Column("Id", 10)]
        rows = [
            (*row[:-1], units(entry.units) if entry.units else None, _price(entry), entry.id, row[-1])
            for row, entry in zip(rows, page.logs, strict=True)
        ]
    print_table(columns, rows)
    if page.next_cursor:
        print_line(f"More: repeat with --cursor {page.next_cursor}", style="dim")


def _price(entry: LogEntry) -> str | None:
    """Return source and unit price of a row."""
    return " ".join(filter(None, (entry.price_source, entry.unit_price))) or None


def show_projects(page: ProjectPage) -> None:
    """Print list_projects."""
    print_table(
        [
            Column("Project"),
            Column("Name", 3),
            Column("Today", align="right"),
            Column("Budget", 1, "right"),
            Column("State", 2),
            Column("Action", 4),
            Column("Requests", 5, "right"),
            Column("Resets at", 6),
            Column("Tags", 7),
        ],
        [
            (
                view.id,
                view.name,
                money(view.today_spend),
                money(view.daily_budget) if view.daily_budget else "none",
                view.budget_status,
                view.budget_action,
                f"{view.today_requests:,}",
                moment(view.reset_at),
                ", ".join(view.tags),
            )
            for view in page.projects
        ],
    )


def show_project(detail: Mapping[str, Any]) -> None:
    """Print get_project, key by key."""
    print_line(f"{detail['id']}: {detail['name']}", style="bold")
    budget = (
        f"{money(detail['daily_budget'])} a day, then {detail['budget_action']}"
        if detail["daily_budget"]
        else "none"
    )
    spent = {
        "today": f"{money(detail['today_spend'])} in {detail['today_requests']:,} requests",
        "week": f"{money(detail['week_spend'])} in {detail['week_requests']:,} requests",
        **{
            f"week, {modality}": f"{money(entry['cost'])} in {entry['requests']:,} requests"
            for modality, entry in detail["by_modality"].items()
        },
    }
    lines = {
        "description": detail["description"],
        "budget": f"{budget} ({detail['budget_status']}; resets at {detail['reset_at']})"
        if detail["daily_budget"]
        else budget,
        **spent,
        **{key: detail.get(key) for key in ("default_stack", "stt_model", "llm_model", "tts_model")},
        "tags": ", ".join(detail["tags"]),
        "timezone": detail["timezone"],
        "file": f"{detail['file']}:{detail['line']}"
        if "line" in detail
        else f"{detail['file']} (made automatically)",
    }
    width = max(map(len, lines))
    for name, value in lines.items():
        if value:
            print_line(f"  {name.replace('_', ' '):<{width}}  {shown(value)}")
