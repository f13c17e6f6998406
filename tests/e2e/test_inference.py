"""A voice agent's process beside the commands that change its voicegw.yaml: what they write is what it makes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
WAIT_S = 60

# Reads one call a line and answers with what it made, or with what a person would be shown.
AGENT = """
import asyncio, json, sys
from livekit.agents import llm, stt, tts
from voicegw_mcp import inference

async def main():
    for line in sys.stdin:
        make, model, options = json.loads(line)
        try:
            made = getattr(inference, make)(model, **options)
        except Exception as error:
            answer = [type(error).__name__, str(error), *getattr(error, "__notes__", [])]
        else:
            assert isinstance(made, {"STT": stt.STT, "LLM": llm.LLM, "TTS": tts.TTS}[make])
            answer = [type(made).__module__.split(".")[2], made.model]
        print(json.dumps(answer), flush=True)

asyncio.run(main())
"""


@pytest.fixture
def environment(tmp_path):
    """An empty home; of ours only what coverage measures subprocesses by."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("COV")}
    return {**kept, "PATH": os.environ["PATH"], "HOME": str(tmp_path), "NO_COLOR": "1", "LANG": "C.UTF-8"}


@pytest.fixture
def voicegw(tmp_path, environment):
    """Run a command to its end."""

    def run(*arguments, stdin=""):
        command = [BIN / "voicegw", *arguments]
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            cwd=tmp_path,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def agent(tmp_path, environment):
    """Makes instances in one living process."""
    process = subprocess.Popen(
        [sys.executable, "-c", AGENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment,
    )

    def make(what, model, **options):
        process.stdin.write(json.dumps([what, model, options]) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield make
    rest, _ = process.communicate(timeout=WAIT_S)
    assert (process.returncode, rest) == (0, "")


def test_what_is_configured_meanwhile_is_what_a_living_agent_makes(agent, voicegw):
    name, message, hint = agent("STT", "ears:en")
    assert (name, hint) == ("NotFound", "Call list_models for the ids there are.")
    voicegw("call", "add_provider", "provider_id=deepgram", "provider_type=deepgram")
    voicegw(
        "call",
        "register_model",
        "modality=stt",
        "provider_id=deepgram",
        "model_name=nova-3",
        "model_id=ears",
    )
    name, message, hint = agent("STT", "ears:en")
    assert name == "InvalidInput"
    assert "DEEPGRAM_API_KEY is not set" in message
    assert hint == "Run `voicegw secrets set DEEPGRAM_API_KEY`."
    voicegw("secrets", "set", "DEEPGRAM_API_KEY", stdin="fake-key-0001\n")
    assert agent("STT", "ears:en") == ["deepgram", "nova-3"]
    assert agent("TTS", "deepgram/aura-2-thalia-en") == ["deepgram", "aura-2-thalia-en"]
    assert agent("STT", "ears", endpointing=1)[0] == "InvalidInput"
    voicegw("call", "delete_model", "model_id=ears", "confirm=true")
    assert agent("STT", "ears:en")[0] == "NotFound"
