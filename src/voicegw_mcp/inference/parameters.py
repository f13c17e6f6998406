"""How classes of LiveKit's plugins call what we know under one name: model, voice, language, key.

LiveKit does not prescribe the names (``voice``, ``voice_id``, ``speaker``, ``voice_name``, ``voice_uuid``), so the first
known name that a class has is taken, and the table below says what that rule cannot. Read from the plugins of LiveKit
Agents 1.8.9. May import ``domain`` and ``errors``; never LiveKit: classes are handed in.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from voicegw_mcp.errors import InvalidInput, nearest, quote
from voicegw_mcp.inference.endpoints import endpoint_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from voicegw_mcp.inference.endpoints import Endpoint

NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "model": ("model", "model_name", "model_version", "recognition_model", "speech_engine"),
    "voice": ("voice_id", "voice", "voice_name", "voice_uuid", "speaker"),
    "language": (
        "language",
        "language_code",
        "target_language_code",
        "lang",
        "lang_code",
        "locale",
        "languages",
        "language_hint",
        "language_boost",
        "language_bias",
    ),
    "api_key": ("api_key", "speech_key", "secret"),
}
"""What plugins call the model, the voice, the language and the key, the best first."""

_Arguments = dict[str, Any]

_OURS_OR_PLUGINS: Final = re.compile(r"^(livekit\.plugins|voicegw_mcp\.inference\.local)\.")


@dataclass(frozen=True, slots=True)
class Form:
    """What one class of one plugin takes.

    ``names`` has its own names by ours, where it has them, and ``endpoint`` how it takes an address, None when it takes
    none. ``accepted`` are its other options. ``open`` classes take whatever they are given.
    """

    label: str
    names: Mapping[str, str]
    endpoint: Endpoint | None
    accepted: frozenset[str]
    open: bool

    def concept_of(self, option: str) -> str | None:
        """Return what ``option`` means when it is this class's name, or ours, of something we know; None otherwise."""
        if option in NAMES or option == "base_url":
            return option
        return next((concept for concept, name in self.names.items() if name == option), None)

    def options(self) -> frozenset[str]:
        """Return the names of all options, those we know by our name; the model is none, its id names it."""
        ours = {*self.names, *(("base_url",) if self.endpoint else ())} - {"model"}
        return self.accepted | ours

    def refusal(self, option: str, where: str = "") -> InvalidInput:
        """Return the error of an option it has not, which names the ones it has."""
        known = sorted(self.options())
        near = nearest(option, known)
        guess = f"Did you mean {', '.join(near)}? " if near else ""
        return InvalidInput(
            f"{self.label} takes no option {quote(option)}{where}.",
            field=option,
            hint=f"{guess}It takes: {', '.join(known)}.",
            details={"nearest": near, "accepted": known},
        )


@functools.lru_cache(maxsize=256)
def form_of(type_name: str, cls: type[Any]) -> Form:
    """Return what a class takes, by its signature."""
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    named = [each for each in parameters if each.kind not in {each.VAR_KEYWORD, each.VAR_POSITIONAL}]
    key = (type_name, cls.__name__)
    options = {each.name for each in named if not each.name.startswith("_")} | _OWN_OPTIONS.get(key, set())
    names = {
        concept: next(name for name in candidates if name in options)
        for concept, candidates in NAMES.items()
        if any(name in options for name in candidates)
    }
    endpoint = endpoint_of(*key)
    if endpoint is not None and endpoint.parameter not in options:
        endpoint = None
    return Form(
        label=f"{_OURS_OR_PLUGINS.sub('', cls.__module__).partition('.')[0]}.{cls.__name__}",
        names=names,
        endpoint=endpoint,
        accepted=frozenset(options) - set(names.values()) - {"base_url"},
        open=len(named) < len(parameters),
    )


_OWN_OPTIONS: Final[Mapping[tuple[str, str], set[str]]] = {
    ("aws", "STT"): {"api_key", "api_secret", "session_token"},
    ("azure", "STT"): {"region"},
    ("azure", "TTS"): {"region"},
    ("soniox", "STT"): {"model", "language"},
}
"""Options that a class is given in another shape, see ``adapt``."""


def adapt(type_name: str, cls: type[Any], arguments: _Arguments) -> _Arguments:
    """Return the arguments in the shape a class wants where that is more than another name."""
    adapter = _ADAPTERS.get((type_name, cls.__name__))
    return adapter(cls, dict(arguments)) if adapter else arguments


def _in_list(name: str) -> Callable[[type[Any], _Arguments], _Arguments]:
    def adapt_list(_cls: type[Any], arguments: _Arguments) -> _Arguments:
        if isinstance(arguments.get(name), str):
            arguments[name] = [arguments[name]]
        return arguments

    return adapt_list


def _soniox_stt(cls: type[Any], arguments: _Arguments) -> _Arguments:
    """Model and language are fields of an object there."""
    model, language = arguments.pop("model", None), arguments.pop("language", None)
    if arguments.get("params") is None:
        given = {"model": model, "language_hints": [language] if language else None}
        options = sys.modules[cls.__module__].STTOptions
        arguments["params"] = options(**{name: value for name, value in given.items() if value is not None})
    return arguments


def _hume_tts(_cls: type[Any], arguments: _Arguments) -> _Arguments:
    """A voice is a mapping there: a name of its library, or the id of a voice."""
    voice = arguments.get("voice")
    if isinstance(voice, str):
        hexadecimal = voice.replace("-", "")
        is_id = len(hexadecimal) == 32 and all(
            character in "0123456789abcdefABCDEF" for character in hexadecimal
        )
        arguments["voice"] = {"id": voice} if is_id else {"name": voice}
    return arguments


def _cambai_tts(_cls: type[Any], arguments: _Arguments) -> _Arguments:
    """Voices are numbers there."""
    voice = arguments.get("voice_id")
    if isinstance(voice, str):
        if not voice.isdecimal():
            raise InvalidInput(
                f"{quote(voice)} is no voice of cambai: they are numbers.",
                field="voice",
                hint="Pass its number.",
            )
        arguments["voice_id"] = int(voice)
    return arguments


def _rime_tts(_cls: type[Any], arguments: _Arguments) -> _Arguments:
    """An address of the user's own is one he trusts: the plugin wants that said."""
    if "base_url" in arguments:
        arguments.setdefault("allow_custom_endpoint", True)
    return arguments


def _google_llm(_cls: type[Any], arguments: _Arguments) -> _Arguments:
    """The address is an option of the HTTP client there."""
    if isinstance(arguments.get("http_options"), str):
        types = importlib.import_module("google.genai.types")  # the plugin has loaded it
        arguments["http_options"] = types.HttpOptions(base_url=arguments["http_options"])
    return arguments


def _nvidia(_cls: type[Any], arguments: _Arguments) -> _Arguments:
    """The address is that of a gRPC server there, and whether it speaks TLS is said beside it."""
    parts = urlsplit(arguments.get("server") or "")
    if parts.netloc:
        arguments["server"] = parts.netloc if parts.port else f"{parts.netloc}:{_PORTS[parts.scheme]}"
        arguments.setdefault("use_ssl", parts.scheme == "https")
    return arguments


def _azure(_cls: type[Any], arguments: _Arguments) -> _Arguments:
    """What all call a region has a longer name there."""
    region = arguments.pop("region", None)
    if region:
        arguments.setdefault("speech_region", region)
    return arguments


def _aws_stt(cls: type[Any], arguments: _Arguments) -> _Arguments:
    """The two halves of a key are an object there."""
    key, secret = arguments.pop("api_key", None), arguments.pop("api_secret", None)
    token = arguments.pop("session_token", None)
    if key and secret and not arguments.get("credentials"):
        arguments["credentials"] = sys.modules[cls.__module__].Credentials(key, secret, token)
    return arguments


_PORTS: Final = {"http": 80, "https": 443}

_ADAPTERS: Final[Mapping[tuple[str, str], Callable[[type[Any], _Arguments], _Arguments]]] = {
    ("aws", "STT"): _aws_stt,
    ("azure", "STT"): _azure,
    ("azure", "TTS"): _azure,
    ("cambai", "TTS"): _cambai_tts,
    ("deepgram", "STTv2"): _in_list("language_hint"),
    ("gladia", "STT"): _in_list("languages"),
    ("google", "LLM"): _google_llm,
    ("hume", "TTS"): _hume_tts,
    ("meta", "STT"): _in_list("language_bias"),
    ("nvidia", "STT"): _nvidia,
    ("nvidia", "TTS"): _nvidia,
    ("rime", "TTS"): _rime_tts,
    ("soniox", "STT"): _soniox_stt,
}
