"""Which secrets a file refers to, where, and whether they are set. Never looks at more of a value than that.

Works on the text alone, so that it helps with a file that does not fit the schema, too. May import ``config`` and
``core.provider_types``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from voicegw_mcp.config.parse import Problem, dotted
from voicegw_mcp.config.secrets import REFERENCE
from voicegw_mcp.core.provider_types import PROVIDER_TYPES, default_key_reference
from voicegw_mcp.errors import ReadOnly

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voicegw_mcp.config.overlay import Layered
    from voicegw_mcp.config.parse import ParsedFile
    from voicegw_mcp.config.secrets import Secrets

Path = tuple[str | int, ...]
Source = Literal["environment", "secrets.env", "file", "unset"]


@dataclass(slots=True)
class Secret:
    """One thing that is referred to. ``reference`` is ``${...}``; ``places`` are where, as (path, line, column).

    ``reason`` and ``command`` say why it is unset and what to run.
    """

    name: str
    reference: str
    source: Source
    reason: str = ""
    command: str = ""
    needed: bool = False
    places: list[Problem] = field(default_factory=list[Problem])


def find_secrets(parsed: ParsedFile | Layered, secrets: Secrets) -> dict[str, Secret]:
    """Return what the file refers to, by reference, in the order of the file.

    ``needed`` is False for keys that only local or key-optional providers name.
    """
    found: dict[str, Secret] = {}
    for path, reference, implied in _references(parsed):
        if reference not in found:
            found[reference] = _looked_up(reference, secrets)
        secret = found[reference]
        mark = parsed.mark(path)
        secret.places.append(
            Problem(dotted(path), mark.line, mark.column, "implied by its type" if implied else "")
        )
        secret.needed = secret.needed or _needs(parsed, path)
    return found


def _references(parsed: ParsedFile | Layered) -> Iterator[tuple[Path, str, bool]]:
    for path, text in _texts(parsed.data, ()):
        for match in REFERENCE.finditer(text):
            yield path, match[0], False
    for provider_id, entry in _mapping(parsed.data.get("providers")).items():
        settings = _mapping(entry)
        kind = PROVIDER_TYPES.get(str(settings.get("type") or provider_id))
        reference = (
            default_key_reference(kind) if kind is not None and settings.get("api_key") is None else None
        )
        if reference is not None:
            yield ("providers", provider_id), reference, True


def _looked_up(reference: str, secrets: Secrets) -> Secret:
    match = REFERENCE.fullmatch(reference)
    name = match["name"] or f"file:{match['file']}" if match else reference
    lookup = secrets.look_up(reference)
    if lookup.value is None:
        return Secret(name, reference, "unset", lookup.reason, lookup.command)
    if name.startswith("file:"):
        return Secret(name, reference, "file")
    try:
        beside = secrets.read()
    except ReadOnly:  # it was found all the same, so it comes from the environment
        beside = {}
    in_file = name in beside and not os.environ.get(name)
    return Secret(name, reference, "secrets.env" if in_file else "environment")


def _needs(parsed: ParsedFile | Layered, path: Path) -> bool:
    """Say whether something fails without it: no for local and key-optional providers, and ones out of use."""
    if path[0] != "providers":
        return True
    settings = _mapping(_mapping(parsed.data["providers"]).get(str(path[1])))
    kind = PROVIDER_TYPES.get(str(settings.get("type") or path[1]))
    return settings.get("enabled") is not False and not (
        kind is not None and (kind.local or kind.key_optional)
    )


def _texts(data: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(data, str):
        yield path, data
    elif isinstance(data, dict):
        for key, value in _mapping(cast("Any", data)).items():
            yield from _texts(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(cast("list[Any]", data)):
            yield from _texts(value, (*path, index))


def _mapping(data: Any) -> dict[str, Any]:
    """Return a mapping with its keys as text; an empty one for anything else."""
    return (
        {str(key): value for key, value in cast("dict[Any, Any]", data).items()}
        if isinstance(data, dict)
        else {}
    )
