"""What a report is asked: its window and its filters. May import ``store``, ``domain``, ``errors`` and ``core``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voicegw_mcp.core.entries import blaming
from voicegw_mcp.core.periods import resolve_window
from voicegw_mcp.store.rollups import recorded_span
from voicegw_mcp.store.series import recorded_names

if TYPE_CHECKING:
    from voicegw_mcp.core.catalog import Catalog
    from voicegw_mcp.domain import Window
    from voicegw_mcp.store.reader import Reads


def find_window(
    reads: Reads,
    *,
    period: str | None,
    start: str | None = None,
    end: str | None = None,
    timezone: str,
    now_ms: int,
) -> Window:
    """Return the window a caller means; the store's own span is looked up only where the answer depends on it.

    Raises:
        InvalidInput: see ``periods.resolve_window``.
        StoreUnavailable: the store cannot be read.
    """
    open_ended = (period == "all" and start is None) or (start is None and end is not None)
    earliest, latest = (reads.once(recorded_span) or (None, None)) if open_ended else (None, None)
    return resolve_window(
        period=period,
        start=start,
        end=end,
        timezone=timezone,
        now_ms=now_ms,
        earliest_ms=earliest,
        latest_ms=latest,
    )


def check_filters(
    reads: Reads,
    catalog: Catalog,
    *,
    project: str | None = None,
    provider_id: str | None = None,
    model_id: str | None = None,
) -> None:
    """Refuse a filter on something neither configured nor ever recorded: a typo would answer "no cost".

    Raises:
        NotFound: naming the nearest ids.
        StoreUnavailable: the store cannot be read.
    """
    asked = (
        ("project", project, catalog.projects, 0, catalog.project),
        ("provider_id", provider_id, catalog.providers, 1, catalog.provider),
        ("model_id", model_id, catalog.models, 2, catalog.model),
    )
    unknown = [
        (field, name, column, find)
        for field, name, known, column, find in asked
        if name is not None and name not in known
    ]
    if unknown:
        recorded = recorded_names(reads)
        for field, name, column, find in unknown:
            if all(names[column] != name for names in recorded):
                with blaming(field):
                    find(name)
