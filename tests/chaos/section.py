"""What the sections of this folder have in common; what a section is, ``tests.proof`` says."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tests import proof


def command(name: str, seed: int, number: int) -> str:
    """Return how to repeat one round; the end of every violation."""
    return proof.command("chaos", name, seed, number)


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
