"""From a provider's API root to the address a class of its plugin wants: one table.

``base_url`` in ``voicegw.yaml`` is the API root as the provider's documentation names it. LiveKit's plugins want a full
path here, a WebSocket address there, another host for speech; each row says what. Read from the plugins of LiveKit
Agents 1.8.9. May import ``core.provider_types`` and ``errors``; never LiveKit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

from voicegw_mcp.core.provider_types import join_root
from voicegw_mcp.errors import InvalidInput, quote

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECURE: Final = {"http": "http", "ws": "http", "https": "https", "wss": "https"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How a class takes an address.

    Args:
        root: the path of the API root in the base URL ("/v1"); absent, it is thought of as being there.
        path: what the class wants in its place ("/v1/listen").
        websocket: whether it wants ``ws`` or ``wss``.
        parameter: under which name.
        hosts: how hosts of the provider itself end that differ, the API's and the plugin's.
        keep: a path in the base URL is the whole root, whatever it is (servers whose roots have no common form).
        also: a second parameter that wants the same address as WebSocket, with the end of its path.
    """

    root: str = ""
    path: str = ""
    websocket: bool = False
    parameter: str = "base_url"
    hosts: tuple[tuple[str, str], ...] = ()
    keep: bool = False
    also: tuple[str, str] | None = None

    def arguments(self, base_url: str) -> dict[str, str]:
        """Return the arguments for a class, made from the API root.

        Raises:
            InvalidInput: it is no http, https, ws or wss address.
        """
        parts = urlsplit(base_url.strip())
        if parts.scheme not in _SECURE or not parts.hostname:
            raise InvalidInput(
                f"base_url {quote(base_url)} is no http or https address.",
                field="base_url",
                hint="Write the API's root, such as https://api.example.com/v1.",
            )
        path = self._path(_segments(parts.path))
        scheme = _SECURE[parts.scheme]
        host = parts.netloc
        for api, plugin in self.hosts:
            if host.endswith(api):
                host = host.removesuffix(api) + plugin
                break

        def address(end: str, *, websocket: bool) -> str:
            return urlunsplit((scheme.replace("http", "ws") if websocket else scheme, host, end, "", ""))

        found = {self.parameter: address(path, websocket=self.websocket)}
        if self.also is not None:
            found[self.also[0]] = address(path + self.also[1], websocket=True)
        return found

    def _path(self, base: list[str]) -> str:
        """Return the path the class wants for the path of a base URL."""
        if self.keep and base:
            return _joined(base)
        root, path = _segments(self.root), self.path
        if _joined(base).endswith(path) and not self.root.endswith(path):
            return _joined(base)  # somebody wrote the plugin's own address
        joined = join_root(base, root)
        if path.startswith(self.root):  # only what follows the root is the class's own
            return _joined(joined) + path.removeprefix(self.root)
        shared = next((n for n in range(len(root), 0, -1) if joined[-n:] == root[-n:]), 0)
        return _joined(joined[: len(joined) - shared]) + path


def _segments(path: str) -> list[str]:
    return [segment for segment in path.split("/") if segment]


def _joined(segments: list[str]) -> str:
    return "".join(f"/{segment}" for segment in segments)


_V1: Final = Endpoint("/v1", "/v1")
_AS_IT_IS: Final = Endpoint()
_OPENAI_COMPATIBLE: Final = Endpoint("/v1", "/v1", keep=True)
"""A server that speaks OpenAI's protocol under whatever path."""

ENDPOINTS: Final[Mapping[tuple[str, str], Endpoint | None]] = {
    ("deepgram", "STT"): Endpoint("/v1", "/v1/listen"),
    ("deepgram", "STTv2"): Endpoint("/v1", "/v2/listen", websocket=True),
    ("deepgram", "TTS"): Endpoint("/v1", "/v1/speak"),
    ("deepgram", "TTSv2"): Endpoint("/v1", "/v2/speak"),
    ("openai", ""): _V1,
    ("ollama", ""): _V1,
    ("openai_compatible", ""): _OPENAI_COMPATIBLE,
    ("whisper", ""): _OPENAI_COMPATIBLE,
    ("kokoro", ""): _OPENAI_COMPATIBLE,
    ("piper", ""): _OPENAI_COMPATIBLE,
    ("groq", ""): Endpoint("/openai/v1", "/openai/v1"),
    # The SDK puts /v1 there itself.
    ("anthropic", ""): Endpoint("/v1"),
    ("elevenlabs", ""): _V1,
    ("assemblyai", "STT"): Endpoint(
        "/v2",
        websocket=True,
        hosts=(
            ("api.assemblyai.com", "streaming.assemblyai.com"),
            ("api.eu.assemblyai.com", "streaming.eu.assemblyai.com"),
        ),
    ),
    ("assemblyai", "TTS"): Endpoint(
        "/v2",
        websocket=True,
        hosts=(
            ("api.assemblyai.com", "tts.us.assemblyai.com"),
            ("api.eu.assemblyai.com", "tts.eu.assemblyai.com"),
        ),
    ),
    # STT wants a host, TTS the address its requests go to.
    ("azure", "STT"): Endpoint(
        "/cognitiveservices/v1",
        websocket=True,
        parameter="speech_host",
        hosts=((".tts.speech.microsoft.com", ".stt.speech.microsoft.com"),),
    ),
    ("azure", "TTS"): Endpoint("/cognitiveservices/v1", "/cognitiveservices/v1", parameter="speech_endpoint"),
    ("baseten", "LLM"): _V1,
    # A deployment has an address of its own there, which no root leads to: the option model_endpoint.
    ("baseten", "STT"): None,
    ("baseten", "TTS"): None,
    ("bland", ""): Endpoint("/v2", "/v2"),
    ("cambai", ""): Endpoint("/apis", "/apis"),
    ("cerebras", ""): _V1,
    ("clova", ""): Endpoint(keep=True, parameter="invoke_url"),
    ("fireworksai", "STT"): Endpoint(
        "/inference/v1",
        "/v1",
        websocket=True,
        hosts=(("api.fireworks.ai", "audio-streaming.us-virginia-1.direct.fireworks.ai"),),
    ),
    ("gladia", "STT"): Endpoint("/v2", "/v2/live"),
    ("google", "LLM"): Endpoint("/v1beta", parameter="http_options"),
    ("gradium", "STT"): Endpoint("/api", "/api/speech/asr", websocket=True, parameter="model_endpoint"),
    ("gradium", "TTS"): Endpoint("/api", "/api/speech/tts", websocket=True, parameter="model_endpoint"),
    ("hume", ""): Endpoint("/v0"),
    ("inworld", "STT"): Endpoint(path="/"),
    ("inworld", "TTS"): Endpoint(path="/", also=("ws_url", "")),
    ("meta", "STT"): Endpoint("/v1", "/v1/asr/realtime", websocket=True, parameter="url"),
    ("microsoft_ai", "STT"): Endpoint(keep=True, websocket=True, parameter="url"),
    ("microsoft_ai", "TTS"): Endpoint(keep=True, parameter="url"),
    ("minimax", ""): Endpoint("/v1"),
    ("murf", ""): Endpoint("/v1"),
    ("nabrah", "STT"): Endpoint(path="/api/ext/stt/ws", websocket=True),
    ("nvidia", ""): Endpoint(parameter="server"),
    ("respeecher", ""): _V1,
    ("rime", ""): Endpoint("/v1/rime-tts", "/v1/rime-tts"),
    # It takes one and asks its usual address all the same.
    ("sarvam", "STT"): None,
    ("sarvam", "LLM"): _OPENAI_COMPATIBLE,
    ("sarvam", "TTS"): Endpoint(path="/text-to-speech", also=("ws_url", "/ws")),
    ("simplismart", ""): Endpoint(keep=True),
    ("slng", ""): Endpoint(parameter="slng_base_url"),
    ("smallestai", "STT"): Endpoint("/waves/v1", "/waves/v1"),
    ("smallestai", "TTS"): Endpoint("/waves/v1", "/waves/v1", also=("ws_url", "/tts/live")),
    ("soniox", "STT"): Endpoint(
        "/v1", "/transcribe-websocket", websocket=True, hosts=(("api.soniox.com", "stt-rt.soniox.com"),)
    ),
    ("soniox", "TTS"): Endpoint(
        "/v1",
        "/tts-websocket",
        websocket=True,
        parameter="websocket_url",
        hosts=(("api.soniox.com", "tts-rt.soniox.com"),),
    ),
    ("speechify", ""): Endpoint("/v1"),
    ("speechmatics", "STT"): Endpoint(
        "/v2",
        "/v2/agent",
        websocket=True,
        hosts=(("eu1.asr.api.speechmatics.com", "eu2.rt.speechmatics.com"),),
    ),
    ("speechmatics", "TTS"): Endpoint(
        "/v2", hosts=(("eu1.asr.api.speechmatics.com", "preview.tts.speechmatics.com"),)
    ),
    ("upliftai", ""): Endpoint(websocket=True),
}
"""By provider type and class, "" for all of its classes; None where no address can be given. A type without a row has
plugins that take the root as it is."""


def endpoint_of(type_name: str, class_name: str) -> Endpoint | None:
    """Return how a class takes its address, None when it can be given none."""
    for key in ((type_name, class_name), (type_name, "")):
        if key in ENDPOINTS:
            return ENDPOINTS[key]
    return _AS_IT_IS
