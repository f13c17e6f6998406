"""``voicegw init`` and ``voicegw check``: a file to begin with, and everything that is wrong with one.

May import typer, ``config``, ``core`` and ``cli``.
"""

import os
import shlex
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from voicegw_mcp.cli import terminal
from voicegw_mcp.cli.opening import with_gateway
from voicegw_mcp.cli.options import SEARCHED, AsJson, Config
from voicegw_mcp.errors import ConfigInvalid, Conflict, GatewayError, InvalidInput, ReadOnly

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voicegw_mcp.config.parse import Problem
    from voicegw_mcp.core.gateway import Gateway

DEFAULT_FILE: Final = Path("voicegw.yaml")


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")] = DEFAULT_FILE,
    full: Annotated[
        bool, typer.Option("--full", help="Write every section and key there is, as an example.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a commented voicegw.yaml; never overwrite one."""
    path = file.expanduser().absolute()
    template = "example.yaml" if full else "starter.yaml"
    _create(path, resources.files("voicegw_mcp.cli").joinpath(template).read_bytes())
    option = "" if file == DEFAULT_FILE else f" -c {shlex.quote(str(file))}"
    steps = [
        f"voicegw check{option}",
        f"claude mcp add voicegateway -- voicegw-mcp -c {shlex.quote(str(path))}",
        f"voicegw secrets set OPENAI_API_KEY{option}",
    ]
    if as_json:
        terminal.print_json({"file": str(path), "next": steps})
        return
    terminal.print_line(f"{path} is written. Next:")
    for step, why in zip(
        steps, ("is the file right?", "let a coding agent manage it", "a key, asked for unseen"), strict=True
    ):
        terminal.print_line(f"  {step}   # {why}")


def check(config: Config = None, as_json: AsJson = False) -> None:
    """List all that is wrong or odd in voicegw.yaml.

    Exit code 0 when the file can be used, even with warnings, 2 when it cannot.
    """

    async def work(gateway: "Gateway") -> dict[str, Any]:
        found = await _examined(gateway)
        found["notes"] = await _notes(gateway)
        return found

    found = with_gateway(config, work)
    if as_json:
        terminal.print_json(found)
    else:
        _show(found)
    if not found["ok"]:
        raise typer.Exit(ConfigInvalid.exit_code)


def _create(path: Path, content: bytes) -> None:
    """Write a new file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # unlike a rename it fails when the name is taken
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError as error:
        raise Conflict(
            f"{path} exists already and is left as it is.",
            hint="Name another file, or check this one: voicegw check",
        ) from error
    except OSError as error:
        raise ReadOnly(
            f"{path} cannot be written ({error.strerror}).",
            hint="Name a file in a folder this user may write to.",
        ) from error


async def _examined(gateway: "Gateway") -> dict[str, Any]:
    path = gateway.config_file.path
    if not path.exists():
        raise InvalidInput(
            f"There is no configuration to check: {path} does not exist.",
            field="config",
            hint=f"Make one with: voicegw init  (looked for: {SEARCHED})",
        )
    try:
        catalog = gateway.catalog()
    except ConfigInvalid as error:
        problems = error.details.get("problems") or [
            {"path": "", "line": 1, "column": 1, "message": error.message}
        ]
        return {"file": str(path), "ok": False, "problems": problems, "warnings": []}
    from voicegw_mcp.core.price_checks import check_prices  # noqa: PLC0415 - loaded when the command runs

    found = [*_warnings(gateway), *await check_prices(gateway)]
    warnings = sorted(found, key=lambda problem: (problem.line, problem.column))
    return {
        "file": str(path),
        "ok": True,
        "config_version": catalog.configuration.version,
        "problems": [],
        "warnings": [warning.as_dict() for warning in warnings],
    }


async def _notes(gateway: "Gateway") -> list[str]:
    """Return what is worth knowing beside the file's own text: where changes go, and what the journal says."""
    from voicegw_mcp.core.health import explain_obstacle, explain_save  # noqa: PLC0415 - loaded when the command runs

    files = gateway.config_file
    obstacle = files.obstacle()
    notes = [explain_obstacle(files, obstacle)] if obstacle else []
    notes += [explain_save(path) for path in files.saves()]
    try:
        if gateway.store_handle.wanted_path().exists():  # to check a file makes no store
            notes.append((await gateway.store_handle.figures(files)).drift)
    except GatewayError as error:
        notes.append(f"The journal cannot be read: {error.message}")
    return [note for note in notes if note]


def _warnings(gateway: "Gateway") -> "Iterator[Problem]":
    from voicegw_mcp.cli.references import find_secrets  # noqa: PLC0415 - loaded when the command runs
    from voicegw_mcp.config.parse import Problem  # noqa: PLC0415 - likewise

    catalog = gateway.catalog()
    parsed = catalog.configuration.source
    yield from catalog.configuration.notes
    yield from catalog.warnings
    for secret in find_secrets(parsed, gateway.secrets).values():
        if secret.source == "unset" and secret.needed:
            hint = f"Run: {secret.command}" if secret.command else ""
            place = secret.places[0]
            yield Problem(
                place.path, place.line, place.column, f"needs {secret.reference}: {secret.reason}", hint
            )


def _show(found: dict[str, Any]) -> None:
    for kind, style in (("problem", "red"), ("warning", "yellow")):
        for entry in found[f"{kind}s"]:
            path = f"{entry['path']}: " if entry["path"] else ""
            word = "error" if kind == "problem" else kind
            line = f"{entry.get('file', found['file'])}:{entry['line']}:{entry['column']}: {word}: {path}{entry['message']}"
            terminal.print_line(line, style=style)
            if entry.get("hint"):
                terminal.print_line(f"    {entry['hint']}")
    for note in found["notes"]:
        terminal.print_line(f"note: {note}")
    counted = [
        f"{len(found[kind])} {kind if len(found[kind]) != 1 else kind[:-1]}"
        for kind in ("problems", "warnings")
    ]
    outcome = "can be used" if found["ok"] else "cannot be used"
    terminal.print_line(f"{found['file']} {outcome}: {', '.join(counted)}.", style="bold")
