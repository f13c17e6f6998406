"""``voicegw secrets set | list | unset``: keys go in by a hidden prompt or standard input, and never come out.

A value on the command line is refused and not repeated: it is in the shell's history already. May import typer,
``config`` and ``cli``.
"""

import getpass
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from voicegw_mcp.cli import terminal
from voicegw_mcp.cli.opening import with_gateway
from voicegw_mcp.cli.options import AsJson, Config
from voicegw_mcp.errors import ConfigInvalid, InvalidInput, ReadOnly

if TYPE_CHECKING:
    from voicegw_mcp.cli.references import Secret
    from voicegw_mcp.core.gateway import Gateway

MAX_VALUE: Final = 65_536

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Set and list the keys that voicegw.yaml names.\n\nTheir values stand in secrets.env beside it (mode 0600).",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The variable's name, such as OPENAI_API_KEY.")]
_EXTRA: Final = {"allow_extra_args": True}


@app.command("set", context_settings=_EXTRA)
def set_secret(context: typer.Context, name: Name, config: Config = None, as_json: AsJson = False) -> None:
    """Set a key: asked for unseen on a terminal, else read from standard input (one line).

    It holds at the next call, also for servers that run already.
    """
    _check_name(name, context.args)
    value = (
        getpass.getpass(f"Value of {name} (not shown): ")
        if sys.stdin.isatty()
        else sys.stdin.read(MAX_VALUE + 2)
    )
    value = value.removesuffix("\n").removesuffix("\r")

    async def work(gateway: "Gateway") -> str:
        try:
            gateway.secrets.set(name, value)
        except OSError as error:
            raise _not_written(gateway, error) from None
        return str(gateway.secrets.path)

    path = with_gateway(config, work)
    if as_json:
        terminal.print_json({"name": name, "set": True, "file": path})
    else:
        terminal.print_line(f"{name} is set in {path}.")


@app.command("unset", context_settings=_EXTRA)
def unset_secret(context: typer.Context, name: Name, config: Config = None, as_json: AsJson = False) -> None:
    """Remove a key from secrets.env; the environment is not touched."""
    _check_name(name, context.args)

    async def work(gateway: "Gateway") -> tuple[bool, str]:
        try:
            return gateway.secrets.unset(name), str(gateway.secrets.path)
        except OSError as error:
            raise _not_written(gateway, error) from None

    removed, path = with_gateway(config, work)
    if as_json:
        terminal.print_json({"name": name, "removed": removed, "file": path})
    else:
        terminal.print_line(f"{name} is removed from {path}." if removed else f"{name} was not in {path}.")


@app.command("list")
def list_secrets(config: Config = None, as_json: AsJson = False) -> None:
    """List the keys that voicegw.yaml refers to: where, and whether they are set. Never shows a value."""
    found, path = with_gateway(config, _collect)
    if as_json:
        terminal.print_json({"file": path, "secrets": [_as_json(secret) for secret in found]})
        return
    if not found:
        terminal.print_line("The configuration refers to no secret, and secrets.env holds none.")
        return
    terminal.print_table(
        [
            terminal.Column("Name"),
            terminal.Column("Set"),
            terminal.Column("Used by", 1),
            terminal.Column("To do", 2),
        ],
        [
            (
                secret.name,
                "no" if secret.source == "unset" else f"in {secret.source}",
                ", ".join(f"{place.path}:{place.line}" for place in secret.places) or "(nothing)",
                secret.command if secret.source == "unset" else None,
            )
            for secret in found
        ],
    )


async def _collect(gateway: "Gateway") -> "tuple[list[Secret], str]":
    from voicegw_mcp.cli.references import Secret, find_secrets  # noqa: PLC0415 - loaded when the command runs
    from voicegw_mcp.config import parse  # noqa: PLC0415 - likewise

    raw = gateway.config_file.read_bytes()
    try:
        found = find_secrets(parse.parse(parse.decode(raw)), gateway.secrets)
    except ConfigInvalid as error:
        raise ConfigInvalid(
            f"{gateway.config_file.path.name} cannot be read: {error.message}",
            hint="`voicegw check` lists every problem.",
            details=error.details,
        ) from None
    for name in gateway.secrets.read():
        found.setdefault(f"${{{name}}}", Secret(name, f"${{{name}}}", "secrets.env"))
    return list(found.values()), str(gateway.secrets.path)


def _as_json(secret: "Secret") -> dict[str, Any]:
    places = [{"path": place.path, "line": place.line, "column": place.column} for place in secret.places]
    answer: dict[str, Any] = {
        "name": secret.name,
        "set": secret.source != "unset",
        "source": secret.source,
        "references": places,
    }
    return answer | ({"command": secret.command} if secret.source == "unset" and secret.command else {})


def _check_name(name: str, extra: list[str]) -> None:
    """Refuse what may be a key on the command line, without repeating it."""
    from voicegw_mcp.config.secrets import VARIABLE  # noqa: PLC0415 - as in _collect()

    if extra or "=" in name:
        raise InvalidInput(
            "A value must not stand on the command line: other users and the shell's history see it.",
            field="value",
            hint="Run `voicegw secrets set NAME` and type it at the prompt, or pipe it in. Replace the key you just typed.",
        )
    if VARIABLE.fullmatch(name) is None:
        raise InvalidInput(
            "That is not a variable name.",
            field="name",
            hint="Use letters, digits and _, for example OPENAI_API_KEY.",
        )


def _not_written(gateway: "Gateway", error: OSError) -> ReadOnly:
    path = gateway.secrets.path
    return ReadOnly(
        f"{path} cannot be written ({error.strerror}).", hint=f"Make {path.parent} writable for this user."
    )
