"""What is configured, as entries with their references: the read side of one version of ``voicegw.yaml``.

May import ``config``, ``domain``, ``errors``, ``core.provider_types``. A catalog is made anew for each version of the
file and never changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from voicegw_mcp.config.parse import Problem
from voicegw_mcp.config.redaction import secret_places
from voicegw_mcp.core.provider_types import PROVIDER_TYPES, ProviderType, default_key_reference
from voicegw_mcp.domain import DEFAULT_PROJECT, Modality
from voicegw_mcp.errors import NotFound, nearest, quote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from voicegw_mcp.config.file import Configuration
    from voicegw_mcp.config.schema import Model, Project, Provider

MOST_NARROWED: Final = 64
"""How many views of a catalog are kept."""

MOST_GUESSES: Final = 16
"""For how many names that lead nowhere the nearest one is looked for: each is compared with all there are."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry is written: the file, its line, and ``yaml``, ``overlay`` or ``auto`` (nowhere) as its source."""

    file: Path
    line: int
    source: Literal["yaml", "overlay", "auto"]

    def __str__(self) -> str:
        return f"{self.file.name}:{self.line}"


@dataclass(frozen=True, slots=True)
class ProviderEntry:
    """One provider. ``provider_type`` is None when its type is none we know; ``key_reference`` never a key."""

    id: str
    type_name: str
    provider_type: ProviderType | None
    settings: Provider
    place: Place

    @property
    def local(self) -> bool:
        """Whether it runs on this machine or network and needs no key."""
        return self.provider_type is not None and self.provider_type.local

    @property
    def key_reference(self) -> str | None:
        """The reference its key is looked up by: the file's, else the type's usual variable; None for local ones."""
        if self.settings.api_key is not None:
            return self.settings.api_key
        return None if self.provider_type is None else default_key_reference(self.provider_type)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model. ``model_name`` is the provider's own name for it."""

    id: str
    modality: Modality
    provider_id: str
    model_name: str
    settings: Model
    place: Place


@dataclass(frozen=True, slots=True)
class ProjectEntry:
    """One project; the auto-made ``default`` is written nowhere. ``models`` are ids by modality."""

    id: str
    settings: Project
    models: dict[Modality, str]
    place: Place

    @property
    def declared(self) -> bool:
        """Whether it is written in a file."""
        return self.place.source != "auto"


class Catalog:
    """The entries of one configuration, by id, in the file's order.

    Args:
        configuration: one version of the file.
        only: the ids of the projects that can be seen; None is all.
    """

    def __init__(self, configuration: Configuration, only: frozenset[str] | None = None) -> None:
        self.configuration = configuration
        self.settings = configuration.settings
        self._only = only
        self._narrowed: dict[frozenset[str], Catalog] = {}
        self._guesses: dict[tuple[str, str], list[str]] = {}

    def narrowed(self, projects: frozenset[str] | None) -> Catalog:
        """Return the same without the other projects; itself for None."""
        if projects is None or projects == self._only:
            return self
        if len(self._narrowed) >= MOST_NARROWED:
            self._narrowed.clear()
        return self._narrowed.setdefault(projects, Catalog(self.configuration, projects))

    @cached_property
    def providers(self) -> dict[str, ProviderEntry]:
        """Providers by id."""
        return {
            provider_id: ProviderEntry(
                provider_id,
                provider.type or provider_id,
                PROVIDER_TYPES.get(provider.type or provider_id),
                provider,
                self._place("providers", provider_id),
            )
            for provider_id, provider in self.settings.providers.items()
        }

    @cached_property
    def models(self) -> dict[str, ModelEntry]:
        """Models of all modalities by id."""
        found: dict[str, ModelEntry] = {}
        for modality in Modality:
            models: dict[str, Model] = getattr(self.settings.models, modality)
            for model_id, model in models.items():
                # VoiceGateway lets `model` be absent where the id says it: local/kokoro.
                name = model.model or model_id.partition("/")[2] or model_id
                place = self._place("models", modality, model_id)
                found[model_id] = ModelEntry(model_id, modality, model.provider, name, model, place)
        return found

    @cached_property
    def projects(self) -> dict[str, ProjectEntry]:
        """Projects by id; the auto-made ``default`` comes first unless the file declares it."""
        from voicegw_mcp.config.schema import Project  # noqa: PLC0415 - the type is needed only for the auto-made entry

        found = {
            project_id: ProjectEntry(
                project_id,
                project,
                self._models_of(project),
                self._place("projects", project_id),
            )
            for project_id, project in self.settings.projects.items()
            if self._only is None or project_id in self._only
        }
        if DEFAULT_PROJECT in found or (self._only is not None and DEFAULT_PROJECT not in self._only):
            return found
        auto = Project(name="Default", description="Requests that name no project.")
        nowhere = Place(self.configuration.path, 0, "auto")
        return {DEFAULT_PROJECT: ProjectEntry(DEFAULT_PROJECT, auto, {}, nowhere), **found}

    def provider(self, provider_id: str) -> ProviderEntry:
        """Return one provider, or raise NotFound."""
        if provider_id not in self.providers:
            raise NotFound("provider", provider_id, self.providers)
        return self.providers[provider_id]

    def model(self, model_id: str) -> ModelEntry:
        """Return one model, or raise NotFound."""
        if model_id not in self.models:
            raise NotFound("model", model_id, self.models)
        return self.models[model_id]

    def project(self, project_id: str) -> ProjectEntry:
        """Return one project, or raise NotFound."""
        if project_id not in self.projects:
            raise NotFound("project", project_id, self.projects)
        return self.projects[project_id]

    def timezone_of(self, project: ProjectEntry) -> str:
        """Return the zone whose midnight ends the project's budget day."""
        return project.settings.timezone or self.settings.timezone

    def models_of_provider(self, provider_id: str) -> list[str]:
        """Return the ids of a provider's models."""
        return list(self._models_by_provider.get(provider_id, ()))

    @cached_property
    def _models_by_provider(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for model in self.models.values():
            found.setdefault(model.provider_id, []).append(model.id)
        return found

    def stacks_of_models(self, model_ids: set[str]) -> list[str]:
        """Return the stacks that name any of these models."""
        return [
            name
            for name, stack in self.settings.stacks.items()
            if {stack.stt, stack.llm, stack.tts} & model_ids
        ]

    def fallbacks_of_models(self, model_ids: set[str]) -> list[str]:
        """Return the modalities whose fallback chain names any of these models."""
        return [
            modality for modality in Modality if model_ids & set(getattr(self.settings.fallbacks, modality))
        ]

    def projects_of_models(self, model_ids: set[str]) -> list[str]:
        """Return the projects that name any of these models, themselves or through their stack."""
        return [project.id for project in self.projects.values() if model_ids & set(project.models.values())]

    @cached_property
    def warnings(self) -> tuple[Problem, ...]:
        """What is odd but usable: unknown provider types, references that lead nowhere, keys that stand in the file."""
        return (*self._warnings(), *self._keys_in_the_file())

    @property
    def notes(self) -> tuple[Problem, ...]:
        """What is kept and ignored; who is bound to projects is not told, for it may be another one's."""
        return self.configuration.notes if self._only is None else ()

    def _keys_in_the_file(self) -> Iterator[Problem]:
        hint = (
            "Run `voicegw secrets set NAME` with it, write ${NAME} here, and replace the key at its provider."
        )
        for path in secret_places(self.configuration.data):
            if self._only is None or path[0] in {"providers", "models"}:
                yield self.problem(path, "holds a key itself", hint)

    def _warnings(self) -> Iterator[Problem]:
        for provider in self.providers.values():
            if provider.provider_type is None:
                near = nearest(provider.type_name, PROVIDER_TYPES, count=1)
                hint = f"Did you mean {near[0]}?" if near else "Add `type:` with a known provider type."
                yield self.problem(
                    ("providers", provider.id), f"unknown provider type {quote(provider.type_name)}", hint
                )
        for number, key in enumerate(self.settings.auth.api_keys if self._only is None else ()):
            if key.role is None and "scopes" not in key.model_fields_set:
                yield self.problem(
                    ("auth", "api_keys", number),
                    "has neither role nor scopes: it may do everything",
                    "Write `role: viewer`, `operator` or `admin`.",
                )
        for path, kind, name in self._references():
            if kind == "model":
                yield from self._check_model(
                    path, name, Modality(str(path[1]) if path[0] == "fallbacks" else str(path[-1])[:3])
                )
            elif name not in self._known(kind):
                yield self._dangling(path, kind, name)

    def _references(self) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
        """Yield path, kind and name of every reference in the file."""
        yield from self._references_to_providers()
        for name, stack in self.settings.stacks.items():
            for modality, model_id in stack.model_dump(exclude_none=True).items():
                yield ("stacks", name, modality), "model", model_id
        for modality, chain in self.settings.fallbacks.model_dump().items():
            for index, model_id in enumerate(chain):
                yield ("fallbacks", modality, index), "model", model_id
        for project in self.projects.values():
            settings = project.settings.model_dump(
                include={"default_stack", "throttle_stack", *(f"{m}_model" for m in Modality)}
            )
            for key, name in settings.items():
                if name:
                    yield ("projects", project.id, key), "stack" if key.endswith("_stack") else "model", name
        if self.settings.default_project and self._only is None:
            yield ("default_project",), "project", self.settings.default_project

    def _references_to_providers(self) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
        for model in self.models.values():
            yield ("models", model.modality, model.id, "provider"), "provider", model.provider_id
        for provider_id in self.settings.rate_limits:
            yield ("rate_limits", provider_id), "provider", provider_id

    def _models_of(self, project: Project) -> dict[Modality, str]:
        stack: Any = self.settings.stacks.get(project.default_stack or "")
        chosen = {m: getattr(project, f"{m}_model") or getattr(stack, m, None) for m in Modality}
        return {modality: model_id for modality, model_id in chosen.items() if model_id}

    def _check_model(
        self, path: tuple[str | int, ...], model_id: str, modality: Modality
    ) -> Iterator[Problem]:
        if model_id not in self.models:
            yield self._dangling(path, "model", model_id)
        elif self.models[model_id].modality != modality:
            yield self.problem(
                path, f"{quote(model_id)} is a model of {self.models[model_id].modality}, not {modality}", ""
            )

    def _known(self, kind: str) -> Collection[str]:
        return {
            "provider": self.providers,
            "model": self.models,
            "project": self.projects,
            "stack": self.settings.stacks,
        }[kind]

    def _dangling(self, path: tuple[str | int, ...], kind: str, name: str) -> Problem:
        if (kind, name) not in self._guesses and len(self._guesses) < MOST_GUESSES:
            self._guesses[kind, name] = nearest(name, self._known(kind), count=1)
        near = self._guesses.get((kind, name))
        hint = f"Did you mean {near[0]}?" if near else f"Add the {kind}, or remove the reference."
        return self.problem(path, f"names the {kind} {quote(name)}, which does not exist", hint)

    def problem(self, path: tuple[str | int, ...], message: str, hint: str) -> Problem:
        """Return a problem with what is at ``path`` of the configuration, with its file, line and column."""
        mark = self.configuration.source.mark(path)
        return Problem(".".join(map(str, path)), mark.line, mark.column, message, hint, mark.file)

    def _place(self, *path: str) -> Place:
        mark = self.configuration.source.mark(path)
        if mark.file:
            return Place(Path(mark.file), mark.line, "overlay")
        return Place(self.configuration.path, mark.line, "yaml")
