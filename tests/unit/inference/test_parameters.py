"""The table of names against the signatures of the plugins that are installed here."""

import inspect
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from voicegw_mcp.core.provider_types import PROVIDER_TYPES
from voicegw_mcp.domain import Modality
from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.inference import endpoints, parameters, plugins

# What each class of LiveKit Agents 1.8 calls model, voice, language, key and address. "": it has none.
EXPECTED = {
    ("anthropic", "LLM"): "model - - api_key base_url",
    ("assemblyai", "STT"): "model - language_code api_key base_url",
    ("assemblyai", "TTS"): "model voice language api_key base_url",
    ("asyncai", "TTS"): "model voice language api_key base_url",
    ("aws", "STT"): "- - language api_key -",
    ("aws", "LLM"): "model - - api_key -",
    ("aws", "TTS"): "speech_engine voice language api_key -",
    ("azure", "STT"): "- - language speech_key speech_host",
    ("azure", "TTS"): "- voice language speech_key speech_endpoint",
    ("baseten", "STT"): "model - language api_key -",
    ("baseten", "LLM"): "model - - api_key base_url",
    ("baseten", "TTS"): "model voice language api_key -",
    ("bland", "TTS"): "- voice_id - api_key base_url",
    ("cambai", "TTS"): "model voice_id language api_key base_url",
    ("cartesia", "STT"): "model - language api_key base_url",
    ("cartesia", "TTS"): "model voice language api_key base_url",
    ("cerebras", "LLM"): "model - - api_key base_url",
    ("clova", "STT"): "- - language secret invoke_url",
    ("deepgram", "STT"): "model - language api_key base_url",
    ("deepgram", "STTv2"): "model - language_hint api_key base_url",
    ("deepgram", "TTS"): "model - - api_key base_url",
    ("deepgram", "TTSv2"): "model - - api_key base_url",
    ("elevenlabs", "STT"): "model - language_code api_key base_url",
    ("elevenlabs", "TTS"): "model voice_id language api_key base_url",
    ("fal", "WizperSTT"): "- - language api_key -",
    ("fireworksai", "STT"): "model - language api_key base_url",
    ("fishaudio", "TTS"): "model voice_id - api_key base_url",
    ("gladia", "STT"): "model - languages api_key base_url",
    ("gnani", "STT"): "- - language api_key base_url",
    ("gnani", "TTS"): "model voice language api_key base_url",
    ("google", "STT"): "model - languages - -",
    ("google", "LLM"): "model - - api_key http_options",
    ("google", "TTS"): "model_name voice_name language - -",
    ("gradium", "STT"): "model_name - language api_key model_endpoint",
    ("gradium", "TTS"): "model_name voice_id - api_key model_endpoint",
    ("groq", "STT"): "model - language api_key base_url",
    ("groq", "LLM"): "model - - api_key base_url",
    ("groq", "TTS"): "model voice - api_key base_url",
    ("hume", "TTS"): "model_version voice - api_key base_url",
    ("inworld", "STT"): "model - language api_key base_url",
    ("inworld", "TTS"): "model voice language api_key base_url",
    ("lmnt", "TTS"): "model voice language api_key -",
    ("meta", "STT"): "model - language_bias api_key url",
    ("microsoft_ai", "STT"): "model - language api_key url",
    ("microsoft_ai", "TTS"): "model voice language api_key url",
    ("minimax", "TTS"): "model voice language_boost api_key base_url",
    ("mistralai", "STT"): "model - language api_key -",
    ("mistralai", "LLM"): "model - - api_key -",
    ("mistralai", "TTS"): "model voice - api_key -",
    ("murf", "TTS"): "model voice locale api_key base_url",
    ("nabrah", "STT"): "recognition_model - language api_key base_url",
    ("neuphonic", "TTS"): "- voice_id lang_code api_key base_url",
    ("nvidia", "STT"): "model - language_code api_key server",
    ("nvidia", "TTS"): "- voice language_code api_key server",
    ("openai", "STT"): "model - language api_key base_url",
    ("openai", "LLM"): "model - - api_key base_url",
    ("openai", "TTS"): "model voice - api_key base_url",
    ("palabra", "STT"): "- - language api_key -",
    ("palabra", "TTS"): "model voice_id language api_key -",
    ("perplexity", "LLM"): "model - - api_key base_url",
    ("resemble", "TTS"): "model voice_uuid - api_key -",
    ("respeecher", "TTS"): "model voice_id - api_key base_url",
    ("rime", "TTS"): "model speaker lang api_key base_url",
    ("rtzr", "STT"): "model - language - -",
    ("sarvam", "STT"): "model - language api_key -",
    ("sarvam", "LLM"): "model - - api_key base_url",
    ("sarvam", "TTS"): "model speaker target_language_code api_key base_url",
    ("simplismart", "STT"): "model - language api_key base_url",
    ("simplismart", "TTS"): "model voice language api_key base_url",
    ("slng", "STT"): "model - language api_key slng_base_url",
    ("slng", "TTS"): "model voice language api_key slng_base_url",
    ("smallestai", "STT"): "model - language api_key base_url",
    ("smallestai", "TTS"): "model voice_id language api_key base_url",
    ("soniox", "STT"): "model - language api_key base_url",
    ("soniox", "TTS"): "model voice language api_key websocket_url",
    ("speechify", "TTS"): "model voice_id language api_key base_url",
    ("speechmatics", "STT"): "model - language api_key base_url",
    ("speechmatics", "TTS"): "- voice - api_key base_url",
    ("spitch", "STT"): "- - language - -",
    ("spitch", "TTS"): "- voice language - -",
    ("upliftai", "TTS"): "- voice_id - api_key base_url",
    ("vakyam", "TTS"): "model voice language api_key base_url",
    ("xai", "STT"): "- - language api_key -",
    ("xai", "TTS"): "- voice language api_key -",
}
INSTALLED = sorted(set(plugins.installed_plugins()) & set(PROVIDER_TYPES))
ALWAYS = {"anthropic", "assemblyai", "cartesia", "deepgram", "elevenlabs", "groq", "openai"}


def test_the_seven_plugins_are_installed():
    assert set(INSTALLED) >= ALWAYS


@pytest.mark.parametrize("plugin", INSTALLED)
def test_each_class_calls_things_as_the_table_says(plugin):
    classes = plugins.classes_of(plugin)
    assert classes
    for cls in classes:
        form = parameters.form_of(plugin, cls)
        address = form.endpoint.parameter if form.endpoint else "-"
        names = [form.names.get(concept, "-") for concept in ("model", "voice", "language", "api_key")]
        assert " ".join([*names, address]) == EXPECTED[plugin, cls.__name__]


@pytest.mark.parametrize("plugin", INSTALLED)
def test_each_name_of_the_table_is_a_parameter_of_its_class(plugin):
    for cls in plugins.classes_of(plugin):
        own = set(inspect.signature(cls.__init__).parameters)
        own |= parameters._OWN_OPTIONS.get((plugin, cls.__name__), set())
        endpoint = parameters.form_of(plugin, cls).endpoint
        wanted = set(EXPECTED[plugin, cls.__name__].split()) - {"-"}
        wanted |= {endpoint.also[0]} if endpoint and endpoint.also else set()
        assert wanted <= own


def test_the_table_of_names_covers_every_plugin():
    assert {plugin for plugin, _ in EXPECTED} == set(PROVIDER_TYPES) - plugins.SERVED
    for type_name, class_name in endpoints.ENDPOINTS:
        assert not class_name or (type_name, class_name) in EXPECTED


def test_every_provider_type_has_an_extra_that_brings_its_plugin():
    path = Path(__file__).parents[3] / "pyproject.toml"
    extras = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for type_name in PROVIDER_TYPES:
        plugin = plugins.plugin_of(type_name)
        package = {"minimax": "minimax-ai"}.get(plugin, plugin.replace("_", "-"))
        assert extras[plugins.extra_of(type_name)] == [f"livekit-plugins-{package}>=1.8,<2"]
    named = extras["all"][0].partition("[")[2].rstrip("]").split(",")
    assert set(named) == set(extras) - {
        "all",
        "inference",
        "local",
        "otel",
    }  # local is three of the others, otel is the server's


class Speech:
    """Stands in for the modules of plugins that are not installed here."""

    def __init__(self, api_key, *, voice=None, http_options=None, languages=None, server="", use_ssl=True):
        pass


@pytest.mark.parametrize(
    ("type_name", "class_name", "given", "wanted"),
    [
        ("gladia", "STT", {"languages": "de"}, {"languages": ["de"]}),
        ("gladia", "STT", {"languages": ["de", "en"]}, {"languages": ["de", "en"]}),
        ("hume", "TTS", {"voice": "Ava"}, {"voice": {"name": "Ava"}}),
        ("hume", "TTS", {"voice": "9e068547-5ba4-4c8e-8e03-69282a008f04"}, {"voice": {"id": "9e068547-5ba4-4c8e-8e03-69282a008f04"}}),
        ("hume", "TTS", {"voice": {"name": "Ava"}}, {"voice": {"name": "Ava"}}),
        ("cambai", "TTS", {"voice_id": "147320"}, {"voice_id": 147320}),
        ("rime", "TTS", {"base_url": "https://r.example"}, {"base_url": "https://r.example", "allow_custom_endpoint": True}),
        ("rime", "TTS", {"speaker": "cove"}, {"speaker": "cove"}),
        ("azure", "TTS", {"region": "westeurope"}, {"speech_region": "westeurope"}),
        ("azure", "STT", {"speech_region": "eastus"}, {"speech_region": "eastus"}),
        ("nvidia", "STT", {"server": "https://nim.example"}, {"server": "nim.example:443", "use_ssl": True}),
        ("nvidia", "TTS", {"server": "http://127.0.0.1:50051"}, {"server": "127.0.0.1:50051", "use_ssl": False}),
        ("nvidia", "TTS", {"voice": "Leo"}, {"voice": "Leo"}),
        ("openai", "TTS", {"voice": "ash"}, {"voice": "ash"}),
    ],
)  # fmt: skip
def test_what_is_more_than_another_name_is_brought_into_shape(type_name, class_name, given, wanted):
    cls = type(class_name, (Speech,), {})
    assert parameters.adapt(type_name, cls, given) == wanted


@pytest.fixture
def module(monkeypatch):
    """A module with the objects that some plugins want their options in."""

    def make(name, **objects):
        made = ModuleType(name)
        vars(made).update(objects)
        monkeypatch.setitem(sys.modules, name, made)
        return type("STT", (Speech,), {"__module__": name})

    return make


def test_some_want_an_object_of_their_own(module):
    soniox = module("soniox_options", STTOptions=lambda **fields: fields)
    given = {"model": "stt-rt-v5", "language": "de", "api_key": "k"}
    wanted = {"api_key": "k", "params": {"model": "stt-rt-v5", "language_hints": ["de"]}}
    assert parameters.adapt("soniox", soniox, given) == wanted
    assert parameters.adapt("soniox", soniox, {"model": "m"}) == {"params": {"model": "m"}}
    assert parameters.adapt("soniox", soniox, {"model": "m", "params": "own"}) == {"params": "own"}
    aws = module("aws_credentials", Credentials=lambda *parts: parts)
    given = {"api_key": "id", "api_secret": "secret", "region": "eu-central-1"}
    wanted = {"region": "eu-central-1", "credentials": ("id", "secret", None)}
    assert parameters.adapt("aws", aws, given) == wanted
    assert parameters.adapt("aws", aws, {"region": "eu-central-1"}) == {"region": "eu-central-1"}
    module("google.genai.types", HttpOptions=lambda base_url: [base_url])
    google = type("LLM", (Speech,), {})
    assert parameters.adapt("google", google, {"http_options": "https://g.example"}) == {
        "http_options": ["https://g.example"]
    }
    assert parameters.adapt("google", google, {"http_options": 5}) == {"http_options": 5}


def test_voices_that_are_numbers_have_to_be_numbers():
    with pytest.raises(InvalidInput, match="'anna' is no voice of cambai"):
        parameters.adapt("cambai", type("TTS", (Speech,), {}), {"voice_id": "anna"})


def test_a_class_of_an_unknown_plugin_is_read_by_the_same_rules():
    class TTS:
        def __init__(self, *, speaker, lang="en", api_key=None, base_url="", speed=1.0, **more):
            pass

    form = parameters.form_of("new", TTS)
    assert form.names == {"voice": "speaker", "language": "lang", "api_key": "api_key"}
    assert (form.accepted, form.open) == ({"speed"}, True)
    assert form.endpoint.arguments("https://api.new.example/v1")
    assert [form.concept_of(each) for each in ("speaker", "voice", "speed")] == ["voice", "voice", None]


@pytest.mark.parametrize(
    ("type_name", "modality", "model", "name"),
    [
        ("deepgram", Modality.STT, "nova-3", "STT"),
        ("deepgram", Modality.STT, "flux-general-en", "STTv2"),
        ("deepgram", Modality.TTS, "flux-alexis-en", "TTSv2"),
        ("openai", Modality.LLM, "flux", "LLM"),
    ],
)
def test_a_model_chooses_its_class(type_name, modality, model, name):
    assert plugins.class_name(type_name, modality, model) == name
