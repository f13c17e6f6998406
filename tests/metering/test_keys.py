"""A key that was rotated: a living instance uses the new one from its next request on."""

import asyncio
import logging

import pytest
from livekit.agents import APIConnectOptions
from tests.metering.desk import ONCE, ask, audio, listen, recognize, say, speak

from voicegw_mcp import inference
from voicegw_mcp.inference import keys

NEW = "rotated-key-9876543210"


async def overhear(ears, *, options):
    """Listen without saying that it is over: AssemblyAI says in a message that a key is wrong, and after the end to nobody."""
    async with asyncio.timeout(20), ears.stream(conn_options=options) as stream:
        for _ in range(9):
            stream.push_frame(audio(100))
        async for _ in stream:
            pass


CASES = [
    (inference.LLM, "openai/gpt-4o-mini", ask),
    (inference.LLM, "groq/llama-3.3-70b-versatile", ask),
    (inference.LLM, "anthropic/claude-sonnet-4-6", ask),
    (inference.LLM, "openai_compatible/house", ask),
    (inference.STT, "openai/whisper-1", recognize),
    (inference.STT, "groq/whisper-large-v3", recognize),
    (inference.STT, "deepgram/nova-3", recognize),
    (inference.STT, "deepgram/nova-3", listen),
    (inference.STT, "deepgram/flux-general-en", listen),
    (inference.STT, "cartesia/ink-2", listen),
    (inference.STT, "elevenlabs/scribe_v1", recognize),
    (inference.STT, "assemblyai/universal-3-6-pro", listen),
    (inference.TTS, "openai/tts-1", say),
    (inference.TTS, "groq/playai-tts", say),
    (inference.TTS, "deepgram/aura-2-andromeda-en", say),
    (inference.TTS, "deepgram/aura-2-andromeda-en", speak),
    (inference.TTS, "cartesia/sonic-3", say),
    (inference.TTS, "cartesia/sonic-3", speak),
    (inference.TTS, "elevenlabs/eleven_turbo_v2_5", say),
    (inference.TTS, "elevenlabs/eleven_turbo_v2_5", speak),
    (inference.TTS, "assemblyai/universal-tts", say),
    (inference.TTS, "assemblyai/universal-tts", speak),
]


@pytest.mark.parametrize(("make", "model", "call"), CASES)
async def test_a_call_that_is_refused_puts_the_new_key_in_for_the_next(desk, make, model, call):
    name = model.split("/")[0]
    server = await desk.start(name)
    instance = desk.own(make(model))
    assert keys.key_in(instance) == server.key
    server.rotate(NEW)
    (desk.folder / f"{name}.key").write_text(NEW)  # a file of its own is only looked at when a call fails
    with pytest.raises(Exception):  # noqa: B017, PT011 - some plugins let through what aiohttp raises
        await (overhear if name == "assemblyai" and call is listen else call)(instance, options=ONCE)
    assert keys.key_in(instance) == NEW
    assert await call(instance, options=ONCE)
    assert [row.status for row in desk.rows()] == ["error", "success"]


@pytest.mark.parametrize(("make", "model", "call"), CASES[:1])
async def test_a_key_in_secrets_is_used_by_the_next_request_without_a_failure(desk, make, model, call):
    server = await desk.start("openai")
    (desk.folder / "secrets.env").write_text(f"LOOPBACK_KEY={server.key}\n")
    (desk.folder / "secrets.env").chmod(0o600)
    desk.path.write_text(desk.path.read_text().replace("${file:openai.key}", "${LOOPBACK_KEY}"))
    instance = desk.own(make(model))
    await call(instance)
    server.rotate(NEW)
    (desk.folder / "secrets.env").write_text(f"LOOPBACK_KEY={NEW}\n")
    await call(instance)
    assert [row.status for row in desk.rows()] == ["success", "success"]


async def test_livekits_own_second_try_uses_the_new_key(desk):
    server = await desk.start("deepgram")
    ears = desk.own(inference.STT("deepgram/nova-3"))
    server.rotate(NEW)
    (desk.folder / "deepgram.key").write_text(NEW)
    # The plugin takes a refused recording for a broken connection, so LiveKit tries again.
    assert await recognize(ears, options=APIConnectOptions(max_retry=1, retry_interval=0))
    assert desk.row().status == "success"


async def test_a_key_passed_in_code_stays(desk):
    server = await desk.start("openai")
    model = desk.own(inference.LLM("openai/gpt-4o-mini", api_key="own-key-1234567890"))
    with pytest.raises(Exception, match="401"):
        await ask(model)
    assert keys.key_in(model) == "own-key-1234567890"
    assert server.key not in str(desk.row())


class Closed:
    """A plugin that keeps its key where nobody finds it."""


def test_an_instance_without_a_place_for_its_key_is_told_of_once_it_matters(caplog):
    class Runtime:
        def key_of(self, _):
            from voicegw_mcp.config.secrets import Lookup, SecretStr

            return Lookup(SecretStr(NEW))

    caplog.set_level(logging.WARNING)

    class Leaf:
        provider = "closed"
        model_id = "closed/x"

    assert keys.renew_key(Runtime(), Leaf(), Closed()) is None
    assert "make the instance anew" in caplog.text
