"""The one ASGI application: the MCP routes, the API, the dashboard, ``/health`` and the metadata for OAuth behind the guard.

May import ``web``, ``transports``, ``core``, ``errors``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from voicegw_mcp.core.tracing import find_tracer
from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.transports.http import MAX_SESSIONS, McpRoutes
from voicegw_mcp.web.api.routes import PREFIX, Api
from voicegw_mcp.web.api.spans import ApiSpans
from voicegw_mcp.web.guard import Guard, refuse
from voicegw_mcp.web.oauth import describe_resource, is_metadata
from voicegw_mcp.web.pages import read_pages

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.transports.http import McpServer
    from voicegw_mcp.web.hosts import Hosts
    from voicegw_mcp.web.identities import Identities


def build_app(
    server: McpServer,
    gateway: Gateway,
    hosts: Hosts,
    identities: Identities,
    *,
    open_without_token: bool = False,
    dashboard: bool = True,
    max_sessions: int = MAX_SESSIONS,
) -> ASGIApp:
    """Return the application that serves ``server``.

    Args:
        server: made once, shared by all sessions.
        gateway: what the API reads.
        hosts: the names under which it answers.
        identities: knows the tokens.
        open_without_token: let everybody in until a token is configured; only for a loopback address.
        dashboard: serve the page at ``/``.
        max_sessions: of each kind, open at the same time.
    """
    plain: dict[str, ASGIApp] = {"/health": _health, **(read_pages() if dashboard else {})}
    api = Api(gateway, lambda: routes.open_sessions())  # noqa: PLW0108 - the routes are made of it
    tracer = find_tracer()
    told = api if tracer is None else ApiSpans(api, tracer, gateway.caller.door)
    routes = McpRoutes(server, plain, _Elsewhere(told, identities), max_sessions=max_sessions)
    return Guard(routes, hosts, identities, open_paths=plain.keys(), open_without_token=open_without_token)


async def _health(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer that the process lives; anything more is for those with a token (get_health)."""
    await _document(scope, {"status": "ok"})(scope, receive, send)


class _Elsewhere:
    """Every path that is in no table: the API, where tokens come from, while ``auth.oauth`` is set, and nothing."""

    def __init__(self, api: ASGIApp, identities: Identities) -> None:
        self._api = api
        self._identities = identities

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(PREFIX):
            await self._api(scope, receive, send)
            return
        oauth = self._identities.oauth()
        if oauth is not None and is_metadata(scope["path"], oauth):
            response = _document(scope, describe_resource(oauth))
        else:
            error = InvalidInput(
                "There is nothing at that path.",
                hint="There are: /, /mcp, /sse, /messages, /v1/openapi.json, /health.",
            )
            response = refuse(404, error)
        await response(scope, receive, send)


def _document(scope: Scope, content: dict[str, object]) -> JSONResponse:
    if scope["method"] in {"GET", "HEAD"}:
        return JSONResponse(content)
    error = InvalidInput(f"{scope['path']} answers GET.", hint="See the header Allow.")
    return refuse(405, error, {"allow": "GET, HEAD"})
