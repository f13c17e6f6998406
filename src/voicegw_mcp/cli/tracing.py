"""Sends the server's OpenTelemetry spans to where the environment says, as programs with OpenTelemetry do (the extra ``otel``).

Without such a variable nothing is imported. Spans over standard output are not offered: over stdio that is the wire. What set up a
provider before us (``opentelemetry-instrument``) keeps it. May import ``core.tracing``.
"""

from __future__ import annotations

import logging
import os
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

logger = logging.getLogger(__name__)

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
EXPORTERS: Final = {
    "http/protobuf": ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "voicegw-mcp[otel]"),
    "grpc": (
        "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
        "opentelemetry-exporter-otlp-proto-grpc",
    ),
}
"""By OTLP protocol: the module whose ``OTLPSpanExporter`` speaks it, and what to install for it."""

SERVICE: Final = "voicegw-mcp"
END_S: Final = 0.5
"""How long the end of the process waits for the last spans; a collector that does not answer must not hold it up."""


class Tracing:
    """What sends the spans of this process.

    Args:
        provider: None where nobody asked for spans.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._provider = provider

    async def stop(self) -> None:
        """Send what is left, for ``END_S`` at most."""
        if self._provider is None:
            return
        import anyio  # noqa: PLC0415 - the server's start is what this module is imported at

        # Not a thread of anyio's: one that waits for a dead collector must not be waited for in turn.
        sending = threading.Thread(target=self._provider.shutdown, name="voicegw-spans-end", daemon=True)
        sending.start()
        await anyio.to_thread.run_sync(sending.join, END_S, abandon_on_cancel=True)


def start_tracing() -> Tracing:
    """Send spans from now on, when the environment says where to; to be called before the server is built.

    What cannot be done as it was asked for is logged; the server starts all the same.
    """
    environment = os.environ  # the SDK reads no other
    if not is_asked_for(environment):
        return Tracing()
    from opentelemetry.trace import set_tracer_provider  # noqa: PLC0415 - see the module docstring

    from voicegw_mcp.core.tracing import find_tracer  # noqa: PLC0415 - likewise

    if find_tracer() is not None:
        return Tracing()
    protocol = next(filter(None, map(environment.get, PROTOCOLS)), "http/protobuf").strip().lower()
    if protocol not in EXPORTERS:
        logger.warning("No spans are sent: %s is none of %s.", PROTOCOLS[1], ", ".join(EXPORTERS))
        return Tracing()
    module, package = EXPORTERS[protocol]
    try:
        exporter = import_module(module).OTLPSpanExporter()
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - likewise
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - likewise

        provider = TracerProvider(resource=_describe_service(environment), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter))
    except ImportError:
        logger.warning("No spans are sent: install %s, or unset %s.", package, " and ".join(ENDPOINTS))
        return Tracing()
    except Exception as error:  # noqa: BLE001 - a variable the exporter cannot read must not keep the server from starting
        logger.warning("No spans are sent: the OTEL_ variables cannot be used (%s).", type(error).__name__)
        return Tracing()
    set_tracer_provider(provider)
    return Tracing(provider)


def is_asked_for(environment: Mapping[str, str]) -> bool:
    """Return whether the environment asks for spans over OTLP."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporters:
        return "otlp" in (name.strip() for name in exporters.split(","))
    return any(environment.get(name, "").strip() for name in ENDPOINTS)


def _describe_service(environment: Mapping[str, str]) -> Resource:
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - see the module docstring

    from voicegw_mcp import __version__  # noqa: PLC0415 - likewise

    attributes = {"service.version": __version__}
    named = environment.get("OTEL_SERVICE_NAME") or "service.name=" in environment.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    if not named:
        attributes["service.name"] = SERVICE
    return Resource.create(dict(attributes))
