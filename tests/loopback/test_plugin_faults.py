"""The installed plugins when a provider fails: which exception the caller gets, and which events are told.

Where LiveKit's plugins differ from one another, a set here names those that do.
"""

import asyncio

import aiohttp
import pytest
from livekit.agents import (
    APIConnectionError,
    APIConnectOptions,
    APIError,
    APIStatusError,
    APITimeoutError,
    llm,
)
from tests.loopback import AssemblyAI, Deepgram, ElevenLabs, Fault, OpenAI
from tests.loopback.stages import REPLY, STAGES, ask, listen, running, say, speak

SHORT = APIConnectOptions(max_retry=0, timeout=0.5)
UNHURRIED = APIConnectOptions(max_retry=0, timeout=2)
"""For what connects first and is then waited for: on a busy machine connecting takes a while."""
STATUSES = {401: False, 402: False, 404: False, 408: True, 429: True, 500: True, 503: True}
"""Status -> whether LiveKit would try again."""

LOSES_THE_STATUS = {(Deepgram, "listen")}
"""It reads the error's body as a transcript."""
RAW_HANDSHAKE = {(OpenAI, "realtime"), (AssemblyAI, "stt-ws")}
"""A handshake that failed comes as aiohttp's exception. Its repr holds the request's headers, and so the key."""
RAW_DROP = {(ElevenLabs, "stt-ws")}
"""A handshake that was dropped comes as aiohttp's exception; LiveKit does not try again."""
NO_TIMEOUT = {(AssemblyAI, "stt-ws")}
"""No timeout holds for its handshake."""
TOLD_TWICE = (AssemblyAI, say)
"""synthesize() runs a stream of its own inside, which tells its error as well."""


def key_of(stage):
    return (stage.provider, stage.door)


def check_told(run, error, *, times=1):
    """A failed call is told as one error that is not tried again, and no metrics."""
    times = 2 if (run.stage.provider, run.stage.use) == TOLD_TWICE else times
    assert [(told.error, told.recoverable) for told in run.errors][-1] == (error, False)
    assert len(run.errors) == times
    run.errors.clear()
    if run.stage.use is not listen:
        assert run.metrics == []


@pytest.mark.parametrize("stage", STAGES, ids=str)
async def test_a_status_reaches_the_caller(stage):
    async with running(stage) as run:
        for status, retryable in STATUSES.items():
            run.server.faults.next(Fault(status=status, retry_after=1), door=stage.door)
            error = await run.fail()
            if key_of(stage) in LOSES_THE_STATUS:
                assert type(error) is APIConnectionError
                assert error.retryable
            elif key_of(stage) in RAW_HANDSHAKE:
                assert isinstance(error, aiohttp.WSServerHandshakeError)
                assert error.status == status
            else:
                assert isinstance(error, APIStatusError)
                assert (error.status_code, error.retryable) == (status, retryable)
            check_told(run, error)
        assert len(run.server.calls) == len(STATUSES)


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage.provider.name != "ollama"], ids=str)
async def test_a_key_that_is_no_longer_right_is_refused(stage):
    async with running(stage) as run:
        run.server.rotate("another-key")
        error = await run.fail()
        if key_of(stage) in LOSES_THE_STATUS:
            assert type(error) is APIConnectionError
        elif stage.provider is AssemblyAI:
            # Told on the open socket; the listener reads no Error, only that the socket was closed, and would try again.
            assert isinstance(error, APIStatusError)
            assert (error.status_code, error.retryable) == (1008, stage.use is listen)
        else:
            status = error.status if key_of(stage) in RAW_HANDSHAKE else error.status_code
            assert status == 401
        check_told(run, error)
        (call,) = run.server.calls
        assert not call.accepted
        renewed = stage.make(run.server)
        # What is asked of the new one shows that the new key is right.
        run.instance, old = renewed, run.instance
        await run.use()
        assert run.server.of(stage.door)[-1].accepted
        await renewed.aclose()
        if (client := getattr(renewed, "_client", None)) is not None:
            await client.close()
        run.instance = old


@pytest.mark.parametrize("stage", STAGES, ids=str)
async def test_a_dropped_connection_is_told_as_one(stage):
    async with running(stage) as run:
        # aiohttp asks once more for a handshake that was dropped.
        run.server.faults.next(Fault(drop=True), times=2 if stage.socket else 1, door=stage.door)
        error = await run.fail()
        if key_of(stage) in RAW_HANDSHAKE | RAW_DROP:
            assert isinstance(error, aiohttp.ServerDisconnectedError)
        else:
            assert type(error) is APIConnectionError
            assert error.retryable
        check_told(run, error)


@pytest.mark.parametrize("stage", STAGES, ids=str)
async def test_an_answer_cut_in_the_middle_is_told(stage):
    async with running(stage) as run:
        door = stage.spoken_door if stage.use in (say, speak) else stage.door
        run.server.faults.next(Fault(cut_after=3 if stage.use is ask else 1), door=door)
        error = await run.fail()
        assert isinstance(error, APIError)
        if isinstance(error, APIStatusError):
            assert error.status_code == 1006
        # Tokens were sent: nothing tries again, and nothing tells what they cost.
        assert error.retryable == (stage.use is not ask)
        check_told(run, error)
        assert not run.server.of(door)[-1].finished


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage.use is speak], ids=str)
async def test_a_synthesis_that_fails_on_an_open_socket_is_told(stage):
    async with running(stage) as run:
        run.server.faults.next(Fault(status=503), door=stage.spoken_door)
        run.server.faults.next(Fault(drop=True), door=stage.spoken_door)
        told = await run.fail()
        if stage.provider is ElevenLabs:  # it keeps what the provider told to itself
            assert (type(told), told.status_code) == (APIStatusError, -1)
        elif stage.provider is AssemblyAI:
            assert told.status_code == 3005
        else:
            assert type(told) is APIError
        assert told.retryable
        check_told(run, told)
        dropped = await run.fail()
        assert (dropped.status_code, dropped.retryable) == (1006, True)
        check_told(run, dropped)
        assert await run.use() >= 0.3
        assert run.server.of(stage.spoken_door)[-1].finished


async def of_all(stages, check):
    """Run a check that waits for all stages at once."""
    stages = list(stages)
    results = await asyncio.gather(*map(check, stages), return_exceptions=True)
    assert {str(stage): e for stage, e in zip(stages, results, strict=True) if e is not None} == {}


async def test_a_silent_provider_is_left_after_the_timeout():
    async def check(stage):
        async with running(stage) as run:
            run.server.faults.next(Fault(hang=True), door=stage.door)
            error = await run.fail(SHORT)
            if key_of(stage) in RAW_HANDSHAKE:
                assert isinstance(error, TimeoutError)
            elif stage.use is listen:
                assert type(error) is APIConnectionError
            else:
                assert type(error) is APITimeoutError
            check_told(run, error)

    await of_all(
        (s for s in STAGES if (s.use is ask or s.socket) and key_of(s) not in NO_TIMEOUT and not s.mp3), check
    )


async def test_a_synthesis_that_stays_silent_on_an_open_socket_is_left_after_the_timeout():
    async def check(stage):
        async with running(stage) as run:
            await run.use()
            run.metrics.clear()
            run.server.faults.next(Fault(hang=True), door=stage.spoken_door)
            error = await run.fail(SHORT)
            if stage.provider is ElevenLabs:
                assert (type(error), error.status_code) == (APIStatusError, -1)
            else:
                assert type(error) is APITimeoutError
            check_told(run, error)

    await of_all((stage for stage in STAGES if stage.use is speak), check)


async def test_one_request_outlives_the_timeout_and_is_told_as_cancelled_when_it_is():
    """``conn_options.timeout`` holds for the connection only: what follows may take 30 s (ElevenLabs' transcription 300 s)."""

    async def check(stage):
        async with running(stage) as run:
            run.server.faults.next(Fault(hang=True))
            task = asyncio.create_task(run.use(UNHURRIED))
            await run.server.arrival(stage.door)
            assert (await asyncio.wait([task], timeout=1.2 * UNHURRIED.timeout))[1]
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert run.errors == []
            if stage.use is say:
                (metrics,) = run.metrics
                assert (metrics.cancelled, metrics.ttfb, metrics.audio_duration) == (True, -1, 0)
            else:
                assert run.metrics == []

    hung = (stage for stage in STAGES if not stage.socket and stage.use is not ask and not stage.mp3)
    await of_all([*hung, *(stage for stage in STAGES if key_of(stage) in NO_TIMEOUT)], check)


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage.use is ask], ids=str)
async def test_a_call_that_succeeds_at_the_second_attempt_tells_both(stage):
    async with running(stage) as run:
        run.server.faults.next(Fault(status=503))
        assert await run.use(APIConnectOptions(max_retry=1, retry_interval=0.01, timeout=10)) == REPLY
        assert len(run.server.calls) == 2
    (error,) = run.errors
    assert error.recoverable
    (metrics,) = run.metrics
    assert metrics.completion_tokens == 5


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage.use is ask], ids=str)
async def test_a_reply_that_nobody_reads_to_its_end_tells_no_tokens(stage):
    context = llm.ChatContext.empty()
    context.add_message(role="user", content="hello")
    async with running(stage) as run:
        run.server.faults.next(Fault(stall_after=3))
        async with run.instance.chat(chat_ctx=context) as stream:
            async for chunk in stream:
                if chunk.delta and chunk.delta.content:
                    break
    (metrics,) = run.metrics
    assert (metrics.cancelled, metrics.prompt_tokens, metrics.completion_tokens) == (True, 0, 0)
    assert run.errors == []


async def test_a_fallback_tells_the_failed_leaf_twice_and_probes_it():
    stage = STAGES[0]
    async with running(stage) as first, running(stage) as second:
        first.server.faults.next(Fault(status=503), times=2)
        both = llm.FallbackAdapter([first.instance, second.instance])
        told = []
        both.on("metrics_collected", told.append)
        context = llm.ChatContext.empty()
        context.add_message(role="user", content="hello")
        async with both.chat(chat_ctx=context) as stream:
            async for _ in stream:
                pass
        await first.server.arrival("chat", 2)
        await both.aclose()
        assert len(first.server.calls) == 2
        assert len(second.server.calls) == 1
    assert first.metrics == []
    assert len(second.metrics) == len(told) == 1
