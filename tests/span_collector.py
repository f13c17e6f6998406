"""The spans of this process, collected in memory by OpenTelemetry's own SDK for the length of a block."""

from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736
PARENT_ID = 0x00F067AA0BA902B7


class Collected:
    """What was collected so far, in the order in which the spans ended."""

    def __init__(self):
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self):
        """Ours; LiveKit makes some of its own."""
        return [
            span
            for span in self._exporter.get_finished_spans()
            if span.instrumentation_scope.name == "voicegw_mcp"
        ]

    @property
    def span(self):
        (span,) = self.spans
        return span

    def holds(self, text):
        """Return whether a text is anywhere in what would be sent."""
        return any(text in span.to_json() for span in self.spans)


@contextmanager
def collecting(monkeypatch):
    """Let this process collect spans; a provider can be set once only, so the place where it is kept is put back."""
    collected = Collected()
    with monkeypatch.context() as patch:
        patch.setattr(trace, "_TRACER_PROVIDER", collected.provider)
        patch.setattr("mcp.shared._otel._tracer", trace.NoOpTracer())  # the client's own
        yield collected
    collected.provider.shutdown()
