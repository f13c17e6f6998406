"""Measure voicegw-mcp: against a bare server on the same SDK, against plain SQLite, and against VoiceGateway.

    python benchmarks/run.py                 # tables in the terminal
    python benchmarks/run.py --only reading  # one part
    python benchmarks/run.py --json FILE     # the figures as JSON as well; - for standard output, instead of tables
    python benchmarks/run.py --write-docs    # docs/performance.md as well
    python benchmarks/run.py --check         # exit code 1 when a bar is missed

Linux only, for /proc. Run it on a quiet machine; the load is told with the figures.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import page
from figures import tables
from part import Run
from results import Result, circumstances, from_json, to_json
from stores import KEPT

if TYPE_CHECKING:
    from part import Part

PARTS = {
    "starts": "starts",
    "calls": "calls",
    "reading": "reading",
    "stall": "stall",
    "changes": "changes",
    "recorder": "recorder",
    "metering": "metering",
    "clients": "clients",
    "http": "http_load",
    "api": "api",
    "peer": "peer",
}
"""Modules by name, in the order of the page."""
ON_REQUEST = ("peer",)
"""Measured only when named: others' packages are installed for it."""
SIZES = (0, 100_000, 1_000_000, 5_000_000)
SHORT_SIZES = SIZES[:2]
ROUNDS, SHORT_ROUNDS = 5, 1


def load_part(name: str) -> Part:
    """Return the part of that name."""
    return importlib.import_module(PARTS[name])


def measure(name: str, rounds: int, sizes: tuple[int, ...], kept: Path, *, short: bool) -> Result:
    """Measure one part in a folder of its own."""
    facts, began = circumstances(rounds), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="voicegw-bench-") as folder:
        figures = load_part(name).measure(Run(Path(folder), rounds, sizes, kept, short))
    return Result(facts, time.monotonic() - began, figures)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure voicegw-mcp.")
    parser.add_argument("--only", action="extend", choices=PARTS, nargs="+", help="measure only this")
    parser.add_argument("--rounds", type=int, help=f"how often each thing is measured ({ROUNDS})")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        metavar="ROWS",
        help=f"rows of the stores ({' '.join(map(str, SIZES))})",
    )
    parser.add_argument(
        "--short",
        action="store_true",
        help=f"{SHORT_ROUNDS} round, and stores of {SHORT_SIZES[-1]:,} rows at most",
    )
    parser.add_argument(
        "--stores",
        type=Path,
        default=KEPT,
        metavar="FOLDER",
        help="where filled stores and results are kept (.bench)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures of this run; - for standard output")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bar is missed")
    parser.add_argument(
        "--write-docs",
        action="store_true",
        help="write docs/performance.md: what was measured now, and what was measured before of the other parts",
    )
    options = parser.parse_args()
    # So that the servers of a run that is ended end as well, and its folder goes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    rounds = max(1, options.rounds or (SHORT_ROUNDS if options.short else ROUNDS))
    sizes = tuple(sorted(options.sizes or (SHORT_SIZES if options.short else SIZES)))
    chosen = [name for name in PARTS if name in (options.only or PARTS.keys() - ON_REQUEST)]
    results: dict[str, Result] = {}
    for name in chosen:
        print(f"{name}: {load_part(name).TITLE}", file=sys.stderr)
        result = results[name] = measure(name, rounds, sizes, options.stores.absolute(), short=options.short)
        if options.json != "-":
            print("\n".join(f"{fact}: {value}" for fact, value in result.facts.items()))
            print("", *(table.text() + "\n" for table in tables(result.figures)), sep="\n", flush=True)
        if options.write_docs:
            _keep(options.stores / "results.json", results)
    if options.json == "-":
        print(to_json(results))
    elif options.json:
        Path(options.json).write_text(to_json(results), encoding="utf-8")
    if options.write_docs:
        kept = _keep(options.stores / "results.json", results)
        page.write(kept, {name: load_part(name) for name in PARTS})
    missed = any(figure.holds is False for result in results.values() for figure in result.figures)
    return 1 if options.check and missed else 0


def _keep(file: Path, results: dict[str, Result]) -> dict[str, Result]:
    """Put results beside those of earlier runs, in their place; return all."""
    known = from_json(file.read_text(encoding="utf-8")) if file.exists() else {}
    kept = {**known, **results}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(to_json(kept), encoding="utf-8")
    return kept


if __name__ == "__main__":
    raise SystemExit(main())
