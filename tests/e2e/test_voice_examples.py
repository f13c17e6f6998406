"""The examples of voice agents hold a conversation with loopback providers, and its requests are rows with costs."""

import json
import os
import subprocess
import sys
import wave
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest
from tests.loopback import Cartesia, Deepgram, Fault, OpenAI, formulas

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "voice"
FILE = """\
providers:
  deepgram: {{api_key: "${{DEEPGRAM_API_KEY}}", base_url: "{deepgram}"}}
  openai: {{api_key: "${{OPENAI_API_KEY}}", base_url: "{openai}"}}
  cartesia: {{api_key: "${{CARTESIA_API_KEY}}", base_url: "{cartesia}"}}
models:
  stt:
    deepgram/nova-3: {{provider: deepgram, model: nova-3}}
    openai/whisper-1: {{provider: openai, model: whisper-1}}
  llm:
    openai/gpt-4o-mini: {{provider: openai, model: gpt-4o-mini}}
  tts:
    cartesia/sonic-3: {{provider: cartesia, model: sonic-3, default_voice: f786b574-daa5-4673-aa0c-cbe3e8534c02}}
stacks:
  phone: {{stt: deepgram/nova-3, llm: openai/gpt-4o-mini, tts: cartesia/sonic-3}}
  batch: {{stt: openai/whisper-1, llm: openai/gpt-4o-mini, tts: cartesia/sonic-3}}
projects:
  shop: {{name: Shop, default_stack: phone}}
"""
CALLER_MS = 1500
PROGRAM = str(Path(sys.executable).parent / "voicegw")


@pytest.fixture
async def providers():
    async with AsyncExitStack() as stack:
        yield {each.name: await stack.enter_async_context(each()) for each in (Deepgram, OpenAI, Cartesia)}


@pytest.fixture
def home(tmp_path, providers):
    """Return the environment of a program in a folder with voicegw.yaml and a question."""
    urls = {name: provider.base_url for name, provider in providers.items()}
    (tmp_path / "voicegw.yaml").write_text(FILE.format(**urls), encoding="utf-8")
    (tmp_path / "question.wav").write_bytes(formulas.wav(CALLER_MS, 16000))
    keys = {f"{name.upper()}_API_KEY": provider.key for name, provider in providers.items()}
    passed = {name: value for name, value in os.environ.items() if name in ("PATH", "COVERAGE_PROCESS_START")}
    return {
        **passed,
        **keys,
        "HOME": str(tmp_path),
        "VOICEGW_DB_PATH": str(tmp_path / "voicegw.db"),
        "VOICEGW_ACTIVE_PROJECT": "shop",
        "PYTHONWARNINGS": "error::DeprecationWarning:__main__",
    }


async def run(home, *command):
    with anyio.fail_after(100):
        return await anyio.run_process(
            command, env=home, cwd=home["HOME"], check=False, stderr=subprocess.PIPE
        )


async def rows_of(home):
    done = await run(home, PROGRAM, "logs", "--json")
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)["logs"]


@pytest.mark.parametrize(
    ("script", "arguments", "stt"),
    [
        ("agent.py", ("wav", "question.wav", "answer.wav"), "deepgram/nova-3"),
        ("plain_calls.py", ("question.wav", "answer.wav"), "deepgram/nova-3"),
        ("plain_calls.py", ("question.wav", "answer.wav", "batch"), "openai/whisper-1"),
    ],
)
async def test_speech_is_answered_with_speech_and_each_stage_is_a_row(
    home, providers, script, arguments, stt
):
    done = await run(home, sys.executable, str(EXAMPLES / script), *arguments)
    shown = done.stdout.decode()
    assert done.returncode == 0, shown + done.stderr.decode()
    heard = " ".join(formulas.words_heard(CALLER_MS))
    assert heard.casefold() in shown.casefold()
    said = " ".join(formulas.reply_to(heard))
    assert said in shown
    with wave.open(str(Path(home["HOME"]) / "answer.wav")) as answer:
        assert answer.getnframes() * 1000 / answer.getframerate() == pytest.approx(
            formulas.spoken_ms(said), abs=60
        )

    rows = [row for row in await rows_of(home) if row["status"] == "success"]
    assert {row["modality"]: row["model_id"] for row in rows} == {
        "stt": stt,
        "llm": "openai/gpt-4o-mini",
        "tts": "cartesia/sonic-3",
    }
    (session,) = {row["session_id"] for row in rows}
    assert f"--session-id {session}" in shown
    assert {row["project"] for row in rows} == {"shop"}
    assert all(row["cost_usd"] > 0 for row in rows)
    assert not any(provider.key in shown + done.stderr.decode() for provider in providers.values())


@pytest.mark.parametrize("script", ["agent.py", "plain_calls.py"])
async def test_what_is_missing_is_said_in_one_line(home, script):
    options = ("wav",) if script == "agent.py" else ()
    del home["CARTESIA_API_KEY"]
    done = await run(home, sys.executable, str(EXAMPLES / script), *options, "question.wav", "answer.wav")
    assert done.returncode == 1
    assert "voicegw secrets set CARTESIA_API_KEY" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert not (Path(home["HOME"]) / "answer.wav").exists()


async def test_a_provider_that_fails_ends_the_plain_script_and_is_a_row(home, providers):
    providers["openai"].faults.next(Fault(status=400), door="chat", times=10)
    done = await run(home, sys.executable, str(EXAMPLES / "plain_calls.py"), "question.wav", "answer.wav")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr.decode()
    assert {row["modality"]: row["status"] for row in await rows_of(home)}["llm"] == "error"
