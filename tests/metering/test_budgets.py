"""Budgets and rate limits before the real plugins: what is refused, what goes elsewhere, what goes on."""

import asyncio
import os
import subprocess
import sys
import threading
import time

import pytest
from livekit.agents import APIConnectionError, APIStatusError
from tests.factories import request_record
from tests.metering.desk import PRICES, SAID, ask, audio, listen, recognize, say, speak

from voicegw_mcp import inference
from voicegw_mcp.core import spending
from voicegw_mcp.inference import context, runtime

SHOP = "projects:\n  shop: {{name: Shop, daily_budget: {budget}, budget_action: {action}}}\n"
PRICED = PRICES + "  cartesia/sonic-3: [{per_1000_characters: 0.03}]\n"
LOCAL = """\
stacks:
  local: {stt: groq/whisper-large-v3, llm: groq/llama-3.3-70b-versatile, tts: groq/orpheus}
"""


def shop(action="block", budget="0.000001"):
    return SHOP.format(action=action, budget=budget)


async def spent():
    """Wait until the store was read and what was settled is priced; return what a request of the shop is checked by."""
    budgets, catalog = runtime.current().budgets(), runtime.current().catalog()
    assert runtime.current().recorder().flush(20)
    budgets.check(catalog, "shop")
    priced = threading.Event()

    def last():
        priced.set()
        return request_record(project="shop", cost_nanousd=0)

    budgets.spending.note("shop", last, recorded=False)
    assert await asyncio.to_thread(priced.wait, 20)
    assert await asyncio.to_thread(budgets.spending._days["shop"].known.wait, 20)
    return budgets.check(catalog, "shop").spent_nanousd


CASES = [
    ("LLM", "openai/gpt-4o-mini", ask),
    ("STT", "openai/whisper-1", recognize),
    ("TTS", "openai/tts-1", say),
    ("TTS", "cartesia/sonic-3", speak),
    ("STT", "cartesia/ink-2", listen),
]


async def spend(desk, **options):
    """Let the shop spend its budget with one request."""
    await desk.start("openai", more=PRICES + options.pop("more", ""), projects=shop(**options))
    with inference.set_project("shop"):
        model = desk.own(inference.LLM("openai/gpt-4o-mini", fallback=[]))
        assert await ask(model)
    assert await spent() > 1000
    return model


@pytest.mark.parametrize(("kind", "name", "call"), CASES)
async def test_a_spent_budget_refuses_every_kind_of_request_in_one_clear_error(desk, kind, name, call):
    await spend(desk)
    others = [each for each in [name.split("/")[0]] if each != "openai"]
    if others:
        await desk.start(*others, more=PRICES, projects=shop())
        assert await spent() > 1000
    before = len(desk.rows())
    server = desk.providers[name.split("/")[0]]
    calls = len(server.calls)
    with inference.set_project("shop"):
        instance = desk.own(getattr(inference, kind)(name, fallback=[]))
        await spent()
        with pytest.raises(APIStatusError) as refusal:
            await call(instance)
    assert (refusal.value.status_code, refusal.value.retryable) == (402, False)
    assert refusal.value.message.startswith("BUDGET_EXCEEDED: Project shop has spent 0.0000")
    assert "of its 0.000001 USD for today" in refusal.value.message
    assert "begins anew at 20" in refusal.value.message
    assert "Raise daily_budget of the project shop" in refusal.value.message
    assert refusal.value.body["error"]["code"] == "BUDGET_EXCEEDED"
    assert refusal.value.__cause__.details["project_id"] == "shop"
    (row,) = desk.rows()[before:]
    assert (row.status, row.project, row.model_id, row.cost_nanousd) == ("blocked", "shop", name, 0)
    assert row.error_kind == "http_402"
    assert row.error_message == refusal.value.message
    assert len(server.calls) == calls


async def test_another_project_is_served_by_the_same_instance(desk):
    await spend(desk)
    other = desk.own(inference.LLM("openai/gpt-4o-mini", fallback=[]))
    assert await ask(other)
    with inference.set_project("shop"), pytest.raises(APIStatusError):
        await ask(other)


async def test_a_list_is_refused_as_a_whole_and_none_of_its_models_is_asked(desk):
    await spend(desk)
    groq = await desk.start("groq", more=PRICES, projects=shop())
    await spent()
    before = len(desk.rows())
    with inference.set_project("shop"):
        models = desk.own(inference.LLM("openai/gpt-4o-mini", fallback=["groq/llama-3.3-70b-versatile"]))
        with pytest.raises(APIStatusError) as refusal:
            await ask(models)
    assert refusal.value.status_code == 402
    assert [row.status for row in desk.rows()[before:]] == ["blocked"]
    assert groq.calls == []


async def test_a_budget_to_warn_of_lets_everything_through_and_is_told_once(desk, caplog):
    model = await spend(desk, action="warn")
    for _ in range(3):
        assert await ask(model)
    told = [each for each in caplog.messages if "Project shop has spent" in each]
    assert len(told) == 1
    assert {row.status for row in desk.rows()} == {"success"}


async def test_a_raised_budget_in_the_file_holds_for_the_next_request(desk):
    model = await spend(desk)
    with pytest.raises(APIStatusError):
        await ask(model)
    desk.path.write_text(desk.path.read_text().replace("0.000001", "5"))
    assert await ask(model)


async def test_a_file_that_breaks_meanwhile_refuses_nobody(desk):
    await desk.start("openai", projects=shop())
    with inference.set_project("shop"):
        model = desk.own(inference.LLM("openai/gpt-4o-mini", fallback=[]))
    desk.path.write_text("providers: [")
    assert await ask(model)


@pytest.mark.parametrize(
    ("kind", "name", "instead", "call"),
    [
        ("LLM", "openai/gpt-4o-mini", "groq/llama-3.3-70b-versatile", ask),
        ("STT", "openai/whisper-1", "groq/whisper-large-v3", recognize),
        ("TTS", "openai/tts-1", "groq/orpheus", say),
        ("TTS", "cartesia/sonic-3", "groq/orpheus", speak),
        ("TTS", "cartesia/sonic-3", "groq/orpheus", say),
    ],
)
async def test_a_throttled_project_is_served_by_its_stack(desk, kind, name, instead, call):
    await spend(desk, action="throttle", more=LOCAL)
    started = ["groq", *({name.split("/")[0]} - {"openai"})]
    await desk.start(*started, more=PRICES + LOCAL, projects=shop(action="throttle"))
    await spent()
    before = len(desk.rows())
    with inference.set_project("shop"):
        instance = desk.own(getattr(inference, kind)(name, fallback=[]))
        await spent()
        seen = []
        instance.on("metrics_collected", seen.append)
        assert await call(instance)
    rows = desk.rows()[before:]
    assert {(row.status, row.project, row.model_id) for row in rows} == {("success", "shop", instead)}
    assert seen


async def test_a_list_of_a_throttled_project_is_served_by_its_stack_alone(desk):
    await spend(desk, action="throttle", more=LOCAL)
    await desk.start("groq", "anthropic", more=PRICES + LOCAL, projects=shop(action="throttle"))
    await spent()
    before = len(desk.rows())
    with inference.set_project("shop"):
        models = desk.own(inference.LLM("openai/gpt-4o-mini", fallback=["anthropic/claude-haiku-4-5"]))
        assert await ask(models)
    assert [row.model_id for row in desk.rows()[before:]] == ["groq/llama-3.3-70b-versatile"]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("", "Its throttle stack 'local' is not in the file and so has no llm model."),
        ("stacks: {local: {stt: groq/whisper-large-v3}}\n", "Its throttle stack 'local' names no llm model."),
        (
            "stacks: {local: {llm: nowhere/small}}\n",
            "Its throttle stack cannot be used: No provider has the id 'nowhere'.",
        ),
    ],
)
async def test_a_throttled_project_without_a_stack_it_can_use_is_blocked(desk, more, reason):
    model = await spend(desk, action="throttle", more=more)
    with inference.set_project("shop"), pytest.raises(APIStatusError) as refusal:
        await ask(model)
    assert reason in refusal.value.message
    assert desk.rows()[-1].status == "blocked"


async def test_a_stream_that_is_open_goes_on_when_the_budget_is_spent(desk):
    await desk.start("cartesia", "openai", more=PRICED, projects=shop())
    with inference.set_project("shop"):
        voice = desk.own(inference.TTS("cartesia/sonic-3", fallback=[]))
        model = desk.own(inference.LLM("openai/gpt-4o-mini", fallback=[]))
        async with asyncio.timeout(20), voice.stream() as stream:
            stream.push_text(SAID)
            assert await ask(model)
            await spent()
            with pytest.raises(APIStatusError):
                await ask(model)
            stream.end_input()
            assert sum([event.frame.duration async for event in stream]) > 0


async def test_what_another_process_spends_is_seen_when_the_store_is_read_again(desk, monkeypatch):
    openai = await desk.start("openai", more=PRICES, projects=shop(budget=1))
    with inference.set_project("shop"):
        model = desk.own(inference.LLM("openai/gpt-4o-mini", fallback=[]))
        assert await ask(model)
        assert 0 < await spent() < 10**9
        program = f"""
import time
from pathlib import Path
from voicegw_mcp.store.recorder import Recorder
from voicegw_mcp.domain import Modality, RequestRecord
with Recorder(Path({str(desk.folder / "voicegw.db")!r})) as recorder:
    recorder.record(RequestRecord(id="theirs", timestamp_ms={time.time_ns() // 10**6}, project="shop",
        modality=Modality.LLM, provider="openai", model_id="openai/gpt-4o-mini", cost_nanousd=10**9))
"""
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", program], timeout=60, check=False
        )
        assert done.returncode == 0
        assert await ask(model)  # nobody looked yet
        keeper = runtime.current().budgets().spending
        later = time.monotonic() + spending.REFRESH_S
        monkeypatch.setattr(keeper, "_seconds", lambda: later)
        async with asyncio.timeout(20):
            while await spent() < 10**9:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.001)
        calls = len(openai.calls)
        with pytest.raises(APIStatusError):
            await ask(model)
        assert len(openai.calls) == calls
        own = [row.cost_nanousd for row in desk.rows() if row.status == "success"]
        assert await spent() == sum(own)  # theirs and ours, each once


LIMITED = "rate_limits: {openai: {requests_per_minute: 2}}\n"


async def test_a_provider_is_sent_no_more_requests_than_its_limit(desk):
    openai = await desk.start("openai", more=LIMITED)
    model, voice = (desk.own(inference.LLM("openai/gpt-4o-mini")), desk.own(inference.TTS("openai/tts-1")))
    assert await ask(model)
    assert await say(voice)
    with pytest.raises(APIStatusError) as refusal:
        await ask(model)
    assert (refusal.value.status_code, refusal.value.retryable) == (429, False)
    assert "rate_limits.openai.requests_per_minute allows; there is room again in " in refusal.value.message
    told = refusal.value.body["error"]
    assert told["code"] == "RATE_LIMIT_REACHED"
    assert 0 < told["details"].pop("retry_after_ms") <= 60_000
    assert told["details"] == {"provider_id": "openai", "requests_per_minute": 2}
    assert len(openai.calls) == 2
    row = desk.rows()[-1]
    assert (row.status, row.error_kind, row.cost_nanousd) == ("blocked", "http_429", 0)
    desk.path.write_text(desk.path.read_text().replace("minute: 2", "minute: 0"))
    assert await ask(model)


async def test_a_list_goes_on_with_the_model_of_another_provider(desk):
    openai, _ = await desk.start("openai", "groq", more="rate_limits: {openai: {requests_per_minute: 1}}\n")
    models = desk.own(inference.LLM("openai/gpt-4o-mini", fallback=["groq/llama-3.3-70b-versatile"]))
    assert await ask(models)
    assert await ask(models)
    rows = desk.rows()
    served = [(row.status, row.model_id) for row in rows if row.status in {"success", "fallback"}]
    assert served == [("success", "openai/gpt-4o-mini"), ("fallback", "groq/llama-3.3-70b-versatile")]
    assert [row.error_kind for row in rows if row.status == "blocked"] == ["http_429"]
    assert len(openai.calls) == 1


async def test_a_list_whose_providers_are_all_at_their_limit_fails_as_a_list(desk):
    await desk.start("openai", more="rate_limits: {openai: {requests_per_minute: 1}}\n")
    models = desk.own(inference.LLM("openai/gpt-4o-mini", fallback=["openai/gpt-4o"]))
    assert await ask(models)
    with pytest.raises(APIConnectionError):
        await ask(models)


async def test_what_stands_in_for_a_throttled_project_keeps_to_its_limit_too(desk):
    more = LOCAL + "rate_limits: {groq: {requests_per_minute: 1}}\n"
    await spend(desk, action="throttle", more=more)
    await desk.start("groq", more=PRICES + more, projects=shop(action="throttle"))
    await spent()
    with inference.set_project("shop"):
        model = desk.own(inference.LLM("openai/gpt-4o-mini", fallback=[]))
        await spent()
        assert await ask(model)
        with pytest.raises(APIStatusError) as refusal:
            await ask(model)
    assert refusal.value.status_code == 429


async def test_a_configuration_that_cannot_be_read_refuses_nobody(desk, caplog):
    await spend(desk)
    model = desk.own(inference.LLM("openai/gpt-4o-mini", fallback=[]))
    broken = desk.folder / "broken.yaml"
    broken.write_text("providers: [")
    inference.configure(broken)
    context._project.set("shop")  # which nobody can look up there
    assert await ask(model)
    assert "Neither budgets nor rate limits are checked" in caplog.text


def fork_and_check():
    """Check in a child what was spent; its answer is its exit code."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        budgets = runtime.current().budgets()
        budgets.find(runtime.current().catalog(), "shop")
        known = budgets.spending._days
        until = time.monotonic() + 20
        while not ("shop" in known and known["shop"].known.is_set()) and time.monotonic() < until:
            time.sleep(0.001)
        decision = budgets.check(runtime.current().catalog(), "shop")
        os._exit(min(100, decision.spent_nanousd // 1000))
    finally:
        os._exit(101)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system knows no fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
async def test_a_child_of_a_fork_counts_each_row_of_its_parent_once(desk):
    await spend(desk)
    mine = await spent()
    assert fork_and_check() == mine // 1000 == 8
    assert await spent() == mine


async def test_what_listens_in_place_of_a_stream_is_told_where_speech_ends(desk):
    await spend(desk, action="throttle", more=LOCAL)
    await desk.start("groq", "cartesia", more=PRICES + LOCAL, projects=shop(action="throttle"))
    await spent()
    with inference.set_project("shop"):
        ears = desk.own(inference.STT("cartesia/ink-2", fallback=[]))
        await spent()
        async with asyncio.timeout(20), ears.stream() as stream:
            stream.push_frame(audio(300))
            stream.end_input()
            assert [event async for event in stream if event.type == "final_transcript"] == []  # a tone
        assert await recognize(ears)
    assert desk.rows()[-1].model_id == "groq/whisper-large-v3"
    assert desk.providers["cartesia"].calls == []


async def test_a_stand_in_that_cannot_be_loaded_is_told_when_the_instance_is_made(desk, caplog):
    await desk.start(
        "openai", more="stacks: {local: {llm: nowhere/small}}\n", projects=shop(action="throttle")
    )
    with inference.set_project("shop"):
        model = desk.own(inference.LLM("openai/gpt-4o-mini", fallback=[]))
        assert await ask(model)
    assert "Throttled requests cannot go elsewhere: No provider has the id 'nowhere'." in caplog.text
