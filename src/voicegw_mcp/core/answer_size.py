"""Keeps answers below what a client takes in one message: about 32 KB of compact JSON. May import pydantic.

Cut answers stay valid and say so: lists end early, and maps fold what is left into one entry, so that sums still hold.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel

MOST_BYTES: Final = 32_000
"""Bytes of compact JSON that a list or a report may take."""

# Made once: `json.dumps` makes one for every call with an option.
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False)

OTHER: Final = "(other)"
"""The key under which a map that was cut shows the rest."""


def json_bytes(value: BaseModel | str) -> int:
    """Return the bytes of a model (without absent fields) or a string in compact UTF-8 JSON, and a comma."""
    if isinstance(value, str):
        return len(_ENCODER.encode(value).encode()) + 1
    return len(value.model_dump_json(exclude_none=True).encode()) + 1


def fitting(sizes: Iterable[int], budget: int) -> int:
    """Return how many of the first ``sizes`` (bytes) fit into ``budget`` together."""
    count = 0
    for size in sizes:
        budget -= size
        if budget < 0:
            break
        count += 1
    return count
