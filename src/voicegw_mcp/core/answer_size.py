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
"""Values that are viewed before it is known how long they are."""

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
    """Return how many of the first ``values`` fit into ``budget`` (bytes) together."""
    size = json_bytes(values) - BRACKETS
    return len(values) if size <= budget else _count_fitting(values, size, budget)


def fitting_shown(shown: Iterable[tuple[M, int]], budget: int) -> tuple[list[M], bool]:
    """Return the first values that fit into ``budget`` (bytes) together, and whether these are all.

    Args:
        shown: each value with its ``json_bytes``; none is asked for behind the first that does not fit.
        budget: bytes of compact JSON.
    """
    kept: list[M] = []
    for value, size in shown:
        budget -= size
        if budget < 0:
            return kept, False
        kept.append(value)
    return kept, True


def fitting_views(items: Sequence[T], view: Callable[[Sequence[T]], Sequence[M]], budget: int) -> list[M]:
    """Return what is shown of the first ``items``, as many as fit into ``budget`` (bytes); hardly more are viewed.

    Args:
        items: what there is.
        view: makes what is shown of some of them.
        budget: bytes of compact JSON.
    """
    views: list[M] = []
    at_once = _AT_ONCE
    while len(views) < len(items):
        made = view(items[len(views) : len(views) + at_once])
        size = json_bytes(made) - BRACKETS
        if size > budget:
            return [*views, *made[: _count_fitting(made, size, budget)]]
        views += made
        budget -= size
        at_once = budget * len(made) // size + 1  # as many as fit when the others are as long, and one more
    return views


def _count_fitting(values: Sequence[BaseModel], size: int, budget: int) -> int:
    """Return how many of the first ``values``, of ``size`` bytes together, fit into a smaller ``budget``.

    One look at many takes half as long as one at each: how many is guessed, and counted from there.
    """
    count = max(0, budget) * len(values) // size
    left = budget - (json_bytes(values[:count]) - BRACKETS if count else 0)
    while left < 0 and count:
        count -= 1
        left += json_bytes(values[count])
    return count + fitting(map(json_bytes, values[count:]), left)
