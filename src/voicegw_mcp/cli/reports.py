"""``voicegw status | costs | logs | projects``: the observing tools, run in this process and shown as tables.

The options are the tools' arguments with dashes; the tools check them. May import typer, ``tools`` and ``cli``.
"""

from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer

from voicegw_mcp.cli import terminal
from voicegw_mcp.cli.opening import with_gateway
from voicegw_mcp.cli.options import AsJson, Config
from voicegw_mcp.errors import ConfigInvalid, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voicegw_mcp.core.answers import Answer
    from voicegw_mcp.core.costs import CostReport
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.core.health import Health
    from voicegw_mcp.core.log_pages import LogPage
    from voicegw_mcp.tools.define import Tool
    from voicegw_mcp.tools.observe import ProviderStatuses
    from voicegw_mcp.tools.projects import ProjectPage

ISO: Final = "ISO 8601 date or time, such as 2026-11-22 or 2026-11-22T14:30+01:00"

Project = Annotated[str | None, typer.Option("--project", metavar="ID", help="Only this project.")]
Modality = Annotated[str | None, typer.Option("--modality", metavar="NAME", help="Only stt, llm or tts.")]
ProviderId = Annotated[str | None, typer.Option("--provider-id", metavar="ID", help="Only this provider.")]
ModelId = Annotated[str | None, typer.Option("--model-id", metavar="ID", help="Only this model.")]
Start = Annotated[str | None, typer.Option("--start", metavar="TIME", help=f"From this time on: {ISO}.")]
End = Annotated[
    str | None, typer.Option("--end", metavar="TIME", help="Until this time; a date includes its day.")
]


def status(config: Config = None, as_json: AsJson = False) -> None:
    """Show whether file, store and keys are all right.

    Exit code 0 when all works, 2 when the file is broken, 3 when the store cannot be used.
    """
    from voicegw_mcp.cli import tables  # noqa: PLC0415 - loaded when the command runs
    from voicegw_mcp.tools.observe import get_health, get_provider_status  # noqa: PLC0415 - likewise

    async def work(gateway: "Gateway") -> "tuple[Health, ProviderStatuses | None]":
        health = cast("Health", await _run(gateway, get_health, {}))
        if health.config.error is not None:
            return health, None
        return health, cast("ProviderStatuses", await _run(gateway, get_provider_status, {}))

    health, statuses = with_gateway(config, work)
    if as_json:
        providers: dict[str, Any] = statuses.as_json()["providers"] if statuses else {}
        terminal.print_json({**health.as_json(), "providers": providers})
    else:
        tables.show_status(health, statuses)
    if health.config.error is not None:
        raise typer.Exit(ConfigInvalid.exit_code)
    if health.store.error is not None:
        raise typer.Exit(StoreUnavailable.exit_code)


def costs(
    *,
    period: Annotated[
        str | None,
        typer.Option(
            "--period",
            metavar="NAME",
            help="today, yesterday, week, month, this_month, last_month, last_24h, last_7d, last_30d or all. Default: today.",
        ),
    ] = None,
    start: Start = None,
    end: End = None,
    timezone: Annotated[
        str | None,
        typer.Option("--timezone", metavar="ZONE", help="Zone whose days count. Default: the file's."),
    ] = None,
    project: Project = None,
    modality: Modality = None,
    provider_id: ProviderId = None,
    model_id: ModelId = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            "--group-by",
            metavar="NAME",
            help="provider, model, project, modality, day, hour, session or status.",
        ),
    ] = None,
    compare_to: Annotated[
        str | None,
        typer.Option("--compare-to", metavar="NAME", help="previous: the same span of time before."),
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show what requests cost in USD."""
    from voicegw_mcp.cli import tables  # noqa: PLC0415 - as in status()
    from voicegw_mcp.tools.observe import get_costs  # noqa: PLC0415 - likewise

    arguments = {
        "period": period,
        "start": start,
        "end": end,
        "timezone": timezone,
        "project": project,
        "modality": modality,
        "provider_id": provider_id,
        "model_id": model_id,
        "group_by": group_by,
        "compare_to": compare_to,
    }
    report = cast("CostReport", with_gateway(config, lambda gateway: _run(gateway, get_costs, arguments)))
    if as_json:
        terminal.print_json(report.as_json())
    else:
        tables.show_costs(report, group_by)


def logs(
    *,
    project: Project = None,
    modality: Modality = None,
    provider_id: ProviderId = None,
    model_id: ModelId = None,
    status: Annotated[
        str | None,
        typer.Option(
            "--status",
            metavar="NAME",
            help="Only success, error, fallback, cancelled, blocked, probe or idle.",
        ),
    ] = None,
    session_id: Annotated[
        str | None, typer.Option("--session-id", metavar="ID", help="Only this session.")
    ] = None,
    start: Start = None,
    end: End = None,
    min_latency_ms: Annotated[
        float | None,
        typer.Option("--min-latency-ms", metavar="MS", help="Only with at least this total latency."),
    ] = None,
    min_cost_usd: Annotated[
        float | None, typer.Option("--min-cost-usd", metavar="USD", help="Only with at least this cost.")
    ] = None,
    search: Annotated[
        str | None, typer.Option("--search", metavar="TEXT", help="Only with this text in the error.")
    ] = None,
    order: Annotated[
        str | None, typer.Option("--order", metavar="NAME", help="newest or oldest first. Default: newest.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", help="Requests at most, 1 to 1000.")
    ] = 50,
    cursor: Annotated[
        str | None, typer.Option("--cursor", metavar="TEXT", help="next_cursor of the answer to go on from.")
    ] = None,
    follow_seconds: Annotated[
        float | None,
        typer.Option(
            "--follow-seconds",
            metavar="S",
            help="Wait so long for new requests as well, 0 to 25; they come last.",
        ),
    ] = None,
    detail: Annotated[
        str | None, typer.Option("--detail", metavar="NAME", help="concise or full. Default: concise.")
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show logged requests, newest first."""
    from voicegw_mcp.cli import tables  # noqa: PLC0415 - as in status()
    from voicegw_mcp.tools.observe import get_logs  # noqa: PLC0415 - likewise

    arguments: dict[str, Any] = {
        "project": project,
        "modality": modality,
        "provider_id": provider_id,
        "model_id": model_id,
        "status": status,
        "session_id": session_id,
        "start": start,
        "end": end,
        "min_latency_ms": min_latency_ms,
        "min_cost_usd": min_cost_usd,
        "search": search,
        "order": order,
        "detail": detail,
        "follow_seconds": follow_seconds,
    }

    async def work(gateway: "Gateway") -> "LogPage":
        # A page ends at a budget of bytes as well: pages follow each other until there are `limit` requests.
        page = cast("LogPage", await _run(gateway, get_logs, {**arguments, "limit": limit, "cursor": cursor}))
        entries = list(page.logs)
        if follow_seconds is not None:
            return page
        while page.next_cursor and len(entries) < limit:
            further = {**arguments, "limit": limit - len(entries), "cursor": page.next_cursor}
            page = cast("LogPage", await _run(gateway, get_logs, further))
            entries += page.logs
        return page.model_copy(update={"logs": entries, "count": len(entries), "truncated": None})

    found = with_gateway(config, work)
    if as_json:
        terminal.print_json(found.as_json())
    else:
        tables.show_logs(found, full=detail == "full")


def projects(
    project_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="One project in detail.", show_default=False)
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List projects with budget and spend, or show one."""
    from voicegw_mcp.cli import tables  # noqa: PLC0415 - as in status()
    from voicegw_mcp.tools.projects import get_project, list_projects  # noqa: PLC0415 - likewise

    if project_id is not None:
        asked = {"project_id": project_id}
        detail = with_gateway(config, lambda gateway: _run(gateway, get_project, asked)).as_json()
        if as_json:
            terminal.print_json(detail)
        else:
            tables.show_project(detail)
        return

    async def work(gateway: "Gateway") -> "ProjectPage":
        page = cast("ProjectPage", await _run(gateway, list_projects, {"limit": 1000}))
        views = list(page.projects)
        while page.next_cursor:
            page = cast(
                "ProjectPage", await _run(gateway, list_projects, {"limit": 1000, "cursor": page.next_cursor})
            )
            views += page.projects
        return page.model_copy(update={"projects": views, "count": len(views)})

    listed = with_gateway(config, work)
    if as_json:
        terminal.print_json(listed.as_json())
    else:
        tables.show_projects(listed)


async def _run(gateway: "Gateway", tool: "Tool", arguments: "Mapping[str, Any]") -> "Answer":
    return await tool.run(gateway, tool.parse(arguments))
