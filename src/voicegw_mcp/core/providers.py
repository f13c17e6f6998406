"""Provider entries: how they are shown, added, tested and deleted. May import ``config``, ``domain``, ``errors``, ``core``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.config.addresses import check_base_url
from voicegw_mcp.config.document import DELETE, Edit
from voicegw_mcp.config.redaction import hide_in_text
from voicegw_mcp.config.secrets import is_reference
from voicegw_mcp.core.answers import Answer
from voicegw_mcp.core.changes import apply_change
from voicegw_mcp.core.drafts import Plan
from voicegw_mcp.core.entries import (
    check_given_references,
    check_options,
    check_reference,
    raw_entry,
    reference_edits,
    require_confirmation,
)
from voicegw_mcp.core.probes import probe
from voicegw_mcp.core.provider_types import default_key_reference, find_provider_type
from voicegw_mcp.domain import ENTRY_ID, Role, check_id
from voicegw_mcp.errors import AlreadyExists, Conflict, InvalidInput, ProviderFailed, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from voicegw_mcp.config.secrets import Lookup
    from voicegw_mcp.core.catalog import Catalog, ProviderEntry
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.core.probe_answers import ProbeResult

RESERVED: Final = frozenset({"type", "api_key", "base_url", "enabled"})


class ProviderView(Answer):
    """One provider as list_providers shows it; ``api_key_masked`` is the reference, never characters of a key."""

    provider_id: str
    provider_type: str
    type: str
    source: str
    enabled: bool
    api_key_masked: str
    base_url: str | None = None
    model_count: int


class ProviderStatus(Answer):
    """Whether a provider could be called now; ``reason`` says what is missing."""

    configured: bool
    type: str
    model_count: int
    has_api_key: bool
    reason: str | None = None
    key_reference: str | None = None


def view_provider(catalog: Catalog, entry: ProviderEntry) -> dict[str, Any]:
    """Return the fields of ``ProviderView``."""
    return {
        "provider_id": entry.id,
        "provider_type": entry.type_name,
        "type": "local" if entry.local else "cloud",
        "source": entry.place.source,
        "enabled": entry.settings.enabled,
        "api_key_masked": show_key(entry),
        "base_url": hide_in_text(entry.settings.base_url)
        if entry.settings.base_url
        else (entry.provider_type.base_url if entry.provider_type else None),
        "model_count": len(catalog.models_of_provider(entry.id)),
    }


def show_key(entry: ProviderEntry) -> str:
    """Return the reference a key is looked up by; a key written into the file itself is only named as such."""
    reference = entry.key_reference
    if not reference:
        return ""
    return reference if is_reference(reference) else "(a literal key in the file)"


def provider_status(gateway: Gateway, catalog: Catalog, entry: ProviderEntry) -> ProviderStatus:
    """Return whether ``entry`` has all it needs, and the reason and the command to run when not."""
    found = gateway.secrets.look_up(entry.key_reference) if entry.key_reference is not None else None
    reason = missing_key(entry, found)
    if entry.provider_type is None:
        reason = f"unknown provider type {quote(entry.type_name)}"
    elif not entry.settings.enabled:
        reason = "disabled in the file (enabled: false)"
    return ProviderStatus(
        configured=not reason,
        type="local" if entry.local else "cloud",
        model_count=len(catalog.models_of_provider(entry.id)),
        has_api_key=found is not None and found.value is not None,
        reason=reason or None,
        key_reference=show_key(entry) or None,
    )


def missing_key(entry: ProviderEntry, found: Lookup | None) -> str:
    """Return why a provider that needs a key has none, and the command to run; "" when nothing is missing."""
    if found is None or found.value is not None or not needs_key(entry):
        return ""
    return found.reason + (f"; run: {found.command}" if found.command else "")


def needs_key(entry: ProviderEntry) -> bool:
    """Say whether calls fail without a key: local servers and OpenAI-compatible ones may do without."""
    return not entry.local and not (entry.provider_type and entry.provider_type.key_optional)


async def test_entry(
    gateway: Gateway, catalog: Catalog, entry: ProviderEntry, timeout_s: float
) -> ProbeResult:
    """Ask the provider itself whether address and key are right, by one documented GET.

    Args:
        gateway: looks the key up.
        catalog: knows which hosts may be private.
        entry: the provider, configured or about to be.
        timeout_s: bound on the whole check.

    Raises:
        Forbidden: the caller is a viewer; the request carries the gateway's key.
        InvalidInput: the provider's type is unknown.
    """
    gateway.caller.access.require(Role.OPERATOR, "A request to a provider")
    if entry.provider_type is None:
        raise InvalidInput(
            f"Provider {quote(entry.id)} has the unknown type {quote(entry.type_name)}.",
            field="provider_id",
            hint="Correct its `type:` in the file; get_health lists the valid one that is nearest.",
        )
    found = gateway.secrets.look_up(entry.key_reference) if entry.key_reference else None
    return await probe(
        entry.provider_type,
        base_url=entry.settings.base_url,
        api_key=found.value if found else None,
        key_hint=missing_key(entry, found),
        timeout_s=timeout_s,
        allowed_private_hosts=frozenset(catalog.settings.security.allow_private_hosts),
        options=entry.settings.options(),
    )


def plan_provider(
    catalog: Catalog,
    *,
    provider_id: str,
    provider_type: str,
    api_key: str | None,
    base_url: str | None,
    options: Mapping[str, Any] | None,
    update: bool,
) -> Plan:
    """Plan to add a provider, or with ``update`` to change the given fields of an existing one.

    Raises:
        InvalidInput: id, type, reference, address or options do not hold.
        AlreadyExists: the id is taken and ``update`` is off.
    """
    existing = catalog.providers.get(provider_id)
    if existing is None:
        check_id(provider_id, ENTRY_ID, name="provider_id")
    elif not update:
        raise AlreadyExists("provider", provider_id, where=f" ({existing.place})")
    kind = find_provider_type(provider_type)
    reference = check_reference(api_key, default_key_reference(kind), catalog.configuration.path.parent)
    new_service = existing is None or existing.type_name != provider_type
    if reference is None and new_service and not kind.local and not kind.key_optional:
        reference = default_key_reference(kind)
    if base_url is not None:
        base_url = check_base_url(base_url)
    given: dict[str, Any] = {
        "type": provider_type
        if provider_type != provider_id or (existing and existing.settings.type)
        else None,
        "api_key": reference,
        "base_url": base_url,
        **check_options(options or {}, field="options", reserved=RESERVED),
    }
    check_given_references(catalog, reference, "api_key")
    check_given_references(catalog, options, "options")
    entry = {key: value for key, value in given.items() if value is not None}
    if existing is not None:
        raw = raw_entry(catalog, "providers", provider_id)
        if new_service:
            # Key and address belong to the old service: the new one must not be sent them.
            raw = {key: value for key, value in raw.items() if key not in {"api_key", "base_url"}}
        entry = {**raw, **entry}
    verb = "Update" if existing else "Add"
    return Plan(
        f"{verb} provider {provider_id}",
        [Edit(("providers", provider_id), entry)],
        updates=existing is not None,
    )


def plan_provider_removal(catalog: Catalog, *, provider_id: str, confirm: bool, cascade: bool) -> Plan:
    """Plan to delete a provider, with ``cascade`` also its models and every mention of them.

    The plan's impact has ``models_affected``, ``projects_affected``, ``stacks_affected``, ``fallbacks_affected``.

    Raises:
        NotFound: no such provider.
        ConfirmationRequired: without ``confirm``; the impact is in ``details``.
        Conflict: models use it and ``cascade`` is off.
    """
    catalog.provider(provider_id)
    models = catalog.models_of_provider(provider_id)
    impact = {
        "models_affected": models,
        "projects_affected": catalog.projects_of_models(set(models)),
        "stacks_affected": catalog.stacks_of_models(set(models)),
        "fallbacks_affected": catalog.fallbacks_of_models(set(models)),
    }
    require_confirmation(catalog, "provider", provider_id, impact, confirm=confirm)
    if models and not cascade:
        raise Conflict(
            f"{len(models)} model(s) use provider {provider_id}: {', '.join(models[:5])}.",
            hint="Delete the models first, or pass cascade=true to delete them and every mention of them too.",
            details=impact,
        )
    edits = [Edit(("providers", provider_id), DELETE)]
    edits += [Edit(("models", catalog.models[model].modality, model), DELETE) for model in models]
    edits += reference_edits(catalog, set(models))
    return Plan(f"Delete provider {provider_id}", edits, impact=impact)


async def require_working(
    gateway: Gateway, plan: Callable[[Catalog], Plan], provider_id: str, *, if_version: str | None
) -> None:
    """Check a provider as ``plan`` would leave it, before it is written.

    Raises:
        ProviderFailed: the check failed; reason and HTTP status are in ``details``.
    """
    planned = await apply_change(gateway, plan, tool="add_provider", if_version=if_version, dry_run=True)
    result = await test_entry(gateway, planned.catalog, planned.catalog.provider(provider_id), 10.0)
    if result.status != "ok":
        raise ProviderFailed(
            f"The check of provider {provider_id} failed ({result.reason}): {result.message} Nothing was written.",
            hint="Correct what the message names, or add the provider with test=false.",
            details={"reason": result.reason, "http_status": result.http_status},
        )
