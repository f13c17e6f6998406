"""A program that is ended while requests are open: each of them is one cancelled row, whichever way the program takes a SIGTERM."""

import asyncio
import os
import signal
import sys

import pytest
from tests.loopback import Fault
from tests.metering.desk import PRICES

OPEN = """
import asyncio, signal, sys
from livekit.agents import APIConnectOptions, utils
from tests.metering.desk import audio, conversation
from voicegw_mcp import inference

ONCE = APIConnectOptions(max_retry=0, timeout=60)
inference.configure(sys.argv[1])


async def main():
    if sys.argv[2] == "cancel":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    async with utils.http_context.open():
        model, voice = inference.LLM("openai/gpt-4o-mini"), inference.TTS("cartesia/sonic-3")
        ears = inference.STT("deepgram/nova-3")
        with inference.session("ended"):
            reply = model.chat(chat_ctx=conversation("Tell me a story."), conn_options=ONCE)
            speech = voice.stream(conn_options=ONCE)
            heard = ears.stream(conn_options=ONCE)
        await anext(reply)
        speech.push_text("Good morning, my friend. How are you?")
        speech.end_input()
        heard.push_frame(audio(500))
        sys.stdout.write("open\\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if sys.argv[2] == "exit":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
asyncio.run(main())
"""


@pytest.mark.parametrize(("how", "code"), [("cancel", 1), ("exit", 3), ("nothing", -signal.SIGTERM)])
async def test_a_program_that_is_told_to_end_leaves_one_cancelled_row_for_each_open_request(desk, how, code):
    openai, cartesia, deepgram = await desk.start("openai", "cartesia", "deepgram", more=PRICES)
    openai.faults.next(Fault(stall_after=3))
    cartesia.faults.next(Fault(hang=True), door="tts-ws/turn")
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        OPEN,
        str(desk.path),
        how,
        # Coverage sets a handler of SIGTERM, and ends the program with that before requests are settled.
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert await asyncio.wait_for(program.stdout.readline(), 60) == b"open\n"
        await cartesia.arrival("tts-ws/turn")
        await deepgram.hearing("listen-ws", 500)  # a connection that is closed before costs its few ms
        program.terminate()
        assert await asyncio.wait_for(program.wait(), 30) == code
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
    rows = {row.modality: row for row in desk.rows()}
    assert len(desk.rows()) == 3
    assert {(row.status, row.session_id) for row in rows.values()} == {("cancelled", "ended")}
    assert rows["llm"].output_tokens > 0
    assert rows["llm"].ttfb_us > 0
    assert (rows["tts"].characters, rows["stt"].audio_ms) == (37, 500)
    assert rows["llm"].estimated
    assert rows["llm"].cost_nanousd > 0


FORK = """
import asyncio, atexit, os, sys
from livekit.agents import APIConnectOptions, utils
from tests.metering.desk import conversation
from voicegw_mcp import inference

inference.configure(sys.argv[1])


async def main():
    async with utils.http_context.open():
        model = inference.LLM("openai/gpt-4o-mini")
        reply = model.chat(chat_ctx=conversation(), conn_options=APIConnectOptions(max_retry=0, timeout=60))
        await anext(reply)
        child = os.fork()
        if child == 0:
            atexit._run_exitfuncs()  # as at the end of an interpreter
            os._exit(0)
        os.waitpid(child, 0)


asyncio.run(main())
"""


@pytest.mark.cover_processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
async def test_a_child_that_ends_leaves_the_requests_of_its_parent_alone(desk):
    openai = await desk.start("openai")
    openai.faults.next(Fault(stall_after=3))
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FORK, str(desk.path), stderr=asyncio.subprocess.DEVNULL
    )
    assert await asyncio.wait_for(program.wait(), 60) == 0
    assert desk.row().status == "cancelled"
