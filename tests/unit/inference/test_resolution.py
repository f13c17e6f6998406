import pytest

from voicegw_mcp.config.file import ConfigFile
from voicegw_mcp.config.secrets import Secrets
from voicegw_mcp.core.catalog import Catalog
from voicegw_mcp.domain import Modality
from voicegw_mcp.errors import InvalidInput, NotFound
from voicegw_mcp.inference.resolution import accounts_of, find_account, find_stack, resolve

STT, LLM, TTS = Modality

FILE = """
providers:
  deepgram: {}
  openai: {}
  openai/eu: {type: openai, base_url: https://eu.example.com/v1}
  cartesia: {}
  ollama: {}
  groq: {enabled: false}
  house: {type: openai_compatible, base_url: http://127.0.0.1:9/v1, temperature: 0.1}
models:
  stt:
    deepgram/nova-3: {provider: deepgram, model: nova-3, default_language: de}
    ears: {provider: deepgram, model: nova-2}
    house/whisper:large: {provider: house, model: "whisper:large"}
    mute: {provider: deepgram, model: nova-1, enabled: false}
    lost: {provider: nobody}
  llm:
    openai/gpt-4o-mini: {provider: openai, model: gpt-4o-mini, temperature: 0.3}
    local/kokoro: {provider: ollama}
  tts:
    cartesia/sonic-3: {provider: cartesia, model: sonic-3, default_voice: anna}
    voice:warm: {provider: cartesia, model: sonic-2}
stacks:
  premium: {stt: "deepgram/nova-3:en", llm: openai/gpt-4o-mini, tts: cartesia/sonic-3}
  half: {llm: openai/gpt-4o-mini}
projects:
  shop:
    name: Shop
    providers:
      openai: {api_key: "${SHOP_KEY}", organization: shop}
      cartesia: {enabled: false}
      azure: {region: westeurope}
"""


@pytest.fixture
def catalog(tmp_path):
    path = tmp_path / "voicegw.yaml"
    path.write_text(FILE)
    return Catalog(ConfigFile(path, Secrets(tmp_path / "secrets.env", {})).load())


@pytest.mark.parametrize(
    ("modality", "text", "expected"),
    [
        (STT, "deepgram/nova-3", ("deepgram", "deepgram/nova-3", "nova-3", "de", None)),
        (STT, "deepgram/nova-3:en", ("deepgram", "deepgram/nova-3", "nova-3", "en", None)),
        (STT, "deepgram/nova-4:en-US", ("deepgram", "deepgram/nova-4", "nova-4", "en-US", None)),
        (STT, "deepgram/nova-4", ("deepgram", "deepgram/nova-4", "nova-4", None, None)),
        (STT, "ears", ("deepgram", "ears", "nova-2", None, None)),
        (STT, "ears:fr", ("deepgram", "ears", "nova-2", "fr", None)),
        (STT, "house/whisper:large", ("house", "house/whisper:large", "whisper:large", None, None)),
        (STT, "house/whisper:large:en", ("house", "house/whisper:large", "whisper:large", "en", None)),
        (STT, "house/whisper:small", ("house", "house/whisper", "whisper", "small", None)),
        (LLM, "openai/gpt-4o-mini", ("openai", "openai/gpt-4o-mini", "gpt-4o-mini", None, None)),
        (LLM, "ollama/qwen2.5:3b", ("ollama", "ollama/qwen2.5:3b", "qwen2.5:3b", None, None)),
        (LLM, "openai/eu/gpt-5", ("openai/eu", "openai/eu/gpt-5", "gpt-5", None, None)),
        (LLM, "openai/ft/gpt-5", ("openai", "openai/ft/gpt-5", "ft/gpt-5", None, None)),
        (LLM, "local/kokoro", ("ollama", "local/kokoro", "kokoro", None, None)),
        (TTS, "cartesia/sonic-3", ("cartesia", "cartesia/sonic-3", "sonic-3", None, "anna")),
        (TTS, "cartesia/sonic-3:ben", ("cartesia", "cartesia/sonic-3", "sonic-3", None, "ben")),
        (TTS, "voice:warm", ("cartesia", "voice:warm", "sonic-2", None, None)),
        (TTS, "voice:warm:ben", ("cartesia", "voice:warm", "sonic-2", None, "ben")),
    ],
)
def test_a_text_stands_for(catalog, modality, text, expected):
    choice = resolve(catalog, modality, text)
    assert (
        choice.account.provider_id,
        choice.model_id,
        choice.model,
        choice.language,
        choice.voice,
    ) == expected


@pytest.mark.parametrize(
    ("modality", "text", "error", "tells"),
    [
        (STT, "openai/gpt-4o-mini", InvalidInput, "is a model of llm, not stt (voicegw.yaml:"),
        (STT, "openai/gpt-4o-mini:en", InvalidInput, "is a model of llm, not stt"),
        (LLM, "deepgram/nova-3", InvalidInput, "is a model of stt, not llm"),
        (STT, "mute", InvalidInput, "Model mute is switched off (voicegw.yaml:"),
        (LLM, "groq/llama", InvalidInput, "Provider groq is switched off (providers.groq.enabled"),
        (STT, "deepgram/nova-3:", InvalidInput, "ends in a colon"),
        (LLM, "openai/", InvalidInput, "names a provider and no model"),
        (LLM, "  ", InvalidInput, "names no model"),
        (LLM, None, InvalidInput, "names no model"),
        (STT, "deepgramm/nova-3", NotFound, "No provider has the id 'deepgramm'"),
        (STT, "lost", NotFound, "No provider has the id 'nobody'"),
        (STT, "earz", NotFound, "No model has the id 'earz'"),
        (LLM, "gpt-4o-mini", NotFound, "No model has the id 'gpt-4o-mini'"),
    ],
)
def test_a_text_that_stands_for_nothing_is_refused(catalog, modality, text, error, tells):
    with pytest.raises(error) as caught:
        resolve(catalog, modality, text)
    assert tells in caught.value.message
    assert caught.value.hint
    assert caught.value.details["field"] == "model"


def test_near_matches_are_named(catalog):
    with pytest.raises(NotFound) as caught:
        resolve(catalog, STT, "earz")
    assert caught.value.details["nearest"] == ["ears"]
    with pytest.raises(NotFound) as caught:
        resolve(catalog, LLM, "opena/gpt-5")
    assert "openai" in caught.value.details["nearest"]
    with pytest.raises(InvalidInput) as caught:
        resolve(catalog, LLM, "cartesia/sonic-3")
    assert "Use inference.TTS" in caught.value.hint


def test_a_provider_that_is_known_and_not_configured_names_the_command_that_adds_it(catalog):
    with pytest.raises(NotFound) as caught:
        resolve(catalog, LLM, "anthropic/claude-5")
    assert "add_provider provider_id=anthropic provider_type=anthropic" in caught.value.hint


def test_options_are_those_of_the_model_and_of_the_provider(catalog):
    assert resolve(catalog, LLM, "openai/gpt-4o-mini").options == {"temperature": 0.3}
    assert resolve(catalog, LLM, "openai/gpt-5").options == {}
    assert find_account(catalog, "house", None).options == {"temperature": 0.1}


def test_a_project_may_have_an_account_of_its_own(catalog):
    shop = catalog.project("shop")
    own = resolve(catalog, LLM, "openai/gpt-4o-mini", shop).account
    assert (own.project, own.key_reference, own.options) == ("shop", "${SHOP_KEY}", {"organization": "shop"})
    shared = resolve(catalog, LLM, "openai/gpt-4o-mini").account
    assert (shared.project, shared.key_reference) == (None, "${OPENAI_API_KEY}")
    assert resolve(catalog, STT, "azure/whatever", shop).account.options == {"region": "westeurope"}
    with pytest.raises(InvalidInput, match=r"projects\.shop\.providers\.cartesia"):
        resolve(catalog, TTS, "cartesia/sonic-3", shop)


def test_what_runs_on_ones_own_machine_is_local(catalog):
    assert find_account(catalog, "ollama", None).local
    assert not find_account(catalog, "openai", None).local
    assert find_account(catalog, "ollama", None).key_reference is None


def test_a_stack_is_found_by_its_name(catalog):
    assert find_stack(catalog, "half").llm == "openai/gpt-4o-mini"
    with pytest.raises(InvalidInput) as caught:
        find_stack(catalog, "premiun")
    assert (caught.value.details["field"], caught.value.details["nearest"]) == ("stack", ["premium"])
    with pytest.raises(InvalidInput, match="zzz") as caught:
        find_stack(catalog, "zzz")
    assert "premium, half" in caught.value.hint


@pytest.mark.parametrize(
    ("names", "providers"),
    [
        (["premium"], ["deepgram", "openai", "cartesia"]),
        (["half", "openai", "openai/gpt-9"], ["openai"]),
        (["ears", "ollama/qwen2.5:3b"], ["deepgram", "ollama"]),
        ([], []),
    ],
)
def test_accounts_are_found_behind_stacks_models_and_providers(catalog, names, providers):
    assert [account.provider_id for account in accounts_of(catalog, names)] == providers


@pytest.mark.parametrize(("name", "nearest"), [("premiun", "premium"), ("openia/x", "openai")])
def test_nothing_is_behind_an_unknown_name(catalog, name, nearest):
    with pytest.raises(NotFound) as caught:
        accounts_of(catalog, [name])
    assert nearest in caught.value.details["nearest"]
