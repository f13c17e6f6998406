"""However a request ends it is exactly one row, which says how."""

import asyncio
import gc
import json
import logging
import sys
import weakref

import pytest
from livekit.agents import APIConnectionError, APIConnectOptions, APIError, APIStatusError
from tests.loopback import Fault
from tests.metering.desk import (
    ONCE,
    PRICES,
    SAID,
    ask,
    audio,
    close,
    conversation,
    listen,
    recognize,
    say,
    speak,
)

from voicegw_mcp import inference
from voicegw_mcp.domain import NO_USAGE
from voicegw_mcp.inference import streams
from voicegw_mcp.inference.listening import Listening
from voicegw_mcp.store.recorder import Recorder

TWICE = APIConnectOptions(max_retry=1, retry_interval=0, timeout=5)
HASTY = APIConnectOptions(max_retry=0, timeout=0.2)

STAGES = {
    "ask": (inference.LLM, "openai/gpt-4o-mini", ask, "chat"),
    "say": (inference.TTS, "openai/tts-1", say, "speech"),
    "recognize": (inference.STT, "openai/whisper-1", recognize, "transcriptions"),
    "speak": (inference.TTS, "cartesia/sonic-3", speak, None),
    "listen": (inference.STT, "deepgram/nova-3", listen, None),
}


@pytest.mark.parametrize("stage", STAGES)
async def test_a_refusal_is_one_row_with_the_status(desk, stage):
    make, model, call, _ = STAGES[stage]
    server = await desk.start(model.split("/")[0])
    server.faults.next(Fault(status=503), times=9)
    with pytest.raises(APIError):
        await call(desk.own(make(model)), options=ONCE)
    row = desk.row()
    assert (row.status, row.error_kind) == ("error", "http_503")
    assert row.cost_nanousd == 0 or row.audio_ms
    assert row.error_message


async def test_a_provider_that_hangs_is_one_row_of_kind_timeout(desk):
    server = await desk.start("openai")
    server.faults.next(Fault(hang=True), times=9)
    with pytest.raises(APIConnectionError):
        await ask(desk.own(inference.LLM("openai/gpt-4o-mini")), options=HASTY)
    assert (desk.row().status, desk.row().error_kind) == ("error", "timeout")


@pytest.mark.parametrize("stage", ["ask", "say", "recognize", "speak"])
async def test_a_dropped_connection_is_one_row_of_kind_connection(desk, stage):
    make, model, call, _ = STAGES[stage]
    server = await desk.start(model.split("/")[0])
    server.faults.next(Fault(drop=True), times=9)
    with pytest.raises(APIError):
        await call(desk.own(make(model)), options=ONCE)
    row = desk.row()
    assert row.status == "error"
    assert row.error_kind in {"connection", "http_500"}


@pytest.mark.parametrize("stage", ["ask", "say", "recognize"])
async def test_what_livekit_tries_again_and_succeeds_is_one_successful_row_over_both(desk, stage):
    make, model, call, door = STAGES[stage]
    server = await desk.start(model.split("/")[0])
    server.faults.next(Fault(status=503), door=door)
    assert await call(desk.own(make(model)), options=TWICE)
    assert len(server.of(door)) == 2
    assert desk.row().status == "success"
    assert desk.row().total_us >= 100_000  # LiveKit waits so long before it tries again


async def test_a_reply_cut_off_is_an_error_with_an_estimate_of_what_was_used(desk):
    server = await desk.start("openai", more=PRICES)
    server.faults.next(Fault(cut_after=3))
    with pytest.raises(APIError):
        await ask(desk.own(inference.LLM("openai/gpt-4o-mini")))
    row = desk.row()
    assert (row.status, row.estimated) == ("error", 1)
    assert (row.input_tokens, row.output_tokens) == (-(-len(SAID) // 4), 4)  # of "You said: Please"
    assert row.cost_nanousd == row.input_tokens * 150 + row.output_tokens * 600


async def test_a_reply_nobody_reads_on_is_cancelled_with_an_estimate(desk):
    server = await desk.start("openai", more=PRICES)
    server.faults.next(Fault(hang=True))
    model = desk.own(inference.LLM("openai/gpt-4o-mini"))
    async with model.chat(chat_ctx=conversation(), conn_options=ONCE):
        await server.arrival("chat")
    row = desk.row()
    assert (row.status, row.estimated, row.error_kind) == ("cancelled", 1, None)
    assert (row.input_tokens, row.output_tokens) == (-(-len(SAID) // 4), 0)


async def test_a_reply_cancelled_in_the_middle_counts_what_came(desk):
    await desk.start("openai")
    model = desk.own(inference.LLM("openai/gpt-4o-mini"))
    desk.providers["openai"].faults.plan(lambda _: Fault(delay=0.0))
    stream = model.chat(chat_ctx=conversation("one " * 4000), conn_options=ONCE)
    first = await anext(stream)
    assert first.delta.content
    await stream.aclose()
    row = desk.row()
    assert row.status == "cancelled"
    assert row.input_tokens == -(-len("one " * 4000) // 4)
    assert row.output_tokens >= 1
    assert row.ttfb_us > 0


async def test_a_task_that_is_cancelled_while_it_transcribes_is_one_cancelled_row(desk):
    server = await desk.start("openai")
    server.faults.next(Fault(hang=True))
    task = asyncio.create_task(recognize(desk.own(inference.STT("openai/whisper-1")), 700))
    await server.arrival("transcriptions")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (desk.row().status, desk.row().audio_ms, desk.row().estimated) == ("cancelled", 700, 1)


async def test_a_recording_is_not_kept_while_its_row_waits(desk, monkeypatch):
    await desk.start("openai")
    ears, waiting, recording = desk.own(inference.STT("openai/whisper-1")), [], audio(500)
    monkeypatch.setattr(Recorder, "record", lambda _, row: waiting.append(row))
    await ears.recognize(recording, conn_options=ONCE)
    recording = weakref.ref(recording)
    gc.collect()
    assert recording() is None
    assert waiting[0]().usage.audio_ms == 500


async def test_an_instance_and_its_streams_are_not_kept_while_rows_wait(desk, monkeypatch):
    await desk.start("openai", "deepgram", more=PRICES)
    waiting, kept, watch = [], [], Listening.watch
    monkeypatch.setattr(Recorder, "record", lambda _, row: waiting.append(row))
    monkeypatch.setattr(
        Listening, "watch", lambda self, stream: kept.append(weakref.ref(stream)) or watch(self, stream)
    )
    for make, model, call in (
        (inference.LLM, "openai/gpt-4o-mini", ask),
        (inference.TTS, "openai/tts-1", say),
        (inference.STT, "openai/whisper-1", recognize),
        (inference.STT, "deepgram/nova-3", listen),
    ):
        instance = make(model)
        assert await call(instance)
        await close(instance)
        kept.append(weakref.ref(instance))
        del instance
    gc.collect()
    assert [each() for each in kept] == [None] * 5
    rows = [make() for make in waiting]
    assert [row.status for row in rows] == ["success"] * 4
    assert all(row.usage != NO_USAGE for row in rows)


async def test_speech_that_is_interrupted_is_one_cancelled_row_with_its_text(desk):
    server = await desk.start("openai")
    server.faults.next(Fault(hang=True))
    voice = desk.own(inference.TTS("openai/tts-1"))
    async with voice.synthesize(SAID, conn_options=ONCE):
        await server.arrival("speech")
    assert (desk.row().status, desk.row().characters, desk.row().estimated) == ("cancelled", len(SAID), 1)


async def test_a_stream_of_speech_that_is_interrupted_is_one_cancelled_row(desk):
    server = await desk.start("cartesia")
    server.faults.next(Fault(hang=True), door="tts-ws/turn")
    voice = desk.own(inference.TTS("cartesia/sonic-3"))
    async with voice.stream(conn_options=ONCE) as stream:
        stream.push_text("Good morning, my friend. How are you?")
        stream.end_input()
        await server.arrival("tts-ws/turn")
    assert (desk.row().status, desk.row().characters) == ("cancelled", 37)


async def test_a_stream_of_speech_without_text_is_no_request(desk):
    await desk.start("cartesia")
    voice = desk.own(inference.TTS("cartesia/sonic-3"))
    async with voice.stream(conn_options=ONCE) as stream:
        stream.end_input()
    assert desk.rows() == []


LEAVE = """
import asyncio, gc, sys
from livekit.agents import APIConnectOptions
from tests.metering.desk import conversation
from voicegw_mcp import inference

inference.configure(sys.argv[1])
model = inference.LLM("openai/gpt-4o-mini")

async def begin():
    return model.chat(chat_ctx=conversation(), conn_options=APIConnectOptions(max_retry=0))

loop = asyncio.new_event_loop()
stream = loop.run_until_complete(begin())
loop.run_until_complete(asyncio.sleep(0))
if sys.argv[2] == "thrown away":
    loop.close()
    del stream
    gc.collect()
"""


@pytest.mark.cover_processes
@pytest.mark.parametrize("how", ["thrown away", "under way at the end of the program"])
async def test_a_request_nobody_ends_is_one_cancelled_row(desk, how):
    server = await desk.start("openai")
    server.faults.next(Fault(hang=True))
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LEAVE, str(desk.path), how, stderr=asyncio.subprocess.DEVNULL
    )
    assert await asyncio.wait_for(program.wait(), 60) == 0
    assert desk.row().status == "cancelled"


async def test_a_call_that_fails_before_anything_is_sent_is_one_error_row(desk):
    await desk.start("openai")
    with pytest.raises(NotImplementedError):
        desk.own(inference.TTS("openai/tts-1")).stream()
    assert (desk.row().status, desk.row().error_kind) == ("error", "NotImplementedError")


async def test_what_was_said_is_nowhere_in_the_store(desk, caplog):
    caplog.set_level(logging.DEBUG, "voicegw_mcp")
    openai, _ = await desk.start("openai", "deepgram")
    secret = "my-password-is-Quetzalcoatl"
    voice = desk.own(inference.TTS("openai/tts-1"))
    await ask(desk.own(inference.LLM("openai/gpt-4o-mini")), secret)
    await say(voice, secret)
    openai.faults.next(Fault(cut_after=0))
    with pytest.raises(
        APIError
    ):  # LiveKit's own message repeats the text: "no audio frames were pushed for text"
        await say(voice, secret)
    await recognize(desk.own(inference.STT("openai/whisper-1")))
    await listen(desk.own(inference.STT("deepgram/nova-3")))
    assert len(desk.rows()) == 5
    kept = desk.bytes() + caplog.text.encode()
    assert b"Quetzalcoatl" not in kept
    assert b"You said" not in kept
    assert b"one two three" not in kept


TOLD = 'My "secret" word is Quetzalcoatl,\nand my street is Überweg 42, second floor.'


@pytest.mark.parametrize(
    "quoted",
    [
        TOLD,
        json.dumps(TOLD),
        json.dumps(TOLD, ensure_ascii=False),
        repr(TOLD),
        TOLD[20:-9] + "...",
        f"...{json.dumps(TOLD)[9:50]}",
        json.dumps([{"role": "user", "content": TOLD}])[:60],
    ],
)
async def test_what_was_said_is_in_no_error_message_however_it_is_quoted(desk, quoted):
    server = await desk.start("openai")
    server.error_body = lambda _: {"error": {"message": f"Refused: {quoted} (code 7)", "code": None}}
    server.faults.next(Fault(status=400))
    with pytest.raises(APIStatusError):
        await ask(desk.own(inference.LLM("openai/gpt-4o-mini")), TOLD)
    message = desk.row().error_message
    assert "Refused:" in message
    assert "(code 7)" in message
    assert not any(word in message for word in ("Quetzal", "street", "berweg", "second"))


async def test_a_key_that_was_exchanged_meanwhile_is_masked_too(desk):
    server = await desk.start("openai")
    held = desk.folder / "openai.key"
    held.write_text("old-plain-word")  # nothing that looks like a key
    model = desk.own(inference.LLM("openai/gpt-4o-mini"))
    held.write_text("new-plain-word")
    server.error_body = lambda _: {"error": {"message": "Incorrect: old-plain-word", "code": None}}
    with pytest.raises(APIStatusError):
        await ask(model)
    assert "Incorrect: ***" in desk.row().error_message
    assert b"plain-word" not in desk.bytes()


async def test_a_key_in_an_error_message_is_masked(desk):
    server = await desk.start("openai")
    server.error_body = lambda _: {"error": {"message": f"Bad key {server.key} " + "x" * 2000, "code": None}}
    server.faults.next(Fault(status=401))
    with pytest.raises(APIStatusError):
        await ask(desk.own(inference.LLM("openai/gpt-4o-mini")))
    row = desk.row()
    assert row.error_kind == "http_401"
    assert server.key not in row.error_message
    assert "Bad key ***" in row.error_message
    assert len(row.error_message) <= 500


async def test_a_meter_that_breaks_does_not_break_the_request(desk, monkeypatch, caplog):
    await desk.start("openai")
    model = desk.own(inference.LLM("openai/gpt-4o-mini"))
    monkeypatch.setattr(streams.Chat, "measure", lambda *_: 1 / 0)
    assert await ask(model)
    assert desk.row().status == "success"
    assert "was not measured" in caplog.text


async def test_audio_that_is_pushed_after_the_end_is_the_callers_error_and_no_row(desk):
    await desk.start("deepgram")
    ears = desk.own(inference.STT("deepgram/nova-3"))
    async with ears.stream(conn_options=ONCE) as stream:
        stream.push_frame(audio(100))
        stream.end_input()
        with pytest.raises(RuntimeError):
            stream.push_frame(audio(100))
        async for _ in stream:
            pass
    assert len(desk.rows()) == 1
