"""The interface of a section of ``python -m tests.conformance``, and what a section found.

A section is a module with

* ``NAME``: the word for ``--only``;
* ``TITLE`` and ``CHECKED``: heading and text of its part of ``docs/conformance.md`` (plain English, Markdown);
* ``run(folder, rounds) -> Section``: ``folder`` is an empty folder of the section's own, ``rounds`` what ``--rounds`` says.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

Row = tuple[str | int, ...]


@dataclass
class Section:
    """A table, what failed although it must not, and sentences below the table."""

    columns: tuple[str, ...]
    rows: list[Row] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def attempt(self, what: str, work: Callable[[], object]) -> str:
        """Do one thing; return what came of it for the table, and note a failure."""
        try:
            return str(work())
        except Exception as error:  # noqa: BLE001 - whatever went wrong is a failure of this one thing
            self.failures.append(f"{what}: {' '.join(f'{type(error).__name__} {error}'.split())[:600]}")
            return "**failed**"


class SectionModule(Protocol):
    """The shape of such a module."""

    NAME: str
    TITLE: str
    CHECKED: str

    def run(self, folder: Path, rounds: int) -> Section: ...
