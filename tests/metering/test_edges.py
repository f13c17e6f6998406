"""What goes wrong beside the request, and what plugins other than the installed ones may do with LiveKit's channel."""

import gc
import time
from weakref import ref

import pytest
from livekit.agents import llm
from livekit.agents.stt import RecognitionUsage, SpeechData, SpeechEvent, SpeechEventType
from tests.loopback import Fault
from tests.metering.desk import ONCE, PRICES, SAID, ask, audio, conversation

from voicegw_mcp import inference
from voicegw_mcp.core.pricing import PriceBook
from voicegw_mcp.inference import streams
from voicegw_mcp.inference.attempts import describe
from voicegw_mcp.inference.runtime import Runtime


def final(**fields):
    data = SpeechData(language="en", text="one", end_time=fields.pop("end_time", 0.0))
    return SpeechEvent(SpeechEventType.FINAL_TRANSCRIPT, alternatives=[data], **fields)


def used(seconds, **tokens):
    usage = RecognitionUsage(audio_duration=seconds, **tokens)
    return SpeechEvent(SpeechEventType.RECOGNITION_USAGE, recognition_usage=usage)


@pytest.fixture
async def stream(desk):
    """A stream whose provider says nothing."""
    server = await desk.start("deepgram")
    server.faults.next(Fault(hang=True), times=9)
    ears = desk.own(inference.STT("deepgram/nova-3"))
    async with ears.stream(conn_options=ONCE) as stream:
        yield stream


async def read_and_let_go(stream, begin):
    """Use a stream to its end; return it weakly."""
    async with stream:
        begin(stream)
        stream.end_input()
        async for _ in stream:
            pass
    return ref(stream)


async def test_a_stream_that_ended_is_gone_without_the_garbage_collector(desk):
    """Its pauses are an agent's: what each request leaves to it would make them longer and more frequent."""
    await desk.start("cartesia", "deepgram")
    voice = desk.own(inference.TTS("cartesia/sonic-3"))
    ears = desk.own(inference.STT("deepgram/nova-3"))
    heard = ears.stream(conn_options=ONCE)
    hook = heard.push_frame
    gc.disable()
    try:
        spoken = await read_and_let_go(voice.stream(conn_options=ONCE), lambda each: each.push_text(SAID))
        assert spoken() is None
        await read_and_let_go(heard, lambda each: each.push_frame(audio(100)))
    finally:
        gc.enable()
    assert heard.push_frame != hook  # LiveKit's own again
    assert vars(heard._event_ch).keys().isdisjoint({"send_nowait", "close"})
    assert [row.status for row in desk.rows()] == ["success"] * 2


async def test_what_somebody_else_put_before_a_stream_stays(desk):
    await desk.start("deepgram")
    pushed = []
    stream = desk.own(inference.STT("deepgram/nova-3")).stream(conn_options=ONCE)
    push = stream.push_frame

    def count(frame):
        pushed.append(frame)
        push(frame)

    stream.push_frame = count
    await read_and_let_go(stream, lambda each: each.push_frame(audio(300)))
    assert (stream.push_frame, len(pushed)) == (count, 1)
    assert desk.row().status == "success"


async def test_a_look_at_the_file_that_fails_does_not_stop_a_request(desk, monkeypatch, caplog):
    await desk.start("openai")
    model = desk.own(inference.LLM("openai/gpt-4o-mini"))
    await ask(model)
    monkeypatch.setattr(Runtime, "catalog_lately", lambda _: 1 / 0)
    assert await ask(model)
    assert "goes by the configuration as it was" in caplog.text
    assert [row.status for row in desk.rows()] == ["success"] * 2


async def test_a_stream_that_cannot_be_watched_is_the_callers_all_the_same(desk, monkeypatch, caplog):
    await desk.start("openai")
    monkeypatch.setattr(streams.Chat, "watch", lambda *_: 1 / 0)
    assert await ask(desk.own(inference.LLM("openai/gpt-4o-mini")))
    assert "cannot be metered" in caplog.text
    assert desk.rows() == []


async def test_an_answer_that_cannot_be_measured_arrives(desk, monkeypatch, caplog):
    await desk.start("openai")
    monkeypatch.setattr(streams.Chat, "_characters", None)  # cannot be added to
    assert await ask(desk.own(inference.LLM("openai/gpt-4o-mini")))
    assert "was not measured" in caplog.text
    assert len(desk.rows()) == 1


async def test_a_price_that_cannot_be_found_out_leaves_the_row_unpriced(desk, monkeypatch, caplog):
    await desk.start("openai", more=PRICES)
    monkeypatch.setattr(PriceBook, "find", lambda *_, **__: 1 / 0)
    await ask(desk.own(inference.LLM("openai/gpt-4o-mini")))
    assert desk.row().cost_nanousd is None
    assert "No price for openai/gpt-4o-mini" in caplog.text


async def test_what_costs_nothing_is_0_and_what_nobody_knows_is_unpriced(desk):
    await desk.start("ollama", "openai_compatible")
    await ask(desk.own(inference.LLM("ollama/qwen2.5:3b")))
    await ask(desk.own(inference.LLM("openai_compatible/house")))
    assert [(row.cost_nanousd, row.price) for row in desk.rows()] == [(0, "local"), (None, "")]


async def test_a_price_of_a_relative_says_so(desk):
    await desk.start("openai")
    await ask(desk.own(inference.LLM("openai/gpt-4o-mini-2099-01-01")))
    assert desk.row().cost_nanousd is None or "(family gpt-4o" in desk.row().price


async def test_the_calls_of_tools_count_into_an_estimate(desk):
    server = await desk.start("openai")
    server.faults.next(Fault(hang=True))
    context = conversation("hi")
    context.items.append(llm.FunctionCall(call_id="c", name="look", arguments='{"city": "Kyiv"}'))
    context.items.append(llm.FunctionCallOutput(call_id="c", name="look", output="sunny", is_error=False))
    model = desk.own(inference.LLM("openai/gpt-4o-mini"))
    async with model.chat(chat_ctx=context, conn_options=ONCE):
        await server.arrival("chat")
    assert desk.row().input_tokens == -(-(2 + 16 + 5) // 4)


async def test_a_plugin_that_closes_its_channel_itself_is_settled_when_its_work_ends(desk):
    server = await desk.start("openai")
    server.faults.next(Fault(hang=True))
    model = desk.own(inference.LLM("openai/gpt-4o-mini"))
    async with model.chat(chat_ctx=conversation(), conn_options=ONCE) as stream:
        await server.arrival("chat")
        stream._event_ch.close()
        assert desk.rows() == []
    assert desk.row().status == "cancelled"


async def test_a_provider_that_says_when_speech_ended_is_believed(desk, stream):
    stream.push_frame(audio(100))
    stream._event_ch.send_nowait(final(speech_end_time=time.time() - 3))
    await stream.aclose()
    assert 3_000_000 <= desk.rows()[0].total_us < 60_000_000


async def test_a_transcript_before_any_audio_has_no_latency(desk, stream):
    stream._event_ch.send_nowait(final())
    await stream.aclose()
    assert desk.row().total_us is None


async def test_time_in_which_nobody_speaks_is_written_by_the_minute(desk, stream):
    for _ in range(13):
        stream._event_ch.send_nowait(used(5.0, input_tokens=1))
    assert [(row.status, row.audio_ms, row.input_tokens) for row in desk.rows()] == [("idle", 60_000, 12)]
    stream._event_ch.send_nowait(final())
    stream._event_ch.send_nowait(final())
    await stream.aclose()
    rows = [(row.status, row.audio_ms) for row in desk.rows()]
    assert rows == [("idle", 60_000), ("success", 5000), ("success", 0)]


async def test_the_times_of_a_new_connection_begin_anew(desk, stream, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(streams.time, "perf_counter", lambda: clock[0])
    stream.push_frame(audio(100))
    stream.start_time_offset = 50.0
    clock[0] = 200.0
    stream.push_frame(audio(100))
    clock[0] = 201.0
    stream._event_ch.send_nowait(final(end_time=50.1))
    await stream.aclose()
    assert desk.rows()[0].total_us == 1_000_000


async def test_audio_nobody_answered_is_one_cancelled_row(desk, stream):
    stream.push_frame(audio(300))
    await stream.aclose()
    assert (desk.row().status, desk.row().audio_ms, desk.row().estimated) == ("cancelled", 300, 1)


def test_an_error_that_is_its_own_cause_is_described():
    error = ValueError("odd")
    error.__cause__ = error
    assert describe(error) == ("ValueError", "odd")
