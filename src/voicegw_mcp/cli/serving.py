"""``voicegw mcp``: the server of ``voicegw-mcp`` under VoiceGateway's name and flags."""

from enum import StrEnum
from typing import Annotated

import typer

from voicegw_mcp.cli.opening import require_named
from voicegw_mcp.cli.options import Config
from voicegw_mcp.cli.stdio import TOOLSETS_HELP, serve


class Transport(StrEnum):
    """How a client reaches the server."""

    STDIO = "stdio"


def mcp(
    transport: Annotated[
        Transport, typer.Option("--transport", "-t", help="How a client reaches the server.")
    ] = Transport.STDIO,
    toolsets: Annotated[
        list[str] | None,
        typer.Option(
            "--toolsets",
            metavar="NAMES",
            help=f"{TOOLSETS_HELP[0].upper()}{TOOLSETS_HELP[1:]}.",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Serve MCP on standard input and output, as voicegw-mcp does."""
    require_named(config)
    del transport  # there is one so far; the option is VoiceGateway's, and every other value is refused
    serve(config, toolsets or ())
