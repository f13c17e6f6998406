"""The five provider tools. May import ``core`` and ``tools.define``."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import Field

from voicegw_mcp.core import providers
from voicegw_mcp.core.answers import Answer, Written
from voicegw_mcp.core.confirmation import apply_agreed
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.paging import fit_page, slice_of
from voicegw_mcp.core.probe_answers import Reason
from voicegw_mcp.core.providers import ProviderView
from voicegw_mcp.tools.define import Input, JsonObject, OnConflict, PageInput, WriteInput, tool


class ListProviders(PageInput):
    """Arguments of list_providers."""


class ProviderPage(Answer):
    """Answer of list_providers."""

    providers: list[ProviderView]
    count: int
    next_cursor: str | None = None
    config_version: str


@tool("List providers", read_only=True)
async def list_providers(gateway: Gateway, args: ListProviders) -> ProviderPage:
    """List providers with type, key reference and number of models.

    Use when you need a provider_id.
    """
    catalog, query = gateway.catalog(), {"tool": "list_providers"}
    part = slice_of(catalog.providers.values(), query, limit=args.limit, cursor=args.cursor)
    views = [ProviderView(**providers.view_provider(catalog, entry)) for entry in part.entries]
    views, cursor = fit_page(views, query, id_of=lambda view: view.provider_id, more=part.more)
    version = catalog.configuration.version
    return ProviderPage(providers=views, count=len(views), next_cursor=cursor, config_version=version)


class GetProvider(Input):
    """Arguments of get_provider."""

    provider_id: str


class ProviderDetail(ProviderView):
    """Answer of get_provider."""

    models: list[str]
    projects: list[str]
    file: str
    line: int
    config_version: str


@tool("Show a provider", read_only=True)
async def get_provider(gateway: Gateway, args: GetProvider) -> ProviderDetail:
    """Show one provider with its models, the projects using it, file and line.

    Use when you are about to change or delete it.
    """
    catalog = gateway.catalog()
    entry = catalog.provider(args.provider_id)
    models = catalog.models_of_provider(entry.id)
    return ProviderDetail(
        **providers.view_provider(catalog, entry),
        models=models,
        projects=catalog.projects_of_models(set(models)),
        file=str(entry.place.file),
        line=entry.place.line,
        config_version=catalog.configuration.version,
    )


class TestProvider(Input):
    """Arguments of test_provider."""

    provider_id: str
    timeout_seconds: float = Field(default=10, ge=1, le=30)


class ProviderTest(Answer):
    """Answer of test_provider."""

    provider_id: str
    status: Literal["ok", "failed"]
    reason: Reason
    latency_ms: float
    http_status: int | None = None
    message: str


@tool("Test a provider", read_only=True, open_world=True)
async def test_provider(gateway: Gateway, args: TestProvider) -> ProviderTest:
    """Check a provider's address and key with one free request to it.

    Use when it was added, its key changed, or its calls fail.
    """
    catalog = gateway.catalog()
    entry = catalog.provider(args.provider_id)
    result = await providers.test_entry(gateway, catalog, entry, args.timeout_seconds)
    return ProviderTest(
        provider_id=entry.id,
        status=result.status,
        reason=result.reason,
        latency_ms=result.latency_ms,
        http_status=result.http_status,
        message=result.message,
    )


class AddProvider(WriteInput):
    """Arguments of add_provider."""

    provider_id: str
    provider_type: str = Field(description="deepgram, openai, openai_compatible, ollama, ...")
    api_key: str | None = Field(
        default=None, description="Reference ${NAME} or ${file:PATH}, never a key; default ${TYPE_API_KEY}"
    )
    base_url: str | None = Field(default=None, description="API root, if not the type's own")
    options: JsonObject | None = Field(default=None, description="Further plugin options")
    on_conflict: OnConflict = "error"
    test: bool = Field(default=False, description="Write only if the provider answers well")


class ProviderWritten(Written):
    """Answer of add_provider."""

    provider_id: str
    provider_type: str
    api_key_masked: str
    base_url: str | None = None
    source: str
    created: bool
    updated: bool


@tool("Add a provider", read_only=False, idempotent=False, open_world=True)
async def add_provider(gateway: Gateway, args: AddProvider) -> ProviderWritten:
    """Add a provider to voicegw.yaml, its key as a reference.

    Use when a speech or language service is to be used. Then: `voicegw secrets set NAME`, test_provider,
    register_model.
    """
    plan = partial(
        providers.plan_provider,
        provider_id=args.provider_id,
        provider_type=args.provider_type,
        api_key=args.api_key,
        base_url=args.base_url,
        options=args.options,
        update=args.on_conflict == "update",
    )
    if args.test:
        await providers.require_working(gateway, plan, args.provider_id, if_version=args.if_version)
    receipt = await args.write(gateway, "add_provider", plan)
    view = providers.view_provider(receipt.catalog, receipt.catalog.provider(args.provider_id))
    shown = {
        key: view[key] for key in ("provider_id", "provider_type", "api_key_masked", "base_url", "source")
    }
    return ProviderWritten.from_receipt(
        receipt, created=not receipt.plan.updates, updated=receipt.plan.updates, **shown
    )


class DeleteProvider(WriteInput):
    """Arguments of delete_provider."""

    provider_id: str
    confirm: bool = False
    cascade: bool = Field(default=False, description="Delete its models and their mentions too")


class ProviderDeleted(Written):
    """Answer of delete_provider."""

    action: Literal["deleted"] = "deleted"
    provider_id: str
    models_affected: list[str]
    projects_affected: list[str]
    stacks_affected: list[str]
    fallbacks_affected: list[str]


@tool("Delete a provider", read_only=False, destructive=True, idempotent=False)
async def delete_provider(gateway: Gateway, args: DeleteProvider) -> ProviderDeleted:
    """Delete a provider from voicegw.yaml; without confirm, only tell the impact.

    Use when a service is no longer wanted. Ask the person before confirm=true.
    """
    plan = partial(
        providers.plan_provider_removal,
        provider_id=args.provider_id,
        confirm=args.confirm,
        cascade=args.cascade,
    )
    receipt = await apply_agreed(
        gateway,
        plan,
        tool="delete_provider",
        confirm=args.confirm,
        if_version=args.if_version,
        dry_run=args.dry_run,
    )
    return ProviderDeleted.from_receipt(receipt, provider_id=args.provider_id, **receipt.plan.impact)
