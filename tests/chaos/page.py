"""Writes docs/reliability.md from the figures of a run, so that the page says what was measured and nothing else."""

import datetime as dt
import os
import platform
import sqlite3
import subprocess
from pathlib import Path

from tests.chaos.section import Section, SectionModule

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"

_HEAD = """\
# Reliability

`make chaos` writes this page. Its figures are those of one run: {date}, commit {commit}, {machine}. Seed {seed}, {time} in all.
{verdict}

A change of the configuration goes into two places, the file and the journal in the store (see
[architecture](architecture.md)). The rounds below break it on purpose and look at what is left.

What is not shown here: a power cut. Killing a process keeps what the kernel has taken in; that a change is on the
disk before it is answered rests on the order of `fsync` calls, which the section on faults checks in the calls
themselves, and on disks that keep what they confirm.
"""
_TAIL = """\
## Repeat it

```sh
make chaos                                        # everything, and this page
python -m tests.chaos --rounds 200                # a tenth of it, without the page
python -m tests.chaos --only {first} --seed 7
```

It needs Linux on x86_64 or aarch64, and a place where `ptrace` is permitted. A violation is printed with the command that
repeats its round; `--seed` draws other rounds. `make test` runs a sample of each section.
"""


def write(found: list[tuple[SectionModule, Section, float]], seed: int) -> None:
    """Write the page about these sections and the seconds each took."""
    violations = sum(len(section.violations) for _, section, _ in found)
    parts = [
        _HEAD.format(
            date=dt.datetime.now(dt.UTC).date(),
            commit=_commit(),
            machine=_machine(),
            seed=seed,
            time=_span(sum(seconds for _, _, seconds in found)),
            verdict="Nothing was violated." if not violations else f"**{violations} violations were found.**",
        ),
        *(_part(module, section, seconds) for module, section, seconds in found),
        _TAIL.format(first=found[0][1].name),
    ]
    PAGE.write_text("\n".join(parts), encoding="utf-8")


def _part(module: SectionModule, section: Section, seconds: float) -> str:
    lines = [
        f"## {module.TITLE}",
        "",
        module.CHECKED.strip(),
        "",
        f"| `{section.name}`, {_span(seconds)} | |",
        "|---|---|",
    ]
    lines += [f"| {name} | {_shown(figure)} |" for name, figure in section.figures]
    lines += ["", *(f"{note}\n" for note in section.notes)]
    if section.violations:
        lines += ["Violations:", "", *(f"- {violation}" for violation in section.violations[:20]), ""]
    return "\n".join(lines)


def _shown(figure: str | float) -> str:
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
