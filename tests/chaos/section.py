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

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

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
