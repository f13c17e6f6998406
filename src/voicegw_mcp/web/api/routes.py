"""The API as one ASGI application behind the guard: finds the endpoint, and turns every failure into the one error shape.

May import ``web``, ``server``, ``tools``, ``core`` and ``errors``.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Final, cast

import anyio
from pydantic_core import to_json
from starlette.responses import Response

from voicegw_mcp.core.metrics import read_metrics
from voicegw_mcp.errors import GatewayError, InvalidInput, nearest, quote
from voicegw_mcp.server import DEADLINE_S, IDENTITY, logged, overdue
from voicegw_mcp.web.api.document import DOCUMENT, describe
from voicegw_mcp.web.api.endpoints import ENDPOINTS
from voicegw_mcp.web.api.kept import KeptAnswers
from voicegw_mcp.web.api.logs import JSON, LOGS, PATH, TYPES, export, follow, show_page
from voicegw_mcp.web.api.metrics import EXPOSITIONS, METRICS, expose
from voicegw_mcp.web.api.requests import choose_type, read_query
from voicegw_mcp.web.api.streams import EVENTS
from voicegw_mcp.web.guard import RETRY_S, refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.core.log_pages import LogPage
    from voicegw_mcp.web.api.answers import Logs
    from voicegw_mcp.web.api.endpoints import Endpoint

PREFIX: Final = "/v1/"
METHODS: Final = ("GET", "HEAD")
MOVED: Final = {
    "/v1/sessions": "/v1/costs?group_by=session, or /v1/logs?session_id=ID",
    "/v1/audit-log": "/v1/changes",
}
"""What VoiceGateway 0.4 has elsewhere."""


class NoSuchPath(InvalidInput):
    """There is nothing at a path."""

    http_status = 404


class WrongMethod(InvalidInput):
    """Nothing is changed through the API."""

    http_status = 405


class Api:
    """Everything under /v1/.

    Args:
        gateway: opened by the command; each caller sees what he may.
        open_sessions: tells how many MCP sessions are open, by transport.
    """

    def __init__(self, gateway: Gateway, open_sessions: Callable[[], Mapping[str, int]]) -> None:
        self._gateway = gateway
        self._open_sessions = open_sessions
        self._kept = KeptAnswers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        response: ASGIApp | None = None
        try:
            with anyio.move_on_after(DEADLINE_S):
                response = await self._answer(scope)
            if response is None:
                response = _refusal(overdue(scope["path"]))
        except GatewayError as error:
            response = _refusal(error)
        except Exception as error:  # noqa: BLE001 - the door: whatever went wrong is answered in the one shape
            response = _refusal(logged(scope["path"], error))
        await response(scope, receive, send)

    async def _answer(self, scope: Scope) -> ASGIApp:
        path: str = scope["path"]
        if scope["method"] not in METHODS:
            raise WrongMethod(
                f"Nothing is changed through /v1, which answers GET (got {quote(scope['method'])[1:-1]} {quote(path)[1:-1]}).",
                hint="Change the configuration by the tools or the command `voicegw`.",
            )
        endpoint = find_endpoint(path)
        if endpoint is None and path not in {PATH, METRICS, DOCUMENT}:
            raise _nothing_at(path)
        given = read_query(scope)
        if path == PATH:
            return await self._logs(scope, given)
        kind = choose_type(scope, tuple(EXPOSITIONS) if path == METRICS else (JSON,))
        if endpoint is None:
            for name in given:
                field = quote(name)[1:-1]
                raise InvalidInput(f"{path} takes no {field}.", field=field, hint=f"{path} takes: none.")
            if path == METRICS:
                return await self._metrics(scope, kind)
            return _lasting(scope, self._document, "no-cache")
        named = {endpoint.parameter: path.removeprefix(endpoint.path)} if endpoint.parameter else {}
        for name in named.keys() & given.keys():
            raise InvalidInput(f"{name} is in the path already.", field=name, hint=f"Leave out ?{name}.")
        gateway, args = self._caller(scope), endpoint.tool.parse({**given, **named})

        async def make() -> bytes:
            answer = await endpoint.tool.run(gateway, args)
            return answer.model_dump_json(exclude_none=True).encode()

        if endpoint.of_store:
            return _fresh(await self._kept.get(gateway, path, given, make))
        body = await make()
        return _lasting(scope, body) if endpoint.lasting else _fresh(body)

    async def _logs(self, scope: Scope, given: dict[str, str]) -> ASGIApp:
        kind = choose_type(scope, TYPES)
        args, gateway = cast("Logs", LOGS.parse(given)), self._caller(scope)
        if kind == EVENTS:
            last = next((value for name, value in scope["headers"] if name == b"last-event-id"), b"")
            return await follow(gateway, args, last.decode("latin-1") or None)
        if kind != JSON:
            return await export(gateway, args, kind)
        body, headers = show_page(cast("LogPage", await LOGS.run(gateway, args)), given)
        return _fresh(body, {**headers, "vary": "Accept"})

    async def _metrics(self, scope: Scope, kind: str) -> Response:
        found = await read_metrics(self._caller(scope))
        body = await anyio.to_thread.run_sync(expose, found, self._open_sessions(), kind)
        headers = {"cache-control": "no-store", "content-type": EXPOSITIONS[kind], "vary": "Accept"}
        return Response(body, headers=headers)

    def _caller(self, scope: Scope) -> Gateway:
        """Return the gateway as the caller may see it, by his token if one is asked for."""
        identity = scope.get(IDENTITY)
        if identity is None:
            return self._gateway.as_caller("")
        return self._gateway.as_caller(identity.name, identity.access, catalog=identity.catalog)

    @cached_property
    def _document(self) -> bytes:
        return to_json(describe())


def find_endpoint(path: str) -> Endpoint | None:
    """Return what answers at a path with one JSON object; the last part of a path may be an argument."""
    for endpoint in ENDPOINTS:
        if path == endpoint.path and not endpoint.parameter:
            return endpoint
        if endpoint.parameter and path.startswith(endpoint.path) and path != endpoint.path:
            return endpoint
    return None


def route_of(path: str) -> str | None:
    """Return the address of ``paths`` that a path is, None when it is none."""
    endpoint = find_endpoint(path)
    if endpoint is not None:
        return endpoint.template
    return path if path in paths() else None


def paths() -> list[str]:
    """Return the addresses that there are."""
    return [*(endpoint.template for endpoint in ENDPOINTS), PATH, METRICS, DOCUMENT]


def _nothing_at(path: str) -> NoSuchPath:
    moved = next((new for old, new in MOVED.items() if path == old or path.startswith(f"{old}/")), None)
    near = [moved] if moved else nearest(path, paths(), count=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    return NoSuchPath(
        f"There is nothing at {quote(path)[1:-1]}.", hint=f"{hint}There are: {', '.join(paths())}."
    )


def _refusal(error: GatewayError) -> Response:
    headers: dict[str, str] = {}
    if error.http_status == 405:
        headers["allow"] = ", ".join(METHODS)
    if error.http_status == 503:
        headers["retry-after"] = str(RETRY_S)
    return refuse(error.http_status, error, headers)


def _fresh(body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, headers={"cache-control": "no-store", **(headers or {})}, media_type=JSON)


def _lasting(scope: Scope, body: bytes, caching: str = "private, no-cache") -> Response:
    """Return an answer that a client may keep and ask about: 304 while it is the same."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"cache-control": caching, "etag": tag, "vary": "Authorization"}
    asked = b", ".join(value for name, value in scope["headers"] if name == b"if-none-match")
    known = {item.strip().removeprefix("W/") for item in asked.decode("latin-1").split(",")}
    if tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=JSON)
