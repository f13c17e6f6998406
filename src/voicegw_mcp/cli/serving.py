"""``voicegw mcp`` and ``voicegw serve``: the same server, over standard input and output or over HTTP."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

import typer

from voicegw_mcp.cli import terminal
from voicegw_mcp.cli.opening import require_named
from voicegw_mcp.cli.options import Config
from voicegw_mcp.cli.stdio import TOOLSETS_HELP, collect_seldom, serve as serve_stdio
from voicegw_mcp.errors import InvalidInput, StoreUnavailable

MCP_PORT: Final = 8090
SERVE_PORT: Final = 8080


class Transport(StrEnum):
    """How a client reaches the server."""

    STDIO = "stdio"
    HTTP = "http"


Toolsets = Annotated[
    list[str] | None,
    typer.Option(
        "--toolsets",
        metavar="NAMES",
        help=f"{TOOLSETS_HELP[0].upper()}{TOOLSETS_HELP[1:]}.",
        show_default=False,
    ),
]
Host = Annotated[str, typer.Option("--host", help="HTTP: the address to listen on.")]
AllowedHosts = Annotated[
    list[str] | None,
    typer.Option(
        "--allowed-host",
        metavar="NAME",
        help="HTTP: a further name under which clients reach it, with or without port; may be repeated.",
        show_default=False,
    ),
]
AllowedOrigins = Annotated[
    list[str] | None,
    typer.Option(
        "--allowed-origin",
        metavar="ORIGIN",
        help="HTTP: a web page that may call, such as https://ops.example.com; may be repeated.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class _Place:
    host: str
    port: int
    hosts: Sequence[str]
    origins: Sequence[str]


def mcp(
    *,
    transport: Annotated[
        Transport, typer.Option("--transport", "-t", help="How a client reaches the server.")
    ] = Transport.STDIO,
    host: Host = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", "-p", min=0, max=65535, help="HTTP: the port; 0 chooses one.")
    ] = MCP_PORT,
    allowed_hosts: AllowedHosts = None,
    allowed_origins: AllowedOrigins = None,
    toolsets: Toolsets = None,
    config: Config = None,
) -> None:
    """Serve MCP: on standard input and output, as voicegw-mcp does, or over HTTP with -t http."""
    require_named(config)
    if transport is Transport.STDIO:
        serve_stdio(config, toolsets or ())
    else:
        _serve_http(config, toolsets or (), _Place(host, port, allowed_hosts or (), allowed_origins or ()))


def serve(
    *,
    host: Host = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", "-p", min=0, max=65535, help="The port; 0 chooses one.")
    ] = SERVE_PORT,
    allowed_hosts: AllowedHosts = None,
    allowed_origins: AllowedOrigins = None,
    toolsets: Toolsets = None,
    config: Config = None,
) -> None:
    """Serve everything over HTTP: MCP at /mcp (Streamable HTTP) and /sse, and /health."""
    require_named(config)
    _serve_http(config, toolsets or (), _Place(host, port, allowed_hosts or (), allowed_origins or ()))


def _serve_http(config: str | None, toolsets: Sequence[str], place: _Place) -> None:
    import anyio  # noqa: PLC0415 - none of this is needed for --help

    from voicegw_mcp.core.gateway import Gateway  # noqa: PLC0415
    from voicegw_mcp.server import build_server  # noqa: PLC0415
    from voicegw_mcp.tools import choose_tools  # noqa: PLC0415
    from voicegw_mcp.transports.http import listen, serve_http  # noqa: PLC0415
    from voicegw_mcp.web.app import build_app  # noqa: PLC0415
    from voicegw_mcp.web.hosts import Hosts, bind_name, is_loopback  # noqa: PLC0415
    from voicegw_mcp.web.identities import Identities  # noqa: PLC0415

    tools = choose_tools(toolsets)
    hosts = Hosts.of(place.host, place.hosts, place.origins)
    gateway = Gateway.open(config, door="http")
    identities = Identities(gateway)
    asks = identities.any_configured()
    if not asks and not is_loopback(place.host):
        raise InvalidInput(
            f"Without a token only this machine may call; {place.host} is not a loopback address.",
            field="host",
            hint="Set VOICEGW_MCP_TOKEN, or add a token to auth.api_keys, or leave --host out.",
        )
    try:
        bound = listen(place.host, place.port)
    except OSError as error:
        raise StoreUnavailable(
            f"{place.host}:{place.port} cannot be listened on ({error.strerror}).",
            hint="Choose another --port.",
        ) from error

    def ready() -> None:
        address = f"http://{bind_name(place.host) or '127.0.0.1'}:{bound.getsockname()[1]}"
        terminal.print_line(f"voicegw serves {gateway.config_file.path}")
        terminal.print_line(f"  {address}/mcp   Streamable HTTP")
        terminal.print_line(f"  {address}/sse   HTTP+SSE")
        token = " --header 'Authorization: Bearer ${VOICEGW_MCP_TOKEN}'" if asks else ""
        terminal.print_line(f"  claude mcp add --transport http voicegateway {address}/mcp{token}")
        sys.stdout.flush()

    app = build_app(
        build_server(gateway, tools), hosts, identities, open_without_token=is_loopback(place.host)
    )
    collect_seldom()

    async def run() -> None:
        try:
            await serve_http(app, bound, ready)
        finally:
            with anyio.CancelScope(shield=True):
                await gateway.close()

    anyio.run(run)
