"""Keeps answers below what a client takes in one message: about 32 KB of compact JSON. May import pydantic.

Cut answers stay valid and say so: lists end early, and maps fold what is left into one entry, so that sums still hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import BaseModel
from pydantic_core import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

MOST_BYTES: Final = 32_000
"""Bytes of compact JSON that a list or a report may take."""

BRACKETS: Final = 2
"""How much longer a whole list or map of some values is than these, each with its comma."""

_AT_ONCE: Final = 64

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

    One look at many values takes half as long as one at each: those that fit are guessed from the length of all, and
    counted from there.
    """
    whole = json_bytes(values) - BRACKETS
    if whole <= budget:
        return len(values)
    count = max(0, budget) * len(values) // whole
    left = budget - (json_bytes(values[:count]) - BRACKETS if count else 0)
    while left < 0:
        count -= 1
        left += json_bytes(values[count])
    return count + fitting(map(json_bytes, values[count:]), left)


def fitting_views(items: Sequence[T], view: Callable[[Sequence[T]], Sequence[M]], budget: int) -> list[M]:
    """Return what is shown of the first ``items``, as many as fit into ``budget`` (bytes); hardly more are viewed.

    Args:
        items: what there is.
        view: makes what is shown of some of them.
        budget: bytes of compact JSON.
    """
    views: list[M] = []
    for first in range(0, len(items), _AT_ONCE):
        made = view(items[first : first + _AT_ONCE])
        fit = fitting_values(made, budget)
        views += made[:fit]
        if fit < len(made) or first + len(made) == len(items):
            break
        budget -= json_bytes(made) - BRACKETS
    return views
