import dataclasses

import pytest

from voicegw_mcp.core.provider_types import PROVIDER_TYPES, default_key_reference, find_provider_type
from voicegw_mcp.domain import Modality
from voicegw_mcp.errors import InvalidInput


def test_all_of_04_and_every_livekit_plugin_are_there():
    names = """anthropic assemblyai cartesia deepgram elevenlabs groq kokoro ollama openai piper whisper openai_compatible
        google azure aws speechmatics gladia soniox rime inworld hume neuphonic lmnt resemble minimax mistralai sarvam murf
        fishaudio smallestai speechify cambai gradium nvidia xai cerebras perplexity baseten fireworksai simplismart clova
        fal upliftai rtzr spitch asyncai bland gnani meta microsoft_ai nabrah palabra respeecher slng vakyam"""
    assert sorted(names.split()) == list(PROVIDER_TYPES)


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        PROVIDER_TYPES["x"] = PROVIDER_TYPES["openai"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        PROVIDER_TYPES["openai"].name = "x"


def test_only_the_four_local_types_have_no_key():
    assert {name for name, each in PROVIDER_TYPES.items() if each.local} == {
        "kokoro",
        "ollama",
        "piper",
        "whisper",
    }
    for name, each in PROVIDER_TYPES.items():
        assert each.name == name
        assert each.modalities
        assert each.key_variable == (None if each.local else f"{name.upper()}_API_KEY")
        assert each.key_optional == (each.local or name == "openai_compatible")


def test_references_are_made_of_the_key_variable():
    assert default_key_reference(find_provider_type("deepgram")) == "${DEEPGRAM_API_KEY}"
    assert default_key_reference(find_provider_type("ollama")) is None


def test_modalities_say_what_a_type_does():
    assert find_provider_type("deepgram").modalities == {Modality.STT, Modality.TTS}
    assert find_provider_type("openai_compatible").modalities == set(Modality)
    assert find_provider_type("whisper").modalities == {Modality.STT}


@pytest.mark.parametrize("name", ["deepgramm", "Deepgram", "DEEPGRAM"])
def test_an_unknown_type_is_answered_with_the_nearest(name):
    with pytest.raises(InvalidInput) as caught:
        find_provider_type(name)
    assert caught.value.details["field"] == "provider_type"
    assert "deepgram" in caught.value.hint


def test_a_type_like_no_other_is_answered_with_all():
    with pytest.raises(InvalidInput) as caught:
        find_provider_type("zzzzzzzz")
    assert "openai_compatible" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "base", "url"),
    [
        ("deepgram", "https://api.eu.deepgram.com", "https://api.eu.deepgram.com/v1/auth/token"),
        ("deepgram", "https://api.deepgram.com/v1", "https://api.deepgram.com/v1/auth/token"),
        ("deepgram", "https://api.deepgram.com/v1/", "https://api.deepgram.com/v1/auth/token"),
        ("deepgram", "https://api.deepgram.com/v1/listen", "https://api.deepgram.com/v1/auth/token"),
        ("deepgram", "https://api.deepgram.com/v2", "https://api.deepgram.com/v1/auth/token"),
        ("deepgram", "https://gw.example/dg", "https://gw.example/dg/v1/auth/token"),
        ("openai", "https://api.openai.com", "https://api.openai.com/v1/models"),
        ("openai", "https://gw.example/openai/v1", "https://gw.example/openai/v1/models"),
        ("groq", "https://api.groq.com", "https://api.groq.com/openai/v1/models"),
        ("groq", "https://api.groq.com/openai", "https://api.groq.com/openai/v1/models"),
        ("groq", "https://api.groq.com/openai/v1", "https://api.groq.com/openai/v1/models"),
        ("groq", "https://gw.example/groq/v1", "https://gw.example/groq/v1/models"),
        ("anthropic", "https://api.anthropic.com/v1", "https://api.anthropic.com/v1/models?limit=1"),
        (
            "assemblyai",
            "https://api.eu.assemblyai.com",
            "https://api.eu.assemblyai.com/v2/transcript?limit=1",
        ),
        ("google", "https://g.example/v1", "https://g.example/v1beta/models?pageSize=1"),
        ("cartesia", "https://api.cartesia.ai/", "https://api.cartesia.ai/voices?limit=1"),
        ("ollama", "http://127.0.0.1:11434", "http://127.0.0.1:11434/api/tags"),
        ("ollama", "http://localhost:11434/v1", "http://localhost:11434/api/tags"),
        ("ollama", "http://localhost:11434/v1/", "http://localhost:11434/api/tags"),
        ("openai_compatible", "http://box:8000", "http://box:8000/v1/models"),
        ("openai_compatible", "http://box:8000/v1", "http://box:8000/v1/models"),
        ("openai_compatible", "https://x.example/api/paas/v4/", "https://x.example/api/paas/v4/models"),
        (
            "openai_compatible",
            "https://x.example/v1beta/openai?k=1",
            "https://x.example/v1beta/openai/models",
        ),
    ],
)
def test_bases_with_and_without_their_root_lead_to_the_same_check(name, base, url):
    probe = find_provider_type(name).probe
    assert probe is not None
    assert probe.url_under(base) == url


def test_every_default_base_leads_to_a_check_without_a_doubled_version():
    for each in PROVIDER_TYPES.values():
        if each.probe is not None and each.base_url is not None:
            url = each.probe.url_under(each.base_url)
            assert url.count("/v1/") <= 1
            assert "//" not in url.partition("://")[2]


def test_a_request_without_an_authentication_header_sends_no_key():
    probe = find_provider_type("openai").probe
    assert probe is not None
    assert dataclasses.replace(probe, auth_header=None).auth("key") == {}
    assert probe.auth("key") == {"Authorization": "Bearer key"}
