"""``voicegw call``: one tool of a server, spawned here or reached by URL, as a line of a script.

Standard output always holds one JSON document: the answer, or the error object. May import typer, ``transports``,
``errors`` and ``cli``.
"""

import json
import os
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from voicegw_mcp.cli import terminal
from voicegw_mcp.cli.conditions import Condition, parse_condition
from voicegw_mcp.cli.opening import require_named
from voicegw_mcp.cli.options import Config, Url, require_url
from voicegw_mcp.errors import (
    ConfigInvalid,
    InternalError,
    InvalidInput,
    StoreUnavailable,
    nearest,
    quote,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voicegw_mcp.transports.client import Address, Launch

_ARGUMENT: Final = re.compile(r"(?P<key>[A-Za-z_][A-Za-z0-9_]*)(?P<raw>:?)=(?P<text>.*)", re.DOTALL)
_EXIT_CODES: Final = {
    error.code: error.exit_code for error in (InvalidInput, ConfigInvalid, StoreUnavailable, InternalError)
}
CONDITION_HELD: Final = 4
"""The exit code when the call went well and a condition of --fail-if holds; no error has it (docs/errors.md)."""
MAX_TOKEN: Final = 4096
MAX_VALUE: Final = 80


def call(
    *,
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="The tool's name, such as get_costs.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Its arguments; KEY:=JSON passes JSON as it is.",
            show_default=False,
        ),
    ] = None,
    url: Url = None,
    token_env: Annotated[
        str | None,
        typer.Option(
            "--token-env",
            metavar="NAME",
            help="With --url: the environment variable that holds the bearer token.",
        ),
    ] = None,
    config: Config = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            metavar="CONDITION",
            help="Exit with 4 when this holds of the answer, such as 'total_usd > 10'; may be repeated.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the JSON on one line, also on a terminal.")
    ] = False,
) -> None:
    """Call one tool and print its JSON answer.

    Exit code 0, 4 when a condition holds, or that of the error: 2 for bad arguments or configuration, 3 for the store,
    70 for a fault, else 1.
    """
    import anyio  # noqa: PLC0415 - loaded when the command runs

    from voicegw_mcp.transports import client  # noqa: PLC0415 - likewise

    given = parse_arguments(arguments or [])
    conditions = [parse_condition(text) for text in fail_if or []]
    server = _address(url, token_env, config) if url is not None else _launch(config, token_env)

    def prepare(tools: "Mapping[str, Mapping[str, Any]]") -> dict[str, Any]:
        if tool not in tools:
            near = nearest(tool, tools)
            hint = f"Did you mean {', '.join(near)}?" if near else f"It has: {', '.join(tools)}."
            raise InvalidInput(
                f"The server has no tool {quote(tool)}.", field="tool", hint=hint, details={"nearest": near}
            )
        properties: Mapping[str, Any] = tools[tool].get("properties", {})
        return {key: _value(key, raw, text, properties) for key, (raw, text) in given.items()}

    answer = anyio.run(client.call_tool, server, tool, prepare)
    held = [] if answer.is_error else holding(conditions, answer.data)
    terminal.print_json(answer.data, pretty=False if as_json else None)
    for line in held:
        sys.stderr.write(f"voicegw: {line}\n")
    if answer.is_error or held:
        raise typer.Exit(exit_code_of(answer.data) if answer.is_error else CONDITION_HELD)


def holding(conditions: "Sequence[Condition]", answer: Any) -> list[str]:
    """Return a line for each condition that holds of an answer, with the values of its paths.

    Raises:
        InvalidInput: one cannot be told, because the answer has no such path or a value of another kind.
    """
    lines: list[str] = []
    for condition in conditions:
        holds, seen = condition.check(answer)
        if holds:
            values = ", ".join(f"{path} = {_shown(value)}" for path, value in seen.items())
            lines.append(
                terminal.shown(f"--fail-if {condition.text} holds" + (f": {values}" if values else ""))
            )
    return lines


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 1]}…"


def parse_arguments(arguments: "Sequence[str]") -> dict[str, tuple[bool, str]]:
    """Return key -> (whether it is JSON by ``:=``, text).

    Raises:
        InvalidInput: an argument is not KEY=VALUE, or a key comes twice. Values are not repeated.
    """
    given: dict[str, tuple[bool, str]] = {}
    for number, argument in enumerate(arguments, 1):
        match = _ARGUMENT.fullmatch(argument)
        if match is None:
            raise InvalidInput(
                f"Argument {number} is not KEY=VALUE.",
                field="arguments",
                hint="Write for example: voicegw call get_costs period=week",
            )
        key = match["key"]
        if key in given:
            raise InvalidInput(
                f"{quote(key)} is given twice.", field=key, hint="For a list write KEY:='[1, 2]'."
            )
        given[key] = (match["raw"] == ":", match["text"])
    return given


def exit_code_of(data: Any) -> int:
    """Return the exit code of a tool's error object; 1 for an error of another shape."""
    match data:
        case {"error": {"code": str(code)}}:
            return _EXIT_CODES.get(code, 1)
        case _:
            return 1


def _value(key: str, raw: bool, text: str, properties: "Mapping[str, Any]") -> Any:
    """Return what a text means: JSON where that is forced or the tool takes something else than text."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        if raw:
            raise InvalidInput(
                f"{quote(key)} is not JSON.", field=key, hint=f"Quote it for the shell: {key}:='...'"
            ) from None
        return text
    match properties.get(key):
        case {"type": "string"}:
            takes_text = True
        case _:
            takes_text = False
    return value if raw or (value is not None and not takes_text and not isinstance(value, str)) else text


def _refuse_constant(name: str) -> float:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _launch(config: str | None, token_env: str | None) -> "Launch":
    from voicegw_mcp.transports.client import Launch  # noqa: PLC0415 - as in call()

    if token_env is not None:
        raise InvalidInput(
            "--token-env goes with --url.", field="token_env", hint="A spawned server needs no token."
        )
    require_named(config)
    # -P: a file mcp.py or json.py in the current folder must not take the place of the module of that name.
    options = ["--toolsets", "all", *(["-c", config] if config else [])]
    return Launch(sys.executable, ("-P", "-m", "voicegw_mcp", "stdio", *options), dict(os.environ))


def _address(url: str, token_env: str | None, config: str | None) -> "Address":
    from voicegw_mcp.transports.client import Address  # noqa: PLC0415 - as in call()

    if config is not None:
        raise InvalidInput(
            "--url and --config exclude each other.", field="url", hint="The server at URL has its own file."
        )
    require_url(url)
    token = os.environ.get(token_env) if token_env is not None else None
    if token_env is not None and not token:
        raise InvalidInput(
            "The environment variable that --token-env names is not set.",
            field="token_env",
            hint="Pass the variable's name, never the token: export VOICEGW_MCP_TOKEN=..., then --token-env VOICEGW_MCP_TOKEN",
        )
    if token is not None:
        token = token.strip()
        if not token.isascii() or not token.isprintable() or " " in token or not 0 < len(token) <= MAX_TOKEN:
            raise InvalidInput(
                "What the environment variable of --token-env holds is no bearer token.",
                field="token_env",
                hint=f"A token has up to {MAX_TOKEN} printable ASCII characters and no blanks.",
            )
    return Address(url, token)
