"""The four project tools. May import ``core``, ``domain`` and ``tools.define``."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import Field

from voicegw_mcp.config.schema import BudgetAction
from voicegw_mcp.core import projects
from voicegw_mcp.core.answers import Answer, Written
from voicegw_mcp.core.confirmation import apply_agreed
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.paging import fit_page, slice_of
from voicegw_mcp.core.projects import ProjectDetail, ProjectView
from voicegw_mcp.tools.define import Input, OnConflict, PageInput, Texts, Usd, WriteInput, tool


class ListProjects(PageInput):
    """Arguments of list_projects."""


class ProjectPage(Answer):
    """Answer of list_projects."""

    projects: list[ProjectView]
    count: int
    next_cursor: str | None = None
    config_version: str


@tool("List projects", read_only=True)
async def list_projects(gateway: Gateway, args: ListProjects) -> ProjectPage:
    """List projects with budget, today's spend and when the budget resets.

    Use when you need a project_id, or to see who is near the limit.
    """
    catalog, query = gateway.catalog(), {"tool": "list_projects"}
    part = slice_of(catalog.projects.values(), query, limit=args.limit, cursor=args.cursor)
    views = await projects.view_projects(gateway, catalog, part.entries)
    views, cursor = fit_page(views, query, id_of=lambda view: view.id, more=part.more)
    version = catalog.configuration.version
    return ProjectPage(projects=views, count=len(views), next_cursor=cursor, config_version=version)


class GetProject(Input):
    """Arguments of get_project."""

    project_id: str


@tool("Show a project", read_only=True)
async def get_project(gateway: Gateway, args: GetProject) -> ProjectDetail:
    """Show one project: budget, spend today and this week, models, file and line.

    Use when a project's cost or set-up is in question.
    """
    catalog = gateway.catalog()
    return await projects.detail_project(gateway, catalog, catalog.project(args.project_id))


class CreateProject(WriteInput):
    """Arguments of create_project."""

    project_id: str
    name: str
    description: str | None = None
    daily_budget: Usd | None = Field(default=None, description="USD per calendar day; 0 = none")
    budget_action: BudgetAction | None = Field(default=None, description="Default warn")
    stt_model: str | None = None
    llm_model: str | None = None
    tts_model: str | None = None
    default_stack: str | None = Field(default=None, description="Instead of models")
    tags: Texts | None = None
    timezone: str | None = Field(default=None, description="IANA zone of its day")
    on_conflict: OnConflict = "error"


class ProjectWritten(Written):
    """Answer of create_project; ``created_at`` is ISO 8601 UTC."""

    project_id: str
    name: str
    description: str
    daily_budget: float
    budget_action: BudgetAction
    default_stack: str | None = None
    stt_model: str | None = None
    llm_model: str | None = None
    tts_model: str | None = None
    tags: list[str]
    timezone: str
    source: str
    created: bool
    updated: bool
    created_at: str


@tool("Create a project", read_only=False, idempotent=False)
async def create_project(gateway: Gateway, args: CreateProject) -> ProjectWritten:
    """Create a project with budget and models in voicegw.yaml.

    Use when costs of an agent are to be counted and limited apart. Register its models first.
    """
    fields = args.model_dump(exclude={"project_id", "on_conflict", "dry_run", "if_version"})
    update = args.on_conflict == "update"
    plan = partial(projects.plan_project, project_id=args.project_id, fields=fields, update=update)
    receipt = await args.write(gateway, "create_project", plan)
    view = projects.view_settings(
        receipt.catalog, receipt.catalog.project(args.project_id), receipt.created_ms
    )
    return ProjectWritten.from_receipt(
        receipt, created=not receipt.plan.updates, updated=receipt.plan.updates, **view
    )


class DeleteProject(WriteInput):
    """Arguments of delete_project."""

    project_id: str
    confirm: bool = False


class ProjectDeleted(Written):
    """Answer of delete_project."""

    action: Literal["deleted"] = "deleted"
    project_id: str
    total_spend_usd: float
    total_requests: int


@tool("Delete a project", read_only=False, destructive=True, idempotent=False)
async def delete_project(gateway: Gateway, args: DeleteProject) -> ProjectDeleted:
    """Delete a project from voicegw.yaml; without confirm, only tell its total spend.

    Use when a project has ended. Its log and costs stay. Ask the person before confirm=true.
    """
    spent = await projects.total_spend(gateway, args.project_id)
    plan = partial(
        projects.plan_project_removal, project_id=args.project_id, spent=spent, confirm=args.confirm
    )
    receipt = await apply_agreed(
        gateway,
        plan,
        tool="delete_project",
        confirm=args.confirm,
        if_version=args.if_version,
        dry_run=args.dry_run,
    )
    return ProjectDeleted.from_receipt(receipt, project_id=args.project_id, **receipt.plan.impact)
