"""What provider, model and project entries share: references, options, confirmation. May import ``config``, ``errors``, ``core``."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.config.document import DELETE, Edit
from voicegw_mcp.config.redaction import hide_in_text, is_literal_secret, is_secret_name
from voicegw_mcp.config.secrets import REFERENCE, is_reference
from voicegw_mcp.config.values import is_list, is_map
from voicegw_mcp.core.access import ACCESS_TOKEN
from voicegw_mcp.domain import Modality
from voicegw_mcp.errors import ConfirmationRequired, InvalidInput, NotFound, quote

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from voicegw_mcp.core.catalog import Catalog

OPTION_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
MAX_OPTIONS: Final = 50
SECRET_FOLDERS: Final = (Path("/run/secrets"), Path("/var/run/secrets"))
"""Where container engines put secrets; besides the folder of the file, tools may refer to files in these only."""
CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
"""The variable in which systemd names the folder of a unit's own credentials (systemd.exec(5), LoadCredential)."""
MAX_OPTION_BYTES: Final = 32_000


def check_reference(api_key: str | None, usual: str | None, folder: Path) -> str | None:
    """Return the reference, None when none was given.

    Raises:
        InvalidInput: it is a literal key. The value is not repeated.
    """
    if not api_key:
        return None
    if not is_reference(api_key):
        name = (usual or "${PROVIDER_API_KEY}")[2:-1]
        raise InvalidInput(
            "api_key takes a reference such as ${" + name + "}, never a key; nothing was written.",
            field="api_key",
            hint=f"Run `voicegw secrets set {name}` (it reads the key from a hidden prompt), then pass "
            "${" + name + "} or leave api_key out. Treat the key you sent as seen by the model.",
        )
    _require_secret_files(api_key, "api_key", folder)
    return api_key.strip()


def check_given_references(catalog: Catalog, given: object, field: str) -> None:
    """Refuse references to what lets callers in here, or to files that may hold anything, wherever they stand in an argument.

    Whoever chooses a provider's address and key decides where the value is sent: an operator would learn the token of
    an administrator.

    Raises:
        InvalidInput: naming the argument.
    """
    path = catalog.configuration.path
    hook = catalog.settings.alerts.webhook
    tokens = (
        f"${{{ACCESS_TOKEN}}}",
        *(key.token.strip() for key in catalog.settings.auth.api_keys),
        *(() if hook is None else (hook.secret.strip(),)),
    )
    own = {_meant(found, path.parent) for found in map(REFERENCE.fullmatch, tokens) if found is not None}
    own |= {_real(path.parent, str(path)), _real(path.parent, "secrets.env")}
    for text in _texts(given):
        _require_secret_files(text, field, path.parent)
        for found in REFERENCE.finditer(text):
            if _meant(found, path.parent) in own:
                raise InvalidInput(
                    f"{field} refers to a token of this gateway itself, or to the file that holds it.",
                    field=field,
                    hint="Name the variable of the provider's own key.",
                )


def _texts(value: object) -> Generator[str]:
    if isinstance(value, str):
        yield value
    elif is_map(value) or is_list(value):
        for item in value.values() if is_map(value) else value:
            yield from _texts(item)


def _meant(reference: re.Match[str], folder: Path) -> str | None:
    """Return what tells a reference from others: the variable, or the file wherever its links lead."""
    return reference["name"] or _real(folder, reference["file"])


def _require_secret_files(text: str, field: str, folder: Path) -> None:
    """Refuse other files than a tool may name: whoever chooses file and address could send any file anywhere."""
    places = [folder, *SECRET_FOLDERS]
    if credentials := os.environ.get(CREDENTIALS):
        places.append(Path(credentials))
    allowed = [os.path.realpath(place) for place in places]
    for found in REFERENCE.finditer(text):
        path = _real(folder, found["file"]) if found["file"] else allowed[0]
        if path is None or not any(Path(path).is_relative_to(place) for place in allowed):
            raise InvalidInput(
                f"{field} names a file outside of {', '.join(map(str, places))}.",
                field=field,
                hint="Put the key into one of these folders, or have a person write the reference into the file.",
            )


def _real(folder: Path, name: str) -> str | None:
    """Return the path of a file without links, None when it can be none."""
    try:
        return os.path.realpath(folder / Path(name).expanduser())
    except (RuntimeError, OSError, ValueError):
        return None


def check_text(text: str, field: str, *, longest: int, several_lines: bool = False) -> None:
    """Check a text for people.

    Args:
        text: what was sent.
        field: the argument's name.
        longest: characters at most.
        several_lines: whether it may have line breaks, and may be empty.

    Raises:
        InvalidInput: it is empty, too long, or holds control characters.
    """
    if not several_lines and not text.strip():
        raise InvalidInput(f"{field} is empty.", field=field, hint=f"Pass a text, or leave {field} out.")
    if len(text) > longest:
        raise InvalidInput(
            f"{field} has {len(text):,} characters; at most {longest:,} are taken.",
            field=field,
            hint=f"Shorten it to {longest:,} characters.",
        )
    if any(not character.isprintable() and not (several_lines and character == "\n") for character in text):
        raise InvalidInput(
            f"{field} holds control or invisible characters.", field=field, hint="Pass plain text."
        )


@contextlib.contextmanager
def blaming(field: str) -> Generator[None]:
    """Make a NotFound raised inside name the argument that the caller knows."""
    try:
        yield
    except NotFound as error:
        error.details["field"] = field
        raise


def check_options(options: Mapping[str, Any], *, field: str, reserved: frozenset[str]) -> dict[str, Any]:
    """Return options for a plugin when their names and values are fit for the file.

    Raises:
        InvalidInput: too many, a name outside the grammar or reserved, a literal secret, a value JSON cannot hold.
    """
    if len(options) > MAX_OPTIONS:
        raise InvalidInput(
            f"{field} has {len(options)} entries; at most {MAX_OPTIONS} are taken.",
            field=field,
            hint="Pass fewer.",
        )
    for name, value in options.items():
        if OPTION_NAME.fullmatch(name) is None:
            raise InvalidInput(
                f"{field} has the invalid name {quote(name)}.",
                field=field,
                hint=f"Use names that match {OPTION_NAME.pattern}",
            )
        if name in reserved:
            raise InvalidInput(
                f"{field}.{name} is an argument of its own.",
                field=f"{field}.{name}",
                hint=f"Pass {name} as an argument.",
            )
        _check_value(value, f"{field}.{name}", name)
    try:
        size = len(json.dumps(options, ensure_ascii=False).encode())
    except ValueError:
        raise InvalidInput(
            f"{field} holds text that is no Unicode, or a number that is too long.",
            field=field,
            hint="Pass plain text and numbers.",
        ) from None
    if size > MAX_OPTION_BYTES:
        raise InvalidInput(
            f"{field} takes {size:,} bytes; at most {MAX_OPTION_BYTES:,} are taken.",
            field=field,
            hint="Pass less.",
        )
    return dict(options)


def require_confirmation(
    catalog: Catalog, kind: str, entry_id: str, impact: Mapping[str, Any], *, confirm: bool
) -> None:
    """Refuse a delete that was not confirmed, telling what it would do.

    Raises:
        ConfirmationRequired: with the impact and the version it was worked out on.
    """
    if confirm:
        return
    raise ConfirmationRequired(
        f"Deleting {kind} {entry_id} needs confirm=true. {describe_impact(impact) or 'Nothing else is affected'}.",
        hint="Show this to the person; on a yes, repeat the call with confirm=true and this if_version.",
        details={**impact, "config_version": catalog.configuration.version},
    )


def describe_impact(impact: Mapping[str, Any]) -> str:
    """Return in words what goes along with a delete, "" for nothing."""
    return "; ".join(f"{key.replace('_', ' ')}: {_brief(value)}" for key, value in impact.items() if value)


def reference_edits(catalog: Catalog, model_ids: set[str]) -> list[Edit]:
    """Return the edits that remove every mention of these models from stacks, fallback chains and projects."""
    edits: list[Edit] = []
    for name, stack in catalog.settings.stacks.items():
        edits += [Edit(("stacks", name, m), DELETE) for m in Modality if getattr(stack, m) in model_ids]
    for modality in Modality:
        chain: list[str] = getattr(catalog.settings.fallbacks, modality)
        if model_ids & set(chain):
            edits.append(
                Edit(("fallbacks", modality), [model_id for model_id in chain if model_id not in model_ids])
            )
    for project_id, project in catalog.settings.projects.items():
        for modality in Modality:
            key = f"{modality}_model"
            if getattr(project, key) in model_ids:
                edits.append(Edit(("projects", project_id, key), DELETE))
    return edits


def raw_entry(catalog: Catalog, *path: str) -> dict[str, Any]:
    """Return an entry as the file has it, references unexpanded."""
    data: object = catalog.configuration.data
    for part in path:
        data = data.get(part) if is_map(data) else None
    return dict(data) if is_map(data) else {}


def _brief(value: Any) -> str:
    return (
        ", ".join(map(str, value[:5])) + (", …" if len(value) > 5 else "") if is_list(value) else str(value)
    )


def _check_value(value: Any, path: str, name: str, depth: int = 0) -> None:
    if is_literal_secret(name, value) or (isinstance(value, str) and hide_in_text(value) != value):
        raise InvalidInput(
            f"{path} looks like a secret; options take references such as ${{NAME}}, never keys.",
            field=path,
            hint="Run `voicegw secrets set NAME` and pass ${NAME}.",
        )
    if isinstance(value, str):
        if len(value) > 4096:
            raise InvalidInput(
                f"{path} is longer than 4,096 characters.", field=path, hint="Pass a shorter text."
            )
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"{path} is not a finite number.", field=path, hint="Pass a number.")
    elif is_map(value) or is_list(value):
        if depth >= 5 or len(value) > 200:
            raise InvalidInput(
                f"{path} is nested too deeply or too long.",
                field=path,
                hint="Pass at most 5 levels of at most 200 entries.",
            )
        for key, item in value.items() if is_map(value) else ((name, item) for item in value):
            if len(key) > 200 or not key.isprintable():
                raise InvalidInput(
                    f"{path} has the invalid name {quote(key)}.", field=path, hint="Pass short, plain names."
                )
            _check_value(
                item, path, name if is_secret_name(name) and not is_secret_name(key) else key, depth + 1
            )
