"""A long proof as a command: its sections are run, what they found is printed, and a page of the docs shows it.

``python -m tests.chaos``, ``tests.hostile``, ``tests.conformance`` and ``tests.store_proofs`` are each a ``Proof`` with
sections of its own. A section is a plain module with

* ``NAME``: the word for ``--only``;
* ``TITLE`` and ``CHECKED``: heading and text of its part of the page (plain English, Markdown);
* ``ROUNDS``: how many rounds a full run makes; 0 where rounds are not counted;
* ``run(rounds, seed, folder, progress) -> Section``: everything is made from ``seed``; ``folder`` is an empty folder
  of the section's own, removed afterwards; ``progress`` is called now and then;
* optionally ``repeat(seed, number, folder, progress) -> Section``: one round again, for ``--seed S --round R``.

The main process has one thread when ``run`` is called, and must have one again when ``run`` returns.
"""

# ruff: noqa: T201 - what uses this prints
import argparse
import datetime as dt
import importlib
import json
import os
import platform
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[1]
CANNOT_RUN = 77
"""The exit code of a proof that this machine cannot make."""

_DISK = Path("/var/tmp")  # noqa: S108 - a folder of its own is made there; /tmp may be memory, where fsync does nothing
_TOLD_EVERY_S = 5.0
_MOST_SHOWN = 20

Figure = str | int | float
Progress = Callable[[int, int], None]
"""Called with the rounds done and the rounds there are."""


@dataclass
class Section:
    """What a section found.

    ``figures`` are the rows of its table, in their order: of two cells, or of one for each of ``columns``. ``violations`` are
    sentences that end with how to repeat the round, ``notes`` lines of Markdown below the table.
    """

    name: str
    figures: list[tuple[Figure, ...]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    columns: tuple[str, ...] = ()

    def attempt(self, what: str, work: Callable[[], object]) -> str:
        """Do one thing; return what came of it for the table, and note a violation when it failed."""
        try:
            return str(work())
        except Exception as error:  # noqa: BLE001 - whatever went wrong is a failure of this one thing
            self.violations.append(f"{what}: {' '.join(f'{type(error).__name__} {error}'.split())[:600]}")
            return "**failed**"


class SectionModule(Protocol):
    """The shape of such a module."""

    NAME: str
    TITLE: str
    CHECKED: str
    ROUNDS: int

    def run(self, rounds: int, seed: int, folder: Path, progress: Progress) -> Section: ...


Found = list[tuple[SectionModule, Section, float]]
"""The sections that ran, what each found, and the seconds it took."""


@dataclass(frozen=True)
class Proof:
    """What a command needs to be one.

    Attributes:
        name: the package under ``tests``.
        description: one sentence for ``--help``.
        sections: the module of each section by the name for ``--only``, in their order; loaded when run.
        page: the file under ``docs``.
        head, tail: its first and last part; ``{date}``, ``{commit}``, ``{machine}``, ``{seed}``, ``{time}``, ``{verdict}`` and
            what ``facts`` says stand for what they say.
        facts: more such words, such as versions.
        why_not: says why this machine cannot run it; "" when it can.
    """

    name: str
    description: str
    sections: Mapping[str, str]
    page: str
    head: str
    tail: str
    facts: Callable[[], Mapping[str, str]] = dict
    why_not: Callable[[], str] = str

    @property
    def path(self) -> Path:
        """Return where the page is."""
        return ROOT / "docs" / self.page

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Run; the exit code is 0 when nothing was violated, 1 when something was, 77 when it cannot run here."""
        asked = self._asked(arguments)
        if why := self.why_not():
            print(f"tests.{self.name} cannot run: {why}")
            return CANNOT_RUN
        signal.signal(signal.SIGTERM, _end)
        base = Path(tempfile.mkdtemp(prefix=f"voicegw-{self.name}-", dir=_DISK if _DISK.is_dir() else None))
        found: Found = []
        try:
            for name in asked.only or self.sections:
                folder = base / name
                folder.mkdir()
                started = time.monotonic()
                module: Any = importlib.import_module(self.sections[name])
                section = _run(module, folder, asked)
                section.violations = [
                    " ".join(text.replace(str(base), "").split()) for text in section.violations
                ]
                found.append((module, section, time.monotonic() - started))
                _print(section, found[-1][2], as_json=asked.json)
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            shutil.rmtree(base, ignore_errors=True)
        if asked.write_docs:
            self.path.write_text(self.document(found, asked.seed), encoding="utf-8")
        return int(any(section.violations for _, section, _ in found))

    def document(self, found: Found, seed: int) -> str:
        """Return the page about these sections."""
        violations = sum(len(section.violations) for _, section, _ in found)
        words = {
            "date": str(dt.datetime.now(dt.UTC).date()),
            "commit": _commit(),
            "machine": _machine(),
            "seed": str(seed),
            "time": _span(sum(seconds for _, _, seconds in found)),
            "verdict": "Nothing was violated."
            if not violations
            else f"**{violations} violations were found.**",
            **self.facts(),
        }
        parts = [_part(module, section, seconds) for module, section, seconds in found]
        return "\n".join([self.head.format(**words), *parts, self.tail.format(**words)])

    def _asked(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        parser = argparse.ArgumentParser(prog=f"python -m tests.{self.name}", description=self.description)
        parser.add_argument("--only", nargs="+", choices=self.sections, help="sections to run")
        parser.add_argument(
            "--part", type=float, default=1.0, help="of each section's rounds: 0.1 is a tenth"
        )
        parser.add_argument("--rounds", type=int, metavar="N", help="this many rounds of each section")
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--round", type=int, metavar="R", help="make one round of one section again")
        parser.add_argument(
            "--json", action="store_true", help="print a section's findings as a line of JSON"
        )
        parser.add_argument("--write-docs", action="store_true", help=f"write docs/{self.page}")
        asked = parser.parse_args(arguments)
        if asked.write_docs and (asked.only or asked.round is not None):
            parser.error("--write-docs needs all sections")
        if asked.round is not None and len(asked.only or ()) != 1:
            parser.error("--round needs the one section --only names")
        return asked


def command(proof: str, section: str, seed: int, number: int) -> str:
    """Return how to repeat one round of a section that can; the end of its violations."""
    return f"python -m tests.{proof} --only {section} --seed {seed} --round {number}"


def table(section: Section, seconds: float) -> list[str]:
    """Return the table of a section as lines of Markdown."""
    columns = section.columns or (f"`{section.name}`, {_span(seconds)}", "")
    rows = [tuple(map(_shown, row)) for row in section.figures]
    return [
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _end(_number: int, _frame: object) -> None:
    """Leave through the ``finally`` clauses: processes are ended and folders removed."""
    raise SystemExit(143)


def _run(module: Any, folder: Path, asked: argparse.Namespace) -> Section:
    told = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal told
        if not asked.json and (done == total or time.monotonic() - told > _TOLD_EVERY_S):
            told = time.monotonic()
            print(f"  {module.NAME}: {done} of {total}", flush=True)

    if asked.round is not None:
        return module.repeat(asked.seed, asked.round, folder, progress)
    rounds = module.ROUNDS and max(1, round(module.ROUNDS * asked.part))
    return module.run(rounds if asked.rounds is None else asked.rounds, asked.seed, folder, progress)


def _print(section: Section, seconds: float, *, as_json: bool) -> None:
    if as_json:
        found = {"name": section.name, "figures": section.figures, "violations": section.violations}
        print(json.dumps(found), flush=True)
        return
    print("\n".join([*table(section, seconds), *section.notes]))
    for violation in section.violations:
        print(f"VIOLATION {violation}")
    print(flush=True)


def _part(module: SectionModule, section: Section, seconds: float) -> str:
    lines = [f"## {module.TITLE}", "", module.CHECKED.strip(), "", *table(section, seconds), ""]
    if section.notes:
        lines += [*section.notes, ""]
    if section.violations:
        lines += ["Violations:", "", *(f"- {text}" for text in section.violations[:_MOST_SHOWN]), ""]
    return "\n".join(lines)


def _shown(figure: Figure) -> str:
    if isinstance(figure, str):
        return figure.replace("|", "\\|")
    return f"{figure:,}" if isinstance(figure, int) else f"{figure:,.1f}"


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip()

    changed = git("status", "--porcelain", "--", "src")
    return f"`{git('rev-parse', '--short', 'HEAD') or 'unknown'}`{' with changes on top' if changed else ''}"


def _machine() -> str:
    system = f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}"
    python, sqlite = platform.python_version(), sqlite3.sqlite_version
    return f"{os.cpu_count()} cores, {system}, Python {python}, SQLite {sqlite}"
