"""The recorder: what recording costs the caller, and how many rows a second get into the store with their sums.

The floor is what SQLite needs to take the same rows into one bare table, by plain executemany in transactions of the
same size, measured in turns. 20 models, 8 providers, 4 projects; rows of an hour, sent as fast as the queue takes them.
"""

from __future__ import annotations

import random
import sqlite3
import statistics
import time
from contextlib import closing
from typing import TYPE_CHECKING

from figures import Figure
from progress import Progress

from voicegw_mcp.domain import Modality, RequestRecord, Usage
from voicegw_mcp.store.recorder import Recorder

if TYPE_CHECKING:
    from pathlib import Path

    from part import Run

ROWS = 40_000
BATCH = 2_000
"""Rows per transaction of the floor: those of the recorder under load."""
NOW_MS = 1_795_000_000_000
COLUMNS = 19
INSERT = f"INSERT INTO bare VALUES ({', '.join('?' * COLUMNS)})"  # noqa: S608 - question marks only


def rows(turn: int, count: int = ROWS) -> list[RequestRecord]:
    """Return the rows of one round; the same in every run."""
    chance = random.Random(turn)  # noqa: S311 - data, no secret
    return [
        RequestRecord(
            id=f"{turn:04d}{number:016d}",
            timestamp_ms=NOW_MS + turn * 3_600_000 + number * 3_600_000 // count,
            project=f"project-{chance.randrange(4)}",
            modality=list(Modality)[number % 20 % 3],
            provider=f"provider-{number % 20 % 8}",
            model_id=f"provider-{number % 20 % 8}/model-{number % 20}",
            usage=Usage(input_tokens=chance.randrange(4000), output_tokens=chance.randrange(400)),
            cost_nanousd=chance.randrange(10**7),
            price_source="genai-prices",
            price_date="2026-11-01",
            ttfb_ms=chance.lognormvariate(5, 1),
            total_ms=chance.lognormvariate(6, 1),
            session_id=f"session-{number // 20}",
        )
        for number in range(count)
    ]


TITLE = "Recording"
METHOD = """\
Rows handed to the recorder as fast as it takes them, against the same rows put into one bare table by executemany.
"""


def measure(run: Run) -> list[Figure]:
    """Return the figures of the recorder."""
    took: dict[str, list[float]] = {name: [] for name in ("p50", "p99", "ours", "floor", "ratio")}
    with (
        closing(_bare(run.folder / "floor.db")) as floor,
        Progress("recorder", run.rounds + 1) as progress,
    ):
        for turn in range(-1, run.rounds):
            sent = rows(turn + 1)
            measured = _record(run.folder / "voicegw.db", sent)
            measured["floor"] = len(sent) / _insert(floor, sent)
            measured["ratio"] = measured["ours"] / measured["floor"]
            if turn >= 0:  # the first one fills the caches
                for name, value in measured.items():
                    took[name].append(value)
            progress.step()
    return [
        Figure("enqueue a row, p50", "us", tuple(took["p50"]), bar=10),
        Figure("enqueue a row, p99", "us", tuple(took["p99"]), bar=100),
        Figure("rows recorded, with sums", "rows/s", tuple(took["ours"]), bar=20_000, at_least=True),
        Figure("the same rows, one bare table", "rows/s", tuple(took["floor"])),
        Figure("rows recorded, ratio", "x", tuple(took["ratio"])),
    ]


def _record(path: Path, sent: list[RequestRecord]) -> dict[str, float]:
    took: list[int] = []
    clock = time.perf_counter_ns
    with Recorder(path, on_sigterm=False) as recorder:
        began = time.perf_counter()
        for row in sent:
            before = clock()
            recorder.record(row)
            took.append(clock() - before)
        if not recorder.flush(120):
            raise RuntimeError("the store did not take the rows within two minutes")
        rate = len(sent) / (time.perf_counter() - began)
        counts = recorder.counts()
    if (counts.written, counts.lost) != (len(sent), {}):
        raise RuntimeError(f"{counts} after {len(sent)} rows")
    hundredths = statistics.quantiles(took, n=100)
    return {"p50": hundredths[49] / 1000, "p99": hundredths[98] / 1000, "ours": rate}


def _bare(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"CREATE TABLE bare ({', '.join(f'c{number}' for number in range(COLUMNS))})")
    return connection


def _insert(connection: sqlite3.Connection, sent: list[RequestRecord]) -> float:
    began = time.perf_counter()
    for start in range(0, len(sent), BATCH):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(INSERT, map(_values, sent[start : start + BATCH]))
        connection.execute("COMMIT")
    return time.perf_counter() - began


def _values(row: RequestRecord) -> tuple[object, ...]:
    usage = row.usage
    return (
        row.id, row.timestamp_ms, row.project, str(row.modality), row.provider, row.model_id, str(row.status),
        row.session_id, usage.audio_ms, usage.input_tokens, usage.output_tokens, usage.cached_tokens,
        usage.characters, row.cost_nanousd, row.price_source, row.price_date, row.ttfb_ms, row.total_ms,
        row.estimated,
    )  # fmt: skip
