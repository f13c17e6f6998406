"""``python -m tests.conformance``: the official suite, real clients and restarts; writes docs/conformance.md if asked."""

# ruff: noqa: T201 - this command prints
import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.conformance import page, real_clients, restarts, suite
from tests.conformance.section import Section, SectionModule

SECTIONS: dict[str, SectionModule] = {module.NAME: module for module in (suite, real_clients, restarts)}
ROUNDS = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit code is 0 when nothing failed, 1 when something did."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="sections to run")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"restarts to make ({ROUNDS})")
    parser.add_argument("--write-docs", action="store_true", help="write docs/conformance.md")
    asked = parser.parse_args(arguments)
    if asked.write_docs and asked.only:
        parser.error("--write-docs needs all sections")
    signal.signal(signal.SIGTERM, _end)
    base = Path(tempfile.mkdtemp(prefix="voicegw-conformance-"))
    found: list[tuple[SectionModule, Section]] = []
    started = time.monotonic()
    try:
        for name in asked.only or SECTIONS:
            module = SECTIONS[name]
            folder = base / name
            folder.mkdir()
            found.append((module, module.run(folder, asked.rounds)))
            _print(*found[-1])
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if asked.write_docs:
        page.write(found, time.monotonic() - started)
    return int(any(section.failures for _, section in found))


def _end(_number: int, _frame: object) -> None:
    """Leave through the ``finally`` clauses: servers are ended and folders removed."""
    raise SystemExit(143)


def _print(module: SectionModule, section: Section) -> None:
    print("\n".join([f"\n{module.TITLE}", *page.table(section), *section.notes]))
    for failure in section.failures:
        print(f"FAILED {failure}")
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
