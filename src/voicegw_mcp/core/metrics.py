"""The figures of the gateway as a monitoring system wants them: what was ever counted, and how things stand now.

Plain values; ``web.api.metrics`` writes them. They are read like the reports: settled times are remembered, so that a scrape
reads the last hour and no rows of the log. What is counted is the store's and not the process's: it holds over restarts,
whichever process wrote it, and pruning takes nothing off. May import ``store``, ``domain``, ``errors`` and ``core``.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from voicegw_mcp import __version__
from voicegw_mcp.config.parse import problems_in
from voicegw_mcp.core.label_sets import OTHER, LabelSet, label_sets, label_value
from voicegw_mcp.core.projects import ProjectView, view_projects
from voicegw_mcp.domain import LATEST_MS, Window
from voicegw_mcp.errors import ConfigInvalid, GatewayError
from voicegw_mcp.store.losses import KEPT_MS, read_losses
from voicegw_mcp.store.part_reading import cut, read_parts
from voicegw_mcp.store.parts import SeriesHistograms, SeriesTotals
from voicegw_mcp.store.series import recorded_series

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voicegw_mcp.core.catalog import Catalog
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.store.reader import Reader, Reads

logger = logging.getLogger(__name__)

_EVER: Final = Window("all", 0, LATEST_MS, "UTC")
_MOST_REASONS: Final = 20


class Configured(NamedTuple):
    """How many entries there are in force, under which version of the file, and how many problems that file has."""

    providers: int
    models: int
    projects: int
    version: str
    problems: int


@dataclass(frozen=True)
class Everybodys:
    """What is not of some projects, hence only for who sees all.

    ``tool_calls`` are those over MCP by tool and outcome since this process began; ``dropped`` the requests that recorders
    lost in the last days, by reason.
    """

    tool_calls: Mapping[tuple[str, str], int]
    log_followers: int
    store_bytes: int | None = None
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class Metrics:
    """All figures of one moment. ``configured`` is None while no configuration is in force.

    While the store cannot be read, ``store_readable`` says so and ``series`` and ``projects`` are empty.
    """

    version: str
    uptime_seconds: float
    config_valid: bool
    configured: Configured | None
    store_readable: bool
    series: list[LabelSet]
    projects: list[ProjectView]
    everybodys: Everybodys | None


async def read_metrics(gateway: Gateway) -> Metrics:
    """Return the figures that the caller may see. Never raises for what it reports on."""
    catalog, error = _load(gateway)
    series: list[LabelSet] = []
    projects: list[ProjectView] = []
    everybodys = None
    if gateway.caller.access.projects is None:
        everybodys = Everybodys(dict(gateway.tool_calls), gateway.followers.count())
    readable = False
    try:
        reader = await gateway.reader()
        found = await reader.ask(_read_series, catalog)
        if catalog is not None:
            views = await view_projects(gateway, catalog, list(catalog.projects.values()))
            projects = [view.model_copy(update={"id": label_value(view.id)}) for view in views]
        if everybodys is not None:
            size = (await gateway.store_handle.get()).stamp().size_bytes()
            dropped = await _read_dropped(reader, gateway.now_ms() - KEPT_MS)
            everybodys = replace(everybodys, store_bytes=size, dropped=dropped)
        series, readable = found, True
    except GatewayError as trouble:
        projects = []
        logger.warning("Metrics are without the store: %s", trouble.message)
    return Metrics(
        __version__,
        time.monotonic() - gateway.started_s,
        error is None,
        _count(catalog, error),
        readable,
        series,
        projects,
        everybodys,
    )


def _load(gateway: Gateway) -> tuple[Catalog | None, ConfigInvalid | None]:
    try:
        return gateway.catalog(), gateway.config_file.error
    except ConfigInvalid as error:
        return None, error


def _count(catalog: Catalog | None, error: ConfigInvalid | None) -> Configured | None:
    if catalog is None:
        return None
    broken = [] if error is None else problems_in(error)
    return Configured(
        len(catalog.providers),
        len(catalog.models),
        len(catalog.projects),
        catalog.configuration.version,
        len(catalog.notes) + len(catalog.warnings) + len(broken),
    )


def _read_series(reads: Reads, catalog: Catalog | None) -> list[LabelSet]:
    """Return the lifetime figures; of one state of the store a correction is in none of them or in all."""
    spans = cut(_EVER)
    totals, spread = [SeriesTotals(*span) for span in spans], [SeriesHistograms(*span) for span in spans]
    values = read_parts(reads, [*totals, *spread])
    return label_sets(catalog, recorded_series(reads), values.of_all(totals), values.of_all(spread))


async def _read_dropped(reader: Reader, earliest_ms: int) -> dict[str, int]:
    """Return how many requests were not recorded, by reason, of processes that lost some since then."""
    dropped: Counter[str] = Counter()
    for loss in await reader.ask(read_losses):
        if loss.last_ms >= earliest_ms:
            dropped[label_value(loss.reason)] += loss.requests
    shown = dict(dropped.most_common(_MOST_REASONS))
    rest = dropped.total() - sum(shown.values())
    return {**shown, OTHER: rest} if rest else shown
