"""What a model costs: unit prices from the user's overrides and two price libraries, and the cost of a usage.

It exists so that prices shown by ``list_models`` and costs written by the recorder come from one place. May import
``domain``, ``errors``, ``core.provider_types`` and anyio; ``voice_prices`` and ``genai_prices`` (0.2 s each) only inside the
functions that need them. Importing this module loads neither.

The order: the user's override, local types (an explicit 0), voice-prices for STT and TTS, genai-prices and then
voice-prices for LLM, else None: unknown is never 0. The libraries match model names by prefix (``ink-whisper`` gives the
price of ``ink-2``); such a price carries ``match="family"``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, localcontext
from functools import cache, partial
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final, Literal

import anyio.to_thread

from voicegw_mcp.core.provider_types import PROVIDER_TYPES
from voicegw_mcp.domain import DAY_MS, Modality, Usage, to_nano_usd
from voicegw_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PriceSource = Literal["override", "voice-prices", "genai-prices", "local"]
PriceMatch = Literal["exact", "family"]

_UNITS: Final = (
    "per_minute",
    "per_1000_characters",
    "per_million_input_tokens",
    "per_million_output_tokens",
    "per_million_cached_tokens",
)
"""The unit prices as ``voicegw.yaml`` calls them, in the order of ``UnitPrices.amounts``."""
_ISO_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_LIBRARY_IDS: Final = {"xai": "x-ai", "mistralai": "mistral", "fireworksai": "fireworks"}
"""Provider types whose id in the price libraries differs from ours."""

_SAMPLE: Final = 1000
"""Tokens of the usage that is priced to learn a unit price: small, so that the first tier answers (some models cost more
from 200,000 input tokens on, which no turn of a conversation has)."""

_MAX_CACHED: Final = 4096
"""Prices a ``PriceBook`` keeps; a long import meets many days."""


@dataclass(frozen=True, slots=True)
class UnitPrices:
    """USD per minute of audio, per 1,000 characters, and per million tokens; None where there is no price."""

    usd_per_minute: Decimal | None = None
    usd_per_1000_characters: Decimal | None = None
    usd_per_million_input_tokens: Decimal | None = None
    usd_per_million_output_tokens: Decimal | None = None
    usd_per_million_cached_tokens: Decimal | None = None

    def amounts(self) -> tuple[Decimal | None, ...]:
        """Return the five prices in their order."""
        return (
            self.usd_per_minute,
            self.usd_per_1000_characters,
            self.usd_per_million_input_tokens,
            self.usd_per_million_output_tokens,
            self.usd_per_million_cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class PriceOverride(UnitPrices):
    """The user's own price of a model, from ``date`` (UTC, YYYY-MM-DD; "" for always) until the next override.

    Raises:
        InvalidInput: ``pricing``; no price at all, a negative one, or a date that is none.
    """

    date: str = ""

    def __post_init__(self) -> None:
        given = [amount for amount in self.amounts() if amount is not None]
        if not given or any(not amount.is_finite() or amount < 0 for amount in given):
            raise InvalidInput("A price override has at least one price, and none below 0.", field="pricing")
        if self.date and not _is_date(self.date):
            raise InvalidInput("A price override's date is written YYYY-MM-DD.", field="pricing")


@dataclass(frozen=True, slots=True)
class Price(UnitPrices):
    """Unit prices and where they come from.

    ``date`` is the day the price was verified (voice-prices) or took effect (override), ISO, "" when the source names none
    (genai-prices). ``match`` is ``family`` when the source knows the model only by another id, ``priced_model``.
    ``version`` is the library's. ``label`` is the source and ``terms`` the unit prices as rows of the log keep them:
    ``voice-prices (family ink-2)``, ``per_minute=0.009``.
    """

    source: PriceSource = "override"
    date: str = ""
    match: PriceMatch = "exact"
    priced_model: str = ""
    version: str = ""
    label: str = field(init=False, compare=False, default="")
    terms: str = field(init=False, compare=False, default="")

    def __post_init__(self) -> None:
        # Made once for each price: rows are many.
        label = self.source if self.match == "exact" else f"{self.source} ({self.match} {self.priced_model})"
        given = zip(_UNITS, self.amounts(), strict=True)
        terms = (
            ""
            if self.source == "local"
            else " ".join(f"{n}={a.normalize():f}" for n, a in given if a is not None)
        )
        object.__setattr__(self, "label", label)
        object.__setattr__(self, "terms", terms)


def _is_date(text: str) -> bool:
    try:
        return _ISO_DATE.fullmatch(text) is not None and bool(date.fromisoformat(text))
    except ValueError:
        return False


def cost_of(price: Price, usage: Usage) -> int | None:
    """Return what ``usage`` costs, in nano-USD, or None when ``price`` cannot say.

    The units of a usage are several measures of one and the same thing (a TTS request reports its characters, the audio
    it made, and for some models tokens), and providers bill by one of them: the sum would bill twice. The one taken is the
    first of tokens, characters and audio time of which the usage has some and the price covers all. Tokens come first
    because where a model has both a token price and one per minute the latter is the provider's own estimate. None means
    that the usage holds something and no unit of it is covered; an empty usage costs 0.

    ``input_tokens`` include the cached ones; cached tokens without a price of their own cost what input costs.
    """
    uncached = max(usage.input_tokens - usage.cached_tokens, 0)
    cached_price = price.usd_per_million_cached_tokens
    if cached_price is None:
        cached_price = price.usd_per_million_input_tokens
    meters = (
        (
            1_000_000,
            (
                (uncached, price.usd_per_million_input_tokens),
                (usage.cached_tokens, cached_price),
                (usage.output_tokens, price.usd_per_million_output_tokens),
            ),
        ),
        (1_000, ((usage.characters, price.usd_per_1000_characters),)),
        (60_000, ((usage.audio_ms, price.usd_per_minute),)),
    )
    anything = False
    with localcontext(prec=60):
        for per, units in meters:
            used = [(Decimal(quantity), unit) for quantity, unit in units if quantity]
            anything = anything or bool(used)
            if used and all(unit is not None for _, unit in used):
                return to_nano_usd(
                    sum((quantity * unit for quantity, unit in used if unit is not None), Decimal(0)) / per
                )
    return None if anything else 0


def find_price(
    *,
    modality: Modality,
    provider_type: str,
    model_id: str,
    model_name: str,
    at_ms: int,
    overrides: Mapping[str, Sequence[PriceOverride]],
) -> Price | None:
    """Return the price of a model on the UTC day of ``at_ms``, or None when nobody knows it.

    Loads the price libraries when no override or local type answers (0.2 s the first time): on an event loop use
    ``PriceBook.find_async``.

    Args:
        modality: what the model does; decides which source and which unit.
        provider_type: a name of ``PROVIDER_TYPES``; others have no price.
        model_id: the gateway's id, by which overrides are kept.
        model_name: the provider's own name, by which the libraries know it.
        at_ms: UTC epoch ms of the request.
        overrides: model id -> its overrides, in any order; of two with one date the later in the sequence wins.
    """
    day_start = at_ms - at_ms % DAY_MS
    moment = datetime.fromtimestamp(day_start / 1000, tz=UTC)
    today = moment.date().isoformat()
    current = [each for each in overrides.get(model_id, ()) if each.date <= today]
    if current:
        newest = max(enumerate(current), key=lambda entry: (entry[1].date, entry[0]))[1]
        return Price(*newest.amounts(), source="override", date=newest.date, priced_model=model_id)
    kind = PROVIDER_TYPES.get(provider_type)
    if kind is None or kind.name == "openai_compatible":
        return None
    if kind.local:
        zero = Decimal(0)
        return Price(zero, zero, zero, zero, zero, source="local", priced_model=model_name)
    library_id = _LIBRARY_IDS.get(kind.name, kind.name)
    if modality is Modality.LLM:
        return _genai_price(library_id, model_name, moment) or _voice_price(
            modality, library_id, model_name, moment
        )
    return _voice_price(modality, library_id, model_name, moment)


def price_library(modality: Modality) -> str:
    """Return the library whose list prices a modality has, with its version: ``voice-prices@0.11.2``."""
    library: PriceSource = "genai-prices" if modality is Modality.LLM else "voice-prices"
    return f"{library}@{_version(library)}"


def _genai_price(library_id: str, model_name: str, moment: datetime) -> Price | None:
    """Return an LLM's price by genai-prices."""
    from genai_prices import Usage as Quantities, calc_price  # noqa: PLC0415 - 0.2 s that most calls do not need

    def priced(**quantities: int) -> Any:
        return calc_price(
            Quantities(**quantities), model_name, provider_id=library_id, genai_request_timestamp=moment
        )

    return _token_price("genai-prices", library_id, model_name, priced)


def _voice_price(modality: Modality, library_id: str, model_name: str, moment: datetime) -> Price | None:
    """Return a price by voice-prices: time and audio tokens for STT, characters and audio tokens for TTS."""
    from voice_prices import Usage as Quantities, calc_price  # noqa: PLC0415 - 0.2 s that most calls do not need

    def priced(**quantities: Any) -> Any:
        return calc_price(
            Quantities(**quantities), model_name, provider_id=library_id, genai_request_timestamp=moment
        )

    if modality is Modality.LLM:
        return _token_price("voice-prices", library_id, model_name, priced)
    n = _SAMPLE
    try:
        if modality is Modality.STT:
            by_unit = priced(audio_input_seconds=Decimal(60))
            by_token = priced(input_tokens=n, input_audio_tokens=n, output_tokens=n)
            audio_tokens = by_token.breakdown.input_audio_tokens
        else:
            by_unit = priced(characters=1000)
            by_token = priced(input_tokens=n, output_tokens=n, output_audio_tokens=n)
            audio_tokens = by_token.breakdown.output_audio_tokens
    except (LookupError, ValueError):
        return None
    # A language model may match by prefix (a Gemini model with "-tts" in its name): without a price for audio tokens the
    # token prices are those of text, not of speech.
    tokens = by_token if audio_tokens else None
    unit = _rate(by_unit.input_price, 1)
    found = Price(
        usd_per_minute=unit if modality is Modality.STT else None,
        usd_per_1000_characters=unit if modality is Modality.TTS else None,
        usd_per_million_input_tokens=tokens and _rate(tokens.input_price, _SAMPLE),
        usd_per_million_output_tokens=tokens and _rate(tokens.output_price, _SAMPLE),
    )
    return _described(found, "voice-prices", library_id, model_name, by_unit)


def _token_price(source: PriceSource, library_id: str, model_name: str, priced: Any) -> Price | None:
    """Return an LLM's token prices; ``priced`` is one library's calculation for this model and day."""
    try:
        plain = priced(input_tokens=_SAMPLE, output_tokens=_SAMPLE)
        cached = priced(input_tokens=_SAMPLE, cache_read_tokens=_SAMPLE)
    except (LookupError, ValueError):
        return None
    if plain.total_price != plain.input_price + plain.output_price:
        return None  # also billed per request, which none of our units can say: an undercount is worse than unpriced
    found = Price(
        usd_per_million_input_tokens=_rate(plain.input_price, _SAMPLE),
        usd_per_million_output_tokens=_rate(plain.output_price, _SAMPLE),
        usd_per_million_cached_tokens=_rate(cached.input_price, _SAMPLE),
    )
    return _described(found, source, library_id, model_name, plain)


def _rate(total: Decimal, sample: int) -> Decimal | None:
    """Return USD per unit (per million for a sample of tokens); 0 is how the libraries say that there is no rate."""
    if not total:
        return None
    return total if sample == 1 else total * 1_000_000 / sample


def _described(
    found: Price, source: PriceSource, library_id: str, model_name: str, result: Any
) -> Price | None:
    """Add the origin to a library's unit prices; None when there are none or another provider's answered."""
    if result.provider.id != library_id or not any(found.amounts()):
        return None
    provenance = getattr(result.model, "provenance", None)
    verified = getattr(provenance, "last_verified", None)
    model = str(result.model.id)
    return Price(
        *found.amounts(),
        source=source,
        date=verified.isoformat() if isinstance(verified, date) else "",
        match="exact" if model.lower() == model_name.lower() else "family",
        priced_model=model,
        version=_version(source),
    )


@cache
def _version(library: str) -> str:
    return metadata.version(library)


class PriceBook:
    """``find_price`` with one set of overrides and a memory: one lookup per model and day."""

    def __init__(self, overrides: Mapping[str, Sequence[PriceOverride]] | None = None) -> None:
        self._overrides = dict(overrides or {})
        self._found: dict[tuple[Modality, str, str, str, int], Price | None] = {}

    def find(
        self, *, modality: Modality, provider_type: str, model_id: str, model_name: str, at_ms: int
    ) -> Price | None:
        """Return what ``find_price`` returns, remembered per UTC day."""
        key = (modality, provider_type, model_id, model_name, at_ms // DAY_MS)
        if key in self._found:
            return self._found[key]
        found = find_price(
            modality=modality,
            provider_type=provider_type,
            model_id=model_id,
            model_name=model_name,
            at_ms=at_ms,
            overrides=self._overrides,
        )
        if len(self._found) >= _MAX_CACHED:
            self._found.clear()
        self._found[key] = found
        return found

    async def find_async(
        self, *, modality: Modality, provider_type: str, model_id: str, model_name: str, at_ms: int
    ) -> Price | None:
        """Return what ``find`` returns; what is not remembered is looked up in a worker thread.

        The first lookup may import a price library (0.2 s): the event loop goes on meanwhile.
        """
        query = partial(
            self.find,
            modality=modality,
            provider_type=provider_type,
            model_id=model_id,
            model_name=model_name,
            at_ms=at_ms,
        )
        if (modality, provider_type, model_id, model_name, at_ms // DAY_MS) in self._found:
            return query()
        return await anyio.to_thread.run_sync(query)
