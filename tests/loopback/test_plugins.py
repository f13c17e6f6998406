"""The installed plugins against the loopback servers: what comes back, and that the usage they tell is the formula's."""

import asyncio

import pytest
from livekit.agents import APIConnectOptions, llm
from tests.loopback import Fault
from tests.loopback.stages import HEARD, REPLY, STAGES, TEXT, ask, listen, recognize, running, say, speak

ASKED = [stage for stage in STAGES if stage.use is ask]
HEARING = [stage for stage in STAGES if stage.use in (recognize, listen)]
SPEAKING = [stage for stage in STAGES if stage.use in (say, speak)]
MP3_FRAME_S = 576 / 22050
DOUBLED = ("assemblyai", say)
"""AssemblyAI's synthesize() runs a stream of its own inside, which reports as well."""


@pytest.mark.parametrize("stage", ASKED, ids=str)
async def test_a_reply_and_its_tokens(stage):
    async with running(stage) as run:
        assert await run.use() == REPLY
    (metrics,) = run.metrics
    assert (metrics.prompt_tokens, metrics.prompt_cached_tokens, metrics.completion_tokens) == (
        5,
        stage.cached,
        5,
    )
    assert metrics.total_tokens == 10
    assert metrics.cache_creation_tokens == 0
    assert not metrics.cancelled
    assert run.errors == []
    (call,) = run.server.calls
    assert (call.input_tokens, call.cached_tokens, call.output_tokens) == (5, stage.cached, 5)
    assert call.finished


async def test_a_marked_conversation_is_written_to_anthropics_cache():
    stage = next(stage for stage in ASKED if stage.options.get("caching"))
    context = llm.ChatContext.empty()
    context.add_message(role="system", content="be brief")
    context.add_message(role="user", content="one two three")
    context.add_message(role="assistant", content="four five six seven")
    context.add_message(role="user", content="and then what")
    async with running(stage) as run, run.instance.chat(chat_ctx=context) as stream:
        async for _ in stream:
            pass
    (metrics,) = run.metrics
    assert metrics.prompt_tokens == 12
    assert metrics.prompt_cached_tokens == 2
    assert metrics.cache_creation_tokens == 7
    assert metrics.completion_tokens == 5


@pytest.mark.parametrize("stage", HEARING, ids=str)
async def test_a_transcript_and_its_audio(stage):
    async with running(stage) as run:
        assert await run.use() == HEARD
    assert sum(metrics.audio_duration for metrics in run.metrics) == pytest.approx(1)
    assert sum(metrics.input_tokens for metrics in run.metrics) == stage.tokens[0]
    assert sum(metrics.output_tokens for metrics in run.metrics) == stage.tokens[1]
    assert {metrics.streamed for metrics in run.metrics} == {stage.use is listen}
    assert run.errors == []
    (call,) = run.server.calls
    assert call.audio_ms == 1000


@pytest.mark.parametrize("stage", SPEAKING, ids=str)
async def test_speech_and_its_characters(stage):
    async with running(stage) as run:
        seconds = await run.use()
    # LiveKit ends audio that fills its frames with 10 ms of silence, and its decoder of MP3 swallows a frame.
    low, high = (0.32 - MP3_FRAME_S, 0.32 + MP3_FRAME_S) if stage.mp3 else (0.32, 0.341)
    assert low <= seconds <= high
    assert len(run.metrics) == (2 if (stage.provider.name, stage.use) == DOUBLED else 1)
    metrics = run.metrics[-1]
    assert metrics.characters_count == len(TEXT)
    assert (metrics.input_tokens, metrics.output_tokens) == stage.tokens
    assert metrics.audio_duration == pytest.approx(seconds)
    assert metrics.streamed == (stage.use is speak)
    assert metrics.ttfb > 0
    assert run.errors == []
    (call,) = run.server.of(stage.spoken_door)
    assert call.audio_ms == 320
    assert call.finished


@pytest.mark.parametrize("stage", [stage for stage in SPEAKING if stage.socket], ids=str)
async def test_a_second_synthesis_speaks_through_the_socket_of_the_first(stage):
    async with running(stage) as run:
        first = await run.use()
        assert await run.use() == pytest.approx(first)
        assert len(run.server.of(stage.door)) == 1
        assert len(run.server.of(stage.spoken_door)) == 2
    reports = [metrics for metrics in run.metrics if metrics.streamed]
    assert [metrics.connection_reused for metrics in reports] == [False, True]


@pytest.mark.parametrize("stage", [*ASKED[:1], *ASKED[-1:], *SPEAKING[:1]], ids=str)
async def test_the_first_byte_waits_for_a_late_answer(stage):
    async with running(stage) as run:
        run.server.faults.next(Fault(delay=0.15))
        await run.use()
    (metrics,) = run.metrics
    assert (metrics.ttft if stage.use is ask else metrics.ttfb) >= 0.15


async def test_many_calls_at_once_each_get_their_own_answer():
    async with running(STAGES[0]) as run:

        async def ask_for(number):
            context = llm.ChatContext.empty()
            context.add_message(role="user", content=" ".join(["word"] * number))
            # The plugin opens at most 50 connections; the others wait for one.
            async with run.instance.chat(
                chat_ctx=context, conn_options=APIConnectOptions(timeout=30)
            ) as stream:
                return [chunk.usage.completion_tokens async for chunk in stream if chunk.usage]

        answers = await asyncio.gather(*(ask_for(number) for number in range(1, 65)))
    assert answers == [[number + 2] for number in range(1, 65)]
    assert sum(metrics.prompt_tokens for metrics in run.metrics) == sum(range(1, 65))
