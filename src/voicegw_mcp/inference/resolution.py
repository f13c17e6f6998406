"""What a model's text stands for: ``deepgram/nova-3:en`` as a provider's account, a model and its defaults.

The rules are those of VoiceGateway and of LiveKit's own ``inference``, with one addition: a whole id that is configured
goes before its parts, so that ids with a colon of their own are not cut. May import ``core``, ``config``, ``domain`` and
``errors``; never LiveKit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.core.provider_types import PROVIDER_TYPES, ProviderType, default_key_reference
from voicegw_mcp.domain import Modality
from voicegw_mcp.errors import InvalidInput, NotFound, nearest, quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from voicegw_mcp.config.schema import Stack
    from voicegw_mcp.core.catalog import Catalog, ModelEntry, ProjectEntry

SUFFIX: Final = {Modality.STT: "language", Modality.TTS: "voice"}
"""What follows the last colon of a text; a language model has no suffix, its ids keep their colons."""


@dataclass(frozen=True, slots=True)
class Account:
    """A provider as one project uses it: its own entry under ``projects.ID.providers`` goes before the provider's, key by key.

    ``project`` is that project, None when it has no entry of its own. ``kind`` is None for a type we do not know.
    ``key_reference`` is None when nothing names a key.
    """

    provider_id: str
    type_name: str
    kind: ProviderType | None
    base_url: str | None
    key_reference: str | None
    options: Mapping[str, Any]
    project: str | None

    @property
    def local(self) -> bool:
        """Whether requests cost nothing: it runs on the user's own machine or network."""
        return self.kind is not None and self.kind.local


@dataclass(frozen=True, slots=True)
class Choice:
    """One model of one account. ``language``, ``voice`` and ``options`` are what text and configuration say."""

    account: Account
    modality: Modality
    model_id: str
    model: str
    language: str | None
    voice: str | None
    options: Mapping[str, Any]


def find_account(catalog: Catalog, provider_id: str, project: ProjectEntry | None) -> Account:
    """Return the account of a provider that ``project`` uses.

    Raises:
        NotFound: no provider has this id; near matches are named.
        InvalidInput: the provider, or the project's own account there, is switched off.
    """
    shared = catalog.providers.get(provider_id)
    own = project.settings.providers.get(provider_id) if project else None
    if shared is None and own is None:
        raise _unknown_provider(catalog, provider_id)
    for settings, where in (
        (shared and shared.settings, f"providers.{provider_id}"),
        (own, f"projects.{project.id if project else ''}.providers.{provider_id}"),
    ):
        if settings is not None and not settings.enabled:
            raise InvalidInput(
                f"Provider {provider_id} is switched off ({where}.enabled: false).",
                field="model",
                hint="Switch it on in the file, or use a model of another provider.",
                details={"provider_id": provider_id},
            )
    entries = [settings for settings in (own, shared.settings if shared else None) if settings is not None]
    type_name = next((entry.type for entry in entries if entry.type), provider_id)
    kind = PROVIDER_TYPES.get(type_name)
    key = next((entry.api_key for entry in entries if entry.api_key), None)
    return Account(
        provider_id=provider_id,
        type_name=type_name,
        kind=kind,
        base_url=next((entry.base_url for entry in entries if entry.base_url), None),
        key_reference=key or (default_key_reference(kind) if kind else None),
        options={name: value for entry in reversed(entries) for name, value in entry.options().items()},
        project=project.id if project and own is not None else None,
    )


def resolve(catalog: Catalog, modality: Modality, text: str, project: ProjectEntry | None = None) -> Choice:
    """Return what ``text`` stands for.

    In this order: a configured id of this modality, one with a suffix (STT: language, TTS: voice) behind its last colon,
    ``provider/model`` of a configured provider, listed or not, with such a suffix.

    Args:
        catalog: what is configured.
        modality: what the model shall do.
        text: the id.
        project: whose account is used.

    Raises:
        InvalidInput: it is empty, a model of another modality, switched off, or ends in a colon.
        NotFound: there is no such model or provider; near matches are named.
    """
    if not isinstance(text, str) or not text.strip():  # pyright: ignore[reportUnnecessaryIsInstance] - callers need not be typed
        raise InvalidInput(
            f"{quote(text)} names no model.", field="model", hint="Pass 'provider/model', or a model's id."
        )
    entry, suffix = _find_configured(catalog, modality, text)
    if entry is not None:
        if not entry.settings.enabled:
            raise InvalidInput(
                f"Model {entry.id} is switched off ({entry.place}).",
                field="model",
                hint="Set enabled: true there, or use another model.",
            )
        return Choice(
            account=find_account(catalog, entry.provider_id, project),
            modality=modality,
            model_id=entry.id,
            model=entry.model_name,
            language=(suffix if modality is Modality.STT else None) or entry.settings.default_language,
            voice=(suffix if modality is Modality.TTS else None) or entry.settings.default_voice,
            options=entry.settings.options(),
        )
    provider_ids = {*catalog.providers, *(project.settings.providers if project else ())}
    provider_id = provider_of(text, provider_ids)
    if provider_id is None:
        head, slash, _ = text.partition("/")
        raise _unknown_provider(catalog, head) if slash else _unknown_model(catalog, modality, text)
    model, suffix = split_suffix(modality, text[len(provider_id) + 1 :])
    if not model:
        raise InvalidInput(
            f"{quote(text)} names a provider and no model.", field="model", hint="Pass 'provider/model'."
        )
    return Choice(
        account=find_account(catalog, provider_id, project),
        modality=modality,
        model_id=f"{provider_id}/{model}",
        model=model,
        language=suffix if modality is Modality.STT else None,
        voice=suffix if modality is Modality.TTS else None,
        options={},
    )


def provider_of(text: str, provider_ids: Iterable[str]) -> str | None:
    """Return the provider that ``provider/model`` names, None when it names none of them."""
    return max((each for each in provider_ids if text.startswith(f"{each}/")), key=len, default=None)


def split_suffix(modality: Modality, text: str) -> tuple[str, str | None]:
    """Return the text before its last colon and what follows, the whole and None when nothing does.

    Raises:
        InvalidInput: it ends in a colon.
    """
    head, colon, suffix = text.rpartition(":")
    if modality not in SUFFIX or not colon:
        return text, None
    if not suffix:
        raise InvalidInput(
            f"{quote(text)} ends in a colon.",
            field="model",
            hint=f"Write the {SUFFIX[modality]} behind it, or leave the colon out.",
        )
    return head, suffix


def accounts_of(catalog: Catalog, names: Iterable[str], project: ProjectEntry | None = None) -> list[Account]:
    """Return the accounts behind stacks, models and providers of these names.

    Raises:
        NotFound: nothing has one of the names; near matches are named.
        InvalidInput: as ``find_account``.
    """
    found: list[str] = []
    for name in names:
        stack = catalog.settings.stacks.get(name)
        for text in [name] if stack is None else stack.model_dump(exclude_none=True).values():
            entry = catalog.models.get(text) or catalog.models.get(text.rpartition(":")[0])
            known = {*catalog.providers, *(project.settings.providers if project else ())}
            named = entry.provider_id if entry else provider_of(f"{text}/", known)
            if named is None:
                head, slash, _ = text.partition("/")
                raise (
                    _unknown_provider(catalog, head)
                    if slash
                    else NotFound("model", text, [*catalog.models, *known, *catalog.settings.stacks])
                )
            found.append(named)
    return [find_account(catalog, each, project) for each in dict.fromkeys(found)]


def find_stack(catalog: Catalog, name: str) -> Stack:
    """Return the stack called ``name``.

    Raises:
        InvalidInput: there is none; near matches are named.
    """
    stacks = catalog.settings.stacks
    if name in stacks:
        return stacks[name]
    near = nearest(str(name), stacks)
    raise InvalidInput(
        f"No stack is called {quote(name)}.",
        field="stack",
        hint=f"Did you mean {', '.join(near)}?" if near else f"There are: {', '.join(stacks) or 'none'}.",
        details={"nearest": near},
    )


def _find_configured(catalog: Catalog, modality: Modality, text: str) -> tuple[ModelEntry | None, str | None]:
    """Return the listed model that ``text`` names, with the suffix behind it."""
    whole = catalog.models.get(text)
    head, suffix = (text, None) if whole else split_suffix(modality, text)
    entry = whole or catalog.models.get(head)
    if entry is not None and entry.modality != modality:
        near = nearest(text, _ids(catalog, modality))
        raise InvalidInput(
            f"{quote(entry.id)} is a model of {entry.modality}, not {modality} ({entry.place}).",
            field="model",
            hint=f"Use inference.{entry.modality.upper()}"
            + (f", or one of its neighbours here: {', '.join(near)}." if near else "."),
            details={"nearest": near},
        )
    return entry, suffix


def _ids(catalog: Catalog, modality: Modality) -> list[str]:
    return [entry.id for entry in catalog.models.values() if entry.modality == modality]


def _unknown_model(catalog: Catalog, modality: Modality, text: str) -> NotFound:
    error = NotFound("model", text, _ids(catalog, modality))
    error.details["field"] = "model"
    return error


def _unknown_provider(catalog: Catalog, provider_id: str) -> NotFound:
    error = NotFound("provider", provider_id, catalog.providers)
    error.details["field"] = "model"
    if provider_id in PROVIDER_TYPES:
        error.hint = (
            f"Add it: `voicegw call add_provider provider_id={provider_id} provider_type={provider_id}`."
        )
    return error
