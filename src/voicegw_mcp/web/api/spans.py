"""A span of each request to the API: which endpoint and which status, without the values in path and query. May import ``core``.

It stands behind the guard: who has no token cannot fill a trace store. Names are those of OpenTelemetry's conventions for HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry.trace import SpanKind, Status, StatusCode

from voicegw_mcp.core.tracing import remote_parent_of_headers
from voicegw_mcp.web.api.routes import METHODS, route_of

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SERVER_ERRORS: Final = 500


class ApiSpans:
    """The API with spans (ASGI 3).

    Args:
        api: answers.
        tracer: makes the spans.
        door: through which requests come.
    """

    def __init__(self, api: ASGIApp, tracer: Tracer, door: str) -> None:
        self._api = api
        self._tracer = tracer
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; the span lasts until the answer was sent."""
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        name = "HTTP" if method == "_OTHER" else method
        attributes = {"http.request.method": method, "url.scheme": "http", "voicegw.door": self._door}
        route = route_of(scope["path"])
        if route is not None:
            attributes["http.route"] = route
            name = f"{name} {route}"
        with self._tracer.start_as_current_span(
            name,
            context=remote_parent_of_headers(scope["headers"]),
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:

            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _tell(span, message["status"])
                await send(message)

            await self._api(scope, receive, watched)


def _tell(span: Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= _SERVER_ERRORS:
        span.set_attribute("error.type", str(status))
        span.set_status(Status(StatusCode.ERROR))
