"""A span of each message over MCP that does something: which tool it called and how that ended, never with what and what came out.

Takes the place of the middleware in mcp 2.3: that one makes a span of every message, is named by whatever name the client sent, holds
the texts of errors and the tracebacks of exceptions, in which arguments are quoted, and knows neither our error codes nor ``traceparent``
of HTTP. Names are those of OpenTelemetry's conventions for MCP where there are any. May import mcp and ``core``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mcp.shared.exceptions import MCPError
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, get_current_span
from pydantic import ValidationError

from voicegw_mcp.core.tracing import remote_parent, remote_parent_of_headers

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from opentelemetry.trace import Span, Tracer

NAMED_BY: Final = {
    "tools/call": "gen_ai.tool.name",
    "prompts/get": "gen_ai.prompt.name",
    "resources/read": "",
    "completion/complete": "",
}
"""The methods that have spans, with the attribute that says what was called. A resource's address may hold ids, so none does there."""

_MOST_OF_ID: Final = 64
"""Characters of a request's id, which the client chooses."""


class MessageSpans:
    """Middleware of the SDK's server.

    Args:
        tracer: makes the spans.
        door: through which messages come.
        names: by method, what can be called; other names are the client's inventions and stay out.
    """

    def __init__(self, tracer: Tracer, door: str, names: Mapping[str, Collection[str]]) -> None:
        self._tracer = tracer
        self._door = door
        self._names = names

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Let a message be answered; see ``ServerMiddleware``, which names the parameters."""
        if ctx.method not in NAMED_BY or ctx.request_id is None:
            return await call_next(ctx)
        scope = getattr(ctx.request, "scope", None)
        by_message = remote_parent(ctx.meta or {})
        by_request = None if scope is None else remote_parent_of_headers(scope["headers"])
        attributes = {
            "mcp.method.name": ctx.method,
            "mcp.protocol.version": ctx.protocol_version,
            "jsonrpc.request.id": str(ctx.request_id)[:_MOST_OF_ID],
            "network.transport": "pipe" if scope is None else "tcp",
            "voicegw.door": self._door,
        }
        if ctx.method == "tools/call":
            attributes["gen_ai.operation.name"] = "execute_tool"
        span_name, name = ctx.method, (ctx.params or {}).get("name")
        if isinstance(name, str) and name in self._names.get(ctx.method, ()):
            span_name = f"{ctx.method} {name}"
            attributes[NAMED_BY[ctx.method]] = name
        both = by_message is not None and by_request is not None
        with self._tracer.start_as_current_span(
            span_name,
            context=by_message or by_request,
            kind=SpanKind.SERVER,
            attributes=attributes,
            links=[Link(get_current_span(by_request).get_span_context())] if both else None,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            outcome = "cancelled"
            try:
                result = await call_next(ctx)
            except MCPError as error:
                outcome = _code_in(error.error.data)
                span.set_attribute("rpc.response.status_code", str(error.error.code))
                _fail(span, str(error.error.code))
                raise
            except Exception as error:
                outcome = "VALIDATION_ERROR" if isinstance(error, ValidationError) else "INTERNAL_ERROR"
                _fail(span, type(error).__name__)
                raise
            else:
                outcome = _outcome_of(result)
                if outcome not in {"ok", "asked"}:
                    _fail(span, "tool_error")
                return result
            finally:
                span.set_attribute("voicegw.outcome", outcome)


def _fail(span: Span, kind: str) -> None:
    # Without a description: messages quote what was sent.
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))


def _outcome_of(result: Any) -> str:
    """Return how a message was answered, in the words of the metric of tool calls (``Gateway.tool_calls``)."""
    if result.get("isError"):
        return _code_in(result.get("structuredContent"))
    return "asked" if result.get("resultType") == "input_required" else "ok"


def _code_in(payload: Any) -> str:
    """Return the code in an error's one shape; what the SDK refuses by itself was no valid message."""
    try:
        return str(payload["error"]["code"])
    except (KeyError, TypeError):
        return "VALIDATION_ERROR"
