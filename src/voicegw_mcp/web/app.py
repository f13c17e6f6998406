"""The one ASGI application: the MCP routes and ``/health`` behind the guard. May import ``web``, ``transports``, ``errors``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.transports.http import McpRoutes
from voicegw_mcp.web.guard import Guard, refuse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from voicegw_mcp.transports.http import McpServer
    from voicegw_mcp.web.hosts import Hosts
    from voicegw_mcp.web.identities import Identities


def build_app(
    server: McpServer, hosts: Hosts, identities: Identities, *, open_without_token: bool = False
) -> ASGIApp:
    """Return the application that serves ``server``.

    Args:
        server: made once, shared by all sessions.
        hosts: the names under which it answers.
        identities: knows the tokens.
        open_without_token: let everybody in while no token is configured; only for a loopback address.
    """
    routes = McpRoutes(server, {"/health": _health}, _nothing)
    return Guard(routes, hosts, identities, open_without_token=open_without_token)


async def _health(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer that the process lives; anything more is for those with a token (get_health)."""
    allowed = scope["method"] in {"GET", "HEAD"}
    response = (
        JSONResponse({"status": "ok"})
        if allowed
        else Response(status_code=405, headers={"allow": "GET, HEAD"})
    )
    await response(scope, receive, send)


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    error = InvalidInput("There is nothing at that path.", hint="There are: /mcp, /sse, /messages, /health.")
    await refuse(404, error)(scope, receive, send)
