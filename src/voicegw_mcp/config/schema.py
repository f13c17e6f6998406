"""What ``voicegw.yaml`` may hold: the keys of VoiceGateway 0.4 files, and ours.

Ours are ``timezone``, ``pricing``, ``alerts``, ``security``, ``projects.ID.{stt,llm,tts}_model`` and ``timezone``, ``providers.ID.type``
and roles in ``auth.api_keys``. Sections only VoiceGateway 0.27 knows are kept in the file and reported as ignored.
Facts on keys and defaults: VoiceGateway 0.4.0's published configuration reference. May import pydantic,
``config`` and ``errors``.
"""

from __future__ import annotations

import zoneinfo
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from voicegw_mcp.config.alerts import Alerts
from voicegw_mcp.config.oauth import OAuth
from voicegw_mcp.config.parse import Problem, dotted
from voicegw_mcp.config.prices import PriceOverride
from voicegw_mcp.config.redaction import hide_in_text, is_literal_secret
from voicegw_mcp.config.values import is_list, is_map
from voicegw_mcp.domain import Role
from voicegw_mcp.errors import nearest, quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from voicegw_mcp.config.overlay import Layered
    from voicegw_mcp.config.parse import ParsedFile

IGNORED_SECTIONS: Final = frozenset({"livekit", "ingest", "retention", "workers", "clickhouse", "rate_card"})
"""Top-level sections of VoiceGateway 0.27 that have no meaning here."""

Section = TypeVar("Section", bound=BaseModel)

BudgetAction = Literal["warn", "throttle", "block"]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def check_timezone(name: str) -> str:
    """Return ``name`` when the IANA database knows it; the empty string stands for "not set"."""
    if name:
        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("is not an IANA time zone such as Europe/Berlin") from error
    return name


Timezone = Annotated[str, AfterValidator(check_timezone)]


class _Strict(BaseModel):
    """Refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class _Open(BaseModel):
    """Keeps unknown keys: they are options of a plugin."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    def options(self) -> dict[str, Any]:
        """Return the keys this schema does not name."""
        return dict(self.__pydantic_extra__ or {})


class Provider(_Open):
    """One entry under ``providers``. ``type`` defaults to the entry's id; ``api_key`` is a reference."""

    type: str | None = None
    api_key: str | None = None
    base_url: str | None = None
    enabled: bool = True


class Model(_Open):
    """One entry under ``models.{stt,llm,tts}``."""

    provider: str
    model: str = ""
    display_name: str | None = None
    default_language: str | None = None
    default_voice: str | None = None
    enabled: bool = True


class Models(_Strict):
    """The three modalities; ids are unique over all of them."""

    stt: dict[str, Model] = Field(default_factory=dict)
    llm: dict[str, Model] = Field(default_factory=dict)
    tts: dict[str, Model] = Field(default_factory=dict)


class Stack(_Strict):
    """A named trio of model ids."""

    stt: str | None = None
    llm: str | None = None
    tts: str | None = None


class Metrics(_Strict):
    """VoiceGateway's conversation metrics; kept, not used."""

    dead_air_threshold_seconds: float = Field(default=3.0, gt=0)
    talk_over_min_overlap_ms: int = Field(default=100, gt=0)
    turn_buffer_flush_size: int = Field(default=25, gt=0)


class Replay(_Strict):
    """VoiceGateway's replay capture; kept, not used."""

    enabled: bool = True
    retention_days: int = Field(default=90, ge=1)
    buffer_size_events: int = Field(default=5000, ge=1)
    flush_size_events: int = Field(default=500, ge=1)


class Tenant(_Strict):
    """VoiceGateway's tenant settings (0.4 and 0.27 spellings); kept, not used."""

    virtual_key_stale_days: int = Field(default=90, ge=1)
    api_key_stale_days: int = Field(default=90, ge=1)


@cache
def _default(section: type[Section]) -> Section:
    return section()


class Project(_Strict):
    """One entry under ``projects``. ``daily_budget`` is USD for a calendar day in ``timezone``; 0 means none."""

    name: str
    description: str = ""
    default_stack: str | None = None
    daily_budget: Amount = 0.0
    budget_action: BudgetAction = "warn"
    throttle_stack: str | None = None
    tags: list[str] = Field(default_factory=list)
    stt_model: str | None = None
    llm_model: str | None = None
    tts_model: str | None = None
    timezone: Timezone = ""
    providers: dict[str, Provider] = Field(default_factory=dict)
    # One of each for all projects: they are frozen.
    metrics: Metrics = Field(default_factory=lambda: _default(Metrics))
    replay: Replay = Field(default_factory=lambda: _default(Replay))
    tenant: Tenant = Field(default_factory=lambda: _default(Tenant))
    routing: dict[str, Any] = Field(default_factory=dict)
    branding: dict[str, Any] = Field(default_factory=dict)


class Fallbacks(_Strict):
    """Model ids in the order they are tried, per modality."""

    stt: list[str] = Field(default_factory=list)
    llm: list[str] = Field(default_factory=list)
    tts: list[str] = Field(default_factory=list)


class Observability(_Strict):
    """What the inference side records."""

    latency_tracking: bool = True
    cost_tracking: bool = True
    request_logging: bool = True


class CostTracking(_Open):
    """Where the store is, and how many days it keeps rows of the log. VoiceGateway's ``enabled: false`` turned the store off; here there always is one.

    ``daily_budget_alert`` is USD of all projects for a calendar day in ``timezone``; 0 means none.
    """

    enabled: bool = False
    db_path: str = ""
    daily_budget_alert: Amount | None = None
    retention_days: Annotated[int, Field(ge=1, le=36_500)] | None = None


class Latency(_Open):
    """``ttfb_warning_ms`` in ms; ``percentiles`` are the ones get_latency_stats answers with."""

    ttfb_warning_ms: float = Field(default=500.0, ge=0)
    percentiles: list[Annotated[float, Field(gt=0, lt=100)]] = [50.0, 95.0, 99.0]


class RateLimit(_Open):
    """Requests per minute for one provider; 0 means no limit."""

    requests_per_minute: int = Field(default=0, ge=0)


class Dashboard(_Open):
    """The dashboard's own address; ``host`` counts only where the file names it, see ``cli/dashboard.py``."""

    enabled: bool = True
    host: str = "0.0.0.0"  # noqa: S104 - VoiceGateway's documented default; nothing binds to it unless the file says so
    port: int = Field(default=9090, ge=0, le=65535)


class Serve(_Open):
    """VoiceGateway's server address."""

    host: str = "0.0.0.0"  # noqa: S104 - VoiceGateway's documented default; nothing binds to it here
    port: int = Field(default=8080, ge=0, le=65535)


class ApiKey(_Strict):
    """One token of ``auth.api_keys``: a reference, with the role it carries and the projects it may see."""

    token: str
    name: str = ""
    scopes: list[str] = ["*"]
    role: Role | None = None
    projects: list[str] | None = None


class Auth(_Strict):
    """Who may call over HTTP."""

    api_keys: list[ApiKey] = Field(default_factory=list[ApiKey])
    oauth: OAuth | None = None
    cors_origins: list[str] = Field(default_factory=list)
    local_development: bool = False
    enforcement: Literal["warn", "enforce"] = "warn"


class Security(_Strict):
    """What no tool can change. ``allow_private_hosts``: host names that may resolve to private addresses."""

    allow_private_hosts: list[str] = Field(default_factory=list)


class Settings(_Strict):
    """The whole file, with references expanded everywhere but in keys and tokens."""

    timezone: Timezone = "UTC"
    providers: dict[str, Provider] = Field(default_factory=dict)
    models: Models = Field(default_factory=Models)
    stacks: dict[str, Stack] = Field(default_factory=dict)
    projects: dict[str, Project] = Field(default_factory=dict)
    default_project: str | None = None
    fallbacks: Fallbacks = Field(default_factory=Fallbacks)
    observability: Observability = Field(default_factory=Observability)
    cost_tracking: CostTracking = Field(default_factory=CostTracking)
    latency: Latency = Field(default_factory=Latency)
    rate_limits: dict[str, RateLimit] = Field(default_factory=dict)
    pricing: dict[str, list[PriceOverride]] = Field(default_factory=dict)
    alerts: Alerts = Field(default_factory=Alerts)
    security: Security = Field(default_factory=Security)
    dashboard: Dashboard = Field(default_factory=Dashboard)
    serve: Serve = Field(default_factory=Serve)
    auth: Auth = Field(default_factory=Auth)


def validate(data: Mapping[str, Any], parsed: ParsedFile | Layered) -> tuple[Settings, list[Problem]]:
    """Check expanded data against the schema.

    Args:
        data: the file's mapping with references expanded.
        parsed: where it came from, for line and column.

    Returns:
        The settings, and notes on what is kept but ignored.

    Raises:
        pydantic.ValidationError: turned into problems by ``problems_of``.
    """
    notes = [
        Problem(
            key,
            *_position(parsed, (key,)),
            "is a VoiceGateway 0.27 section without meaning here: kept, ignored",
            file=parsed.mark((key,)).file,
        )
        for key in data
        if key in IGNORED_SECTIONS
    ]
    # `key:` with nothing after it means "not set", as in VoiceGateway.
    known = {key: value for key, value in data.items() if key not in IGNORED_SECTIONS and value is not None}
    prices = known.get("pricing")
    if is_map(prices):
        if "gate" in prices:
            notes.append(
                Problem(
                    "pricing.gate",
                    *_position(parsed, ("pricing", "gate")),
                    "is VoiceGateway 0.27's: kept, ignored",
                )
            )
        known["pricing"] = {
            model: price if isinstance(price, list) else [price]
            for model, price in prices.items()
            if model != "gate"
        }
    models = known.get("models")
    if is_map(models):
        known["models"] = {modality: entries or {} for modality, entries in models.items()}
    fallbacks = known.get("fallbacks")
    if is_map(fallbacks):
        known["fallbacks"] = {modality: chain or [] for modality, chain in fallbacks.items()}
    for section in ("providers", "stacks", "rate_limits"):
        entries = known.get(section)
        if is_map(entries):
            known[section] = {key: {} if value is None else value for key, value in entries.items()}
    return Settings.model_validate(known), notes


def problems_of(error: ValidationError, parsed: ParsedFile | Layered) -> Iterator[Problem]:
    """Yield each thing pydantic found as a problem with path, line and column; no value of a key is repeated."""
    for item in error.errors(include_url=False, include_context=False):
        location: list[str | int] = [part for part in item["loc"] if part != "[key]"]
        if location[:1] == ["pricing"] and len(location) > 2 and not _is_list(parsed.data, location[:2]):
            del location[2]  # validate() wrapped a single price into a list
        last = str(location[-1]) if location else ""
        message, hint = item["msg"].removeprefix("Value error, "), ""
        if item["type"] == "extra_forbidden":
            names = _names_beside(location)
            near = nearest(last, names, count=1)
            message = f"unknown key {quote(last)}"
            hint = f"Did you mean {near[0]!r}?" if near else f"Valid keys: {', '.join(names)}."
        elif item["type"] == "missing":
            message = f"{last} is missing"
        else:
            message = f"{message[:1].lower()}{message[1:]}{_found(parsed, location)}"
        mark = parsed.mark(tuple(location))
        yield Problem(dotted(location), mark.line, mark.column, message, hint, mark.file)


def _found(parsed: ParsedFile | Layered, location: Sequence[str | int]) -> str:
    """Return what the file itself holds there, never what a reference in it stands for."""
    value: object = parsed.data
    for step in location:
        if is_map(value) and step in value:
            value = value[str(step)]
        elif is_list(value) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return ""
    name = str(location[-1]) if location else ""
    if not isinstance(value, str | int | float | bool) or is_literal_secret(name, value):
        return ""
    return f" (found {quote(hide_in_text(value) if isinstance(value, str) else value)})"


def _position(parsed: ParsedFile | Layered, location: Sequence[str | int]) -> tuple[int, int]:
    mark = parsed.mark(tuple(location))
    return mark.line, mark.column


def _is_list(data: Any, location: Sequence[str | int]) -> bool:
    for part in location:
        data = data.get(str(part)) if is_map(data) else None
    return isinstance(data, list)


def _names_beside(location: Sequence[str | int]) -> list[str]:
    """Return the keys that are valid where the last part of ``location`` stands."""
    model: Any = Settings
    for part in location[:-1]:
        if isinstance(model, type) and issubclass(model, BaseModel):
            fields = model.model_fields
            model = _present(fields[str(part)].annotation) if str(part) in fields else None
        else:
            model = _held(model)
    if get_origin(model) is list:  # a single price in place of a list of prices
        model = _held(model)
    return sorted(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _present(annotation: Any) -> Any:
    """Return the type of a value that may be left out."""
    return get_args(annotation)[0] if NoneType in get_args(annotation) else annotation


def _held(container: Any) -> Any:
    """Return the type of what a dict or list holds."""
    arguments = get_args(container)
    return arguments[-1] if arguments else None
