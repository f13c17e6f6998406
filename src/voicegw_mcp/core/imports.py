"""What becomes of a VoiceGateway store here: its rows go into our log, its managed entries into ``voicegw.yaml``.

Importing again adds only what is new, so a run that was interrupted is simply repeated. Entries follow the rules of the
tools that add such entries; what does not is listed with its reason and left out, never bent into shape. Texts stay
texts: VoiceGateway expanded no ``${NAME}`` in its store, so one that holds it is left out as well. May import
``config``, ``store``, ``domain``, ``errors`` and ``core``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast, get_args

import anyio

from voicegw_mcp.config.addresses import check_base_url
from voicegw_mcp.config.document import Edit
from voicegw_mcp.config.schema import BudgetAction
from voicegw_mcp.config.secrets import REFERENCE
from voicegw_mcp.core import models, providers
from voicegw_mcp.core.changes import apply_change
from voicegw_mcp.core.drafts import Plan
from voicegw_mcp.core.entries import MAX_OPTIONS, check_options
from voicegw_mcp.core.projects import MAX_TAGS, MAX_TEXT
from voicegw_mcp.core.provider_types import PROVIDER_TYPES, ProviderType, find_provider_type
from voicegw_mcp.domain import DEFAULT_PROJECT, ENTRY_ID, MODEL_ID, MODEL_NAME, Modality, check_id
from voicegw_mcp.errors import InvalidInput, quote
from voicegw_mcp.store.retention import insert_imported
from voicegw_mcp.store.voicegateway import ManagedProject, VoiceGatewayStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
    from pathlib import Path

    from voicegw_mcp.core.catalog import Catalog
    from voicegw_mcp.core.changes import Receipt
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.store.voicegateway import ManagedModel, ManagedProvider

_FREE_MODELS: Final = ("local/", "ollama/")
"""Model ids that VoiceGateway runs on one's own machine and prices at 0 on purpose."""

_UNTOUCHED_DEFAULT: Final = ManagedProject(
    DEFAULT_PROJECT, "Default", "Auto-created on first run.", "warn", "", "", "", "", "[]", 0.0
)
TOO_OLD: Final = "older than the rows this log keeps"
"""Why rows are skipped that may have been imported and pruned."""
_MOST_ECHO: Final = 200
_MOST_AT_ONCE: Final = 250
"""Entries of one change: each is verified on the whole text, and other changes wait meanwhile (about 4 s)."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that was not imported. ``kind``: provider, model, project, or option (``id`` is then ``entry.name``)."""

    kind: str
    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class EntryPlan:
    """What becomes of the managed entries. ``plan`` is None when there is nothing to add.

    ``added`` and ``kept`` (the file has them already) name entries as ``provider ID``, ``model ID``, ``project ID``;
    ``secrets`` are the variables the added providers' keys are looked up by, for ``voicegw secrets set``.
    """

    plan: Plan | None
    added: tuple[str, ...]
    kept: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    secrets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RequestImport:
    """What became of the request rows: ``read`` is ``added`` + ``known`` + all of ``skipped`` (rows by reason).

    ``cost_nanousd`` is the sum over added and known rows, each rounded to whole nano-USD.
    """

    read: int
    added: int
    known: int
    skipped: dict[str, int]
    cost_nanousd: int


@asynccontextmanager
async def open_source(path: Path) -> AsyncGenerator[VoiceGatewayStore, None]:
    """Open a VoiceGateway store for the time of the block, without blocking the event loop.

    Raises:
        InvalidInput: ``file``: it is no VoiceGateway store, or damaged.
        StoreUnavailable: locked, or not permitted.
    """
    source = await anyio.to_thread.run_sync(VoiceGatewayStore.open, path)
    try:
        yield source
    finally:
        source.close()


async def import_requests(
    gateway: Gateway, source: VoiceGatewayStore, *, progress: Callable[[int, int], None]
) -> RequestImport:
    """Copy the request rows into the log, all that it does not have yet.

    Args:
        gateway: whose log.
        source: what to read.
        progress: called with rows done and rows in all, first with 0 and then after each batch is safe in the log.

    Raises:
        InvalidInput: ``file``: the source is damaged.
        StoreUnavailable: source or log is locked or cannot be read or written. What was written before stays.
    """
    store = await gateway.store()
    is_free = await anyio.to_thread.run_sync(_freedom, source)
    total = await anyio.to_thread.run_sync(source.count_requests)
    progress(0, total)
    read = added = cost = 0
    skipped: Counter[str] = Counter()
    last: int | None = None
    while True:
        batch = await anyio.to_thread.run_sync(source.read_requests, last, is_free)
        if not batch.rows:
            break
        imported = await store.write(partial(insert_imported, records=batch.records))
        added += imported.added
        read, last = read + batch.rows, batch.last
        skipped += batch.skipped + Counter({TOO_OLD: imported.too_old})
        cost += sum(record.cost_nanousd or 0 for record in batch.records)
        progress(read, max(read, total))
    return RequestImport(read, added, read - added - skipped.total(), dict(skipped), cost)


async def import_entries(
    gateway: Gateway, source: VoiceGatewayStore, *, dry_run: bool, if_version: str | None = None
) -> tuple[EntryPlan, Receipt | None]:
    """Add the managed entries to ``voicegw.yaml`` as one change; the receipt is None when there is nothing to add.

    Args:
        gateway: whose file.
        source: what to read.
        dry_run: work out the diff and write nothing.
        if_version: the version a diff was shown on; any other refuses.

    Raises:
        InvalidInput: ``file``: the source is damaged.
        ConfigInvalid, Conflict, ReadOnly, StoreUnavailable: like every change.
    """
    planned: list[EntryPlan] = []

    def plan(catalog: Catalog) -> Plan:
        planned.append(plan_entries(source, catalog))
        return planned[-1].plan or Plan("Import nothing", [])

    receipt = await apply_change(gateway, plan, tool="import", if_version=if_version, dry_run=dry_run)
    return planned[-1], receipt if planned[-1].plan else None


def plan_entries(source: VoiceGatewayStore, catalog: Catalog) -> EntryPlan:
    """Work out what becomes of the managed entries; reads the source, so not on an event loop."""
    planner = _Planner(catalog)
    for provider in source.managed_providers():
        planner.take("provider", provider.provider_id, catalog.providers, partial(planner.provider, provider))
    for model in source.managed_models():
        planner.take("model", model.model_id, catalog.models, partial(planner.model, model))
    declared = {entry.id for entry in catalog.projects.values() if entry.declared}
    for project in source.managed_projects():
        if project != _UNTOUCHED_DEFAULT:
            planner.take("project", project.project_id, declared, partial(planner.project, project))
    return planner.result(source.path.name)


class _Planner:
    """Gathers the outcome entry by entry: providers first, then models, then projects, which may name those before."""

    def __init__(self, catalog: Catalog) -> None:
        self._providers = set(catalog.providers)
        self._models = {entry.id: entry.modality for entry in catalog.models.values()}
        self._stacks = set(catalog.settings.stacks)
        found = (REFERENCE.fullmatch(entry.settings.api_key or "") for entry in catalog.providers.values())
        self._taken = {match["name"] for match in found if match}
        self._taken |= {kind.key_variable for kind in PROVIDER_TYPES.values()}
        self._edits: list[Edit] = []
        self._added: list[str] = []
        self._kept: list[str] = []
        self._skipped: list[Skipped] = []
        self._secrets: list[str] = []

    def take(self, kind: str, entry_id: str, existing: Iterable[str], make: Callable[[], Edit]) -> None:
        """Put one entry where it belongs: kept, added or skipped."""
        if entry_id in existing:
            self._kept.append(f"{kind} {entry_id}")
            return
        try:
            if len(self._edits) == _MOST_AT_ONCE:
                raise InvalidInput("There are too many for one change: import again for the rest.")  # noqa: TRY301 - listed like the others
            self._edits.append(make())
        except InvalidInput as error:
            self._skip(kind, entry_id, error)
        else:
            self._added.append(f"{kind} {entry_id}")

    def provider(self, row: ManagedProvider) -> Edit:
        """Return the edit that adds a provider, or raise InvalidInput."""
        if row.project:
            raise InvalidInput(
                f"It is for project {quote(row.project)} alone. Providers are for all projects here: add it by hand "
                "under an id of its own."
            )
        check_id(row.provider_id, ENTRY_ID, name="provider_id")
        kind = find_provider_type(row.provider_type)
        base_url = _plain(check_base_url(row.base_url), "base_url") if row.base_url else None
        options = self._options(row.provider_id, row.extra_config, providers.RESERVED)
        entry = {
            "type": kind.name if kind.name != row.provider_id else None,
            "api_key": self._key_reference(row, kind),
            "base_url": base_url,
            **options,
        }
        self._providers.add(row.provider_id)
        return Edit(("providers", row.provider_id), _given(entry))

    def model(self, row: ManagedModel) -> Edit:
        """Return the edit that adds a model, or raise InvalidInput."""
        if row.modality not in set(Modality):
            raise InvalidInput(f"Its modality {quote(row.modality)} is none of {', '.join(Modality)}.")
        check_id(row.model_id, MODEL_ID, name="model_id")
        check_id(row.model_name, MODEL_NAME, name="model_name")
        if row.provider_id not in self._providers:
            raise InvalidInput(f"Its provider {quote(row.provider_id)} is neither in the file nor imported.")
        entry = {
            "provider": row.provider_id,
            "model": row.model_name,
            **{
                name: _plain(getattr(row, name), name) or None
                for name in ("display_name", "default_language", "default_voice")
            },
            "enabled": None if row.enabled else False,
        }
        entry |= self._options(row.model_id, row.extra_config, models.RESERVED)
        self._models[row.model_id] = Modality(row.modality)
        return Edit(("models", row.modality, row.model_id), _given(entry))

    def project(self, row: ManagedProject) -> Edit:
        """Return the edit that adds a project, or raise InvalidInput."""
        check_id(row.project_id, ENTRY_ID, name="project_id")
        if row.daily_budget is None:
            raise InvalidInput("Its daily budget is not a number of at least 0.")
        if row.budget_action not in get_args(BudgetAction):
            choices = ", ".join(get_args(BudgetAction))
            raise InvalidInput(f"Its budget action {quote(row.budget_action)} is none of {choices}.")
        if row.default_stack and row.default_stack not in self._stacks:
            raise InvalidInput(f"Its stack {quote(row.default_stack)} is not in the file.")
        entry = {
            "name": _plain(row.name, "name").strip() or row.project_id,
            "description": _plain(row.description, "description") or None,
            "daily_budget": row.daily_budget or None,
            "budget_action": row.budget_action if row.budget_action != "warn" else None,
            "default_stack": row.default_stack or None,
            **{f"{modality}_model": self._chosen(row, modality) for modality in Modality},
            "tags": _tags(row.tags) or None,
        }
        return Edit(("projects", row.project_id), _given(entry))

    def result(self, file_name: str) -> EntryPlan:
        """Return the outcome; one edit for each entry, so that undo can judge them one by one."""
        kinds = Counter(entry.partition(" ")[0] for entry in self._added)
        counted = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds.items())
        summary = f"Import {counted} of {quote(file_name)}"
        return EntryPlan(
            Plan(summary, tuple(self._edits)) if self._edits else None,
            tuple(self._added),
            tuple(self._kept),
            tuple(self._skipped),
            tuple(self._secrets),
        )

    def _skip(self, kind: str, entry_id: str, error: InvalidInput) -> None:
        shown = entry_id if entry_id.isprintable() and 0 < len(entry_id) <= _MOST_ECHO else quote(entry_id)
        self._skipped.append(Skipped(kind, shown, error.message))

    def _options(self, owner: str, text: str, reserved: frozenset[str]) -> dict[str, Any]:
        """Return the options that are fit for the file; the others are listed as skipped."""
        found = _json(text or "{}")
        if not isinstance(found, dict):
            self._skip("option", f"{owner}.extra_config", InvalidInput("It is not a JSON object."))
            return {}
        fit: dict[str, Any] = {}
        for name, value in cast("dict[str, Any]", found).items():
            try:
                if len(fit) == MAX_OPTIONS:
                    raise InvalidInput(f"There are more than {MAX_OPTIONS} options.")  # noqa: TRY301 - listed like the others
                checked = check_options({name: value}, field="extra_config", reserved=reserved)
                _check_texts(value, "the option")
            except InvalidInput as error:
                self._skip("option", f"{owner}.{name}", error)
            else:
                fit |= checked
        return fit

    def _key_reference(self, row: ManagedProvider, kind: ProviderType) -> str | None:
        """Return the reference that takes the place of a key, None where none is needed, and note its variable.

        A provider with a key of its own under an id of its own gets a variable of its own, never one that stands for
        another provider's key: that key would go to the wrong address.
        """
        if not row.has_key and kind.key_optional:
            return None
        name = kind.key_variable or f"{kind.name.upper()}_API_KEY"
        if row.has_key and row.provider_id != kind.name:
            usual = re.sub(r"^(?=\d)|[^A-Z0-9]", "_", row.provider_id.upper()) + "_API_KEY"
            name, number = usual, 2
            while name in self._taken:
                name, number = f"{usual}_{number}", number + 1
        self._taken.add(name)
        if name not in self._secrets:
            self._secrets.append(name)
        return f"${{{name}}}"

    def _chosen(self, row: ManagedProject, modality: Modality) -> str | None:
        model_id: str = getattr(row, f"{modality}_model")
        if model_id and model_id not in self._models:
            raise InvalidInput(f"Its {modality}_model {quote(model_id)} is neither in the file nor imported.")
        if model_id and self._models[model_id] != modality:
            raise InvalidInput(
                f"Its {modality}_model {quote(model_id)} is a model of {self._models[model_id]}, not {modality}."
            )
        return model_id or None


def _freedom(source: VoiceGatewayStore) -> Callable[[str, str], bool]:
    """Return what says of provider and model id whether it runs on one's own machine."""
    local = {"local", *(kind.name for kind in PROVIDER_TYPES.values() if kind.local)}
    local |= {row.provider_id for row in source.managed_providers() if row.provider_type in local}
    return lambda provider, model_id: provider in local or model_id.startswith(_FREE_MODELS)


def _given(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value is not None}


def _tags(text: str) -> list[str]:
    found = _json(text or "[]")
    if not isinstance(found, list) or len(tags := cast("list[object]", found)) > MAX_TAGS:
        raise InvalidInput(f"Its tags are not a list of at most {MAX_TAGS} texts.")
    texts = [_plain(tag, "tag") for tag in tags if isinstance(tag, str)]
    if len(texts) < len(tags) or not all(0 < len(tag) <= 64 for tag in texts):
        raise InvalidInput("One of its tags is not a text of 1 to 64 characters.")
    return texts


def _json(text: str) -> object:
    """Return what a JSON text holds, None when it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _plain(text: str, what: str) -> str:
    """Return a text of the file, or raise InvalidInput naming ``what`` it is."""
    if len(text) > MAX_TEXT:
        raise InvalidInput(f"Its {what} is longer than {MAX_TEXT} characters.")
    _check_texts(text, f"its {what}")
    return text


def _check_texts(value: object, what: str) -> None:
    """Refuse texts, at any depth, that the file would read as a reference, or that nobody can see there."""
    for text in _texts(value):
        if "${" in text:
            raise InvalidInput(f"{what.capitalize()} holds ${{, which the file would read as a reference.")
        if not all(character.isprintable() or character == "\n" for character in text):
            raise InvalidInput(f"{what.capitalize()} holds control characters.")


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in cast("dict[str, object]", value).items():
            yield key
            yield from _texts(item)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _texts(item)
