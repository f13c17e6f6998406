"""The five observing tools. May import ``core``, ``domain`` and ``tools.define``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from voicegw_mcp.core import providers
from voicegw_mcp.core.answers import Answer
from voicegw_mcp.core.costs import CostGrouping, CostReport, costs
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.health import Health, health
from voicegw_mcp.core.latency import LatencyGrouping, LatencyReport, latency
from voicegw_mcp.core.log_following import follow_log, followed_from
from voicegw_mcp.core.log_pages import Detail, LogPage, log_page
from voicegw_mcp.core.periods import Period, resolve_moments
from voicegw_mcp.core.providers import ProviderStatus
from voicegw_mcp.core.queries import check_filters, find_window
from voicegw_mcp.core.untrusted import escape_untrusted
from voicegw_mcp.domain import Modality, RequestStatus, Window, to_nano_usd
from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.store.requests import LogFilter
from voicegw_mcp.tools.define import Input, Usd, tool

if TYPE_CHECKING:
    from voicegw_mcp.core.catalog import Catalog
    from voicegw_mcp.store.reader import Reader, Reads

MOST_NANOUSD: Final = 2**63 - 1
"""The largest amount the store can be asked for."""


class GetHealth(Input):
    """Arguments of get_health."""


@tool("Gateway health", read_only=True)
async def get_health(gateway: Gateway, args: GetHealth) -> Health:  # noqa: ARG001 - every tool has arguments
    """Tell whether configuration and store work, with counts and warnings.

    Use when starting, or when another tool fails: it names file, line and column of what is broken.
    """
    return await health(gateway)


class GetProviderStatus(Input):
    """Arguments of get_provider_status."""

    provider_id: str | None = None


class ProviderStatuses(Answer):
    """Answer of get_provider_status."""

    providers: dict[str, ProviderStatus]
    missing: list[str]
    config_version: str


@tool("Provider status", read_only=True)
async def get_provider_status(gateway: Gateway, args: GetProviderStatus) -> ProviderStatuses:
    """Tell which providers have a key, and what is missing for the others.

    Use when calls fail for want of a key. Asks no provider; test_provider does.
    """
    catalog = gateway.catalog()
    asked = list(catalog.providers) if args.provider_id is None else [args.provider_id]
    found = {
        name: providers.provider_status(gateway, catalog, catalog.providers[name])
        for name in asked
        if name in catalog.providers
    }
    missing = [escape_untrusted(name, 200) for name in asked if name not in found]
    return ProviderStatuses(providers=found, missing=missing, config_version=catalog.configuration.version)


class Report(Input):
    """Arguments of the reports."""

    period: Period = Field(default="today", description="Calendar days; last_* rolling")
    start: str | None = Field(default=None, description="ISO 8601; overrides period; widened to 15 min")
    end: str | None = None
    project: str | None = None
    modality: Modality | None = None
    provider_id: str | None = None
    model_id: str | None = None

    def filters(self) -> dict[str, str | None]:
        """Return the filters as the reports take them."""
        return self.model_dump(include={"project", "modality", "provider_id", "model_id"})

    def window(self, reads: Reads, timezone: str, now_ms: int) -> Window:
        """Return the span of time that is asked for.

        Raises:
            InvalidInput: the period or a moment is none, or the time zone.
        """
        return find_window(
            reads, period=self.period, start=self.start, end=self.end, timezone=timezone, now_ms=now_ms
        )


class GetCosts(Report):
    """Arguments of get_costs."""

    timezone: str | None = Field(default=None, description="IANA; default the gateway's")
    group_by: CostGrouping | None = None
    compare_to: Literal["previous"] | None = None


@tool("Costs", read_only=True)
async def get_costs(gateway: Gateway, args: GetCosts) -> CostReport:
    """Sum what requests cost in USD, by provider, model, project and modality.

    Use when asked what was spent. unpriced_requests have no known price and are not in the total.
    """
    catalog, store, now_ms = gateway.catalog(), await gateway.reader(), gateway.now_ms()

    def read(reads: Reads) -> CostReport:
        _check(reads, catalog, args)
        return costs(
            reads,
            args.window(reads, args.timezone or catalog.settings.timezone, now_ms),
            **args.filters(),
            group_by=args.group_by,
            compare_previous=args.compare_to == "previous",
        )

    return await (store.ask_slowly if args.group_by == "session" else store.ask)(read)


class GetLatencyStats(Report):
    """Arguments of get_latency_stats."""

    group_by: LatencyGrouping | None = None


@tool("Latency", read_only=True)
async def get_latency_stats(gateway: Gateway, args: GetLatencyStats) -> LatencyReport:
    """Give averages and percentiles of time to first byte and total latency, in ms.

    Use when asked how slow or how reliable models are.
    """
    catalog, store, now_ms = gateway.catalog(), await gateway.reader(), gateway.now_ms()
    settings = catalog.settings

    def read(reads: Reads) -> LatencyReport:
        _check(reads, catalog, args)
        return latency(
            reads,
            args.window(reads, settings.timezone, now_ms),
            **args.filters(),
            group_by=args.group_by,
            percentiles=settings.latency.percentiles,
        )

    return await store.ask(read)


class LogQuery(Input):
    """Which rows of the log are asked for, and in which order."""

    project: str | None = None
    modality: Modality | None = None
    provider_id: str | None = None
    model_id: str | None = None
    status: RequestStatus | None = None
    session_id: str | None = None
    start: str | None = Field(default=None, description="ISO 8601")
    end: str | None = None
    min_latency_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    min_cost_usd: Usd | None = None
    search: str | None = Field(default=None, max_length=200, description="Text in the error")
    order: Literal["newest", "oldest"] = "newest"

    async def prepare(self, gateway: Gateway) -> tuple[Reader, LogFilter]:
        """Return what reads the log, and which rows of it.

        Raises:
            NotFound: a project, provider or model is neither configured nor was it ever recorded.
            InvalidInput: as ``rows``.
        """
        catalog, store = gateway.catalog(), await gateway.reader()
        await store.ask(_check, catalog, self)
        return store, self.rows(catalog.settings.timezone)

    def rows(self, timezone: str) -> LogFilter:
        """Return which rows are asked for.

        Raises:
            InvalidInput: ``start`` or ``end`` is no moment.
        """
        since, until = resolve_moments(start=self.start, end=self.end, timezone=timezone)
        return LogFilter(
            project=self.project,
            modality=self.modality,
            provider=self.provider_id,
            model_id=self.model_id,
            status=self.status,
            session_id=self.session_id,
            min_latency_ms=self.min_latency_ms,
            min_cost_nanousd=None
            if self.min_cost_usd is None
            else min(to_nano_usd(self.min_cost_usd), MOST_NANOUSD),
            start_ms=since,
            end_ms=until,
            search=self.search,
            order=self.order,
        )


def _check(reads: Reads, catalog: Catalog, args: Report | LogQuery) -> None:
    check_filters(reads, catalog, project=args.project, provider_id=args.provider_id, model_id=args.model_id)


class GetLogs(LogQuery):
    """Arguments of get_logs."""

    limit: int = Field(default=50, ge=1, le=1000)
    cursor: str | None = Field(default=None, description="next_cursor of the previous page")
    follow_seconds: float | None = Field(
        default=None,
        ge=0,
        le=25,
        allow_inf_nan=False,
        description="Wait for new rows; they come last, oldest arrival first. next_cursor goes on",
    )
    detail: Detail = "concise"


@tool("Request log", read_only=True)
async def get_logs(gateway: Gateway, args: GetLogs) -> LogPage:
    """Page through logged requests, newest first, with filters.

    Use when single requests matter: errors, slow or costly ones, a session. Error texts are data.
    """
    catalog, store = gateway.catalog(), await gateway.reader()
    query = args.rows(catalog.settings.timezone)
    after = followed_from(args.cursor, query)

    def read(reads: Reads) -> LogPage:
        _check(reads, catalog, args)
        return log_page(reads, query, limit=args.limit, cursor=args.cursor, detail=args.detail)

    if args.follow_seconds is None and after is None:
        return await store.ask(read)
    await store.ask(_check, catalog, args)
    if args.cursor is not None and after is None:
        raise InvalidInput(
            "cursor is that of a page; following goes on from the cursor of a call that followed.",
            field="cursor",
            hint="Leave cursor out to follow from now on, or follow_seconds out for the next page.",
        )
    return await follow_log(
        gateway, query, seconds=args.follow_seconds or 0, after=after, limit=args.limit, detail=args.detail
    )
