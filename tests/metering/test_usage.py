"""Each call of each installed plugin is one row, with what the provider says was used."""

import pytest
from tests.metering.desk import ask, listen, recognize, say, speak

from voicegw_mcp import inference


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o-mini"),
        ("groq", "llama-3.3-70b-versatile"),
        ("anthropic", "claude-sonnet-4-6"),
        ("ollama", "qwen2.5:3b"),
        ("openai_compatible", "house"),
    ],
)
async def test_a_reply_is_a_row_with_the_tokens_the_provider_counted(desk, provider, model):
    server = await desk.start(provider)
    assert await ask(desk.own(inference.LLM(f"{provider}/{model}")), system="Be brief and kind.")
    row, call = desk.row(), next(each for each in server.calls if each.finished)
    assert (row.status, row.provider, row.model_id) == ("success", provider, f"{provider}/{model}")
    assert (row.output_tokens, row.cached_tokens) == (call.output_tokens, call.cached_tokens)
    assert row.input_tokens == call.input_tokens + (
        call.cached_tokens + call.written_tokens if provider == "anthropic" else 0
    )
    assert 0 < row.ttfb_us <= row.total_us
    assert not row.estimated


TTS = [
    ("openai", "tts-1"),
    ("openai", "gpt-4o-mini-tts"),
    ("groq", "playai-tts"),
    ("deepgram", "aura-2-andromeda-en"),
    ("cartesia", "sonic-3"),
    ("elevenlabs", "eleven_turbo_v2_5"),
    ("assemblyai", "universal-tts"),
]


@pytest.mark.parametrize(("provider", "model"), TTS)
async def test_a_synthesis_is_a_row_with_characters_and_audio(desk, provider, model):
    await desk.start(provider)
    said = "Good morning, it is a fine day."
    heard_ms = await say(desk.own(inference.TTS(f"{provider}/{model}")), said)
    row = desk.row()
    assert (row.status, row.characters) == ("success", len(said))
    assert heard_ms == pytest.approx(row.audio_ms, abs=1)
    assert heard_ms > 100
    assert 0 < row.ttfb_us <= row.total_us
    assert bool(row.output_tokens) == (model == "gpt-4o-mini-tts")


@pytest.mark.parametrize(("provider", "model"), [each for each in TTS if each[0] not in ("openai", "groq")])
async def test_text_that_is_pushed_piece_by_piece_is_one_row(desk, provider, model):
    await desk.start(provider)
    heard_ms = await speak(desk.own(inference.TTS(f"{provider}/{model}")), "Good morning, it is a fine day.")
    row = desk.row()
    assert (row.status, row.characters) == ("success", 32)
    assert heard_ms == pytest.approx(row.audio_ms, abs=1)
    assert 0 < row.ttfb_us <= row.total_us


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "whisper-1"),
        ("openai", "gpt-4o-mini-transcribe"),
        ("groq", "whisper-large-v3-turbo"),
        ("deepgram", "nova-3"),
        ("elevenlabs", "scribe_v1"),
    ],
)
async def test_a_recording_is_a_row_with_its_length(desk, provider, model):
    await desk.start(provider)
    assert await recognize(desk.own(inference.STT(f"{provider}/{model}")), 700)
    row = desk.row()
    assert (row.status, row.audio_ms, row.ttfb_us) == ("success", 700, None)
    assert row.total_us > 0


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("deepgram", "nova-3"),
        ("deepgram", "flux-general-en"),
        ("cartesia", "ink-2"),
        ("assemblyai", "universal-3-6-pro"),
    ],
)
async def test_a_turn_of_a_stream_is_a_row_with_its_latency(desk, provider, model):
    await desk.start(provider)
    assert await listen(desk.own(inference.STT(f"{provider}/{model}")))
    row = desk.row()
    assert row.status == "success"
    assert row.total_us > 0
    assert row.audio_ms > 0
