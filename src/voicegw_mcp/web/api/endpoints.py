"""The endpoints that answer with one JSON object, as values: tools of their own, made of what the core knows.

May import ``web.api.answers``, ``tools`` and ``core``. Handlers raise; ``routes`` catches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from voicegw_mcp.core import models as core_models, providers as core_providers
from voicegw_mcp.core.alerts import AlertsView, view as view_alerts
from voicegw_mcp.core.catalog import Catalog, ProjectEntry
from voicegw_mcp.core.costs import costs as cost_report
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.health import health
from voicegw_mcp.core.latency import LatencyGroup, latency as latency_report
from voicegw_mcp.core.periods import day_window
from voicegw_mcp.core.pricing import price_library
from voicegw_mcp.core.projects import ProjectView, detail_project, view_projects
from voicegw_mcp.domain import Modality
from voicegw_mcp.tools.define import Tool, tool
from voicegw_mcp.tools.history import list_changes
from voicegw_mcp.tools.observe import GetLatencyStats, get_costs, get_latency_stats
from voicegw_mcp.tools.projects import GetProject
from voicegw_mcp.web.api.answers import (
    AlertQuery,
    CostQuery,
    Costs,
    Latency,
    Model,
    ModelQuery,
    Models,
    Nothing,
    PriceList,
    Project,
    Projects,
    ProjectStats,
    Providers,
    Status,
)

UNKNOWN_GROUP: Final = LatencyGroup(key="", request_count=0, error_count=0)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address. ``parameter`` is the argument that the rest of the path is.

    ``lasting`` says that the answer is of the configuration alone, ``of_store`` that it is of that, the store and the
    quarter hour.
    """

    path: str
    tool: Tool
    parameter: str = ""
    lasting: bool = False
    of_store: bool = False

    @property
    def template(self) -> str:
        """The address with its parameter in braces."""
        return f"{self.path}{{{self.parameter}}}" if self.parameter else self.path


@tool("Status", read_only=True)
async def status(gateway: Gateway, args: Nothing) -> Status:  # noqa: ARG001 - every tool has arguments
    """Tell whether configuration and store work, which providers could be called, and where list prices are from."""
    catalog = gateway.catalog()
    found = await health(gateway)
    return Status(
        **dict(found),
        providers={
            entry.id: core_providers.provider_status(gateway, catalog, entry)
            for entry in catalog.providers.values()
        },
        pricing={modality: PriceList(source=source) for modality, source in _price_lists().items()},
    )


@tool("Providers", read_only=True)
async def providers(gateway: Gateway, args: Nothing) -> Providers:  # noqa: ARG001 - as above
    """List providers with type, key reference and number of models."""
    catalog = gateway.catalog()
    views = [
        core_providers.ProviderView(**core_providers.view_provider(catalog, entry))
        for entry in catalog.providers.values()
    ]
    return Providers(providers=views, count=len(views), config_version=catalog.configuration.version)


@tool("Models", read_only=True)
async def models(gateway: Gateway, args: ModelQuery) -> Models:
    """Show registered models by their ids, of a modality, a provider or a project."""
    catalog = gateway.catalog()
    used = None if args.project is None else set(catalog.project(args.project).models.values())
    entries = core_models.select_models(
        catalog, modality=args.modality, provider_id=args.provider_id, enabled_only=args.enabled_only
    )
    found = {
        entry.id: Model(**core_models.view_model(entry), provider=entry.provider_id, model=entry.model_name)
        for entry in entries
        if used is None or entry.id in used
    }
    version = catalog.configuration.version
    return Models(models=found, project=args.project, count=len(found), config_version=version)


@tool("Projects", read_only=True)
async def projects(gateway: Gateway, args: Nothing) -> Projects:  # noqa: ARG001 - as above
    """List projects with budget, today's spend and how fast they are today."""
    catalog = gateway.catalog()
    entries = list(catalog.projects.values())
    views = await view_projects(gateway, catalog, entries)
    stats = await _stats(gateway, catalog, entries, views)
    return Projects(
        projects=views, stats=stats, count=len(views), config_version=catalog.configuration.version
    )


@tool("One project", read_only=True)
async def project(gateway: Gateway, args: GetProject) -> Project:
    """Show one project: budget, spend today and this week, models, file and line."""
    catalog = gateway.catalog()
    entry = catalog.project(args.project_id)
    detail = await detail_project(gateway, catalog, entry)
    today = day_window(catalog.timezone_of(entry), gateway.now_ms())
    return Project(
        **dict(detail),
        today=(await _stats(gateway, catalog, [entry], [detail]))[entry.id],
        costs_today=await (await gateway.reader()).ask(cost_report, today, project=entry.id),
    )


@tool("Costs", read_only=True)
async def costs(gateway: Gateway, args: CostQuery) -> Costs:
    """Sum what requests cost in USD, by provider, model, project and modality."""
    fields = dict(await get_costs.run(gateway, args))
    if not args.per_modality:
        fields["by_modality"] = {}
    sources = _price_lists() if args.include_pricing_source else None
    return Costs(**fields, total=fields["total_usd"], pricing_sources=sources)


@tool("Latency", read_only=True)
async def latency(gateway: Gateway, args: GetLatencyStats) -> Latency:
    """Give averages and percentiles of time to first byte and total latency, in ms."""
    fields = dict(await get_latency_stats.run(gateway, args))
    own = {name: stats for name, stats in fields["by_model"].items() if name not in Latency.model_fields}
    return Latency(**own, **fields)


@tool("Alerts", read_only=True)
async def alerts(gateway: Gateway, args: AlertQuery) -> AlertsView:
    """List the rules of alerts with what is over its threshold, and the newest alerts."""
    return await view_alerts(gateway, limit=args.limit)


def _price_lists() -> dict[str, str]:
    return {modality.value: price_library(modality) for modality in Modality}


async def _stats(
    gateway: Gateway, catalog: Catalog, entries: list[ProjectEntry], views: list[ProjectView]
) -> dict[str, ProjectStats]:
    """Return the figures of today, each project's by its own calendar day."""
    store = await gateway.reader()
    speeds: dict[str, dict[str, LatencyGroup]] = {}
    for zone in {catalog.timezone_of(entry) for entry in entries}:
        only = entries[0].id if len(entries) == 1 else None
        today = day_window(zone, gateway.now_ms())
        report = await store.ask(latency_report, today, project=only, group_by="project", percentiles=())
        speeds[zone] = {group.key: group for group in report.groups or ()}
    found: dict[str, ProjectStats] = {}
    for entry, view in zip(entries, views, strict=True):
        speed = speeds[catalog.timezone_of(entry)].get(entry.id, UNKNOWN_GROUP)
        found[entry.id] = ProjectStats(
            project=entry.id,
            requests_today=view.today_requests,
            cost_today=view.today_spend,
            avg_ttfb_ms=speed.avg_ttfb_ms,
            avg_latency_ms=speed.avg_latency_ms,
        )
    return found


ENDPOINTS: Final = tuple(
    replace(endpoint, tool=replace(endpoint.tool, name=endpoint.template))
    for endpoint in (
        Endpoint("/v1/status", status),
        Endpoint("/v1/providers", providers, lasting=True),
        Endpoint("/v1/models", models, lasting=True),
        Endpoint("/v1/projects", projects),
        Endpoint("/v1/projects/", project, parameter="project_id"),
        Endpoint("/v1/costs", costs, of_store=True),
        Endpoint("/v1/latency", latency, of_store=True),
        Endpoint("/v1/changes", replace(list_changes, title="Changes")),
        Endpoint("/v1/alerts", alerts),
    )
)
"""In the order of the document. The name of a tool is its address, which is what errors name."""
