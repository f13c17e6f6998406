"""``python -m tests.chaos``: run the sections, print what they found, and write docs/reliability.md if asked."""

# ruff: noqa: T201 - this command prints
import argparse
import importlib
import importlib.util
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos import page, ptrace
from tests.chaos.section import Section, SectionModule

SECTIONS = ("faults", "kills", "editors", "writers", "first_starts", "undo", "plans", "reload")
FULL = 2000
DISK = Path("/var/tmp")  # noqa: S108 - a folder of its own is made there; /tmp may be memory, where fsync does nothing


def there() -> list[str]:
    """Return the names of the sections there are."""
    return [name for name in SECTIONS if importlib.util.find_spec(f"tests.chaos.{name}")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit code is 0 when nothing was violated, 1 when something was, 77 when it cannot run here."""
    known = there()
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="Break a change, look at what is left."
    )
    parser.add_argument("--rounds", type=int, help=f"{FULL} is a full run; other sections are scaled by it")
    parser.add_argument("--exactly", type=int, metavar="N", help="this many rounds of each section, unscaled")
    parser.add_argument(
        "--json", action="store_true", help="print figures and violations of one section as JSON"
    )
    parser.add_argument("--only", nargs="+", choices=known, help="sections to run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--round", type=int, help="make one round of one section again")
    parser.add_argument("--write-docs", action="store_true", help="write docs/reliability.md")
    asked = parser.parse_args(arguments)
    if why := ptrace.why_not():
        print(f"tests.chaos cannot run: {why}")
        return 77
    signal.signal(signal.SIGTERM, _end)
    base = Path(tempfile.mkdtemp(prefix="voicegw-chaos-", dir=DISK if DISK.is_dir() else None))
    found: list[tuple[SectionModule, Section, float]] = []
    try:
        for name in asked.only or known:
            folder = base / name
            folder.mkdir()
            started = time.monotonic()
            module = importlib.import_module(f"tests.chaos.{name}")
            section = _run(module, folder, asked)
            section.violations = [
                " ".join(text.replace(str(base), "").split()) for text in section.violations
            ]
            found.append((module, section, time.monotonic() - started))
            _print(section, found[-1][2], as_json=asked.json)
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if asked.write_docs:
        page.write(found, asked.seed)
    return int(any(section.violations for _, section, _ in found))


def _end(_number: int, _frame: object) -> None:
    """Leave through the ``finally`` clauses: workers are ended and folders removed."""
    raise SystemExit(143)


def _run(module: SectionModule, folder: Path, asked: argparse.Namespace) -> Section:
    told = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal told
        if asked.json:
            return
        if done == total or time.monotonic() - told > 5:
            told = time.monotonic()
            print(f"  {module.NAME}: {done} of {total}", flush=True)

    if asked.round is not None:
        return module.repeat(asked.seed, asked.round, folder, progress)  # type: ignore[attr-defined]
    if asked.exactly is not None:
        return module.run(asked.exactly, asked.seed, folder, progress)
    rounds = module.ROUNDS if asked.rounds is None else max(1, module.ROUNDS * asked.rounds // FULL)
    return module.run(rounds, asked.seed, folder, progress)


def _print(section: Section, seconds: float, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"figures": section.figures, "violations": section.violations}))
        return
    print(f"{section.name} ({seconds:.0f} s)")
    for name, figure in section.figures:
        print(f"  {name}: {figure}")
    for violation in section.violations:
        print(f"  VIOLATION {violation}")
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
