"""Agents whose requests are refused: what the person on the phone hears, what is logged, and that no session asks for ever."""

import asyncio
import logging
import time

import pytest
from livekit import rtc
from livekit.agents import Agent, AgentSession
from livekit.agents.voice import io
from livekit.agents.voice.agent_session import SessionConnectOptions
from tests.loopback import formulas
from tests.metering.desk import RATE, ask, audio, listen, speak, within
from tests.metering.test_budgets import PRICED, shop, spent

from voicegw_mcp import inference

VOICE = "f786b574-daa5-4673-aa0c-cbe3e8534c02"
RECORDED_MS = 700
"""How long the agent's apology is, which was recorded beforehand."""


class Phone(io.AudioOutput):
    """What a person hears, at once."""

    def __init__(self):
        super().__init__(label="phone", capabilities=io.AudioOutputCapabilities(pause=False))
        self.heard_ms = 0
        self._unplayed_s = 0.0

    async def capture_frame(self, frame):
        await super().capture_frame(frame)
        if not self._unplayed_s:
            self.on_playback_started(created_at=time.time())
        self._unplayed_s += frame.duration

    def flush(self):
        super().flush()
        self._played(interrupted=False)

    def clear_buffer(self):
        self._played(interrupted=True)

    def _played(self, *, interrupted):
        played_s, self._unplayed_s = self._unplayed_s, 0.0
        if played_s:
            self.heard_ms += round(played_s * 1000)
            self.on_playback_finished(playback_position=played_s, interrupted=interrupted)


class Microphone(io.AudioInput):
    """A line on which nobody says anything."""

    def __init__(self):
        super().__init__(label="microphone")
        self._sent = False

    async def __anext__(self):
        if self._sent:
            await asyncio.Event().wait()  # closing the session ends this
        self._sent = True
        return rtc.AudioFrame(bytes(RATE // 10 * 2), RATE, 1, RATE // 10)


class Call:
    """A session, its person's phone, and what it emitted."""

    def __init__(self, **options):
        self.phone = Phone()
        self.errors = []
        self.closed = asyncio.get_running_loop().create_future()
        self.session = AgentSession(vad=None, turn_handling={"turn_detection": "stt"}, **options)
        self.session.on("error", self.errors.append)
        self.session.on("close", self.closed.set_result)

    async def __aenter__(self):
        self.session.output.audio = self.phone
        if self.session.stt is not None:
            self.session.input.audio = Microphone()
        await self.session.start(Agent(instructions="Be brief."))
        return self

    async def __aexit__(self, *_):
        await self.session.aclose()

    @within(20)
    async def ask(self, text="Hello"):
        """Say something in writing; return the speech that answers, once it is over."""
        speech = self.session.generate_reply(user_input=text)
        await speech.wait_for_playout()
        return speech

    @within(20)
    async def say(self, text):
        """Let the agent say something, without its language model."""
        await self.session.say(text).wait_for_playout()

    @within(20)
    async def end(self):
        return await self.closed

    def statuses(self):
        assert not any(event.error.recoverable for event in self.errors)
        return [event.error.error.status_code for event in self.errors]


def refusals(caplog):
    return [line for line in caplog.messages if line.startswith("A request on ")]


@pytest.fixture
async def stages(desk, monkeypatch):
    """Models of the three stages, of a project that has spent nothing so far."""
    monkeypatch.setenv("VOICEGW_ACTIVE_PROJECT", "shop")
    await desk.start("deepgram", "openai", "cartesia", "groq", more=PRICED, projects=shop())
    return {
        "stt": desk.own(inference.STT("deepgram/nova-3", fallback=[])),
        "llm": desk.own(inference.LLM("openai/gpt-4o-mini", fallback=[])),
        "tts": desk.own(inference.TTS("cartesia/sonic-3", voice=VOICE, fallback=[])),
    }


async def refuse(desk, stages, status, stage):
    """Let the budget of the project be spent, or the rate limit of the stage's provider be reached."""
    if status == 402:
        assert await ask(stages["llm"])
        assert await spent() > 1000
        return
    provider = {"stt": "deepgram", "llm": "openai", "tts": "cartesia"}[stage]
    desk.write(
        more=PRICED + f"rate_limits: {{{provider}: {{requests_per_minute: 1}}}}\n",
        projects=shop(action="warn"),
    )
    use = {"stt": listen, "llm": ask, "tts": speak}[stage]
    assert await use(stages[stage])


def blocked(desk):
    return [(row.modality, row.error_kind) for row in desk.rows() if row.status == "blocked"]


@pytest.mark.parametrize("status", [402, 429])
async def test_a_refused_language_model_is_one_event_one_line_and_one_row_per_turn(
    desk, stages, status, caplog
):
    await refuse(desk, stages, status, "llm")
    async with Call(llm=stages["llm"], tts=stages["tts"]) as call:
        speech = await call.ask()
        assert speech.exception().status_code == status
        assert call.statuses() == [status]
        assert call.phone.heard_ms == 0
        (line,) = refusals(caplog)
        assert line.startswith("A request on openai/gpt-4o-mini was refused: ")
        assert call.errors[0].error.error.message in line
        assert blocked(desk) == [("llm", f"http_{status}")]
        assert not call.closed.done()


@pytest.mark.parametrize("status", [402, 429])
async def test_a_refused_voice_is_one_event_one_line_and_one_row_per_turn(desk, stages, status, caplog):
    await refuse(desk, stages, status, "tts")
    async with Call(tts=stages["tts"]) as call:
        await call.say("Hello")
        assert call.statuses() == [status]
        assert call.phone.heard_ms == 0
        assert blocked(desk) == [("tts", f"http_{status}")]
        assert len(refusals(caplog)) == 1


@pytest.mark.parametrize("status", [402, 429])
@pytest.mark.parametrize("tolerated", [0, 3])
async def test_refused_ears_end_the_session_after_the_errors_it_tolerates(
    desk, stages, status, tolerated, caplog
):
    caplog.set_level(logging.ERROR, logger="livekit.agents")
    await refuse(desk, stages, status, "stt")
    asked = SessionConnectOptions(max_unrecoverable_errors=tolerated)
    async with Call(**stages, conn_options=asked) as call:
        closed = await call.end()
    assert closed.error.error.status_code == status
    assert call.statuses() == [status] * (tolerated + 1)
    assert blocked(desk) == [("stt", f"http_{status}")] * (tolerated + 1)
    (line,) = [line for line in caplog.messages if "AgentSession is closing" in line]
    assert closed.error.error.message in line


@pytest.mark.parametrize("ears", [False, True])
async def test_what_was_recorded_is_heard_when_the_budget_is_spent_before_the_call_ends(desk, stages, ears):
    await refuse(desk, stages, 402, "llm")
    used = stages if ears else {"llm": stages["llm"], "tts": stages["tts"]}
    call = Call(**used)

    async def recorded():
        yield audio(RECORDED_MS)

    def apologize(event):
        if getattr(event.error.error, "status_code", None) == 402:
            call.session.say("Please call again tomorrow.", audio=recorded(), allow_interruptions=False)
            call.session.shutdown()

    call.session.on("error", apologize)
    async with call:
        if not ears:
            await call.ask()
        closed = await call.end()
    assert closed.error is None
    assert call.phone.heard_ms == RECORDED_MS
    assert blocked(desk) == [("stt" if ears else "llm", "http_402")]


async def test_a_refused_list_is_told_by_the_list(desk, stages):
    await refuse(desk, stages, 402, "llm")
    models = desk.own(inference.LLM("openai/gpt-4o-mini", fallback=["groq/llama-3.3-70b-versatile"]))
    async with Call(llm=models, tts=stages["tts"]) as call:
        await call.ask()
        assert call.statuses() == [402]
        assert call.errors[0].source is models
        assert blocked(desk) == [("llm", "http_402")]


async def test_a_list_that_goes_on_with_another_model_is_no_error_of_the_session(desk, stages):
    await refuse(desk, stages, 429, "llm")
    models = desk.own(inference.LLM("openai/gpt-4o-mini", fallback=["groq/llama-3.3-70b-versatile"]))
    async with Call(llm=models, tts=stages["tts"]) as call:
        await call.ask()
        assert call.errors == []
        assert call.phone.heard_ms == formulas.spoken_ms("You said: Hello")
    assert ("fallback", "groq/llama-3.3-70b-versatile") in {(row.status, row.model_id) for row in desk.rows()}
