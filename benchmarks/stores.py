"""Stores to measure on, filled through the product's own write path and kept for the next run.

    python benchmarks/stores.py --rows 1000000 FILE    # a store, and the voicegw.yaml that fits beside it

The rows (``traffic.py``) lie in the 30 days before a whole hour, by default the last one: reports of today, this week and
this month find rows only when these are recent. So ``kept_store`` fills anew on another day (UTC), and then removes the
stores of earlier days; within a day the same store serves every run.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import os
import sys
import time
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import traffic
from progress import Progress

from voicegw_mcp.store import histogram, log_indexes, peaks, requests, rollup_writing, rollups
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.schema import connect, migration_scripts, prepare

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT = Path(__file__).resolve().parent.parent / ".bench"
SEED = 7
BATCH = 50_000
"""Rows per transaction. What a row costs is mostly its share of the cells it adds to: in a large batch many share one."""
HOUR_MS = 3_600_000


def last_hour_ms() -> int:
    """Return when this hour began, UTC epoch ms."""
    return time.time_ns() // 1_000_000 // HOUR_MS * HOUR_MS


def make_store(
    path: Path,
    rows: int,
    *,
    seed: int = SEED,
    end_ms: int | None = None,
    advance: Callable[[int], None] = lambda _rows: None,
) -> None:
    """Make a store with ``rows`` rows and ``voicegw.yaml`` beside it; the same rows for the same arguments.

    Args:
        path: the file; replaced when it is there. It is filled under another name, so that it is whole or absent.
        rows: how many.
        seed: of the random numbers.
        end_ms: UTC epoch ms before which all rows lie, 30 days back from there; by default when this hour began.
        advance: called after each transaction with the number of rows so far.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        prepare(partial, deadline=time.monotonic() + 10)
        with closing(connect(partial, timeout_s=10)) as connection:
            connection.execute("PRAGMA synchronous = OFF")  # synced once, at the end
            calls = iter(traffic.Calls(rows, end_ms=end_ms or last_hour_ms(), seed=seed))
            done = 0
            while batch := list(islice(calls, BATCH)):
                connection.execute("BEGIN IMMEDIATE")
                done += insert_requests(connection, batch)
                connection.execute("COMMIT")
                advance(done)
            if done != rows:
                raise RuntimeError(f"{done} of {rows} rows were new")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for leftover in ("-wal", "-shm"):
            path.with_name(path.name + leftover).unlink(missing_ok=True)
        partial.replace(path)
    finally:
        for leftover in ("", "-wal", "-shm"):
            partial.with_name(partial.name + leftover).unlink(missing_ok=True)
    path.with_name("voicegw.yaml").write_text(traffic.voicegw_yaml(), encoding="utf-8")


def kept_store(rows: int, folder: Path = KEPT, *, seed: int = SEED) -> Path:
    """Return a store with ``rows`` rows of the last 30 days, filled at the first call of a day.

    It is known by its rows, the seed, the day, and the code that makes it; others with as many rows are removed.
    """
    day = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d")
    path = folder / f"{rows}-seed{seed}-{_fingerprint()}-{day}.db"
    if not path.exists():
        for older in folder.glob(f"{rows}-*"):
            older.unlink()
        with Progress(f"fill a store with {rows:,} rows", rows) as progress:
            make_store(path, rows, seed=seed, advance=progress.reach)
    return path


def _fingerprint() -> str:
    """Return what the content of a store depends on, as a few letters: the schema, who writes it, and the rows."""
    sources = (traffic, histogram, log_indexes, peaks, requests, rollup_writing, rollups)
    made_of = [
        *migration_scripts(),
        *(Path(module.__file__).read_text(encoding="utf-8") for module in sources),
    ]
    return f"v{len(migration_scripts())}-{hashlib.sha256(chr(0).join(made_of).encode()).hexdigest()[:8]}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Fill a store with synthetic calls of the last 30 days.")
    parser.add_argument("file", type=Path, help="the store; replaced when it is there")
    parser.add_argument("--rows", type=int, default=100_000, help="how many (100000)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"other rows for another number ({SEED})")
    parser.add_argument("--end", help="ISO 8601 time before which the rows lie (when this hour began)")
    options = parser.parse_args()
    end_ms = None
    if options.end:
        end = dt.datetime.fromisoformat(options.end)
        end_ms = int((end if end.tzinfo else end.replace(tzinfo=dt.UTC)).timestamp() * 1000)
    began = time.monotonic()
    with Progress(f"fill {options.file}", options.rows) as progress:
        make_store(options.file, options.rows, seed=options.seed, end_ms=end_ms, advance=progress.reach)
    took, size = time.monotonic() - began, options.file.stat().st_size
    print(
        f"{options.rows:,} rows in {took:.1f} s ({options.rows / took:,.0f} rows/s), "
        f"{size / 1e6:.1f} MB ({size / options.rows:.0f} bytes a row)",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
