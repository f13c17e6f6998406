"""What ``alerts:`` of ``voicegw.yaml`` may hold: from when on somebody is told, and where. Without it the defaults hold.

May import pydantic, ``config.addresses``, ``config.parse``, ``config.secrets`` and ``errors``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from voicegw_mcp.config.addresses import canonical_host, check_url, is_listed
from voicegw_mcp.config.parse import Problem, dotted
from voicegw_mcp.config.secrets import is_reference
from voicegw_mcp.errors import InvalidInput, nearest, quote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from voicegw_mcp.config.overlay import Layered
    from voicegw_mcp.config.parse import ParsedFile

SHORTEST_S: Final = 5
LONGEST_S: Final = 3600
MOST_THRESHOLDS: Final = 20

Grouping = Literal["all", "project", "provider", "model"]


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("is a truth value: write a number of percent")  # noqa: TRY004 - what pydantic takes for a problem of the value
    return value


def _ascending(thresholds: list[float]) -> list[float]:
    return sorted(set(thresholds))


Percent = Annotated[float, BeforeValidator(_number), Field(gt=0, le=100, allow_inf_nan=False)]
OfBudget = Annotated[float, BeforeValidator(_number), Field(gt=0, le=1000, allow_inf_nan=False)]
Thresholds = Annotated[list[OfBudget], Field(max_length=MOST_THRESHOLDS), AfterValidator(_ascending)]


class _Strict(BaseModel):
    """Refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class BudgetAlerts(_Strict):
    """``percent`` of a project's ``daily_budget`` at which it is told of; ``projects`` limits it to some."""

    percent: Thresholds = [50.0, 80.0, 100.0]
    projects: list[str] | None = None


class WindowedAlerts(_Strict):
    """What is measured over the last ``window_minutes``, for each thing of the kind ``by`` that had ``least_requests``."""

    window_minutes: int = Field(default=15, ge=15, le=1440)
    least_requests: int = Field(default=20, ge=1)
    by: Grouping = "provider"
    projects: list[str] | None = None


class ErrorRateAlerts(WindowedAlerts):
    """``percent`` of requests that may fail; more are told of."""

    percent: Percent = 10.0


class TtfbAlerts(WindowedAlerts):
    """The 95th percentile of the time to first byte may not be above ``latency.ttfb_warning_ms``."""

    by: Grouping = "model"


class Webhook(_Strict):
    """Where alerts are sent. ``secret`` is a reference to what signs them."""

    url: str
    secret: str


class Alerts(_Strict):
    """When somebody is told, and where beside the log and the resource ``voicegw://alerts``."""

    enabled: bool = True
    check_every_seconds: int = Field(default=30, ge=SHORTEST_S, le=LONGEST_S)
    budget: BudgetAlerts = Field(default_factory=BudgetAlerts)
    error_rate: ErrorRateAlerts | None = None
    ttfb: TtfbAlerts | None = None
    webhook: Webhook | None = None

    def named_projects(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Give every project that a rule names, with its place."""
        for rule in ("budget", "error_rate", "ttfb"):
            for index, project in enumerate(getattr(getattr(self, rule), "projects", None) or ()):
                yield ("alerts", rule, "projects", index), project


def check_alerts(
    alerts: Alerts,
    *,
    projects: Collection[str],
    private_hosts: Collection[str],
    source: ParsedFile | Layered,
) -> Iterator[Problem]:
    """Yield what is wrong with ``alerts`` beside its form.

    Args:
        alerts: the section, references expanded everywhere but in the secret.
        projects: the ids there are.
        private_hosts: ``security.allow_private_hosts``.
        source: tells places.
    """

    def problem(path: tuple[str | int, ...], message: str, hint: str) -> Problem:
        mark = source.mark(path)
        return Problem(dotted(path), mark.line, mark.column, message, hint, mark.file)

    for path, project in alerts.named_projects():
        if project not in projects:
            near = nearest(project, projects, count=1)
            hint = f"Did you mean {near[0]}?" if near else "Name a project of this file, or leave it out."
            yield problem(path, f"names the project {quote(project)}, which does not exist", hint)
    hook = alerts.webhook
    if hook is None:
        return
    try:
        check_url(hook.url, allow_private=is_listed(_host(hook.url), private_hosts))
    except InvalidInput as error:
        private = "allow_private_hosts" in error.hint
        hint = "List it under security.allow_private_hosts." if private else ""
        yield problem(("alerts", "webhook", "url"), f"cannot be used: {error.message.rstrip('.')}", hint)
    if not is_reference(hook.secret):
        yield problem(
            ("alerts", "webhook", "secret"),
            "is not a reference: the file holds no secrets",
            "Write ${NAME}, run `voicegw secrets set NAME`, and use another secret than the one that stood here.",
        )


def _host(url: str) -> str:
    """Return the host of a URL, "" when it has none that could be listed."""
    try:
        return canonical_host(urlsplit(url).hostname or "")
    except (ValueError, InvalidInput):
        return ""
