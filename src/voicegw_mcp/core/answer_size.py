"""Keeps answers below what a client takes in one message: about 32 KB of compact JSON. May import pydantic.

Cut answers stay valid and say so: lists end early, and maps fold what is left into one entry, so that sums still hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic_core import to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import BaseModel

MOST_BYTES: Final = 32_000
"""Bytes of compact JSON that a list or a report may take."""

BRACKETS: Final = 2
"""How much longer a whole list or map of some values is than these, each with its comma."""

OTHER: Final = "(other)"
"""The key under which a map that was cut shows the rest."""


def json_bytes(value: BaseModel | str | Sequence[BaseModel] | Mapping[str, BaseModel]) -> int:
    """Return the bytes of models (without absent fields) or a string in compact UTF-8 JSON, and a comma."""
    return len(to_json(value, exclude_none=True)) + 1


def fitting(sizes: Iterable[int], budget: int) -> int:
    """Return how many of the first ``sizes`` (bytes) fit into ``budget`` together."""
    count = 0
    for size in sizes:
        budget -= size
        if budget < 0:
            break
        count += 1
    return count


def fitting_values(values: Sequence[BaseModel], budget: int) -> int:
    """Return how many of the first ``values`` fit into ``budget`` (bytes) together.

    Most lists fit as a whole, and one look at the whole takes half as long as one at each.
    """
    return (
        len(values) if json_bytes(values) - BRACKETS <= budget else fitting(map(json_bytes, values), budget)
    )
