"""Project entries: how they are shown with their spend, created and deleted. May import ``config``, ``store``, ``core``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.config.document import DELETE, Edit
from voicegw_mcp.config.schema import check_timezone
from voicegw_mcp.core.answers import Answer
from voicegw_mcp.core.budgets import BudgetStatus, budget_status
from voicegw_mcp.core.costs import Spend, costs, spend, spend_today
from voicegw_mcp.core.drafts import Plan
from voicegw_mcp.core.entries import blaming, check_text, raw_entry, require_confirmation
from voicegw_mcp.core.periods import day_window, iso, next_midnight_ms, resolve_window
from voicegw_mcp.core.queries import find_window
from voicegw_mcp.domain import ENTRY_ID, Modality, check_id, to_nano_usd, to_usd
from voicegw_mcp.errors import AlreadyExists, Conflict, InvalidInput, ReadOnly, nearest, quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from voicegw_mcp.core.catalog import Catalog, ProjectEntry
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.store.reader import Reads

MAX_TAGS = 20
MAX_TAG = 64
MAX_NAME = 200
MAX_TEXT = 2_000
DEFAULTS: Final[Mapping[str, Any]] = {
    "description": "",
    "daily_budget": 0,
    "budget_action": "warn",
    "tags": [],
    "timezone": "",
}
"""Values that need no line in the file."""


class ProjectView(Answer):
    """One project as list_projects shows it. Spend is USD of the calendar day that ends at ``reset_at``."""

    id: str
    name: str
    description: str
    daily_budget: float
    budget_action: str
    budget_status: BudgetStatus
    today_spend: float
    today_requests: int
    tags: list[str]
    default_stack: str | None = None
    source: str
    reset_at: str


class ModalitySpend(Answer):
    """What one modality cost in USD."""

    cost: float
    requests: int


class ProjectDetail(ProjectView):
    """One project as get_project shows it; ``by_modality`` is this week's spend."""

    week_spend: float
    week_requests: int
    stt_model: str | None = None
    llm_model: str | None = None
    tts_model: str | None = None
    by_modality: dict[str, ModalitySpend]
    timezone: str
    file: str
    line: int | None = None
    config_version: str


async def view_projects(
    gateway: Gateway, catalog: Catalog, entries: Sequence[ProjectEntry]
) -> list[ProjectView]:
    """Return the views of projects with today's spend, one query for each time zone among them."""
    store = await gateway.reader()
    now_ms = gateway.now_ms()
    spent = await store.ask(spend_today, map(catalog.timezone_of, entries), now_ms)
    return [
        _view(catalog, entry, spent[catalog.timezone_of(entry)].get(entry.id), now_ms) for entry in entries
    ]


def _view(catalog: Catalog, entry: ProjectEntry, spent: Spend | None, now_ms: int) -> ProjectView:
    project, zone = entry.settings, catalog.timezone_of(entry)
    nano_usd = spent.cost_nanousd if spent else 0
    return ProjectView(
        id=entry.id,
        name=project.name,
        description=project.description,
        daily_budget=project.daily_budget,
        budget_action=project.budget_action,
        budget_status=budget_status(nano_usd, to_nano_usd(project.daily_budget)),
        today_spend=to_usd(nano_usd),
        today_requests=spent.requests if spent else 0,
        tags=project.tags,
        default_stack=project.default_stack or None,
        source=entry.place.source,
        reset_at=iso(next_midnight_ms(zone, now_ms), zone),
    )


async def detail_project(gateway: Gateway, catalog: Catalog, entry: ProjectEntry) -> ProjectDetail:
    """Return one project with its spend of the last seven calendar days, all of today included."""
    (view,) = await view_projects(gateway, catalog, [entry])
    zone, now_ms = catalog.timezone_of(entry), gateway.now_ms()
    until_now = resolve_window(period="week", start=None, end=None, timezone=zone, now_ms=now_ms)
    week = replace(until_now, end_ms=day_window(zone, now_ms).end_ms)
    report = await (await gateway.reader()).ask(costs, week, project=entry.id)
    return ProjectDetail(
        **view.model_dump(),
        week_spend=report.total_usd,
        week_requests=sum(spent.requests for spent in report.by_modality.values()),
        stt_model=entry.models.get(Modality.STT),
        llm_model=entry.models.get(Modality.LLM),
        tts_model=entry.models.get(Modality.TTS),
        by_modality={
            modality: ModalitySpend(cost=spent.cost, requests=spent.requests)
            for modality, spent in report.by_modality.items()
        },
        timezone=zone,
        file=str(entry.place.file),
        line=entry.place.line or None,
        config_version=catalog.configuration.version,
    )


def view_settings(catalog: Catalog, entry: ProjectEntry, created_ms: int) -> dict[str, Any]:
    """Return what create_project answers of a project's own settings."""
    project = entry.settings
    return {
        "project_id": entry.id,
        **project.model_dump(include={"name", "description", "daily_budget", "budget_action", "tags"}),
        **{
            key: getattr(project, key) or None
            for key in ("default_stack", "stt_model", "llm_model", "tts_model")
        },
        "timezone": catalog.timezone_of(entry),
        "source": entry.place.source,
        "created_at": iso(created_ms, "UTC"),
    }


async def total_spend(gateway: Gateway, project_id: str) -> Spend:
    """Return all a project ever spent."""
    store, now_ms = await gateway.reader(), gateway.now_ms()

    def read(reads: Reads) -> Spend:
        window = find_window(reads, period="all", timezone="UTC", now_ms=now_ms)
        return spend(reads, window, project=project_id).get(project_id, Spend(0, 0))

    return await store.ask(read)


def plan_project(catalog: Catalog, *, project_id: str, fields: Mapping[str, Any], update: bool) -> Plan:
    """Plan to create a project, or with ``update`` to change the given fields of an existing one.

    Args:
        catalog: what there is.
        project_id: the id.
        fields: name, description, daily_budget (USD), budget_action, stt_model, llm_model, tts_model, default_stack,
            tags, timezone; None means not given.
        update: whether an existing project may be changed.

    Raises:
        InvalidInput: a value that does not hold, an unknown stack, stack and models together.
        NotFound: an unknown model.
        AlreadyExists: the id is taken and ``update`` is off.
    """
    existing = catalog.projects.get(project_id)
    declared = existing is not None and existing.declared
    if existing is not None and declared and not update:
        raise AlreadyExists("project", project_id, where=f" ({existing.place})")
    if existing is None:
        check_id(project_id, ENTRY_ID, name="project_id")
    given = {key: value for key, value in fields.items() if value is not None}
    _check_texts(given)
    models = {m: given[f"{m}_model"] for m in Modality if f"{m}_model" in given}
    stack = given.get("default_stack")
    if stack is not None and models:
        raise InvalidInput(
            f"default_stack and {', '.join(f'{m}_model' for m in models)} exclude each other.",
            field="default_stack",
            hint="Pass a stack, or the models one by one.",
        )
    if stack is not None and stack not in catalog.settings.stacks:
        raise InvalidInput(
            f"There is no stack {quote(stack)}.",
            field="default_stack",
            hint=_choices(stack, catalog.settings.stacks, "stacks"),
        )
    for modality, model_id in models.items():
        with blaming(f"{modality}_model"):
            model = catalog.model(model_id)
        if model.modality != modality:
            raise InvalidInput(
                f"{quote(model_id)} is a model of {model.modality}, not {modality}.",
                field=f"{modality}_model",
                hint=f"list_models modality={modality} shows the ones that fit.",
            )
    raw = raw_entry(catalog, "projects", project_id) if declared else {}
    if stack:
        raw = {key: value for key, value in raw.items() if key not in {"stt_model", "llm_model", "tts_model"}}
    elif models:
        raw.pop("default_stack", None)
    entry = {
        **raw,
        **{key: value for key, value in given.items() if key in raw or value != DEFAULTS.get(key)},
    }
    verb = "Update" if declared else "Create"
    return Plan(f"{verb} project {project_id}", [Edit(("projects", project_id), entry)], updates=declared)


def plan_project_removal(catalog: Catalog, *, project_id: str, spent: Spend, confirm: bool) -> Plan:
    """Plan to delete a project's entry; its rows in the log stay.

    The plan's impact has ``total_spend_usd``, ``total_requests``.

    Raises:
        NotFound: no such project.
        ReadOnly: it is the auto-made ``default``, which the file does not declare.
        Conflict: it is the ``default_project``, or an alert names it.
        ConfirmationRequired: without ``confirm``; the impact is in ``details``.
    """
    entry = catalog.project(project_id)
    if not entry.declared:
        raise ReadOnly(
            f"Project {project_id} is made automatically and cannot be deleted.",
            hint="It holds the requests that name no project.",
        )
    if catalog.settings.default_project == project_id:
        raise Conflict(
            f"Project {project_id} is the default_project of the file.",
            hint="Name another default_project in the file first.",
            details={"field": "project_id"},
        )
    for path, named in catalog.settings.alerts.named_projects():
        if named == project_id:
            raise Conflict(
                f"Project {project_id} is named by {'.'.join(map(str, path[:3]))} of the file.",
                hint="Take it out of that list in the file first.",
                details={"field": "project_id"},
            )
    impact = {"total_spend_usd": to_usd(spent.cost_nanousd), "total_requests": spent.requests}
    require_confirmation(catalog, "project", project_id, impact, confirm=confirm)
    return Plan(f"Delete project {project_id}", [Edit(("projects", project_id), DELETE)], impact=impact)


def _check_texts(given: Mapping[str, Any]) -> None:
    check_text(given["name"], "name", longest=MAX_NAME)
    check_text(given.get("description", ""), "description", longest=MAX_TEXT, several_lines=True)
    tags = given.get("tags", [])
    if len(tags) > MAX_TAGS:
        raise InvalidInput(
            f"tags has {len(tags)} texts; at most {MAX_TAGS} are taken.",
            field="tags",
            hint="Pass fewer tags.",
        )
    for tag in tags:
        check_text(tag, "tags", longest=MAX_TAG)
    try:
        check_timezone(given.get("timezone", ""))
    except ValueError as error:
        raise InvalidInput(
            f"timezone {quote(given['timezone'])} {error}.",
            field="timezone",
            hint="Use a name such as Europe/Berlin.",
        ) from error


def _choices(value: str, known: Iterable[str], what: str) -> str:
    near = nearest(value, known)
    return (
        f"Did you mean {', '.join(near)}?"
        if near
        else f"The {what} are listed in the resource voicegw://config."
    )
