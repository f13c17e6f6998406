"""Fallback lists: order, one row per attempt, whom a row stands in for, and what asks whether a model works again."""

import asyncio
import logging

import pytest
from livekit.agents import APIConnectionError, APIConnectOptions, APIStatusError, llm, stt, tts
from tests.loopback import Fault
from tests.metering.desk import PRICES, ask, audio, conversation, recognize, say, speak, within

from voicegw_mcp import inference
from voicegw_mcp.errors import InvalidInput, NotFound

FEW = APIConnectOptions(max_retry=0, retry_interval=0, timeout=5)


async def settled(adapter):
    """Wait until the probes of an adapter have ended."""
    for status in adapter._status:
        for name in (
            "recovering_task",
            "recovering_recognize_task",
            "recovering_stream_task",
            "recovering_synthesize_task",
        ):
            task = getattr(status, name, None)
            if task is not None:
                await asyncio.wait([task], timeout=20)


@within(20)
async def talk_on(ears, *, options):
    """Speak until something was understood: LiveKit replays nothing to the next one."""
    async with ears.stream(conn_options=options) as stream:

        async def talk():
            while True:
                stream.push_frame(audio(100))
                stream.flush()
                await asyncio.sleep(0.02)

        task = asyncio.create_task(talk())
        try:
            async for event in stream:
                if event.type == "final_transcript":
                    return event.alternatives[0].text
        finally:
            task.cancel()


CASES = [
    (inference.LLM, "openai/gpt-4o-mini", "groq/llama-3.3-70b-versatile", ask),
    (inference.TTS, "openai/tts-1", "deepgram/aura-2-andromeda-en", say),
    (inference.TTS, "cartesia/sonic-3", "deepgram/aura-2-andromeda-en", speak),
    (inference.STT, "openai/whisper-1", "deepgram/nova-3", recognize),
    (inference.STT, "cartesia/ink-2", "deepgram/nova-3", talk_on),
]


@pytest.mark.parametrize(("make", "first", "second", "call"), CASES)
async def test_the_next_model_serves_and_its_row_says_for_whom(desk, make, first, second, call):
    bad, _ = await desk.start(first.split("/")[0], second.split("/")[0])
    bad.faults.plan(lambda _: Fault(status=500))
    adapter = desk.own(make(first, fallback=[second], conn_options=FEW))
    assert await call(adapter, options=FEW)
    await settled(adapter)
    rows = desk.rows()
    by_status = {row.status: row for row in rows}
    assert by_status["error"].model_id == first
    assert by_status["error"].fallback_from is None
    assert (by_status["fallback"].model_id, by_status["fallback"].fallback_from) == (second, first)
    served = [row.status for row in rows if row.model_id == second]
    assert set(served) == {"fallback"}
    assert (
        len(served) == 1 or call is talk_on
    )  # who talks on is understood more than once before he hears of it
    assert all(row.status == "probe" for row in rows if row.status not in ("error", "fallback"))


async def test_a_probe_costs_and_is_neither_counted_nor_timed(desk):
    bad, _ = await desk.start("openai", "groq", more=PRICES)
    bad.faults.next(Fault(status=503))
    adapter = desk.own(
        inference.LLM("openai/gpt-4o-mini", fallback="groq/llama-3.3-70b-versatile", conn_options=FEW)
    )
    await ask(adapter)
    await settled(adapter)
    probe = next(row for row in desk.rows() if row.status == "probe")
    assert (probe.model_id, probe.fallback_from) == ("openai/gpt-4o-mini", None)
    assert probe.cost_nanousd > 0
    totals = desk.totals("openai/gpt-4o-mini")
    assert totals == {"error": (1, 0, 0), "probe": (0, probe.cost_nanousd, 0)}


async def test_the_first_model_serves_again_once_a_probe_succeeded(desk):
    bad, _ = await desk.start("openai", "groq")
    bad.faults.next(Fault(status=503))
    adapter = desk.own(
        inference.LLM("openai/gpt-4o-mini", fallback=["groq/llama-3.3-70b-versatile"], conn_options=FEW)
    )
    await ask(adapter)
    await settled(adapter)
    await ask(adapter)
    assert [(row.status, row.model_id) for row in desk.rows()][-1] == ("success", "openai/gpt-4o-mini")


async def test_after_a_probe_that_failed_the_next_one_waits(desk):
    bad, _ = await desk.start("openai", "groq")
    bad.faults.plan(lambda _: Fault(status=503))
    adapter = desk.own(
        inference.LLM("openai/gpt-4o-mini", fallback=["groq/llama-3.3-70b-versatile"], conn_options=FEW)
    )
    for _ in range(4):
        await ask(adapter)
        await settled(adapter)
    rows = desk.rows()
    assert len(bad.of("chat")) == 2  # the request that failed, and one probe
    assert [row.fallback_from for row in rows if row.status == "fallback"] == ["openai/gpt-4o-mini"] * 4


async def test_when_all_fail_each_attempt_is_one_error_row(desk):
    bad, worse = await desk.start("openai", "groq")
    for each in (bad, worse):
        each.faults.plan(lambda _: Fault(status=500))
    adapter = desk.own(
        inference.LLM("openai/gpt-4o-mini", fallback=["groq/llama-3.3-70b-versatile"], conn_options=FEW)
    )
    with pytest.raises(APIConnectionError):
        await ask(adapter, options=FEW)
    await settled(adapter)
    rows = [row for row in desk.rows() if row.status != "probe"]
    assert [(row.status, row.model_id, row.fallback_from) for row in rows] == [
        ("error", "openai/gpt-4o-mini", None),
        ("error", "groq/llama-3.3-70b-versatile", "openai/gpt-4o-mini"),
    ]


async def test_calls_at_once_know_each_for_itself_whom_they_stand_in_for(desk):
    bad, _ = await desk.start("openai", "groq")
    bad.faults.plan(lambda call: Fault(status=500) if call.number % 2 else None)
    adapter = desk.own(
        inference.LLM("openai/gpt-4o-mini", fallback=["groq/llama-3.3-70b-versatile"], conn_options=FEW)
    )
    await asyncio.gather(*(ask(adapter) for _ in range(10)))
    await settled(adapter)
    rows = [row for row in desk.rows() if row.status in ("success", "fallback")]
    assert len(rows) == 10
    assert all((row.fallback_from is None) == (row.provider == "openai") for row in rows)


async def test_the_files_list_is_used_without_the_model_itself_and_what_is_switched_off(desk, caplog):
    caplog.set_level(logging.INFO, "voicegw_mcp.inference.fallback")
    await desk.start(
        "openai",
        "groq",
        more="""
models:
  llm:
    quick: {provider: groq, model: llama-3.1-8b-instant}
    spare: {provider: groq, model: llama-3.3-70b-versatile, enabled: false}
fallbacks:
  llm: [openai/gpt-4o-mini, spare, quick]
""",
    )
    adapter = desk.own(inference.LLM("openai/gpt-4o-mini"))
    assert isinstance(adapter, llm.FallbackAdapter)
    assert "llm: openai/gpt-4o-mini -> quick" in caplog.text
    assert not isinstance(desk.own(inference.LLM("openai/gpt-4o-mini", fallback=[])), llm.FallbackAdapter)


async def test_a_list_of_recognizers_of_whole_recordings_is_told_where_speech_ends(desk):
    await desk.start("elevenlabs", "deepgram")
    adapter = desk.own(inference.STT("elevenlabs/scribe_v1", fallback=["deepgram/nova-3"]))
    assert isinstance(adapter, stt.FallbackAdapter)
    assert adapter.capabilities.streaming


@pytest.mark.parametrize(
    ("fallback", "error", "said"),
    [
        (["openai/gpt-4o-mini"], InvalidInput, "tried before already"),
        (["groq/a", "groq/a"], InvalidInput, "tried before already"),
        (["nobody/x"], NotFound, "nobody"),
        (7, InvalidInput, "no list of models"),
        ([7], InvalidInput, "no list of models"),
        (["deepgram/nova-3"], InvalidInput, "deepgram"),
    ],
)
async def test_a_fallback_that_cannot_be_is_said(desk, fallback, error, said):
    await desk.start("openai", "groq", "deepgram")
    with pytest.raises(error, match=said):
        inference.LLM("openai/gpt-4o-mini", fallback=fallback)


async def test_options_of_connections_that_are_none_are_said(desk):
    await desk.start("openai")
    with pytest.raises(InvalidInput, match="APIConnectOptions"):
        inference.LLM("openai/gpt-4o-mini", conn_options=3)


async def test_options_of_connections_hold_for_calls_without_their_own(desk):
    server = await desk.start("openai")
    server.faults.next(Fault(status=503), times=9)
    model = desk.own(inference.LLM("openai/gpt-4o-mini", conn_options=FEW))
    stream = model.chat(chat_ctx=conversation())
    with pytest.raises(APIStatusError):
        await anext(stream)
    await stream.aclose()
    assert len(server.of("chat")) == 1
    with pytest.raises(APIConnectionError):
        await ask(model, options=APIConnectOptions(max_retry=1, retry_interval=0))
    assert len(server.of("chat")) == 3


async def test_voices_that_cannot_stand_in_for_each_other_are_said(desk, monkeypatch):
    await desk.start("openai", "deepgram")
    monkeypatch.setattr(tts.TTS, "num_channels", property(lambda self: 1 + ("deepgram" in self.label)))
    with pytest.raises(InvalidInput, match="number of channels"):
        inference.TTS("openai/tts-1", fallback=["deepgram/aura-2-andromeda-en"])
