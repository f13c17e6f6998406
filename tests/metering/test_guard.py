"""What is asked before each request: it can refuse it, or let another instance serve it."""

import pytest
from livekit.agents import APIStatusError
from tests.metering.desk import ask, recognize, say, speak

from voicegw_mcp import inference
from voicegw_mcp.domain import Modality
from voicegw_mcp.inference import runtime
from voicegw_mcp.inference.assembly import assemble


class Guard:
    """Remembers what it was asked, and answers as it is told."""

    def __init__(self, answer=None):
        self.asked = []
        self.answer = answer

    def __call__(self, leaf, project, first):
        self.asked.append((leaf.model_id, project, first))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


SPENT = APIStatusError("The budget of shop is spent.", status_code=402, retryable=False)

CASES = [
    (Modality.LLM, "openai/gpt-4o-mini", ask),
    (Modality.STT, "openai/whisper-1", recognize),
    (Modality.TTS, "openai/tts-1", say),
    (Modality.TTS, "cartesia/sonic-3", speak),
]


@pytest.mark.parametrize(("modality", "model", "call"), CASES)
async def test_a_request_that_is_refused_is_one_blocked_row_and_reaches_nobody(desk, modality, model, call):
    server = await desk.start(model.split("/")[0])
    instance = desk.own(assemble(runtime.current(), modality, model, guard=Guard(SPENT)))
    with inference.set_project("shop"), pytest.raises(APIStatusError) as refusal:
        await call(instance)
    assert refusal.value is SPENT
    row = desk.row()
    assert (row.status, row.project, row.cost_nanousd, row.error_kind) == ("blocked", "shop", 0, "http_402")
    assert row.error_message == "The budget of shop is spent."
    assert server.calls == []


@pytest.mark.parametrize(("modality", "model", "call"), CASES)
async def test_another_instance_serves_when_the_guard_says_so(desk, modality, model, call):
    await desk.start(model.split("/")[0])
    other = desk.own(assemble(runtime.current(), modality, model))
    guard = Guard(other)
    assert await call(desk.own(assemble(runtime.current(), modality, model, guard=guard)))
    assert guard.asked == [(model, "default", True)]
    assert desk.row().status == "success"


@pytest.mark.parametrize("recognizing", [False, True])
async def test_a_fallback_list_is_refused_once_and_as_a_whole(desk, recognizing):
    one, other = await desk.start("openai", "groq")
    modality, models, call = (
        (Modality.STT, ("openai/whisper-1", "groq/whisper-large-v3"), recognize)
        if recognizing
        else (Modality.LLM, ("openai/gpt-4o-mini", "groq/llama-3.3-70b-versatile"), ask)
    )
    guard = Guard(SPENT)
    adapter = desk.own(assemble(runtime.current(), modality, models[0], fallback=[models[1]], guard=guard))
    with pytest.raises(APIStatusError):
        await call(adapter)
    assert guard.asked == [(models[0], "default", True)]
    assert desk.row().status == "blocked"
    assert one.calls == other.calls == []
    guard.answer = None
    assert await call(adapter)
    assert guard.asked[1:] == [(models[0], "default", True), (models[0], "default", False)]


async def test_another_instance_serves_a_whole_list(desk):
    await desk.start("openai", "groq")
    other = desk.own(assemble(runtime.current(), Modality.LLM, "openai/gpt-4o-mini"))
    models = {"fallback": ["groq/other"], "guard": Guard(other)}
    assert await ask(
        desk.own(assemble(runtime.current(), Modality.LLM, "groq/llama-3.3-70b-versatile", **models))
    )
    assert desk.row().model_id == "openai/gpt-4o-mini"
