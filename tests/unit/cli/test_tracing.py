"""When a server sends spans, and that nothing of the SDK is loaded where nobody asked for any."""

import os
import subprocess
import sys

import anyio
import pytest
from opentelemetry import trace
from tests.span_collector import collecting

from voicegw_mcp.cli.tracing import is_asked_for, start_tracing

PLACE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


def run(code, **variables):
    """Return what a program of its own prints; its environment says nothing of OpenTelemetry besides the variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    command = [sys.executable, "-c", code]
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, env={**kept, **variables}
    )
    return ran.stdout.strip()


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, False),
        (PLACE, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({**PLACE, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**PLACE, "OTEL_TRACES_EXPORTER": "console"}, False),
        ({**PLACE, "OTEL_TRACES_EXPORTER": "console, OTLP"}, True),
        ({**PLACE, "OTEL_SDK_DISABLED": "True"}, False),
    ],
)
def test_spans_are_sent_when_the_usual_variables_say_so(environment, asked):
    assert is_asked_for(environment) is asked


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "none of http/protobuf, grpc"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "-5"}, "OTEL_ variables cannot be used (ValueError)"),
    ],
)
def test_what_cannot_be_used_is_told_and_keeps_nothing_from_starting(monkeypatch, caplog, variables, words):
    for name, value in {**PLACE, **variables}.items():
        monkeypatch.setenv(name, value)
    tracing = start_tracing()
    assert words in caplog.text
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    anyio.run(tracing.stop)


def test_a_provider_that_is_there_is_kept(monkeypatch):
    for name, value in PLACE.items():
        monkeypatch.setenv(name, value)
    with collecting(monkeypatch) as collected:
        tracing = start_tracing()
        anyio.run(tracing.stop)
        assert trace.get_tracer_provider() is collected.provider
        collected.provider.get_tracer("voicegw_mcp").start_span("later").end()
        assert collected.span.name == "later"


def test_where_nobody_asked_nothing_of_the_sdk_is_loaded():
    code = (
        "import sys, voicegw_mcp.server, voicegw_mcp.web.app, voicegw_mcp.cli.tracing as t\n"
        "t.start_tracing()\n"
        "print([n for n in sys.modules if n.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    assert run(code) == "[]"


def test_the_protocol_that_is_asked_for_is_spoken():
    code = (
        "from voicegw_mcp.cli.tracing import start_tracing\n"
        "print(type(start_tracing()._provider._active_span_processor._span_processors[0].span_exporter).__module__)"
    )
    spoken = run(
        code, **PLACE, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="GRPC", OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf"
    )
    assert spoken == "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"
