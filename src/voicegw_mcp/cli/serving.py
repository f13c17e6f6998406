"""``voicegw mcp`` and ``voicegw serve``: the same server, over standard input and output or over HTTP."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from voicegw_mcp.cli import terminal
from voicegw_mcp.cli.modes import Mode
from voicegw_mcp.cli.opening import require_named
from voicegw_mcp.cli.options import Config, Listen, with_serving_options
from voicegw_mcp.cli.stdio import collect_seldom, serve as serve_stdio
from voicegw_mcp.errors import InvalidInput, StoreUnavailable


class Transport(StrEnum):
    """How a client reaches the server."""

    STDIO = "stdio"
    HTTP = "http"


@with_serving_options(port=8090, only="HTTP: ")
def mcp(
    *,
    transport: Annotated[
        Transport, typer.Option("--transport", "-t", help="How a client reaches the server.")
    ] = Transport.STDIO,
    listen: Listen,
    mode: Mode,
    config: Config = None,
) -> None:
    """Serve MCP: on standard input and output, as voicegw-mcp does, or over HTTP with -t http."""
    require_named(config)
    if transport is Transport.STDIO:
        serve_stdio(config, mode)
    else:
        _serve_http(config, listen, mode)


@with_serving_options(port=8080)
def serve(*, listen: Listen, mode: Mode, config: Config = None) -> None:
    """Serve everything over HTTP: MCP at /mcp (Streamable HTTP) and /sse, and /health."""
    require_named(config)
    _serve_http(config, listen, mode)


def _serve_http(config: str | None, place: Listen, mode: Mode) -> None:
    import anyio  # noqa: PLC0415 - none of this is needed for --help

    from voicegw_mcp.server import build_server  # noqa: PLC0415
    from voicegw_mcp.transports.http import listen, serve_http  # noqa: PLC0415
    from voicegw_mcp.web.app import build_app  # noqa: PLC0415
    from voicegw_mcp.web.hosts import Hosts, bind_name, is_loopback  # noqa: PLC0415
    from voicegw_mcp.web.identities import Identities  # noqa: PLC0415

    tools = mode.choose_tools()
    hosts = Hosts.of(place.host, place.allowed_hosts, place.allowed_origins)
    gateway = mode.open_gateway(config, "http")
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

    app = build_app(build_server(gateway, tools), hosts, identities, open_without_token=not asks)
    collect_seldom()

    async def run() -> None:
        try:
            await serve_http(app, bound, ready)
        finally:
            with anyio.CancelScope(shield=True):
                await gateway.close()

    anyio.run(run)
