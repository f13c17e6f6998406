"""The three model tools. May import ``core``, ``domain`` and ``tools.define``."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import Field

from voicegw_mcp.core import models
from voicegw_mcp.core.answers import Answer, Written
from voicegw_mcp.core.confirmation import apply_agreed
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.models import ModelView
from voicegw_mcp.core.paging import fit_page, slice_of
from voicegw_mcp.domain import Modality
from voicegw_mcp.tools.define import JsonObject, OnConflict, PageInput, WriteInput, tool


class ListModels(PageInput):
    """Arguments of list_models."""

    modality: Modality | None = None
    provider_id: str | None = None
    enabled_only: bool = True
    detail: Literal["concise", "full"] = Field(default="concise", description="full adds prices")


class ModelPage(Answer):
    """Answer of list_models."""

    models: list[ModelView]
    count: int
    next_cursor: str | None = None
    config_version: str


@tool("List models", read_only=True)
async def list_models(gateway: Gateway, args: ListModels) -> ModelPage:
    """List registered models, by modality or provider.

    Use when you need a model_id, or prices (detail=full).
    """
    catalog = gateway.catalog()
    query = {"tool": "list_models", **args.model_dump(mode="json", exclude={"limit", "cursor"})}
    entries = models.select_models(
        catalog, modality=args.modality, provider_id=args.provider_id, enabled_only=args.enabled_only
    )
    part = slice_of(entries, query, limit=args.limit, cursor=args.cursor)
    views = [
        ModelView(
            **models.view_model(
                entry, await models.price_of(gateway, catalog, entry) if args.detail == "full" else None
            )
        )
        for entry in part.entries
    ]
    views, cursor = fit_page(views, query, id_of=lambda view: view.model_id, more=part.more)
    version = catalog.configuration.version
    return ModelPage(models=views, count=len(views), next_cursor=cursor, config_version=version)


class RegisterModel(WriteInput):
    """Arguments of register_model."""

    modality: Modality
    provider_id: str
    model_name: str = Field(description="The provider's own name, e.g. nova-3")
    display_name: str | None = None
    default_language: str | None = None
    default_voice: str | None = None
    config: JsonObject | None = Field(default=None, description="Further plugin options")
    model_id: str | None = Field(default=None, description="Default provider_id/model_name")
    enabled: bool | None = None
    on_conflict: OnConflict = "error"


class ModelWritten(Written, ModelView):
    """Answer of register_model."""

    created: bool
    updated: bool


@tool("Register a model", read_only=False, idempotent=False)
async def register_model(gateway: Gateway, args: RegisterModel) -> ModelWritten:
    """Register a model of a configured provider in voicegw.yaml.

    Use when a provider's model is to be used, after add_provider. Answers its price if known.
    """
    model_id = f"{args.provider_id}/{args.model_name}" if args.model_id is None else args.model_id
    plan = partial(
        models.plan_model,
        modality=args.modality,
        provider_id=args.provider_id,
        model_name=args.model_name,
        model_id=model_id,
        fields=args.model_dump(include={"display_name", "default_language", "default_voice", "enabled"}),
        config=args.config,
        update=args.on_conflict == "update",
    )
    receipt = await args.write(gateway, "register_model", plan)
    entry = receipt.catalog.model(model_id)
    view = models.view_model(entry, await models.price_of(gateway, receipt.catalog, entry))
    return ModelWritten.from_receipt(
        receipt, created=not receipt.plan.updates, updated=receipt.plan.updates, **view
    )


class DeleteModel(WriteInput):
    """Arguments of delete_model."""

    model_id: str
    confirm: bool = False
    cascade: bool = Field(default=False, description="Remove its mentions too")


class ModelDeleted(Written):
    """Answer of delete_model."""

    action: Literal["deleted"] = "deleted"
    model_id: str
    projects_affected: list[str]
    stacks_affected: list[str]
    fallbacks_affected: list[str]


@tool("Delete a model", read_only=False, destructive=True, idempotent=False)
async def delete_model(gateway: Gateway, args: DeleteModel) -> ModelDeleted:
    """Delete a model from voicegw.yaml; without confirm, only tell the impact.

    Use when a model is no longer wanted. Ask the person before confirm=true.
    """
    plan = partial(
        models.plan_model_removal, model_id=args.model_id, confirm=args.confirm, cascade=args.cascade
    )
    receipt = await apply_agreed(
        gateway,
        plan,
        tool="delete_model",
        confirm=args.confirm,
        if_version=args.if_version,
        dry_run=args.dry_run,
    )
    return ModelDeleted.from_receipt(receipt, model_id=args.model_id, **receipt.plan.impact)
