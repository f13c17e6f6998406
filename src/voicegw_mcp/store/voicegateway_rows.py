"""What a request row of VoiceGateway means as a record of ours: one row in, one record or a reason out.

It is apart from ``store.voicegateway`` because it is all about meaning and touches no file. SQLite columns hold
anything, so every cell is checked: a row whose id, time, names, units or cost make no sense is no record, and a latency
that makes none counts as not measured. Not kept: tenant_id, metadata, agent_id, revision, turn_index and the billable
price (rated_price_usd, rate_rule). May import ``domain`` and ``errors``.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from voicegw_mcp.domain import (
    IMPORTED,
    LATEST_MS,
    MOST_COUNT,
    Modality,
    RequestRecord,
    RequestStatus,
    Usage,
    to_nano_usd,
)
from voicegw_mcp.errors import quote

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_NAME: Final = 512
_MOST_SECONDS: Final = LATEST_MS // 1000
"""Milliseconds taken for seconds lie behind it."""

_UNRATED: Final = frozenset({"", "voice-prices-unrated"})
_STATUSES: Final = {status.value: status for status in RequestStatus}
_MODALITIES: Final = {modality.value: modality for modality in Modality}


class UnusableError(Exception):
    """A row is no record; ``reason`` is short, to be counted by. Never leaves ``store``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SourceRow(NamedTuple):
    """The columns that are read, with what stands for one that an older version did not have."""

    rowid: int
    id: Any = None
    timestamp: Any = None
    project: Any = "default"
    modality: Any = None
    model_id: Any = None
    provider: Any = None
    input_units: Any = 0
    output_units: Any = 0
    cached_input_units: Any = 0
    cost_usd: Any = None
    pricing_source: Any = ""
    ttfb_ms: Any = None
    total_latency_ms: Any = None
    status: Any = "success"
    fallback_from: Any = None
    error_message: Any = None
    session_id: Any = None


def to_record(row: SourceRow, is_free: Callable[[str, str], bool]) -> RequestRecord:
    """Return the record a row stands for.

    Args:
        row: its cells as SQLite gave them.
        is_free: says of provider and model id whether a cost of 0 is right.

    Raises:
        UnusableError: it stands for none.
    """
    modality = _MODALITIES.get(row.modality) if isinstance(row.modality, str) else None
    if modality is None:
        raise UnusableError("unknown modality")
    provider, model_id = _name(row.provider, "provider"), _name(row.model_id, "model_id")
    usage = _usage(row, modality)
    source = text_of(row.pricing_source)
    cost = None if row.cost_usd is None else _counted(row.cost_usd, to_nano_usd, "cost_usd")
    # VoiceGateway prices every row, whatever its status, and stores 0 where its price list has no such model; the source
    # is then empty (0.4.0 and 0.27.0), or since 0.27 says that the list has the model without a rate. Models on one's
    # own machine cost 0 on purpose, and without units there was nothing to pay. Sums are the same either way.
    if cost == 0 and source in _UNRATED and usage != Usage() and not is_free(provider, model_id):
        cost = None
    status = _STATUSES.get(row.status) if isinstance(row.status, str) else None
    unknown = None if status else f"VoiceGateway stored the status {quote(row.status)}."
    price_source, _, price_date = source.partition("@")
    return RequestRecord(
        id=_name(row.id, "id"),
        timestamp_ms=_milliseconds(row.timestamp),
        project=_name(row.project or "default", "project"),
        modality=modality,
        provider=provider,
        model_id=model_id,
        status=status or RequestStatus.ERROR,
        usage=usage,
        cost_nanousd=cost,
        price_source=price_source,
        price_date=price_date,
        price_version=IMPORTED,
        ttfb_ms=number_of(row.ttfb_ms),
        total_ms=number_of(row.total_latency_ms),
        session_id=text_of(row.session_id) or None,
        error_kind="unknown_status" if unknown else None,
        error_message=text_of(row.error_message) or unknown,
        fallback_from=text_of(row.fallback_from) or None,
    )


def number_of(cell: Any) -> float | None:
    """Return a cell that is a finite number of at least 0; None for anything else."""
    if not isinstance(cell, int | float) or not math.isfinite(cell) or cell < 0:
        return None
    return float(cell)


def text_of(cell: Any) -> str:
    """Return a cell as text; NULL is the empty one."""
    if isinstance(cell, bytes):
        return decoded(cell)
    return "" if cell is None else str(cell)


def decoded(raw: bytes) -> str:
    """Return bytes as text; what is no UTF-8 becomes visible escapes, so that different bytes stay different."""
    return raw.decode("utf-8", "backslashreplace")


def _usage(row: SourceRow, modality: Modality) -> Usage:
    """Return the units: minutes of audio for STT, characters for TTS, tokens for LLM."""
    if modality is Modality.STT:
        return Usage(audio_ms=_counted(row.input_units, _minutes_in_ms, "input_units"))
    if modality is Modality.TTS:
        return Usage(characters=_counted(row.input_units, round, "input_units"))
    return Usage(
        input_tokens=_counted(row.input_units, round, "input_units"),
        output_tokens=_counted(row.output_units, round, "output_units"),
        cached_tokens=_counted(row.cached_input_units, round, "cached_input_units"),
    )


def _minutes_in_ms(minutes: float) -> int:
    return _rounded(Decimal(str(minutes)) * 60_000)


def _milliseconds(seconds: Any) -> int:
    number = number_of(seconds)
    if number is None or number >= _MOST_SECONDS:
        raise UnusableError("bad timestamp")
    return min(_rounded(Decimal(str(number)) * 1000), _MOST_SECONDS * 1000 - 1)


def _rounded(number: Decimal) -> int:
    return int(number.to_integral_value(ROUND_HALF_EVEN))


def _counted(cell: Any, convert: Callable[[float], int], column: str) -> int:
    """Return a cell as an integer of our unit; an empty one is 0."""
    number = 0.0 if cell is None else number_of(cell)
    if number is None or number >= MOST_COUNT or (count := convert(number)) >= MOST_COUNT:
        raise UnusableError(f"bad {column}")
    return count


def _name(cell: Any, column: str) -> str:
    if not isinstance(cell, str) or not 0 < len(cell) <= _MOST_NAME:
        raise UnusableError(f"bad {column}")
    return cell
