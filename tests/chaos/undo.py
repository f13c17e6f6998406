"""Section ``undo``: sequences of changes are taken back, and every byte is as it was."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.chaos import cores, memory
from tests.chaos.section import breakages, command
from tests.chaos.sequences import run_sequence
from tests.proof import Progress, Section

NAME = "undo"
TITLE = "Undo"
ROUNDS = 5000
CHECKED = """\
Random sequences of changes, dry runs, undos and redos, and edits by hand, each on a gateway of its own with one of many
files, are compared with a model that remembers the bytes (`tests/chaos/sequences.py`). It is checked that:

- an undo of the newest change brings back the bytes that were there before it, a redo those that were there after it;
- an undo of an older change is refused and leaves the bytes alone, or changes no other entry, and its redo brings the
  very bytes back;
- a dry run and a refusal change nothing;
- after an edit by hand all of that holds for the meaning of the file, and what was written by hand stays;
- when all changes are taken back in the end, the file is what it was at the start."""


def run(
    rounds: int,
    seed: int,
    folder: Path,
    progress: Progress,
    spread: Callable[..., list[dict[str, Any]]] = cores.spread,
) -> Section:
    """Run so many sequences, each from a seed of its own."""
    return _make(range(rounds), seed, folder, progress, spread)


def repeat(seed: int, number: int, folder: Path, progress: Progress) -> Section:
    """Run one sequence again."""
    return _make([number], seed, folder, progress, cores.spread)


def _make(
    numbers: Sequence[int],
    seed: int,
    folder: Path,
    progress: Progress,
    spread: Callable[..., list[dict[str, Any]]],
) -> Section:
    with memory.folder_in_memory(folder) as place:

        def one(number: int) -> dict[str, Any]:
            home = place / str(number)
            home.mkdir()
            try:
                return {"number": number, "wrong": run_sequence(seed * 1_000_000 + number, home)}
            finally:
                shutil.rmtree(home, ignore_errors=True)

        results = spread(list(numbers), one, progress)
    section = Section(NAME)
    made = sorted(
        (result for result in results if "raised" not in result), key=lambda result: result["number"]
    )
    section.figures = [
        ("sequences", len(numbers)),
        ("sequences in which everything held", sum(not result["wrong"] for result in made)),
        ("on a disk in memory", "yes" if memory.there_is_one() else "no"),
    ]
    for result in made:
        section.violations += [f"{text} {command(NAME, seed, result['number'])}" for text in result["wrong"]]
    section.violations += breakages(NAME, seed, results)
    return section
