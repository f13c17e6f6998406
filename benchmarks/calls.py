"""What our server adds to a call: get_health against the no-op of the bare server, on an empty gateway."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from figures import Figure, ratios
from progress import Progress

if TYPE_CHECKING:
    from part import Run

CALLS, BLOCK, WARM_UP = 500, 20, 40

TITLE = "One small call"
METHOD = f"""\
p50 is the median of {CALLS} calls, in turns of {BLOCK}, after {WARM_UP} that are not counted; new servers in each round.
"""


def measure(run: Run) -> list[Figure]:
    """Return p50 of both, and their ratio."""
    medians: dict[str, list[float]] = {"ours": [], "bare": []}
    with Progress("get_health and no-op", run.rounds) as progress:
        for _ in range(run.rounds):
            for which, times in _round(run).items():
                medians[which].append(statistics.median(times))
            progress.step()
    return [
        Figure("get_health p50", "ms", tuple(medians["ours"])),
        Figure("no-op call p50, bare", "ms", tuple(medians["bare"])),
        Figure("get_health p50, ratio", "x", ratios(medians), bar=1.5),
    ]


def _round(run: Run) -> dict[str, list[float]]:
    """Return how long each call took, in ms."""
    took: dict[str, list[float]] = {"ours": [], "bare": []}
    with run.ours() as ours, run.bare() as bare:
        for client in (ours, bare):
            client.initialize()
        ours.timed("get_health", {}, WARM_UP)
        bare.timed("noop", {}, WARM_UP)
        for _ in range(CALLS // BLOCK):
            took["ours"] += ours.timed("get_health", {}, BLOCK)
            took["bare"] += bare.timed("noop", {}, BLOCK)
    return took
