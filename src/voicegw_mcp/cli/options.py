"""The options that several commands have. May import typer, ``cli.modes`` and ``errors``."""

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from voicegw_mcp.cli.modes import OPTIONS, Mode
from voicegw_mcp.errors import InvalidInput, quote

SEARCHED: Final = (
    "VOICEGW_CONFIG, ./voicegw.yaml, ~/.config/voicegateway/voicegw.yaml, /etc/voicegateway/voicegw.yaml"
)

Config = Annotated[
    str | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help=f"The voicegw.yaml to work on; else the first of: {SEARCHED}."
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="A running server instead: Streamable HTTP, or HTTP+SSE when it ends in /sse.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, also for an error.")]


def require_url(url: str) -> None:
    """Refuse what is no address of a server.

    Raises:
        InvalidInput: it repeats the text without user and password.
    """
    if re.fullmatch(r"https?://[^\s/?#@]+([/?#][^\s]*)?", url) is None or not url.isprintable():
        raise InvalidInput(
            f"{quote(re.sub(r'//[^/?#]*@', '//', url))} is not an http or https URL without user and password.",
            field="url",
            hint="Write for example http://127.0.0.1:8080/mcp",
        )


@dataclass(frozen=True, slots=True)
class Listen:
    """Where an HTTP server listens, and under which names it answers."""

    host: str
    port: int
    allowed_hosts: Sequence[str]
    allowed_origins: Sequence[str]


def with_serving_options(
    *, port: int, only: str = ""
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that every way to serve has, for its parameters ``listen`` and ``mode``.

    Args:
        port: the default.
        only: what the help of the options for listening begins with.
    """
    options = {"listen": _listen_options(port, only), "mode": _mode_options()}

    def define(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command)

        @functools.wraps(command)
        def run(**given: Any) -> None:
            groups = {
                name: {option.name: given.pop(option.name) for option in group}
                for name, group in options.items()
            }
            command(**given, listen=Listen(**groups["listen"]), mode=Mode(**groups["mode"]))

        parameters = [option for part in own.parameters.values() for option in options.get(part.name, [part])]
        vars(run)["__signature__"] = own.replace(parameters=parameters)  # what typer reads
        return run

    return define


def _listen_options(port: int, only: str) -> list[inspect.Parameter]:
    def sentence(text: str) -> str:
        return only + text if only else text[0].upper() + text[1:]

    return [
        _option("host", str, typer.Option("--host", help=sentence("the address to listen on.")), "127.0.0.1"),
        _option(
            "port",
            int,
            typer.Option("--port", "-p", min=0, max=65535, help=sentence("the port; 0 chooses one.")),
            port,
        ),
        _option(
            "allowed_hosts",
            list[str],
            typer.Option(
                "--allowed-host",
                metavar="NAME",
                help=sentence(
                    "a further name under which clients reach it, with or without port; may be repeated."
                ),
                show_default=False,
            ),
            (),
        ),
        _option(
            "allowed_origins",
            list[str],
            typer.Option(
                "--allowed-origin",
                metavar="ORIGIN",
                help=sentence("a web page that may call, such as https://ops.example.com; may be repeated."),
                show_default=False,
            ),
            (),
        ),
    ]


def _mode_options() -> list[inspect.Parameter]:
    return [
        _option(
            option.field,
            list[str] if option.listed else str | None if option.metavar else bool,
            typer.Option(
                option.flag,
                metavar=option.metavar or None,
                help=f"{option.help[0].upper()}{option.help[1:]}.",
                show_default=False,
            ),
            () if option.listed else None if option.metavar else False,
        )
        for option in OPTIONS
    ]


def _option(name: str, kind: Any, option: Any, default: Any) -> inspect.Parameter:
    annotation = Annotated[kind, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
