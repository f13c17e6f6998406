"""Whether anybody in this process collects OpenTelemetry spans, and whose trace a message belongs to.

Only the API of OpenTelemetry is met here; who collects, and where spans go, is decided by whoever starts the process. May import nothing
of this program besides its version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry.trace import (
    NoOpTracerProvider,
    ProxyTracerProvider,
    get_current_span,
    get_tracer_provider,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from voicegw_mcp import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer

SCOPE: Final = "voicegw_mcp"
"""The name of the instrumentation scope of all spans made here."""

FIELDS: Final = ("traceparent", "tracestate")
"""W3C Trace Context. Baggage is not taken over: a caller's values would travel on to providers."""

_MOST_CHARACTERS: Final = 512
"""W3C Trace Context, 3.3.1.5: of a tracestate so many must be passed on; longer ones are somebody's try."""

_PROPAGATOR: Final = TraceContextTextMapPropagator()


def find_tracer() -> Tracer | None:
    """Return what makes spans, None while nobody in this process collects any: then nothing else need be done."""
    provider = get_tracer_provider()
    if isinstance(provider, (ProxyTracerProvider, NoOpTracerProvider)):
        return None
    return provider.get_tracer(SCOPE, __version__)


def remote_parent(carrier: Mapping[str, object]) -> Context | None:
    """Return the trace that the sender of a message says it belongs to; None when he says nothing that can be read.

    Args:
        carrier: values by name, of which only ``FIELDS`` count (the ``_meta`` of a message of MCP, by SEP-414).
    """
    found: dict[str, str] = {}
    for name in FIELDS:
        value = carrier.get(name)
        if isinstance(value, str) and len(value) <= _MOST_CHARACTERS:
            found[name] = value
    if FIELDS[0] not in found:
        return None
    context = _PROPAGATOR.extract(found)
    return context if get_current_span(context).get_span_context().is_valid else None


def remote_parent_of_headers(headers: Iterable[tuple[bytes, bytes]]) -> Context | None:
    """Return the same of the headers of an HTTP request, as ASGI has them (names in small letters)."""
    return remote_parent({name.decode("latin-1"): value.decode("latin-1") for name, value in headers})
