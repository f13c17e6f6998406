"""Each row of the log is a span as well, where the agent's process collects them."""

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from livekit.agents import APIError
from opentelemetry.trace import SpanKind, StatusCode
from tests.factories import request_record
from tests.metering.desk import PRICES, SAID, ask, listen, recognize, say
from tests.otlp_receiver import receiving
from tests.span_collector import collecting

from voicegw_mcp import inference
from voicegw_mcp.domain import NANO
from voicegw_mcp.inference import runtime, spans
from voicegw_mcp.store.recorder import Recorder

MS = 1_000_000
DOCUMENT = Path(__file__).parents[2] / "docs/telemetry.md"


@pytest.fixture
def collected(monkeypatch):
    with collecting(monkeypatch) as collected:
        yield collected


async def test_a_reply_is_a_span_with_what_its_row_says(desk, collected):
    await desk.start("openai", more=PRICES)
    tracer = collected.provider.get_tracer("an agent")
    with (
        tracer.start_as_current_span("turn") as turn,
        inference.set_project("shop"),
        inference.session("call-1"),
    ):
        assert await ask(desk.own(inference.LLM("openai/gpt-4o-mini")), system="Be brief and kind.")
    row, span = desk.row(), collected.span
    assert (span.name, span.kind) == ("chat gpt-4o-mini", SpanKind.CLIENT)
    assert span.parent.span_id == turn.get_span_context().span_id
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes)
    assert len(attributes.pop("voicegw.request.id")) == 20
    assert attributes.pop("gen_ai.response.time_to_first_chunk") == pytest.approx(row.ttfb_us / 1e6, abs=1e-6)
    assert row.cost_nanousd > 0
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.stream": True,
        "gen_ai.conversation.id": "call-1",
        "gen_ai.usage.input_tokens": row.input_tokens,
        "gen_ai.usage.output_tokens": row.output_tokens,
        **({"gen_ai.usage.cache_read.input_tokens": row.cached_tokens} if row.cached_tokens else {}),
        "voicegw.project": "shop",
        "voicegw.modality": "llm",
        "voicegw.provider": "openai",
        "voicegw.model_id": "openai/gpt-4o-mini",
        "voicegw.status": "success",
        "voicegw.usage.estimated": False,
        "voicegw.cost_nanousd": row.cost_nanousd,
        "voicegw.cost_usd": row.cost_nanousd / NANO,
    }
    assert (span.end_time - span.start_time) / MS == pytest.approx(row.total_us / 1000, abs=0.01)
    assert turn.start_time - 5 * MS < span.start_time
    for said in ("Be brief and kind.", SAID):
        assert not collected.holds(said)


async def test_a_span_of_a_row_that_waited_is_of_the_time_of_its_request(desk, collected, monkeypatch):
    """As when the store is locked, and the machine sleeps or its clock is set meanwhile."""
    await desk.start("openai")
    waiting = []
    monkeypatch.setattr(Recorder, "record", lambda _, row: waiting.append(row))
    before = time.time_ns()
    await ask(desk.own(inference.LLM("openai/gpt-4o-mini")))
    after = time.time_ns()
    monkeypatch.setattr(spans.time, "time_ns", lambda: after + 3_600 * NANO)
    row = waiting[0]()
    span = collected.span
    assert before <= span.start_time < span.end_time <= after
    assert (span.end_time - span.start_time) / MS == pytest.approx(row.total_ms, abs=0.01)


async def test_speech_and_recordings_are_spans_with_their_units(desk, collected):
    await desk.start("openai")
    await say(desk.own(inference.TTS("openai/tts-1")), "Good morning.")
    await recognize(desk.own(inference.STT("openai/whisper-1")), 700)
    desk.rows()
    spoken, heard = collected.spans
    assert spoken.name == "text_to_speech tts-1"
    assert spoken.attributes["voicegw.usage.characters"] == len("Good morning.")
    assert spoken.attributes["voicegw.usage.audio_ms"] > 0
    assert heard.name == "speech_to_text whisper-1"
    assert heard.attributes["voicegw.usage.audio_ms"] == 700
    assert heard.attributes["gen_ai.request.stream"] is False
    assert not collected.holds("Good morning")


async def test_each_turn_of_a_stream_is_a_span_as_long_as_its_latency(desk, collected):
    await desk.start("deepgram")
    await listen(desk.own(inference.STT("deepgram/nova-3")))
    turns = [row for row in desk.rows() if row.status == "success"]
    spans = [span for span in collected.spans if span.attributes["voicegw.status"] == "success"]
    assert len(turns) == len(spans) > 0
    for row, span in zip(turns, spans, strict=True):
        assert span.end_time == row.timestamp_ms * MS
        assert (span.end_time - span.start_time) / MS == pytest.approx((row.total_us or 0) / 1000, abs=0.01)


async def test_a_failed_request_is_an_error_of_its_kind_without_its_message(desk, collected):
    server = await desk.start("openai")
    instance = desk.own(inference.LLM("openai/gpt-4o-mini"))
    server.key = "another"
    with pytest.raises(APIError):
        await ask(instance)
    assert desk.row().error_message
    span = collected.span
    assert span.attributes["error.type"] == desk.row().error_kind == "http_401"
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert not span.events
    assert not collected.holds(desk.row().error_message)


async def test_without_a_log_of_requests_there_are_no_spans_of_what_budgets_count(desk, collected):
    shop = "projects:\n  shop: {name: Shop, daily_budget: 5.0, budget_action: block}\n"
    await desk.start("openai", more="observability: {request_logging: false}\n", projects=shop)
    with inference.set_project("shop"):
        assert await ask(desk.own(inference.LLM("openai/gpt-4o-mini")))
    counted = threading.Event()

    def last():
        counted.set()
        return request_record(project="shop")

    runtime.current().budgets().spending.note("shop", last, recorded=False)
    assert await asyncio.to_thread(counted.wait, 20)
    assert collected.spans == []


async def test_a_collector_that_fails_costs_no_row(desk, collected, caplog, monkeypatch):
    await desk.start("openai")

    sample = collected.provider.sampler.should_sample

    def refuse_ours(parent, trace_id, name, *rest):
        if name == "chat gpt-4o-mini":
            raise OSError("no room")
        return sample(parent, trace_id, name, *rest)

    monkeypatch.setattr(collected.provider.sampler, "should_sample", refuse_ours)
    assert await ask(desk.own(inference.LLM("openai/gpt-4o-mini")))
    assert desk.row().status == "success"
    assert "has no span" in caplog.text


def test_the_provider_of_the_documentation_sends_spans_to_a_collector():
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    program = example + (
        "from voicegw_mcp.core.tracing import find_tracer\n"
        "find_tracer().start_span('chat m').end()\n"
        "provider.shutdown()\n"
    )
    with receiving() as collector:
        environment = {**os.environ, **collector.variables}
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env=environment)
        ((resource, span),) = collector.exported()
    assert (resource["service.name"], span.name) == ("agent", "chat m")
