"""Which projects, providers and models were ever recorded. May import ``store``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from voicegw_mcp.store.reader import Reads


class Series(NamedTuple):
    """One series of the log; ``credited_nanousd`` is what its costs were lowered by since they were recorded."""

    project: str
    modality: str
    provider: str
    model_id: str
    credited_nanousd: int


class RecordedNames(NamedTuple):
    """One combination the log has rows of, or had before they were pruned."""

    project: str
    provider: str
    model_id: str


def recorded_names(reads: Reads) -> list[RecordedNames]:
    """Return every combination of project, provider and model ever recorded."""
    rows = reads.read("SELECT DISTINCT project, provider, model_id FROM series")
    return [RecordedNames(*row) for row in rows]


def recorded_series(reads: Reads) -> list[Series]:
    """Return every series in the order in which they were first recorded."""
    rows = reads.read(
        "SELECT project, modality, provider, model_id, COALESCE(nanousd, 0) FROM series "
        "LEFT JOIN credited ON credited.series_id = series.series_id ORDER BY series.series_id"
    )
    return [Series._make(row) for row in rows]
