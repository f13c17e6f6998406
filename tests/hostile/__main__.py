"""``python -m tests.hostile``: run the sections, print what they found, and write docs/hostile.md if asked."""

# ruff: noqa: T201 - this command prints
import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.section import Section, SectionModule
from tests.hostile import bodies, frames, hosts, page, tokens

SECTIONS: dict[str, SectionModule] = {module.NAME: module for module in (hosts, tokens, frames, bodies)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit code is 0 when nothing was violated, 1 when something was, 77 when it cannot run here."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.hostile", description="Send what no client should, look at what comes back."
    )
    parser.add_argument(
        "--frames", type=int, default=frames.ROUNDS, help="frames per transport; tokens are half as many"
    )
    parser.add_argument("--json", action="store_true", help="print figures and violations as JSON")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="sections to run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write-docs", action="store_true", help="write docs/hostile.md")
    asked = parser.parse_args(arguments)
    if not Path("/proc/self/clear_refs").exists():
        print("tests.hostile cannot run: it reads the memory of a process from /proc")
        return 77
    signal.signal(signal.SIGTERM, _end)
    rounds = {hosts: hosts.ROUNDS, tokens: asked.frames // 2, frames: asked.frames, bodies: bodies.ROUNDS}
    found: list[tuple[SectionModule, Section, float]] = []
    for name in asked.only or SECTIONS:
        module = SECTIONS[name]
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="voicegw-hostile-") as folder:
            section = module.run(rounds[module], asked.seed, Path(folder), _progress(name, quiet=asked.json))
        section.violations = [" ".join(text.split()) for text in section.violations]
        found.append((module, section, time.monotonic() - started))
        _print(*found[-1][1:], as_json=asked.json)
    if asked.write_docs:
        page.write(found, asked.seed)
    return int(any(section.violations for _, section, _ in found))


def _end(_number: int, _frame: object) -> None:
    """Leave through the ``finally`` clauses: servers are ended and folders removed."""
    raise SystemExit(143)


def _progress(name: str, *, quiet: bool):
    told = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal told
        if not quiet and time.monotonic() - told > 5:
            told = time.monotonic()
            print(f"  {name}: {done} of {total}", flush=True)

    return progress


def _print(section: Section, seconds: float, *, as_json: bool) -> None:
    if as_json:
        figures = {"name": section.name, "figures": section.figures, "violations": section.violations}
        print(json.dumps(figures), flush=True)
        return
    print(f"{section.name} ({seconds:.0f} s)")
    for name, figure in section.figures:
        print(f"  {name}: {figure}")
    for violation in section.violations:
        print(f"  VIOLATION {violation}")
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
