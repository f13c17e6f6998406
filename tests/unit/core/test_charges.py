"""What a row is billed by; the figures are those of the libraries as installed."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from voicegw_mcp.core.charges import Charge, charge
from voicegw_mcp.core.pricing import PriceBook, PriceOverride
from voicegw_mcp.domain import Modality, Usage

AT = int(datetime(2026, 11, 22, 15, 30, tzinfo=UTC).timestamp() * 1000)
STT, LLM, TTS = Modality.STT, Modality.LLM, Modality.TTS
MINUTE = Usage(audio_ms=60_000)


def billed(modality, provider, model, usage, *, batch=False, overrides=None):
    return charge(
        PriceBook(overrides),
        usage,
        modality=modality,
        provider_type=provider,
        model_id=f"{provider}/{model}",
        model_name=model,
        at_ms=AT,
        batch=batch,
    )


@pytest.mark.parametrize(
    ("modality", "provider", "model", "usage", "cost", "source", "terms"),
    [
        # The library matches by prefix and says so only by the model it names: ink-whisper is sold at 0.003.
        (STT, "cartesia", "ink-whisper", MINUTE, 9_000_000, "voice-prices (family ink-2)", "per_minute=0.009"),
        (STT, "cartesia", "ink-2", MINUTE, 9_000_000, "voice-prices", "per_minute=0.009"),
        # A total of 0 with unpriced_usage is no price.
        (STT, "elevenlabs", "scribe_v1", MINUTE, None, "", ""),
        (STT, "soniox", "stt-rt-preview", MINUTE, None, "", ""),
        # genai-prices needs two fields of audio for it; voice-prices one.
        (STT, "openai", "whisper-1", MINUTE, 6_000_000, "voice-prices", "per_minute=0.006"),
        # 100 tokens in at 0.60 and 250 of audio out at 12 USD a million; its characters are not billed.
        (TTS, "openai", "gpt-4o-mini-tts", Usage(audio_ms=5_000, characters=400, input_tokens=100, output_tokens=250), 3_060_000, "voice-prices", "per_million_input_tokens=0.6 per_million_output_tokens=12"),
        (TTS, "cartesia", "sonic-3", Usage(characters=1000, audio_ms=60_000), 50_000_000, "voice-prices", "per_1000_characters=0.05"),
        (LLM, "openai", "gpt-4.1-mini", Usage(input_tokens=1000, cached_tokens=400, output_tokens=50), 360_000, "genai-prices", "per_million_input_tokens=0.4 per_million_output_tokens=1.6 per_million_cached_tokens=0.1"),
        (LLM, "ollama", "qwen", Usage(input_tokens=1000), 0, "local", ""),
        # It may stand on the user's machine and hand everything on to a provider: only the user knows.
        (LLM, "openai_compatible", "llama", Usage(input_tokens=1000), None, "", ""),
    ],
)  # fmt: skip
def test_a_request_is_billed_by_a_price_that_its_row_can_name(
    modality, provider, model, usage, cost, source, terms
):
    found = billed(modality, provider, model, usage)
    assert (found.cost_nanousd, found.price_source, found.price_terms) == (cost, source, terms)
    library = source.partition(" ")[0]
    assert bool(found.price_version) == (library in {"voice-prices", "genai-prices"})


def test_whole_recordings_have_a_price_of_their_own_where_the_provider_has_two():
    stream, whole = (billed(STT, "deepgram", "nova-3", MINUTE, batch=batch) for batch in (False, True))
    assert (stream.cost_nanousd, stream.price_model, stream.price_batch) == (4_800_000, "nova-3", False)
    assert (whole.cost_nanousd, whole.price_model, whole.price_batch) == (4_300_020, "nova-3-batch", True)
    other = billed(STT, "openai", "whisper-1", MINUTE, batch=True)
    assert (other.cost_nanousd, other.price_model) == (6_000_000, "whisper-1")
    assert billed(STT, "speechmatics", "linden-1", MINUTE, batch=True) == Charge(price_batch=True)


def test_an_own_price_goes_before_all_others_and_its_day_is_kept():
    own = {
        "deepgram/nova-3": [
            PriceOverride(usd_per_minute=Decimal("0.01")),
            PriceOverride(usd_per_minute=Decimal("0.0000000000001"), date="2026-11-01"),
        ]
    }
    found = billed(STT, "deepgram", "nova-3", Usage(audio_ms=10**10), batch=True, overrides=own)
    assert found == Charge(
        17, "override", "2026-11-01", "", "deepgram/nova-3", "per_minute=0.0000000000001", True
    )


def test_nothing_costs_nothing_whatever_its_price():
    assert billed(STT, "speechmatics", "linden-1", Usage()) == Charge(0)
