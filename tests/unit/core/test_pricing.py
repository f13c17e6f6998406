import subprocess
import sys
import threading
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from voicegw_mcp.core import pricing
from voicegw_mcp.core.pricing import Price, PriceBook, PriceOverride, cost_of, find_price
from voicegw_mcp.domain import Modality, Usage
from voicegw_mcp.errors import InvalidInput

AT = int(datetime(2026, 11, 22, 15, 30, tzinfo=UTC).timestamp() * 1000)
STT, LLM, TTS = Modality.STT, Modality.LLM, Modality.TTS


def price(modality, provider, model, *, at_ms=AT, overrides=None):
    return find_price(
        modality=modality,
        provider_type=provider,
        model_id=f"{provider}/{model}",
        model_name=model,
        at_ms=at_ms,
        overrides=overrides or {},
    )


@pytest.mark.parametrize(
    ("provider", "model", "per_minute", "priced", "match"),
    [
        ("deepgram", "nova-3", "0.0048", "nova-3", "exact"),
        ("deepgram", "nova-3-batch", "0.00430002", "nova-3-batch", "exact"),
        ("deepgram", "nova-2", "0.00583332", "nova-2", "exact"),
        ("deepgram", "flux-general-en", "0.00649998", "flux-general", "family"),
        ("cartesia", "ink-2", "0.009", "ink-2", "exact"),
        ("cartesia", "ink-whisper", "0.009", "ink-2", "family"),
        ("openai", "whisper-1", "0.006", "whisper-1", "exact"),
        ("groq", "whisper-large-v3-turbo", "0.00066666", "whisper-large-v3-turbo", "exact"),
    ],
)
def test_speech_to_text_is_priced_by_the_minute(provider, model, per_minute, priced, match):
    found = price(STT, provider, model)
    assert found is not None
    assert found.usd_per_minute == Decimal(per_minute)
    assert (found.priced_model, found.match, found.source) == (priced, match, "voice-prices")
    assert found.usd_per_1000_characters is None
    assert len(found.date) == len("2026-05-28")


@pytest.mark.parametrize(
    ("provider", "model", "per_thousand", "match"),
    [
        ("cartesia", "sonic-3", "0.05", "exact"),
        ("elevenlabs", "eleven_turbo_v2_5", "0.05", "exact"),
        ("elevenlabs", "eleven_v3", "0.10", "exact"),
        ("deepgram", "aura-2-andromeda-en", "0.03", "family"),
        ("openai", "tts-1", "0.015", "exact"),
        ("rime", "mistv2", "0.03", "family"),
        ("hume", "octave-2", "0.15", "family"),
        ("xai", "grok-tts", "0.015", "exact"),
    ],
)
def test_text_to_speech_is_priced_by_the_thousand_characters(provider, model, per_thousand, match):
    found = price(TTS, provider, model)
    assert found is not None
    assert found.usd_per_1000_characters == Decimal(per_thousand)
    assert found.match == match
    assert found.usd_per_minute is None


@pytest.mark.parametrize(
    ("provider", "model", "tokens", "match"),
    [
        ("openai", "gpt-4.1-mini", ("0.4", "1.6", "0.1"), "exact"),
        ("anthropic", "claude-sonnet-4-6", ("3", "15", "0.3"), "exact"),
        ("google", "gemini-3.8-flash", ("0.75", "3.75", "0.075"), "exact"),
        ("google", "gemini-2.5-pro", ("1.25", "10", "0.125"), "exact"),  # the first of two tiers
        ("groq", "llama-3.3-70b-versatile", ("0.59", "0.79", "0.59"), "exact"),
        ("xai", "grok-4", ("3", "15", "0.75"), "family"),
        ("mistralai", "mistral-large-latest", ("2", "6", "2"), "family"),
    ],
)
def test_language_models_are_priced_by_genai_prices(provider, model, tokens, match):
    found = price(LLM, provider, model)
    assert found is not None
    assert found.source == "genai-prices"
    assert found.match == match
    assert (
        found.usd_per_million_input_tokens,
        found.usd_per_million_output_tokens,
        found.usd_per_million_cached_tokens,
    ) == tuple(map(Decimal, tokens))


def test_language_models_that_genai_prices_does_not_know_are_asked_from_voice_prices(monkeypatch):
    monkeypatch.setattr(pricing, "_genai_price", lambda *_: None)
    found = price(LLM, "openai", "gpt-4.1-mini")
    assert found is not None
    assert (found.source, found.usd_per_million_input_tokens) == ("voice-prices", Decimal("0.4"))
    assert found.date == "2025-07-04"


def test_audio_models_of_openai_have_token_prices_of_audio():
    speech = price(TTS, "openai", "gpt-4o-mini-tts")
    assert speech is not None
    assert speech.usd_per_1000_characters is None
    assert (speech.usd_per_million_input_tokens, speech.usd_per_million_output_tokens) == (
        Decimal("0.6"),
        Decimal(12),
    )
    heard = price(STT, "openai", "gpt-4o-mini-transcribe")
    assert heard is not None
    assert heard.usd_per_minute == Decimal("0.003")
    assert (heard.usd_per_million_input_tokens, heard.usd_per_million_output_tokens) == (
        Decimal(3),
        Decimal(5),
    )


@pytest.mark.parametrize(
    ("modality", "provider", "model"),
    [
        (STT, "elevenlabs", "scribe_v1"),  # known, with a total of 0 and unpriced usage
        (STT, "speechmatics", "linden-1"),
        (STT, "assemblyai", "universal-3-6-pro"),
        (TTS, "rime", "arcana"),
        (TTS, "openai", "gpt-4.1-mini"),  # a language model is not a voice
        (TTS, "minimax", "speech-02"),
        (LLM, "openai", "gpt-nonsense"),
        (LLM, "perplexity", "sonar"),  # billed per request too
        (LLM, "openai_compatible", "gpt-4.1-mini"),
        (LLM, "no-such-type", "gpt-4.1-mini"),
        (LLM, "openai", "text-embedding-nonsense"),
    ],
)
def test_what_nobody_knows_is_none_and_never_zero(modality, provider, model):
    assert price(modality, provider, model) is None


def test_a_price_of_another_provider_is_not_taken():
    # azure falls back to OpenAI's models inside the library; the provider named stays azure.
    found = price(LLM, "azure", "gpt-4o")
    assert found is not None
    assert found.source == "genai-prices"


@pytest.mark.parametrize("provider", ["ollama", "whisper", "kokoro", "piper"])
def test_local_types_cost_an_explicit_zero(provider):
    found = price(LLM, provider, "anything")
    assert found is not None
    assert found.source == "local"
    assert cost_of(found, Usage(audio_ms=5, input_tokens=9, output_tokens=9, characters=3)) == 0


def test_the_newest_override_that_has_begun_wins_over_everything():
    overrides = {
        "ollama/x": [
            PriceOverride(usd_per_minute=Decimal(3), date="2027-01-01"),
            PriceOverride(usd_per_minute=Decimal(2), date="2026-11-22"),
            PriceOverride(usd_per_minute=Decimal(1)),
            PriceOverride(usd_per_minute=Decimal(5), date="2026-11-22"),
        ]
    }
    found = price(STT, "ollama", "x", overrides=overrides)
    assert found == Price(
        usd_per_minute=Decimal(5), source="override", date="2026-11-22", priced_model="ollama/x"
    )
    day = 86_400_000
    assert price(STT, "ollama", "x", overrides=overrides, at_ms=AT - day).usd_per_minute == Decimal(1)
    assert price(STT, "ollama", "x", overrides=overrides, at_ms=AT + 60 * day).usd_per_minute == Decimal(3)
    late_only = {"ollama/x": overrides["ollama/x"][:1]}
    assert price(STT, "ollama", "x", overrides=late_only).source == "local"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"date": "2026-01-01"},
        {"usd_per_minute": Decimal(-1)},
        {"usd_per_minute": Decimal("NaN")},
        {"usd_per_minute": Decimal(1), "date": "2026-13-01"},
        {"usd_per_minute": Decimal(1), "date": "20260101"},
    ],
)
def test_an_override_that_says_nothing_or_nonsense_is_refused(fields):
    with pytest.raises(InvalidInput):
        PriceOverride(**fields)


def test_costs_are_exact_nano_dollars():
    assert cost_of(Price(usd_per_minute=Decimal("0.0048")), Usage(audio_ms=60_000)) == 4_800_000
    assert cost_of(Price(usd_per_minute=Decimal("0.0048")), Usage(audio_ms=1)) == 80
    assert cost_of(Price(usd_per_minute=Decimal("0.00583332")), Usage(audio_ms=1000)) == 97_222
    assert cost_of(Price(usd_per_1000_characters=Decimal("0.05")), Usage(characters=7)) == 350_000
    assert cost_of(Price(usd_per_minute=Decimal("0.01")), Usage(audio_ms=86_400_000)) == 14_400_000_000
    assert cost_of(Price(usd_per_minute=Decimal("0.00003")), Usage(audio_ms=1)) == 0  # half to even
    assert cost_of(Price(usd_per_minute=Decimal("0.00009")), Usage(audio_ms=1)) == 2


def test_tokens_cost_by_their_kind():
    found = Price(
        usd_per_million_input_tokens=Decimal("0.4"),
        usd_per_million_output_tokens=Decimal("1.6"),
        usd_per_million_cached_tokens=Decimal("0.1"),
    )
    assert (
        cost_of(found, Usage(input_tokens=1000, cached_tokens=400, output_tokens=50))
        == 240_000 + 40_000 + 80_000
    )
    assert cost_of(found, Usage(input_tokens=10, cached_tokens=40)) == 4_000
    plain = Price(usd_per_million_input_tokens=Decimal(1), usd_per_million_output_tokens=Decimal(1))
    assert cost_of(plain, Usage(input_tokens=10, cached_tokens=4)) == 10_000


def test_a_usage_in_a_unit_without_a_price_costs_none_and_an_empty_one_nothing():
    per_minute = Price(usd_per_minute=Decimal(1))
    assert cost_of(per_minute, Usage(input_tokens=5)) is None
    assert cost_of(per_minute, Usage(characters=5)) is None
    assert (
        cost_of(Price(usd_per_million_input_tokens=Decimal(1)), Usage(input_tokens=5, output_tokens=1))
        is None
    )
    assert cost_of(per_minute, Usage()) == 0


def test_one_thing_measured_in_several_units_is_billed_once():
    speech = Price(usd_per_1000_characters=Decimal("0.05"))
    assert cost_of(speech, Usage(characters=100, audio_ms=9_000)) == 5_000_000
    heard = Price(
        usd_per_minute=Decimal("0.003"),
        usd_per_million_input_tokens=Decimal(3),
        usd_per_million_output_tokens=Decimal(5),
    )
    assert cost_of(heard, Usage(audio_ms=60_000)) == 3_000_000
    assert cost_of(heard, Usage(audio_ms=60_000, input_tokens=1000, output_tokens=100)) == 3_500_000


def test_importing_the_module_loads_no_price_library():
    code = (
        "import sys, voicegw_mcp.core.pricing, voicegw_mcp.core.probes\n"
        "print([name for name in ('voice_prices', 'genai_prices', 'httpx2', 'livekit') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


async def test_a_book_remembers_a_price_for_the_day(monkeypatch):
    asked = []
    real = pricing.find_price

    def counted(**arguments):
        asked.append((arguments["at_ms"], threading.current_thread() is threading.main_thread()))
        return real(**arguments)

    monkeypatch.setattr(pricing, "find_price", counted)
    book = PriceBook({"d/n": [PriceOverride(usd_per_minute=Decimal(9), date="2026-11-23")]})
    query = {"modality": STT, "provider_type": "deepgram", "model_id": "d/n", "model_name": "nova-3"}
    first = await book.find_async(**query, at_ms=AT)
    assert await book.find_async(**query, at_ms=AT + 1) is first
    assert asked == [(AT, False)]
    assert first.usd_per_minute == Decimal("0.0048")
    assert book.find(**query, at_ms=AT + 86_400_000).usd_per_minute == Decimal(9)
    monkeypatch.setattr(pricing, "_MAX_CACHED", 1)
    assert book.find(**query, at_ms=AT + 2 * 86_400_000).usd_per_minute == Decimal(9)
    assert len(book._found) == 1
