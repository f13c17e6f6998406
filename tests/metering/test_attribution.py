"""Which project and conversation a request counts on: those of the context it is made in."""

import asyncio

import pytest
from tests.metering.desk import ONCE, ask, conversation, listen, recognize, say, speak

from voicegw_mcp import inference


@pytest.mark.parametrize(
    ("make", "model", "call"),
    [
        (inference.LLM, "openai/gpt-4o-mini", ask),
        (inference.TTS, "openai/tts-1", say),
        (inference.TTS, "cartesia/sonic-3", speak),
        (inference.STT, "openai/whisper-1", recognize),
        (inference.STT, "deepgram/nova-3", listen),
    ],
)
async def test_calls_at_once_on_one_instance_count_on_their_own_projects_and_sessions(
    desk, make, model, call
):
    await desk.start(model.split("/")[0])
    shared = desk.own(make(model))

    async def talk(number):
        with inference.set_project(("shop", "call")[number % 2]), inference.session(f"room-{number}"):
            await call(shared)

    await asyncio.gather(*(talk(number) for number in range(8)))
    assert sorted((row.session_id, row.project) for row in desk.rows()) == [
        (f"room-{number}", ("shop", "call")[number % 2]) for number in range(8)
    ]


async def test_text_that_is_pushed_from_another_context_counts_on_that_of_the_stream(desk):
    await desk.start("cartesia")
    voice = desk.own(inference.TTS("cartesia/sonic-3"))
    with inference.set_project("shop"):
        stream = voice.stream(conn_options=ONCE)

    async def push():
        with inference.set_project("call"):
            stream.push_text("Good morning, my friend.")
            stream.end_input()

    async with stream:
        await asyncio.create_task(push())
        async for _ in stream:
            pass
    assert desk.row().project == "shop"


async def test_a_project_set_after_the_call_changes_nothing(desk):
    await desk.start("openai")
    model = desk.own(inference.LLM("openai/gpt-4o-mini"))
    inference.set_project("shop")
    stream = model.chat(chat_ctx=conversation(), conn_options=ONCE)
    inference.set_project("call")
    async with stream:
        async for _ in stream:
            pass
    assert desk.row().project == "shop"


async def test_a_call_in_a_context_without_project_counts_on_that_of_the_instance(desk):
    await desk.start("openai")
    with inference.set_project("shop"):
        model = desk.own(inference.LLM("openai/gpt-4o-mini"))
    await ask(model)
    assert (desk.row().project, desk.row().session_id) == ("shop", None)


async def test_another_store_takes_the_rows_from_the_next_request_on(desk, tmp_path, monkeypatch):
    await desk.start("openai")
    model = desk.own(inference.LLM("openai/gpt-4o-mini"))
    await ask(model)
    assert len(desk.rows()) == 1
    monkeypatch.setenv("VOICEGW_DB_PATH", str(tmp_path / "other" / "voicegw.db"))
    inference.configure(desk.path)
    await ask(model)
    assert len(desk.rows()) == 1
    desk.folder = tmp_path / "other"
    assert len(desk.rows()) == 1


@pytest.mark.parametrize(
    ("observability", "kept"),
    [
        ("{latency_tracking: false}", (True, False)),
        ("{cost_tracking: false}", (False, True)),
    ],
)
async def test_what_is_not_to_be_tracked_is_not_in_the_row(desk, observability, kept):
    await desk.start("openai", more=f"observability: {observability}\n")
    await ask(desk.own(inference.LLM("openai/gpt-4o-mini")))
    row = desk.row()
    assert (bool(row.input_tokens), row.total_us is not None) == kept
    assert (row.cost_nanousd is not None, row.ttfb_us is not None) == kept


async def test_nothing_is_recorded_without_request_logging(desk):
    await desk.start("openai", more="observability: {request_logging: false}\n")
    await ask(desk.own(inference.LLM("openai/gpt-4o-mini")))
    assert not (desk.folder / "voicegw.db").exists()


async def test_a_file_that_breaks_or_goes_away_does_not_stop_requests(desk):
    await desk.start("openai")
    model = desk.own(inference.LLM("openai/gpt-4o-mini"))
    desk.path.write_text("providers: [", encoding="utf-8")
    await ask(model)
    desk.path.unlink()
    await ask(model)
    inference.configure(None)
    await ask(model)
