import pytest
from livekit.plugins import anthropic, assemblyai, cartesia, deepgram, elevenlabs, groq, openai

from voicegw_mcp import inference
from voicegw_mcp.domain import Modality
from voicegw_mcp.errors import ConfigInvalid, InvalidInput, NotFound
from voicegw_mcp.inference.build import build
from voicegw_mcp.inference.leaf import Leaf
from voicegw_mcp.inference.runtime import current

FILE = """
providers:
  deepgram: {mip_opt_out: true}
  openai: {}
  anthropic: {}
  groq: {}
  cartesia: {}
  elevenlabs: {}
  assemblyai: {}
  ollama: {}
  whisper: {base_url: http://127.0.0.1:1/v1}
  kokoro: {base_url: http://127.0.0.1:2}
  piper: {}
  house: {type: openai_compatible, base_url: http://127.0.0.1:3/api}
  lost: {type: openai_compatible}
models:
  stt:
    deepgram/nova-3: {provider: deepgram, model: nova-3, default_language: de, endpointing_ms: 50}
  llm:
    openai/gpt-4o-mini: {provider: openai, model: gpt-4o-mini, temperature: 0.3}
  tts:
    cartesia/sonic-3: {provider: cartesia, model: sonic-3, default_voice: anna}
    openai/tts-1: {provider: openai, model: tts-1, default_voice: alloy}
stacks:
  premium: {stt: "deepgram/nova-3:en", llm: openai/gpt-4o-mini, tts: cartesia/sonic-3}
  words: {llm: openai/gpt-4o-mini}
projects:
  shop:
    name: Shop
    default_stack: words
    tts_model: openai/tts-1
    providers: {openai: {api_key: "${SHOP_KEY}"}}
"""

pytestmark = pytest.mark.usefixtures("keys")


@pytest.fixture
def file(configure):
    return configure(FILE)


@pytest.mark.parametrize(
    ("make", "text", "cls", "key"),
    [
        (inference.STT, "deepgram/nova-2", deepgram.STT, "deepgram"),
        (inference.STT, "deepgram/flux-general-en", deepgram.STTv2, "deepgram"),
        (inference.STT, "openai/whisper-1", openai.STT, "openai"),
        (inference.STT, "groq/whisper-large-v3", groq.STT, "groq"),
        (inference.STT, "cartesia/ink-2", cartesia.STT, "cartesia"),
        (inference.STT, "elevenlabs/scribe_v1", elevenlabs.STT, "elevenlabs"),
        (inference.STT, "assemblyai/universal-streaming-english", assemblyai.STT, "assemblyai"),
        (inference.STT, "whisper/large-v3", openai.STT, None),
        (inference.LLM, "openai/gpt-5", openai.LLM, "openai"),
        (inference.LLM, "anthropic/claude-sonnet-4-6", anthropic.LLM, "anthropic"),
        (inference.LLM, "groq/llama-3.3-70b-versatile", groq.LLM, "groq"),
        (inference.LLM, "ollama/qwen2.5:3b", openai.LLM, None),
        (inference.LLM, "house/llama", openai.LLM, None),
        (inference.TTS, "deepgram/aura-2-thalia-en", deepgram.TTS, "deepgram"),
        (inference.TTS, "deepgram/flux-alexis-en", deepgram.TTSv2, "deepgram"),
        (inference.TTS, "openai/gpt-4o-mini-tts:ash", openai.TTS, "openai"),
        (inference.TTS, "groq/canopylabs/orpheus-v1-english", groq.TTS, "groq"),
        (inference.TTS, "cartesia/sonic-2:ben", cartesia.TTS, "cartesia"),
        (inference.TTS, "elevenlabs/eleven_v3:rachel", elevenlabs.TTS, "elevenlabs"),
        (inference.TTS, "assemblyai/assemblyai-tts-1", assemblyai.TTS, "assemblyai"),
        (inference.TTS, "kokoro/kokoro-82m:af_bella", openai.TTS, None),
    ],
)
@pytest.mark.usefixtures("file")
def test_the_plugins_own_class_is_made_with_model_and_key(make, text, cls, key):
    instance = make(text)
    assert type(instance) is cls
    assert instance.model == text.split("/", 1)[1].split(":b")[0].split(":a")[0].split(":r")[0]
    assert key is None or f"fake-{key}" in held_by(instance)


def held_by(instance):
    """Return the texts an instance holds, and those of its options and its client: where plugins keep a key."""
    parts = [instance, *(getattr(instance, name, None) for name in ("_opts", "_client"))]
    return {
        value
        for part in parts
        if part is not None
        for name in (vars(part) if hasattr(part, "__dict__") else part.__slots__)
        if isinstance(value := getattr(part, name, None), str)
    }


@pytest.mark.usefixtures("file")
def test_configured_defaults_give_way_to_the_suffix_and_that_to_the_argument():
    assert inference.STT("deepgram/nova-3")._opts.language == "de"
    assert inference.STT("deepgram/nova-3:en")._opts.language == "en"
    assert inference.STT("deepgram/nova-3:en", language="fr")._opts.language == "fr"
    assert inference.TTS("cartesia/sonic-3")._opts.voice == "anna"
    assert inference.TTS("cartesia/sonic-3:ben")._opts.voice == "ben"
    assert inference.TTS("cartesia/sonic-3:ben", voice="cleo", language="fr")._opts.voice == "cleo"


@pytest.mark.usefixtures("file")
def test_options_of_the_file_give_way_to_those_of_the_call():
    configured = inference.STT("deepgram/nova-3")._opts
    assert (configured.endpointing_ms, configured.mip_opt_out) == (50, True)
    called = inference.STT("deepgram/nova-3", endpointing_ms=10, mip_opt_out=False)._opts
    assert (called.endpointing_ms, called.mip_opt_out) == (10, False)
    assert inference.LLM("openai/gpt-4o-mini", temperature=0.9)._opts.temperature == 0.9


@pytest.mark.usefixtures("file")
def test_a_plugins_own_name_for_something_we_know_is_understood():
    assert inference.TTS("elevenlabs/eleven_v3", voice_id="rachel")._opts.voice_id == "rachel"
    assert inference.TTS("elevenlabs/eleven_v3", voice="rachel")._opts.voice_id == "rachel"
    assert inference.STT("elevenlabs/scribe_v1:de")._opts.language_code == "de"
    with pytest.raises(InvalidInput, match="voice_id and voice are the same"):
        inference.TTS("elevenlabs/eleven_v3", voice="a", voice_id="b")


@pytest.mark.usefixtures("file")
def test_a_language_goes_into_a_list_where_a_class_wants_one():
    assert inference.STT("deepgram/flux-general-multi:de")._opts.language_hint == ["de"]


@pytest.mark.usefixtures("file")
def test_a_key_may_be_passed_in_code():
    instance, leaf = build(current(), Modality.LLM, "openai/gpt-5", options={"api_key": "own"})
    assert (instance._client.api_key, leaf.own_key) == ("own", True)


@pytest.mark.usefixtures("file")
def test_an_address_in_code_is_an_api_root_as_in_the_file():
    stt = inference.STT("deepgram/nova-3", base_url="https://api.eu.deepgram.com/v1")
    assert stt._opts.endpoint_url == "https://api.eu.deepgram.com/v1/listen"


@pytest.mark.usefixtures("file")
def test_servers_that_speak_openais_protocol_are_found_at_their_base_url():
    assert str(inference.LLM("ollama/qwen2.5:3b")._client.base_url) == "http://127.0.0.1:11434/v1/"
    assert str(inference.LLM("house/llama")._client.base_url) == "http://127.0.0.1:3/api/"
    assert str(inference.STT("whisper/base")._client.base_url) == "http://127.0.0.1:1/v1/"
    assert str(inference.TTS("kokoro/kokoro:af")._client.base_url) == "http://127.0.0.1:2/v1/"


@pytest.mark.usefixtures("file")
def test_a_leaf_tells_whom_an_instance_speaks_to():
    _, leaf = build(current(), Modality.STT, "deepgram/nova-3:en")
    assert leaf == Leaf(Modality.STT, "deepgram", "deepgram", "deepgram/nova-3", "nova-3", language="en")
    _, leaf = build(current(), Modality.LLM, "ollama/qwen2.5:3b")
    assert leaf == Leaf(Modality.LLM, "ollama", "ollama", "ollama/qwen2.5:3b", "qwen2.5:3b", local=True)
    _, leaf = build(current(), Modality.TTS, "cartesia/sonic-3", voice=[0.1, 0.2])
    assert leaf.voice is None
    with inference.set_project("shop"):
        _, leaf = build(current(), Modality.TTS, "openai/tts-1", options={"api_key": "own"})
    assert (leaf.project, leaf.account, leaf.voice) == ("shop", "shop", "alloy")


@pytest.mark.usefixtures("file")
def test_a_projects_own_account_pays(monkeypatch):
    monkeypatch.setenv("SHOP_KEY", "fake-shop")
    assert inference.LLM("openai/gpt-5")._client.api_key == "fake-openai"
    with inference.set_project("shop"):
        assert inference.LLM("openai/gpt-5")._client.api_key == "fake-shop"
        assert inference.LLM("groq/llama")._client.api_key == "fake-groq"


@pytest.mark.usefixtures("file")
def test_a_stack_gives_three_instances():
    stack = inference.stack("premium")
    assert [type(each) for each in stack] == [deepgram.STT, openai.LLM, cartesia.TTS]
    assert stack.stt._opts.language == "en"
    words = inference.stack("words")
    assert (words.stt, type(words.llm), words.tts) == (None, openai.LLM, None)


@pytest.mark.usefixtures("file")
def test_without_a_name_the_projects_models_are_its_stack(monkeypatch):
    monkeypatch.setenv("SHOP_KEY", "fake-shop")
    with inference.set_project("shop"):
        stack = inference.stack()
    assert (stack.stt, type(stack.llm), type(stack.tts)) == (None, openai.LLM, openai.TTS)
    with pytest.raises(InvalidInput, match="Project default has neither"):
        inference.stack()


@pytest.mark.usefixtures("file")
def test_a_wrong_option_is_named_with_the_accepted_ones():
    with pytest.raises(InvalidInput) as caught:
        inference.STT("deepgram/nova-3", endpointing=10)
    assert caught.value.message == "deepgram.STT takes no option 'endpointing'."
    assert "Did you mean endpointing_ms" in caught.value.hint
    assert {"language", "api_key", "base_url", "smart_format"} <= set(caught.value.details["accepted"])
    assert not {"model", "self", "_strict_tool_schema"} & set(caught.value.details["accepted"])
    assert caught.value.hint in caught.value.__notes__, "a traceback shows it"


@pytest.mark.parametrize(
    ("make", "text", "options", "tells"),
    [
        (inference.LLM, "openai/gpt-5", {"_strict_tool_schema": False}, "takes no option '_strict_tool_schema'"),
        (inference.LLM, "openai/gpt-5", {"voice": "ash"}, "openai.LLM takes no voice"),
        (inference.TTS, "deepgram/aura-2-thalia-en", {"voice": "thalia"}, "deepgram.TTS takes no voice"),
        (inference.TTS, "openai/tts-1", {"language": "de"}, "openai.TTS takes no language"),
        (inference.STT, "deepgram/nova-3", {"base_url": "api.deepgram.com"}, "is no http or https address"),
        (inference.LLM, "cartesia/sonic-9", {}, "type 'cartesia' have no models of llm"),
        (inference.STT, "ollama/whisper", {}, "type 'ollama' have no models of stt"),
        (inference.TTS, "piper/amy", {}, "There is no file"),
        (inference.TTS, "lost/amy", {}, "Provider lost has no base_url"),
        (inference.STT, "deepgram/nova-3", {"tags": ["x" * 200]}, "deepgram.STT cannot be made"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("file")
def test_what_cannot_be_made_is_refused(make, text, options, tells):
    with pytest.raises(InvalidInput) as caught:
        make(text, **options)
    assert tells in caught.value.message
    assert caught.value.hint


def test_a_missing_key_names_the_variable_and_the_command_that_sets_it(configure, monkeypatch):
    configure(FILE)
    monkeypatch.delenv("DEEPGRAM_API_KEY")
    with pytest.raises(InvalidInput) as caught:
        inference.STT("deepgram/nova-3")
    assert "Provider deepgram has no key: DEEPGRAM_API_KEY is not set" in caught.value.message
    assert "`voicegw secrets set DEEPGRAM_API_KEY`" in caught.value.hint


def test_a_key_is_found_beside_the_file_and_looked_up_each_time(configure, monkeypatch):
    path = configure(FILE)
    monkeypatch.delenv("OPENAI_API_KEY")
    secrets = path.with_name("secrets.env")
    secrets.touch(0o600)
    for key in ("first", "second"):
        secrets.write_text(f"OPENAI_API_KEY={key}\n")
        assert inference.LLM("openai/gpt-5")._client.api_key == key


def test_secret_options_are_references_too(configure, monkeypatch):
    configure("providers:\n  openai:\n    safety_identifier: plain\n    client_secret: ${NOWHERE}\n")
    with pytest.raises(InvalidInput, match="NOWHERE is not set") as caught:
        inference.LLM("openai/gpt-5")
    assert caught.value.details["field"] == "providers.openai.client_secret"
    monkeypatch.setenv("NOWHERE", "there")
    with pytest.raises(InvalidInput, match=r"takes no option 'client_secret' \(in providers.openai\)"):
        inference.LLM("openai/gpt-5")
    configure("providers:\n  openai:\n    extra_headers: {x-token: '${NOWHERE}', x: [1, '${NOWHERE}']}\n")
    assert inference.LLM("openai/gpt-5")._opts.extra_headers == {"x-token": "there", "x": [1, "there"]}


def test_options_of_a_provider_need_to_fit_one_of_its_classes_only(configure):
    configure("providers:\n  openai: {temperature: 0.2, instructions: calmly}\n")
    assert inference.LLM("openai/gpt-5")._opts.temperature == 0.2
    assert inference.TTS("openai/tts-1:ash")._opts.instructions == "calmly"
    configure("providers:\n  openai: {temprature: 0.2}\n")
    with pytest.raises(InvalidInput, match=r"'temprature' \(in providers.openai\)"):
        inference.LLM("openai/gpt-5")


def test_options_of_a_model_need_to_fit_its_class(configure):
    configure("providers: {openai: {}}\nmodels: {llm: {m: {provider: openai, instructions: calmly}}}\n")
    with pytest.raises(InvalidInput, match=r"'instructions' \(in models.llm.m\)"):
        inference.LLM("m")


def test_what_is_unknown_is_told_with_near_matches(configure):
    configure(FILE)
    with pytest.raises(NotFound) as caught:
        inference.LLM("opena/gpt-5")
    assert "openai" in caught.value.__notes__[0]
    with pytest.raises(InvalidInput) as caught:
        inference.stack("premiun")
    assert "Did you mean premium?" in caught.value.__notes__


def test_an_unknown_provider_type_is_told_with_near_ones(configure):
    configure("providers: {d: {type: deepgramm}}\n")
    with pytest.raises(InvalidInput, match="'deepgramm' is not a provider type"):
        inference.STT("d/nova-3")


def test_a_broken_file_is_told_with_line_and_column(configure):
    configure("providers: [1]\n")
    with pytest.raises(ConfigInvalid, match="providers"):
        inference.LLM("openai/gpt-5")
