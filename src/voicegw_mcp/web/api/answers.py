"""Arguments and answers of the API: those of the tools, with the parameters and keys that VoiceGateway 0.4 has besides.

May import ``tools``, ``core`` and ``domain``.
"""

from __future__ import annotations

from pydantic import ConfigDict, Field

from voicegw_mcp.core.answers import Answer
from voicegw_mcp.core.costs import CostReport
from voicegw_mcp.core.health import Health
from voicegw_mcp.core.latency import LatencyReport, LatencyStats
from voicegw_mcp.core.log_pages import Detail
from voicegw_mcp.core.models import ModelView
from voicegw_mcp.core.projects import ProjectDetail, ProjectView
from voicegw_mcp.core.providers import ProviderStatus, ProviderView
from voicegw_mcp.domain import Modality
from voicegw_mcp.tools.define import Input
from voicegw_mcp.tools.observe import GetCosts, LogQuery


class Nothing(Input):
    """Arguments of what takes none."""


class AlertQuery(Input):
    """Arguments of /v1/alerts."""

    limit: int = Field(default=20, ge=1, le=100)


class PriceList(Answer):
    """The library that list prices are from, with its version."""

    source: str


class Status(Health):
    """Answer of /v1/status; ``pricing`` is by modality."""

    providers: dict[str, ProviderStatus]
    pricing: dict[str, PriceList]


class Providers(Answer):
    """Answer of /v1/providers."""

    providers: list[ProviderView]
    count: int
    config_version: str


class ModelQuery(Input):
    """Arguments of /v1/models."""

    project: str | None = Field(default=None, description="Only models that this project uses")
    modality: Modality | None = None
    provider_id: str | None = None
    enabled_only: bool = False


class Model(ModelView):
    """One model; ``provider`` and ``model`` are VoiceGateway's names of ``provider_id`` and ``model_name``."""

    provider: str
    model: str


class Models(Answer):
    """Answer of /v1/models, by model id."""

    models: dict[str, Model]
    project: str | None = None
    count: int
    config_version: str


class ProjectStats(Answer):
    """A project's calendar day: cost in USD, averages in ms, absent when nothing was measured."""

    project: str
    requests_today: int
    cost_today: float
    avg_ttfb_ms: float | None = None
    avg_latency_ms: float | None = None


class Projects(Answer):
    """Answer of /v1/projects."""

    projects: list[ProjectView]
    stats: dict[str, ProjectStats]
    count: int
    config_version: str


class Project(ProjectDetail):
    """Answer of /v1/projects/{project_id}."""

    today: ProjectStats
    costs_today: CostReport


class CostQuery(GetCosts):
    """Arguments of /v1/costs."""

    per_modality: bool = Field(default=True, description="false leaves by_modality empty")
    include_pricing_source: bool = Field(default=True, description="false leaves pricing_sources out")


class Costs(CostReport):
    """Answer of /v1/costs; ``total`` is ``total_usd``, ``pricing_sources`` the price libraries by modality."""

    total: float
    pricing_sources: dict[str, str] | None = None


class Latency(LatencyReport):
    """Answer of /v1/latency; each model of ``by_model`` stands also by itself, as in VoiceGateway, unless its id is a key of the report."""

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)
    __pydantic_extra__: dict[str, LatencyStats]  # pyright: ignore[reportIncompatibleVariableOverride]  # pydantic reads it


class Logs(LogQuery):
    """Arguments of /v1/logs."""

    limit: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Rows at most; default 100 as JSON, all in an export, none of the past while following",
    )
    cursor: str | None = Field(
        default=None, description="Goes on behind a page (Link) or an event (Last-Event-ID)"
    )
    detail: Detail = "full"
