"""Which projects, providers and models were ever recorded. May import ``store``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from voicegw_mcp.store.reader import Reads


class RecordedNames(NamedTuple):
    """One combination the log has rows of, or had before they were pruned."""

    project: str
    provider: str
    model_id: str


async def recorded_names(reads: Reads) -> list[RecordedNames]:
    """Return every combination of project, provider and model ever recorded."""
    rows = await reads.read("SELECT DISTINCT project, provider, model_id FROM series")
    return [RecordedNames(*row) for row in rows]
