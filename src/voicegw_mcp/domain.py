"""The vocabulary: frozen value types that every layer shares. Imports only ``errors``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from voicegw_mcp.errors import InvalidInput, quote

if TYPE_CHECKING:
    from datetime import date

NANO: Final = 1_000_000_000
"""Nano-USD in one USD: money is stored and added up as integers of this unit."""

QUARTER_MS: Final = 900_000
"""15 minutes: the finest rollup bucket, because every time zone's midnight is a multiple of it."""

DAY_MS: Final = 86_400_000

LATEST_MS: Final = 7_258_118_400_000
"""The year 2200, where the times end that can be recorded and asked for: a single row of the year 9999 would be in every
report of ``all``, and beyond it there is no date."""

MOST_COUNT: Final = 10**13
"""Of one unit, or of nano-USD (10,000 USD), in one request. Nearly a million of such requests add up in 64 bits."""


DEFAULT_PROJECT: Final = "default"
"""There is always a project of this id: requests without another one are counted on it."""

IMPORTED: Final = "imported"
"""In place of a price's version: another program worked out the cost."""


class Modality(StrEnum):
    """What a model does: speech to text, language, text to speech."""

    STT = "stt"
    LLM = "llm"
    TTS = "tts"


class Role(StrEnum):
    """What a caller may do: read; also add and update; also delete and undo."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class RequestStatus(StrEnum):
    """How a request ended."""  # a model reads this with every list of tools

    SUCCESS = "success"
    ERROR = "error"
    FALLBACK = "fallback"
    CANCELLED = "cancelled"
    BLOCKED = "blocked"
    """Refused by a budget or a limit, and never sent."""
    PROBE = "probe"
    """Asked whether a model that had failed works again: nobody's request, but it costs."""
    IDLE = "idle"
    """Time on an open speech stream in which nothing was recognized: likewise."""


UNCOUNTED: Final = frozenset({RequestStatus.PROBE, RequestStatus.IDLE})
"""What is in the log and in costs, but in no count of requests."""

UNTIMED: Final = UNCOUNTED | {RequestStatus.ERROR, RequestStatus.BLOCKED}
"""What is in no latency."""


ENTRY_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""Ids of providers and projects that we create. Ids found in a file are read as they are."""

MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
"""A provider's own name for a model."""

MODEL_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,191}")
"""Ids of models that we create: by default ``provider_id/model_name``."""


def check_id(value: str, grammar: re.Pattern[str], *, name: str) -> str:
    """Return ``value`` when it fits the grammar.

    Args:
        value: what the caller sent.
        grammar: ``ENTRY_ID``, ``MODEL_NAME`` or ``MODEL_ID``.
        name: the argument's name, for the error.

    Raises:
        InvalidInput: naming the argument, the value (cut) and the grammar.
    """
    if grammar.fullmatch(value) is None or ".." in value.split("/"):
        raise InvalidInput(
            f"{name} {quote(value)} is not a valid id.",
            field=name,
            hint=f"Use an id that matches {grammar.pattern}",
        )
    return value


def to_nano_usd(usd: float | str | Decimal) -> int:
    """Return USD as integer nano-USD, rounded half to even at the ninth decimal.

    A float is read by its shortest decimal form, so ``0.1`` is exactly 100,000,000.
    """
    amount = usd if isinstance(usd, Decimal) else Decimal(str(usd))
    return int((amount * NANO).to_integral_value(ROUND_HALF_EVEN))


def to_usd(nano_usd: int) -> float:
    """Return nano-USD as the nearest float of USD, for answers."""
    return nano_usd / NANO


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request consumed, in the units providers bill by."""

    audio_ms: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    characters: int = 0


NO_USAGE: Final = Usage()
"""What a request consumed that was refused."""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One row of the request log. Times are UTC epoch ms; ``cost_nanousd`` None means unpriced, never 0.

    The price it was billed by: where it is from (with its model, when that is a relative's), its date, the library's version
    (``IMPORTED`` for a row of another program), its model, its unit prices, whether it is that of whole recordings.
    """

    id: str
    timestamp_ms: int
    project: str
    modality: Modality
    provider: str
    model_id: str
    status: RequestStatus = RequestStatus.SUCCESS
    usage: Usage = field(default_factory=Usage)
    cost_nanousd: int | None = None
    price_source: str = ""
    price_date: str = ""
    price_version: str = ""
    price_model: str = ""
    price_terms: str = ""
    price_batch: bool = False
    ttfb_ms: float | None = None
    total_ms: float | None = None
    session_id: str | None = None
    error_kind: str | None = None
    error_message: str | None = None
    fallback_from: str | None = None
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open span of time ``[start_ms, end_ms)`` in UTC epoch ms, both on quarter-hour boundaries.

    ``period`` is the name it was asked by (``custom`` for start/end), ``timezone`` the IANA zone its days follow. ``first_day``
    is the day of the calendar it begins with, None where its period has none; a zone may have skipped that day.
    """

    period: str
    start_ms: int
    end_ms: int
    timezone: str
    first_day: date | None = field(default=None, compare=False)
