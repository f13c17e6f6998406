import pytest

from voicegw_mcp.core.provider_types import PROVIDER_TYPES
from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.inference.endpoints import ENDPOINTS, endpoint_of


@pytest.mark.parametrize(
    ("type_name", "class_name", "root", "expected"),
    [
        ("deepgram", "STT", "https://api.deepgram.com/v1", {"base_url": "https://api.deepgram.com/v1/listen"}),
        ("deepgram", "STT", "https://api.eu.deepgram.com", {"base_url": "https://api.eu.deepgram.com/v1/listen"}),
        ("deepgram", "STT", "https://gw.example/dg/v1/", {"base_url": "https://gw.example/dg/v1/listen"}),
        ("deepgram", "STT", "https://api.deepgram.com/v1/listen", {"base_url": "https://api.deepgram.com/v1/listen"}),
        ("deepgram", "STTv2", "https://api.deepgram.com/v1", {"base_url": "wss://api.deepgram.com/v2/listen"}),
        ("deepgram", "STTv2", "wss://api.deepgram.com/v2/listen", {"base_url": "wss://api.deepgram.com/v2/listen"}),
        ("deepgram", "TTS", "http://127.0.0.1:8/v1", {"base_url": "http://127.0.0.1:8/v1/speak"}),
        ("deepgram", "TTSv2", "http://127.0.0.1:8/v1", {"base_url": "http://127.0.0.1:8/v2/speak"}),
        ("openai", "LLM", "https://api.openai.com", {"base_url": "https://api.openai.com/v1"}),
        ("openai", "TTS", "https://gw.example/openai/v1", {"base_url": "https://gw.example/openai/v1"}),
        ("groq", "LLM", "https://api.groq.com", {"base_url": "https://api.groq.com/openai/v1"}),
        ("groq", "STT", "https://gw.example/groq/v1", {"base_url": "https://gw.example/groq/v1"}),
        ("anthropic", "LLM", "https://api.anthropic.com", {"base_url": "https://api.anthropic.com"}),
        ("anthropic", "LLM", "https://gw.example/a/v1", {"base_url": "https://gw.example/a"}),
        ("cartesia", "TTS", "https://api.cartesia.ai/", {"base_url": "https://api.cartesia.ai"}),
        ("elevenlabs", "TTS", "https://api.elevenlabs.io", {"base_url": "https://api.elevenlabs.io/v1"}),
        ("assemblyai", "STT", "https://api.assemblyai.com", {"base_url": "wss://streaming.assemblyai.com"}),
        ("assemblyai", "STT", "https://api.eu.assemblyai.com/v2", {"base_url": "wss://streaming.eu.assemblyai.com"}),
        ("assemblyai", "STT", "wss://streaming.assemblyai.com", {"base_url": "wss://streaming.assemblyai.com"}),
        ("assemblyai", "TTS", "https://api.assemblyai.com", {"base_url": "wss://tts.us.assemblyai.com"}),
        ("assemblyai", "TTS", "http://127.0.0.1:8", {"base_url": "ws://127.0.0.1:8"}),
        ("ollama", "LLM", "http://127.0.0.1:11434", {"base_url": "http://127.0.0.1:11434/v1"}),
        ("ollama", "LLM", "http://127.0.0.1:11434/v1", {"base_url": "http://127.0.0.1:11434/v1"}),
        ("openai_compatible", "LLM", "https://llm.example.com/api/v3", {"base_url": "https://llm.example.com/api/v3"}),
        ("openai_compatible", "LLM", "https://llm.example.com", {"base_url": "https://llm.example.com/v1"}),
        ("kokoro", "TTS", "http://127.0.0.1:8880", {"base_url": "http://127.0.0.1:8880/v1"}),
        (
            "azure",
            "STT",
            "https://westeurope.tts.speech.microsoft.com",
            {"speech_host": "wss://westeurope.stt.speech.microsoft.com"},
        ),
        (
            "azure",
            "TTS",
            "https://westeurope.tts.speech.microsoft.com",
            {"speech_endpoint": "https://westeurope.tts.speech.microsoft.com/cognitiveservices/v1"},
        ),
        ("gladia", "STT", "https://api.gladia.io/v2", {"base_url": "https://api.gladia.io/v2/live"}),
        ("hume", "TTS", "https://api.hume.ai/v0", {"base_url": "https://api.hume.ai"}),
        (
            "inworld",
            "TTS",
            "https://api.inworld.ai",
            {"base_url": "https://api.inworld.ai/", "ws_url": "wss://api.inworld.ai/"},
        ),
        (
            "sarvam",
            "TTS",
            "https://api.sarvam.ai",
            {
                "base_url": "https://api.sarvam.ai/text-to-speech",
                "ws_url": "wss://api.sarvam.ai/text-to-speech/ws",
            },
        ),
        ("soniox", "STT", "https://api.soniox.com/v1", {"base_url": "wss://stt-rt.soniox.com/transcribe-websocket"}),
        ("soniox", "TTS", "http://127.0.0.1:8/v1", {"websocket_url": "ws://127.0.0.1:8/tts-websocket"}),
        ("gradium", "TTS", "https://api.gradium.ai/api", {"model_endpoint": "wss://api.gradium.ai/api/speech/tts"}),
        (
            "fireworksai",
            "STT",
            "https://api.fireworks.ai/inference/v1",
            {"base_url": "wss://audio-streaming.us-virginia-1.direct.fireworks.ai/v1"},
        ),
        ("clova", "STT", "https://clova.example/external/v1/1/abc", {"invoke_url": "https://clova.example/external/v1/1/abc"}),
        ("a-new-plugin", "STT", "https://api.example.com/v7", {"base_url": "https://api.example.com"}),
    ],
)  # fmt: skip
def test_an_address_is_made_from_the_api_root(type_name, class_name, root, expected):
    endpoint = endpoint_of(type_name, class_name)
    assert endpoint is not None
    assert endpoint.arguments(root) == expected


@pytest.mark.parametrize("address", ["api.example.com/v1", "ftp://api.example.com", "https://", "/v1", ""])
def test_what_is_no_address_is_refused(address):
    endpoint = endpoint_of("openai", "LLM")
    with pytest.raises(InvalidInput) as caught:
        endpoint.arguments(address)
    assert caught.value.details["field"] == "base_url"


@pytest.mark.parametrize(("type_name", "class_name"), [("sarvam", "STT"), ("baseten", "TTS")])
def test_where_an_address_would_be_ignored_none_is_taken(type_name, class_name):
    assert endpoint_of(type_name, class_name) is None


def test_the_table_names_types_that_exist():
    assert {type_name for type_name, _ in ENDPOINTS} <= set(PROVIDER_TYPES)
