"""A process that records a thousand requests a second, and tells after each batch how many are committed.

``python -m tests.store_proofs.writer STORE``; it ends when its standard input is closed.
"""

import select
import sys
import time
from pathlib import Path

from voicegw_mcp.domain import UNCOUNTED, Modality, RequestRecord, RequestStatus, Usage
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.schema import connect

ROWS_PER_S = 1000
BATCH = 50
START_MS = 1_795_000_000_000
STATUSES = dict(enumerate(RequestStatus))
"""Of each status one in fifty, and some of them in no count of requests."""


def cost_of(number: int) -> int:
    """Return what request ``number`` costs, in nano-USD; known to whoever checks."""
    return number * 7919 % 1_000_003


def counted(rows: int) -> int:
    """Return how many of the first rows are in counts of requests."""
    return sum(STATUSES.get(number % 50) not in UNCOUNTED for number in range(rows))


def record(number: int) -> RequestRecord:
    """Return request ``number``."""
    return RequestRecord(
        id=f"{number:012}",
        timestamp_ms=START_MS + number * 5_000,
        project=f"p{number % 4}",
        modality=Modality.LLM,
        provider=f"v{number % 8}",
        model_id=f"v{number % 8}/m{number % 20}",
        status=STATUSES.get(number % 50, RequestStatus.SUCCESS),
        usage=Usage(input_tokens=number % 3000),
        cost_nanousd=cost_of(number),
        ttfb_ms=1.0 + number % 700,
        total_ms=5.0 + number % 3000,
        session_id=f"s{number // 10}",
        error_message=f"Quota {number} exceeded" if number % 50 == 1 else None,
    )


def write(store: Path) -> None:
    """Record until nobody wants more; the last line says so again."""
    connection = connect(store, timeout_s=10)
    connection.execute("PRAGMA synchronous = NORMAL")
    done, due = 0, time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        batch = [record(number) for number in range(done, done + BATCH)]
        started = time.monotonic()
        connection.execute("BEGIN IMMEDIATE")
        insert_requests(connection, batch)
        connection.execute("COMMIT")
        done += BATCH
        due = max(due + BATCH / ROWS_PER_S, started)  # it is stopped now and then, and does not catch up
        print(done, flush=True)  # noqa: T201 - this is what it tells
    print(f"end {done}", flush=True)  # noqa: T201
    connection.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
