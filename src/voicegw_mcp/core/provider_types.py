"""The provider types there are, and how each one's key is checked for free: one table, no behaviour beyond it.

It exists so that ``add_provider`` (which types, which key variable), ``test_provider`` (what to send where) and pricing
(which types are local) read the same rows. May import ``domain`` and ``errors`` only; never LiveKit.

Where a row comes from: the names are 0.4's eleven, ``openai_compatible``, and the STT/LLM/TTS plugins of LiveKit Agents
1.8. A comment above a row names the page of the provider's API reference that its request was read from; rows without one
follow the provider's LiveKit plugin and were not compared with a reference. A type of which no free request that needs a
key is known has ``probe=None``: only its reachability is checked. Base URLs of those are from general knowledge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

from voicegw_mcp.domain import Modality
from voicegw_mcp.errors import InvalidInput, nearest, quote

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERSION: Final = re.compile(r"v\d+[a-z0-9]*")
"""A path segment that names an API version: ``v1``, ``v2``, ``v1beta``."""


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """One documented GET that costs nothing and tells whether a key is good.

    ``root`` is the path of the API root ("/v1", "" when there is none) and ``path`` what follows it, query included. The key
    goes into ``auth_header`` after ``auth_scheme`` and a blank (no scheme: the bare key; no header: no key is sent).
    ``bad_key`` and ``restricted`` are pairs of an HTTP status and a piece of the body (lower case; "" matches any body) which
    mean, beyond 401 and 403, that the key is refused, or that it is valid but may not make this very request.
    ``keep_base`` is for types whose base URL has no shape known to us: a path in it is taken as the whole root.
    """

    path: str
    root: str = ""
    auth_header: str | None = "Authorization"
    auth_scheme: str = "Bearer"
    headers: tuple[tuple[str, str], ...] = ()
    bad_key: tuple[tuple[int, str], ...] = ()
    restricted: tuple[tuple[int, str], ...] = ()
    keep_base: bool = False

    def auth(self, key: str) -> dict[str, str]:
        """Return the header that carries ``key`` in this provider's form, or nothing when none is sent."""
        if self.auth_header is None:
            return {}
        return {self.auth_header: f"{self.auth_scheme} {key}" if self.auth_scheme else key}

    def url_under(self, base_url: str) -> str:
        """Return the URL to ask, for a base with or without the API root in it.

        ``https://api.deepgram.com``, ``.../v1``, ``.../v1/`` and ``.../v1/listen`` all give ``.../v1/auth/token``; a path in
        front of the root (a reverse proxy) stays, and a version other than the root's is replaced. The base's query is
        dropped.
        """
        parts = urlsplit(base_url)
        base = [segment for segment in parts.path.split("/") if segment]
        root = [segment for segment in self.root.split("/") if segment]
        path, _, query = self.path.partition("?")
        prefix = base if self.keep_base and base else join_root(base, root)
        full = "".join(f"/{segment}" for segment in prefix) + path
        return urlunsplit((parts.scheme, parts.netloc, full, query, ""))


def join_root(base: list[str], root: list[str]) -> list[str]:
    """Put an API root after a base path that may hold all, the end, the beginning or none of it already."""
    if root and base and base[-1] == root[-1]:
        return base
    for start in range(len(base)):
        rest = base[start:]
        if root and rest[: len(root)] == root:
            return base[: start + len(root)]
        if rest == root[: len(rest)]:
            return base[:start] + root
    if base and _VERSION.fullmatch(base[-1]):
        return base[:-1] + root
    return base + root


@dataclass(frozen=True, slots=True)
class ProviderType:
    """A kind of provider.

    ``base_url`` is the API root as the provider's documentation names it (``{region}`` stands for the option ``region``), None
    when there is no fixed one. ``key_variable`` is the environment variable that holds the key by default, None for local
    types. ``key_optional`` types work without a key as well. ``package`` is the Python package a local type runs in.
    """

    name: str
    modalities: frozenset[Modality]
    local: bool = False
    key_variable: str | None = None
    base_url: str | None = None
    probe: ProbeRequest | None = None
    key_optional: bool = False
    package: str | None = None


_MODALITIES: Final = {"s": Modality.STT, "l": Modality.LLM, "t": Modality.TTS}


def _hosted(
    name: str, does: str, base_url: str | None = None, probe: ProbeRequest | None = None
) -> ProviderType:
    """Make a type that needs a key; ``does`` is letters of "slt" for STT, LLM, TTS."""
    return ProviderType(
        name=name,
        modalities=frozenset(_MODALITIES[letter] for letter in does),
        key_variable=f"{name.upper()}_API_KEY",
        base_url=base_url,
        probe=probe,
    )


def _local(
    name: str,
    does: str,
    *,
    package: str | None = None,
    base_url: str | None = None,
    probe: ProbeRequest | None = None,
) -> ProviderType:
    """Make a type that runs on the user's machine and needs no key."""
    modalities = frozenset(_MODALITIES[letter] for letter in does)
    return ProviderType(
        name=name,
        modalities=modalities,
        local=True,
        base_url=base_url,
        probe=probe,
        package=package,
        key_optional=True,
    )


def _key_in(
    header: str,
    path: str,
    *,
    root: str = "",
    headers: tuple[tuple[str, str], ...] = (),
    bad_key: tuple[tuple[int, str], ...] = (),
    restricted: tuple[tuple[int, str], ...] = (),
) -> ProbeRequest:
    """Make a request whose key stands bare in a header of its own."""
    return ProbeRequest(
        path,
        root,
        auth_header=header,
        auth_scheme="",
        headers=headers,
        bad_key=bad_key,
        restricted=restricted,
    )


_MODELS_V1: Final = ProbeRequest("/models", "/v1")

_TYPES: Final = (
    # Authentication sections of the OpenAI, Groq and Anthropic API references. A restricted OpenAI key is answered
    # "You have insufficient permissions for this operation. Missing scopes: api.model.read".
    _hosted(
        "openai",
        "slt",
        "https://api.openai.com/v1",
        ProbeRequest("/models", "/v1", restricted=((401, "missing scopes"), (403, "missing scopes"))),
    ),
    _hosted("groq", "slt", "https://api.groq.com/openai/v1", ProbeRequest("/models", "/openai/v1")),
    _hosted(
        "anthropic",
        "l",
        "https://api.anthropic.com",
        _key_in("x-api-key", "/models?limit=1", root="/v1", headers=(("anthropic-version", "2023-06-01"),)),
    ),
    # Deepgram API reference, "Get token details": any valid key may ask, whatever its scopes.
    _hosted(
        "deepgram",
        "st",
        "https://api.deepgram.com/v1",
        ProbeRequest("/auth/token", "/v1", auth_scheme="Token"),
    ),
    # Cartesia API reference, "List voices"; the version header is required.
    _hosted(
        "cartesia",
        "st",
        "https://api.cartesia.ai",
        ProbeRequest("/voices?limit=1", headers=(("Cartesia-Version", "2025-04-16"),)),
    ),
    # ElevenLabs API reference: a key restricted to other endpoints answers 401 with status "missing_permissions".
    _hosted(
        "elevenlabs",
        "st",
        "https://api.elevenlabs.io/v1",
        _key_in("xi-api-key", "/models", root="/v1", restricted=((401, "missing_permissions"),)),
    ),
    # AssemblyAI API reference, "List transcripts": the key stands in Authorization without a scheme.
    _hosted(
        "assemblyai",
        "st",
        "https://api.assemblyai.com",
        _key_in("Authorization", "/transcript?limit=1", root="/v2"),
    ),
    # Gemini API reference, "models.list": a wrong key is 400 INVALID_ARGUMENT with reason API_KEY_INVALID.
    _hosted(
        "google",
        "slt",
        "https://generativelanguage.googleapis.com",
        _key_in("x-goog-api-key", "/models?pageSize=1", root="/v1beta", bad_key=((400, "api_key_invalid"),)),
    ),
    # Azure Speech, text-to-speech REST API, "Get a list of voices".
    _hosted(
        "azure",
        "st",
        "https://{region}.tts.speech.microsoft.com",
        _key_in("Ocp-Apim-Subscription-Key", "/cognitiveservices/voices/list"),
    ),
    _hosted("aws", "slt"),
    # xAI API reference, "API key": answers 400, not 401, for a wrong key.
    _hosted("xai", "st", "https://api.x.ai/v1", ProbeRequest("/api-key", "/v1", bad_key=((400, ""),))),
    _hosted("mistralai", "slt", "https://api.mistral.ai/v1", _MODELS_V1),
    _hosted("cerebras", "l", "https://api.cerebras.ai/v1", _MODELS_V1),
    _hosted(
        "fireworksai", "s", "https://api.fireworks.ai/inference/v1", ProbeRequest("/models", "/inference/v1")
    ),
    _hosted("perplexity", "l", "https://api.perplexity.ai"),
    _hosted("baseten", "slt", "https://inference.baseten.co/v1"),
    _hosted("simplismart", "slt"),
    _hosted("nvidia", "st"),
    # Gladia, Soniox and Speechmatics API references, the listing requests.
    _hosted(
        "gladia",
        "s",
        "https://api.gladia.io/v2",
        _key_in("x-gladia-key", "/pre-recorded?limit=1", root="/v2"),
    ),
    _hosted("soniox", "st", "https://api.soniox.com/v1", _MODELS_V1),
    _hosted(
        "speechmatics", "st", "https://eu1.asr.api.speechmatics.com/v2", ProbeRequest("/jobs?limit=1", "/v2")
    ),
    _hosted(
        "hume",
        "t",
        "https://api.hume.ai/v0",
        _key_in("X-Hume-Api-Key", "/tts/voices?provider=HUME_AI&page_size=1", root="/v0"),
    ),
    _hosted(
        "lmnt",
        "t",
        "https://api.lmnt.com/v1",
        _key_in("X-API-Key", "/account", root="/v1", headers=(("lmnt-version", "1.0"),)),
    ),
    _hosted("neuphonic", "t", "https://api.neuphonic.com", _key_in("x-api-key", "/voices")),
    # Rime's list of voices is public: it says nothing about a key.
    _hosted("rime", "t", "https://users.rime.ai"),
    _hosted(
        "inworld", "st", "https://api.inworld.ai", ProbeRequest("/voices", "/tts/v1", auth_scheme="Basic")
    ),
    _hosted("murf", "t", "https://api.murf.ai/v1"),
    # Fish Audio API reference, "Get API Credit".
    _hosted("fishaudio", "t", "https://api.fish.audio", ProbeRequest("/wallet/self/api-credit")),
    # Speechify and Sarvam API references, "Authentication" and "List Voices".
    _hosted("speechify", "t", "https://api.speechify.ai/v1", ProbeRequest("/voices", "/v1")),
    _hosted("sarvam", "slt", "https://api.sarvam.ai", _key_in("api-subscription-key", "/voices?limit=1")),
    _hosted("cambai", "t", "https://client.camb.ai/apis"),
    _hosted("resemble", "t", "https://app.resemble.ai/api/v2"),
    _hosted("minimax", "t", "https://api.minimax.io/v1"),
    _hosted("smallestai", "st", "https://waves-api.smallest.ai/api/v1"),
    _hosted("gradium", "st"),
    _hosted("clova", "s"),
    _hosted("fal", "s", "https://fal.run"),
    _hosted("upliftai", "t", "https://api.upliftai.org"),
    _hosted("rtzr", "s", "https://openapi.vito.ai"),
    _hosted("spitch", "st", "https://api.spi-tch.com"),
    _hosted("asyncai", "t", "https://api.async.com"),
    _hosted("bland", "t", "https://api.bland.ai/v2"),
    _hosted("gnani", "st", "https://api.vachana.ai"),
    _hosted("meta", "s", "https://api.meta.ai/v1"),
    _hosted("microsoft_ai", "st"),
    _hosted("nabrah", "s", "https://api.nabrah.ai"),
    _hosted("palabra", "st"),
    _hosted("respeecher", "t", "https://api.respeecher.com/v1"),
    _hosted("slng", "st", "https://api.slng.ai"),
    _hosted("vakyam", "t", "https://api.vakyam.ai"),
    # Ollama API reference, "List local models"; its own API lies beside the OpenAI-compatible /v1. A key is sent only
    # when one is configured (an Ollama behind a proxy that asks for one).
    _local("ollama", "l", base_url="http://127.0.0.1:11434", probe=ProbeRequest("/api/tags")),
    _local("whisper", "s", package="faster_whisper"),
    _local("kokoro", "t", package="kokoro_onnx"),
    _local("piper", "t", package="piper"),
    ProviderType(
        name="openai_compatible",
        modalities=frozenset(Modality),
        key_variable="OPENAI_COMPATIBLE_API_KEY",
        probe=ProbeRequest("/models", "/v1", keep_base=True),
        key_optional=True,
    ),
)

PROVIDER_TYPES: Final[Mapping[str, ProviderType]] = MappingProxyType(
    {each.name: each for each in sorted(_TYPES, key=lambda each: each.name)}
)
"""Every provider type by name, in alphabetical order. Read only."""


def find_provider_type(name: str) -> ProviderType:
    """Return the type called ``name``.

    Raises:
        InvalidInput: ``provider_type``, with the nearest names in hint and details.
    """
    found = PROVIDER_TYPES.get(name)
    if found is not None:
        return found
    near = nearest(name.lower(), PROVIDER_TYPES)
    raise InvalidInput(
        f"{quote(name)} is not a provider type.",
        field="provider_type",
        hint=f"Did you mean {', '.join(near)}?"
        if near
        else f"Use openai_compatible for a server of that kind, or one of: {', '.join(PROVIDER_TYPES)}",
        details={"nearest": near},
    )


def default_key_reference(provider_type: ProviderType) -> str | None:
    """Return the reference a new provider of this type gets, ``${DEEPGRAM_API_KEY}``, or None for local types."""
    return None if provider_type.key_variable is None else f"${{{provider_type.key_variable}}}"
