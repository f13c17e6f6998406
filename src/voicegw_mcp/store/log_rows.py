"""A row of the request log, and what a query asks of rows. May import ``domain``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from voicegw_mcp.domain import Usage


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which rows of the log to read, in which order. None means any.

    ``start_ms`` and ``end_ms`` bound ``[start_ms, end_ms)``. ``min_latency_ms`` is about the total latency; rows
    without one, or without a cost for ``min_cost_nanousd``, do not match. ``search`` is looked for in the error text,
    without regard to the case of ASCII letters.
    """

    project: str | None = None
    modality: str | None = None
    provider: str | None = None
    model_id: str | None = None
    status: str | None = None
    session_id: str | None = None
    min_latency_ms: float | None = None
    min_cost_nanousd: int | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    search: str | None = None
    order: Literal["newest", "oldest"] = "newest"


class LogRow(NamedTuple):
    """A row of the log: the columns of ``requests``, and the names that two of them stand for.

    ``(timestamp_ms, seq)`` is its place in the log; latencies are in microseconds.
    """

    seq: int
    timestamp_ms: int
    id: str
    series_id: int
    status: str
    session_id: str | None
    audio_ms: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    characters: int
    cost_nanousd: int | None
    price_id: int
    ttfb_us: int | None
    total_us: int | None
    error_kind: str | None
    error_message: str | None
    fallback_from: str | None
    estimated: int
    project: str
    modality: str
    provider: str
    model_id: str
    price_source: str
    price_date: str
    price_version: str
    price_terms: str
    price_batch: int

    def by_family(self) -> bool:
        """Whether it was priced by a relative of its model."""
        return FAMILY in self.price_source

    def usage(self) -> Usage:
        """Return the billed units."""
        return Usage(
            self.audio_ms, self.input_tokens, self.output_tokens, self.cached_tokens, self.characters
        )


class LogLine(NamedTuple):
    """What a concise page shows of a row: every value that is read costs time, whether it is shown or not."""

    seq: int
    timestamp_ms: int
    id: str
    status: str
    session_id: str | None
    cost_nanousd: int | None
    ttfb_us: int | None
    total_us: int | None
    error_message: str | None
    project: str
    modality: str
    provider: str
    model_id: str


FAMILY: Final = "(family "
"""What the source of a price holds that is a relative's of the model."""

_NAMED, _PRICED = LogRow._fields.index("project"), LogRow._fields.index("price_source")
COLUMNS: Final = LogRow._fields[:_NAMED]
"""The columns of ``requests``, the first fields of a ``LogRow``."""

_OF_SERIES: Final = LogRow._fields[_NAMED:_PRICED]
_OF_ROW: Final = ", ".join(
    (*(f"requests.{name}" for name in COLUMNS), *(f"series.{name}" for name in _OF_SERIES))
)
_OF_LINE: Final = ", ".join(
    f"{'series' if name in _OF_SERIES else 'requests'}.{name}" for name in LogLine._fields
)
_FROM: Final = "FROM requests JOIN series ON series.series_id = requests.series_id"
SELECT_ROWS: Final = (
    f"SELECT {_OF_ROW}, price.source, price.dated, price.version, price.terms, price.batch "
    f"{_FROM} JOIN price ON price.price_id = requests.price_id"
)
"""Reads whole rows; what follows says which."""
SELECT_LINES: Final = f"SELECT {_OF_LINE} {_FROM}"
"""Reads what a ``LogLine`` has of rows, in half the time."""
