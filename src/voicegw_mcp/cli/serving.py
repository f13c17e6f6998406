"""``voicegw mcp`` and ``voicegw serve``: the same server, over standard input and output or over HTTP."""

import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from voicegw_mcp.cli import terminal
from voicegw_mcp.cli.dashboard import choose_place, listen_second, read_section
from voicegw_mcp.cli.modes import Mode
from voicegw_mcp.cli.opening import require_named
from voicegw_mcp.cli.options import Config, Listen, with_serving_options
from voicegw_mcp.cli.stdio import collect_seldom, serve as serve_stdio
from voicegw_mcp.config.secrets import REFERENCE
from voicegw_mcp.errors import InvalidInput, StoreUnavailable

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from voicegw_mcp.web.hosts import Hosts
    from voicegw_mcp.web.identities import Identities


FIRST_LOOK_S = 1.0
"""How long after its start an HTTP server looks after alerts: what was not sent when the last one ended is due."""


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
        _hosts(listen)
        serve_stdio(config, mode)
    else:
        _serve_http(config, listen, mode)


@with_serving_options(port=8080)
def serve(
    *,
    listen: Listen,
    dashboard_port: Annotated[
        int | None,
        typer.Option(
            "--dashboard-port",
            min=0,
            max=65535,
            help="The dashboard's own port, besides / of the other; 0 chooses one.  [default: dashboard.port of the file, or 9090]",
            show_default=False,
        ),
    ] = None,
    mode: Mode,
    config: Config = None,
) -> None:
    """Serve everything over HTTP: MCP at /mcp (Streamable HTTP) and /sse, the JSON API at /v1, the dashboard at /, and /health."""
    require_named(config)
    _serve_http(config, listen, mode, dashboard_port, second=True)


def _serve_http(
    config: str | None,
    place: Listen,
    mode: Mode,
    dashboard_port: int | None = None,
    *,
    second: bool = False,
) -> None:
    import anyio  # noqa: PLC0415 - none of this is needed for --help

    from voicegw_mcp.cli.tracing import start_tracing  # noqa: PLC0415 - likewise
    from voicegw_mcp.core.alert_watch import AlertWatch  # noqa: PLC0415 - likewise
    from voicegw_mcp.server import build_server  # noqa: PLC0415 - likewise
    from voicegw_mcp.transports.http import listen, serve_http  # noqa: PLC0415 - likewise
    from voicegw_mcp.web.app import build_app  # noqa: PLC0415 - likewise
    from voicegw_mcp.web.identities import Identities  # noqa: PLC0415 - likewise

    tools = mode.choose_tools()
    hosts = _hosts(place)
    gateway = mode.open_gateway(config, "http")
    identities = Identities(gateway)
    section = read_section(gateway)
    page = choose_place(section, place, dashboard_port) if second else None
    asks = identities.any_configured()
    if not asks:
        _require_closed({"--host": place.host, **({"dashboard.host": page.host} if page else {})})
    try:
        bound = listen(place.host, place.port)
    except OSError as error:
        raise StoreUnavailable(
            f"{place.host}:{place.port} cannot be listened on ({error.strerror}).",
            hint="Choose another --port.",
        ) from error
    own = listen_second(page) if page else None

    def ready() -> None:
        address = _address(place.host, bound)
        terminal.print_line(f"voicegw serves {gateway.config_file.path}")
        terminal.print_line(f"  {address}/mcp   Streamable HTTP")
        terminal.print_line(f"  {address}/sse   HTTP+SSE")
        if section.enabled:
            at = _address(page.host, own) if page and own else address
            note = f" (port {page.port}, its own, is taken)" if page and not own else ""
            terminal.print_line(f"  {at}/   dashboard{note}")
        sentence, token = _who_may_call(identities)
        terminal.print_line(f"  {sentence}")
        header = f" --header 'Authorization: Bearer {token}'" if token else ""
        terminal.print_line(f"  claude mcp add --transport http voicegateway {address}/mcp{header}")
        sys.stdout.flush()

    tracing = start_tracing()
    app = build_app(
        build_server(gateway, tools),
        gateway,
        hosts.also(page.host) if page else hosts,
        identities,
        open_without_token=not asks,
        dashboard=section.enabled,
    )
    collect_seldom()

    async def run() -> None:
        watch = AlertWatch(gateway)
        watch.start(FIRST_LOOK_S)
        try:
            await serve_http(app, bound, ready, also=[own] if own else [])
        finally:
            with anyio.CancelScope(shield=True):
                await watch.stop()
                await gateway.close()
                await tracing.stop()

    anyio.run(run)


def _require_closed(hosts: "Mapping[str, str]") -> None:
    """Refuse to serve without a token where others could call; ``hosts`` are by what names them.

    Raises:
        InvalidInput: an address is not of this machine alone, or a token was meant to be asked for.
    """
    from voicegw_mcp.core.access import ACCESS_TOKEN  # noqa: PLC0415 - as above
    from voicegw_mcp.web.hosts import is_loopback  # noqa: PLC0415 - likewise

    for where, host in hosts.items():
        if not is_loopback(host):
            raise InvalidInput(
                f"Without a token only this machine may call; {host} is not a loopback address.",
                field="host",
                hint=f"Set VOICEGW_MCP_TOKEN, or add a token to auth.api_keys, or leave {where} out.",
            )
    if ACCESS_TOKEN in os.environ:
        raise InvalidInput(
            f"{ACCESS_TOKEN} is set, to nothing: somebody meant a token to be asked for.",
            hint="Give it a value, or unset it to let every program on this machine call.",
        )


def _address(host: str, bound: "socket.socket") -> str:
    from voicegw_mcp.web.hosts import bind_name  # noqa: PLC0415 - none of this is needed for --help

    return f"http://{bind_name(host) or '127.0.0.1'}:{bound.getsockname()[1]}"


def _hosts(place: Listen) -> "Hosts":
    """Return the names that are let in; also what is not served by them may hold no typo.

    Raises:
        InvalidInput: a name is none.
    """
    from voicegw_mcp.web.hosts import Hosts  # noqa: PLC0415 - none of this is needed for --help

    if not place.host.strip():  # to a socket that is every address
        raise InvalidInput("--host names no address.", field="host", hint="Name one, or leave it out.")
    return Hosts.of(place.host, place.allowed_hosts, place.allowed_origins)


def _who_may_call(identities: "Identities") -> tuple[str, str]:
    """Return a sentence, and what a client is to send as its token: a variable, TOKEN for one that only people know, or ""."""
    from voicegw_mcp.core.access import ACCESS_TOKEN  # noqa: PLC0415 - as above
    from voicegw_mcp.web.identities import ENVIRONMENT_TOKEN, SHORTEST  # noqa: PLC0415 - likewise

    if not identities.any_configured():
        return "No token is asked for: every program on this machine may call.", ""
    usable, oauth = identities.usable(), identities.oauth()
    ways = [ACCESS_TOKEN] if ENVIRONMENT_TOKEN in usable else []
    ways += ["a token of auth.api_keys"] if len(usable) > len(ways) else []
    ways += [f"an access token of {oauth.issuer}"] if oauth is not None else []
    if not ways:
        return (
            f"Nobody may call: there is no token of {SHORTEST} characters or more.",
            "TOKEN",
        )
    sentence = f"Who sends {' or '.join(filter(None, [', '.join(ways[:-1]), ways[-1]]))} may call."
    if not usable:
        return sentence, ""
    variable = REFERENCE.fullmatch(usable[0].strip())
    return sentence, usable[0].strip() if variable is not None and variable["name"] else "TOKEN"
