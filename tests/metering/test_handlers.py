"""What an event handler starts is a request of its own, whatever request the event is of."""

import asyncio

import pytest
from livekit.agents import APIError
from tests.loopback import Fault
from tests.metering.desk import ask, say

from voicegw_mcp import inference


def started_by(instance, event, call, *, times=1):
    """Return the calls that a handler of an event starts, while there are fewer than ``times``."""
    tasks = []

    def start(_):
        if len(tasks) < times:
            tasks.append(asyncio.create_task(call()))

    instance.on(event, start)
    return tasks


async def test_calls_that_handlers_of_metrics_start_are_rows(desk):
    await desk.start("openai")
    model = desk.own(inference.LLM("openai/gpt-4o-mini"))
    tasks = started_by(model, "metrics_collected", lambda: ask(model), times=3)
    await ask(model)
    async with asyncio.timeout(20):
        while len(tasks) < 3:
            await asyncio.gather(*tasks)
        await asyncio.gather(*tasks)
    assert [row.status for row in desk.rows()] == ["success"] * 4


async def test_a_plugin_that_has_a_method_for_events_of_its_own_hears_of_all(desk, monkeypatch):
    await desk.start("openai")
    heard = []
    plugin = type(desk.own(inference.LLM("openai/gpt-4o-mini")))

    def emit(self, event, *given):
        heard.append(event)
        super(plugin, self).emit(event, *given)

    monkeypatch.setattr(plugin, "emit", emit, raising=False)
    await ask(desk.own(inference.LLM("openai/gpt-4o-mini")))
    assert "metrics_collected" in heard
    assert desk.row().status == "success"


async def test_a_call_that_a_handler_of_errors_starts_is_a_row(desk):
    server = await desk.start("openai")
    model = desk.own(inference.LLM("openai/gpt-4o-mini"))
    tasks = started_by(model, "error", lambda: ask(model))
    server.faults.next(Fault(status=500), door="chat")
    with pytest.raises(APIError):
        await ask(model)
    await asyncio.gather(*tasks)
    assert sorted(row.status for row in desk.rows()) == ["error", "success"]


@pytest.mark.parametrize("event", ["metrics_collected", "error"])
async def test_a_call_that_a_handler_of_a_list_starts_is_no_part_of_the_list(desk, event):
    openai, _ = await desk.start("openai", "cartesia")
    model = desk.own(inference.LLM("openai/gpt-4o-mini"))
    voices = desk.own(inference.TTS("openai/tts-1", voice="alloy", fallback=["cartesia/sonic-3"]))
    # The list tells of its own errors only when all have failed.
    tasks = started_by(
        voices if event == "metrics_collected" else voices._tts_instances[0], event, lambda: ask(model)
    )
    openai.faults.next(Fault(status=500), door="speech", times=4)
    await say(voices)
    assert tasks
    assert all(await asyncio.gather(*tasks))
    (row,) = [row for row in desk.rows() if row.modality == "llm"]
    assert (row.status, row.fallback_from) == ("success", None)
