"""Synthetic calls of a voice gateway, the same for the same arguments: sessions of a few turns, each STT, LLM and TTS.

20 models of 8 providers, 4 projects, spread evenly over 30 days: every project uses every model at every hour, so there are
as many cells of time and series as there can be. Latencies are log-normal, costs exact integers; of a hundred calls two
fail with a provider's message and one came by a fallback. A few things are rare, for the filters that look for them.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from dataclasses import dataclass
from math import exp
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from voicegw_mcp.domain import DAY_MS, Modality, RequestRecord, RequestStatus, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

SPAN_MS: Final = 30 * DAY_MS
PROJECTS: Final = ("support-line", "booking", "outbound", "lab")
_PROJECT_WEIGHTS: Final = (40, 30, 20, 10)
_LONGEST_SESSION_MS: Final = 5 * 60_000
_SESSIONS_AT_ONCE: Final = 2_000
"""Sessions that are made together, then put into the order of time."""

RARE_MODEL_ROWS: Final = 50
CANCELLED_ROWS: Final = 5
RARE_ERROR_ROWS: Final = 3
RARE_ERROR: Final = "certificate has expired"


@dataclass(frozen=True, slots=True)
class Offer:
    """A model: what its calls cost (nano-USD per 1,000 units; ms of audio, tokens, characters) and how long they take.

    ``median_ms`` is the median of the time to the first byte.
    """

    modality: Modality
    provider: str
    name: str
    price: int
    output_price: int = 0
    median_ms: float = 200.0

    @property
    def model_id(self) -> str:
        """Its id in voicegw.yaml."""
        return f"{self.provider}/{self.name}"


OFFERS: Final = (
    Offer(Modality.STT, "deepgram", "nova-3", 128_333, median_ms=210),
    Offer(Modality.STT, "deepgram", "nova-2", 96_667, median_ms=260),
    Offer(Modality.STT, "assemblyai", "universal", 41_667, median_ms=320),
    Offer(Modality.STT, "openai", "gpt-4o-mini-transcribe", 50_000, median_ms=480),
    Offer(Modality.STT, "google", "chirp-2", 266_667, median_ms=390),
    Offer(Modality.STT, "groq", "whisper-large-v3", 30_833, median_ms=170),
    Offer(Modality.LLM, "openai", "gpt-4.1", 2_000_000, 8_000_000, 620),
    Offer(Modality.LLM, "openai", "gpt-4.1-mini", 400_000, 1_600_000, 410),
    Offer(Modality.LLM, "openai", "gpt-4.1-nano", 100_000, 400_000, 300),
    Offer(Modality.LLM, "anthropic", "claude-sonnet-4-5", 3_000_000, 15_000_000, 890),
    Offer(Modality.LLM, "anthropic", "claude-haiku-4-5", 1_000_000, 5_000_000, 520),
    Offer(Modality.LLM, "groq", "llama-3.3-70b-versatile", 590_000, 790_000, 180),
    Offer(Modality.LLM, "google", "gemini-2.5-flash", 300_000, 2_500_000, 430),
    Offer(Modality.LLM, "google", "gemini-2.5-flash-lite", 100_000, 400_000, 340),
    Offer(Modality.TTS, "cartesia", "sonic-3", 35_000_000, median_ms=110),
    Offer(Modality.TTS, "cartesia", "sonic-2", 35_000_000, median_ms=140),
    Offer(Modality.TTS, "elevenlabs", "eleven_flash_v2_5", 50_000_000, median_ms=160),
    Offer(Modality.TTS, "elevenlabs", "eleven_turbo_v2_5", 50_000_000, median_ms=280),
    Offer(Modality.TTS, "openai", "tts-1", 15_000_000, median_ms=450),
    Offer(Modality.TTS, "openai", "tts-1-hd", 30_000_000, median_ms=700),
)
"""Prices are of the right size and no price list; the last model is the rare one."""

RARE: Final = OFFERS[-1]
_USUAL: Final = {
    modality: [offer for offer in OFFERS[:-1] if offer.modality is modality] for modality in Modality
}
PROVIDERS: Final = tuple(dict.fromkeys(offer.provider for offer in OFFERS))

_FAILURES: Final = (
    ("rate_limit", "429: too many requests for {model}, 60 a minute are allowed; retry in {number} ms"),
    ("rate_limit", "429: token limit of {model} reached, {number} tokens were asked for"),
    ("timeout", "the answer of {provider} did not begin within {number} ms"),
    ("server_error", "503: {provider} is overloaded, node eu-{number}"),
    ("server_error", "500: internal error while {model} was streaming chunk {number}"),
    ("connection", "connection reset by api.{provider}.example after {number} bytes"),
    ("auth", "401: the key ending in ...{number} is not valid for {model}"),
    ("bad_request", "400: audio of {number} ms is shorter than {model} accepts"),
)
_RARE_FAILURE: Final = ("connection", f"TLS handshake with {{provider}} failed: {RARE_ERROR}")


class Calls:
    """``count`` calls that end shortly before ``end_ms`` (UTC epoch ms), in the order of their time."""

    def __init__(self, count: int, *, end_ms: int, seed: int) -> None:
        self._count = count
        self._end_ms = end_ms
        self._chance = random.Random(f"{seed}/{count}")  # noqa: S311 - data, no secret
        self._made = 0
        rare = min(RARE_MODEL_ROWS, count // 20)
        self._rare_models = _places(count, rare, 0.5)
        self._cancelled = _places(count, min(CANCELLED_ROWS, count // 200), 0.3)
        self._rare_errors = _places(count, min(RARE_ERROR_ROWS, count // 300), 0.7)

    def __iter__(self) -> Iterator[RequestRecord]:
        """Yield every call once."""
        waiting: list[RequestRecord] = []
        number = 0
        while self._made < self._count:
            for _ in range(_SESSIONS_AT_ONCE):
                waiting += self._session(number)
                number += 1
            waiting.sort(key=attrgetter("timestamp_ms", "id"))
            behind = self._next_ms() if self._made < self._count else self._end_ms
            ready = bisect_left(waiting, behind, key=attrgetter("timestamp_ms"))
            yield from waiting[:ready]
            del waiting[:ready]

    def _next_ms(self) -> int:
        """Return when the next session begins: by the calls made so far, so that the last one is near the end."""
        return self._end_ms - SPAN_MS + self._made * (SPAN_MS - _LONGEST_SESSION_MS) // self._count

    def _session(self, number: int) -> Iterator[RequestRecord]:
        chance = self._chance
        random_ = chance.random
        (project,) = chance.choices(PROJECTS, _PROJECT_WEIGHTS)
        trio = [offers[int(random_() * len(offers))] for offers in _USUAL.values()]
        session_id = f"room-{number:07x}-{chance.getrandbits(32):08x}"
        now_ms = self._next_ms()
        for _ in range(2 + int(random_() * 5)):  # 12 calls in the mean
            for offer in trio:
                if self._made == self._count:
                    return
                row = self._call(offer, project, session_id, now_ms)
                self._made += 1
                yield row
                now_ms += min(3_000, int(row.total_ms or 500))
            now_ms += 4_000 + int(random_() * 20_000)

    def _call(self, offer: Offer, project: str, session_id: str, at_ms: int) -> RequestRecord:
        chance, place = self._chance, self._made
        row_id = f"{at_ms:011x}{chance.getrandbits(36):09x}"
        if place in self._rare_models:
            offer, project = RARE, PROJECTS[0]
        ttfb_ms = offer.median_ms * exp(chance.gauss(0, 0.45))
        total_ms = ttfb_ms * (1.2 + exp(chance.gauss(0, 0.6)))
        luck = chance.random()
        status, fallback_from = RequestStatus.SUCCESS, None
        kind = message = None
        if luck < 0.02 or place in self._rare_errors:
            status = RequestStatus.ERROR
            kind, text = (
                _RARE_FAILURE if place in self._rare_errors else _FAILURES[int(luck * 50 * len(_FAILURES))]
            )
            told = text.format(model=offer.name, provider=offer.provider, number=int(total_ms))
            message = f"{told} (request req_{row_id[11:]})"
        elif place in self._cancelled:
            status = RequestStatus.CANCELLED
        elif luck > 0.99:
            status, fallback_from = RequestStatus.FALLBACK, _USUAL[offer.modality][0].model_id
        usage, cost = (Usage(), 0) if message else self._usage(offer)
        return RequestRecord(
            row_id, at_ms, project, offer.modality, offer.provider, offer.model_id, status, usage, cost,
            _SOURCES[offer.modality], "2026-11-01", "0.11.0", offer.model_id, f"per_unit={offer.price}", False,
            None if message else ttfb_ms, total_ms, session_id, kind, message, fallback_from,
        )  # fmt: skip

    def _usage(self, offer: Offer) -> tuple[Usage, int]:
        """Return what a call used and its cost; thousandths of a nano-USD are rounded once, as the product does."""
        random_ = self._chance.random
        if offer.modality is Modality.STT:
            audio_ms = 800 + int(random_() * 12_000)
            return Usage(audio_ms), (audio_ms * offer.price + 500) // 1000
        if offer.modality is Modality.TTS:
            characters = 20 + int(random_() * 380)
            return Usage(characters=characters), (characters * offer.price + 500) // 1000
        prompt, answer = 300 + int(random_() * 3_700), 10 + int(random_() * 190)
        cost = (prompt * offer.price + answer * offer.output_price + 500) // 1000
        return Usage(0, prompt, answer, prompt // 2), cost


_SOURCES: Final = {Modality.STT: "voice-prices", Modality.LLM: "genai-prices", Modality.TTS: "voice-prices"}


def _places(count: int, wanted: int, offset: float) -> frozenset[int]:
    """Return ``wanted`` numbers below ``count``, evenly spread."""
    return frozenset(int((number + offset) * count / wanted) for number in range(wanted))


def voicegw_yaml() -> str:
    """Return the voicegw.yaml that has these providers, models and projects."""
    lines = ["timezone: UTC", "providers:"]
    for provider in PROVIDERS:
        lines += [f"  {provider}:", f"    api_key: ${{{provider.upper()}_API_KEY}}"]
    lines.append("models:")
    for modality in Modality:
        lines.append(f"  {modality}:")
        for offer in OFFERS:
            if offer.modality is modality:
                lines += [
                    f"    {offer.model_id}:",
                    f"      provider: {offer.provider}",
                    f"      model: {offer.name}",
                ]
    lines.append("projects:")
    for number, project in enumerate(PROJECTS):
        lines += [
            f"  {project}:",
            f"    name: {project.replace('-', ' ').capitalize()}",
            f"    daily_budget: {50 * (number + 1)}.0",
            f"    stt_model: {_USUAL[Modality.STT][number].model_id}",
            f"    llm_model: {_USUAL[Modality.LLM][number].model_id}",
            f"    tts_model: {_USUAL[Modality.TTS][number].model_id}",
        ]
    return "\n".join(lines) + "\n"
