"""The interface of a section: what a module of this folder offers so that ``python -m tests.chaos`` runs and reports it.

A section is a plain module with

* ``NAME``: the word for ``--only``;
* ``TITLE`` and ``CHECKED``: heading and text of its part of ``docs/reliability.md`` (plain English, Markdown);
* ``ROUNDS``: how many rounds a full run makes; ``--rounds N`` scales it by ``N / 2000``;
* ``run(rounds, seed, folder, progress) -> Section``: everything is made from ``seed``; ``folder`` is an empty folder
  of the section's own, removed afterwards; ``progress`` is called now and then;
* optionally ``repeat(seed, number, folder, progress) -> Section``: one round again, for ``--seed S --round R``.

The main process has one thread when ``run`` is called, and must have one again when ``run`` returns.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

Progress = Callable[[int, int], None]
"""Called with the rounds done and the rounds there are."""


@dataclass
class Section:
    """What a section found.

    ``figures`` are shown in their order, ``violations`` are sentences that end with how to repeat the round;
    ``notes`` are sentences below the table of the page.
    """

    name: str
    figures: list[tuple[str, str | int | float]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class SectionModule(Protocol):
    """The shape of such a module."""

    NAME: str
    TITLE: str
    CHECKED: str
    ROUNDS: int

    def run(self, rounds: int, seed: int, folder: Path, progress: Progress) -> Section: ...


def command(name: str, seed: int, number: int) -> str:
    """Return how to repeat one round; the end of every violation."""
    return f"python -m tests.chaos --only {name} --seed {seed} --round {number}"


def breakages(name: str, seed: int, results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each result of ``cores.spread`` that says the harness itself raised."""
    return [
        f"the harness broke: {result['raised']} {command(name, seed, _number(result['item']))}"
        for result in results
        if "raised" in result
    ]


def sum_up(name: str, seed: int, results: Iterable[Mapping[str, Any]]) -> tuple[Counter[str], list[str]]:
    """Return what batches ``counted``, added up, and a violation for each ``(round, sentence)`` they found ``wrong``."""
    counted: Counter[str] = Counter()
    violations: list[str] = []
    for result in results:
        violations += breakages(name, seed, [result])
        counted.update(result.get("counted", {}))
        violations += [f"{text} {command(name, seed, number)}" for number, text in result.get("wrong", ())]
    return counted, violations


def _number(item: Any) -> int:
    """Return the round of an item of work: itself, or the first of its batch."""
    return (item[0] if isinstance(item, list | tuple) else item) or 0
