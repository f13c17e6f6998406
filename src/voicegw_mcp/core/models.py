"""Model entries: how they are shown, registered and deleted. May import ``config``, ``domain``, ``errors``, ``core``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.config.document import DELETE, Edit
from voicegw_mcp.core.answers import Answer
from voicegw_mcp.core.drafts import Plan
from voicegw_mcp.core.entries import (
    check_given_references,
    check_options,
    check_text,
    raw_entry,
    reference_edits,
    require_confirmation,
)
from voicegw_mcp.domain import MODEL_ID, MODEL_NAME, Modality, check_id
from voicegw_mcp.errors import AlreadyExists, Conflict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voicegw_mcp.core.catalog import Catalog, ModelEntry
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.core.pricing import Price

RESERVED: Final = frozenset(
    {"provider", "model", "display_name", "default_language", "default_voice", "enabled"}
)
MAX_TEXT: Final = 200


class PriceView(Answer):
    """What a model costs in USD, with where the figure is from and of when; ``family`` means a similar model's price."""

    source: str
    date: str | None = None
    match: str
    usd_per_minute: float | None = None
    usd_per_1000_characters: float | None = None
    usd_per_million_input_tokens: float | None = None
    usd_per_million_output_tokens: float | None = None
    usd_per_million_cached_tokens: float | None = None

    @classmethod
    def of(cls, price: Price) -> PriceView:
        """Return the view of a price."""
        return cls(
            source=price.source,
            date=price.date or None,
            match=price.match,
            usd_per_minute=_float(price.usd_per_minute),
            usd_per_1000_characters=_float(price.usd_per_1000_characters),
            usd_per_million_input_tokens=_float(price.usd_per_million_input_tokens),
            usd_per_million_output_tokens=_float(price.usd_per_million_output_tokens),
            usd_per_million_cached_tokens=_float(price.usd_per_million_cached_tokens),
        )


class ModelView(Answer):
    """One model as list_models shows it."""

    model_id: str
    modality: Modality
    provider_id: str
    model_name: str
    display_name: str | None = None
    default_language: str | None = None
    default_voice: str | None = None
    source: str
    enabled: bool
    price: PriceView | None = None


def view_model(entry: ModelEntry, price: Price | None = None) -> dict[str, Any]:
    """Return the fields of ``ModelView``."""
    return {
        "model_id": entry.id,
        "modality": entry.modality,
        "provider_id": entry.provider_id,
        "model_name": entry.model_name,
        "display_name": entry.settings.display_name,
        "default_language": entry.settings.default_language,
        "default_voice": entry.settings.default_voice,
        "source": entry.place.source,
        "enabled": entry.settings.enabled,
        "price": PriceView.of(price) if price else None,
    }


def select_models(
    catalog: Catalog, *, modality: Modality | None, provider_id: str | None, enabled_only: bool
) -> list[ModelEntry]:
    """Return the models that fit.

    Raises:
        NotFound: no such provider.
    """
    if provider_id is not None:
        catalog.provider(provider_id)
    return [
        entry
        for entry in catalog.models.values()
        if (modality is None or entry.modality == modality)
        and (provider_id is None or entry.provider_id == provider_id)
        and (entry.settings.enabled or not enabled_only)
    ]


async def price_of(gateway: Gateway, catalog: Catalog, entry: ModelEntry) -> Price | None:
    """Return what a model costs now, None when nobody knows."""
    provider = catalog.providers.get(entry.provider_id)
    return await gateway.prices().find_async(
        modality=entry.modality,
        provider_type=provider.type_name if provider else entry.provider_id,
        model_id=entry.id,
        model_name=entry.model_name,
        at_ms=gateway.now_ms(),
    )


def plan_model(
    catalog: Catalog,
    *,
    modality: Modality,
    provider_id: str,
    model_name: str,
    model_id: str,
    fields: Mapping[str, Any],
    config: Mapping[str, Any] | None,
    update: bool,
) -> Plan:
    """Plan to register a model, or with ``update`` to change the given fields of an existing one.

    Args:
        catalog: what there is.
        modality: stt, llm or tts.
        provider_id: an existing provider.
        model_name: the provider's own name of the model.
        model_id: unique over all modalities.
        fields: display_name, default_language, default_voice, enabled; None means not given.
        config: further options for the plugin.
        update: whether an existing model may be changed.

    Raises:
        InvalidInput: a name or id outside the grammar, options that do not hold.
        NotFound: no such provider.
        AlreadyExists: the id is taken, in any modality, and ``update`` is off.
        Conflict: ``update`` would move the model to another modality.
    """
    check_id(model_name, MODEL_NAME, name="model_name")
    catalog.provider(provider_id)
    existing = catalog.models.get(model_id)
    if existing is None:
        check_id(model_id, MODEL_ID, name="model_id")
    elif not update:
        where = f" as {existing.modality} ({existing.place})"
        raise AlreadyExists("model", model_id, where=where)
    elif existing.modality != modality:
        raise Conflict(
            f"Model {model_id} is a model of {existing.modality}; its modality cannot change.",
            hint="Register it under another model_id, or delete it first.",
        )
    for name in ("display_name", "default_language", "default_voice"):
        if fields.get(name) is not None:
            check_text(fields[name], name, longest=MAX_TEXT)
    given = {"provider": provider_id, "model": model_name, **fields}
    entry = {key: value for key, value in given.items() if value is not None}
    if existing is None and entry.get("enabled") is True:
        del entry["enabled"]  # the default needs no line
    entry.update(check_options(config or {}, field="config", reserved=RESERVED))
    check_given_references(catalog, config, "config")
    if existing is not None:
        entry = {**raw_entry(catalog, "models", modality, model_id), **entry}
    verb = "Update" if existing else "Register"
    edits = [Edit(("models", modality, model_id), entry)]
    return Plan(f"{verb} {modality} model {model_id}", edits, updates=existing is not None)


def plan_model_removal(catalog: Catalog, *, model_id: str, confirm: bool, cascade: bool) -> Plan:
    """Plan to delete a model, with ``cascade`` also every mention of it.

    The plan's impact has ``projects_affected``, ``stacks_affected``, ``fallbacks_affected``.

    Raises:
        NotFound: no such model.
        ConfirmationRequired: without ``confirm``; the impact is in ``details``.
        Conflict: something names it and ``cascade`` is off.
    """
    entry = catalog.model(model_id)
    impact = {
        "projects_affected": catalog.projects_of_models({model_id}),
        "stacks_affected": catalog.stacks_of_models({model_id}),
        "fallbacks_affected": catalog.fallbacks_of_models({model_id}),
    }
    require_confirmation(catalog, "model", model_id, impact, confirm=confirm)
    if any(impact.values()) and not cascade:
        named = [
            f"{key.removesuffix('_affected')} {', '.join(names[:5])}"
            for key, names in impact.items()
            if names
        ]
        raise Conflict(
            f"Model {model_id} is named by {'; '.join(named)}.",
            hint="Change those first, or pass cascade=true to remove every mention of it too.",
            details=impact,
        )
    edits = [Edit(("models", entry.modality, model_id), DELETE), *reference_edits(catalog, {model_id})]
    return Plan(f"Delete {entry.modality} model {model_id}", edits, impact=impact)


def _float(amount: Any) -> float | None:
    return None if amount is None else float(amount)
