"""Requests recorded at a rate, by a process of their own, as a voice agent records them into a store that others read.

python benchmarks/recording.py STORE ROWS_PER_S    # until its standard input ends; then it prints how many rows it wrote
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from select import select
from typing import TYPE_CHECKING

import traffic

from voicegw_mcp.domain import RequestRecord, Usage
from voicegw_mcp.store.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITING = "writing"
ENDING_S = 30.0


@contextmanager
def recording(store: Path, processes: int, rows_per_s: int) -> Iterator[None]:
    """Let so many processes record so many rows a second each meanwhile.

    Raises:
        RuntimeError: one of them wrote nothing.
    """
    with ExitStack() as stack:
        for _ in range(processes):
            stack.enter_context(_process(store, rows_per_s))
        yield


@contextmanager
def _process(store: Path, rows_per_s: int) -> Iterator[None]:
    command = [sys.executable, __file__, str(store), str(rows_per_s)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        if process.stdout.readline().strip() != WRITING:
            raise RuntimeError("the writer did not start")
        yield
    finally:
        told, _ = process.communicate(timeout=ENDING_S)
    if process.returncode or not int(told):
        raise RuntimeError(
            f"the writer wrote {told.strip() or 'nothing'} and ended with {process.returncode}"
        )


def _rows() -> Iterator[RequestRecord]:
    chance = random.Random(os.getpid())  # noqa: S311 - data, no secret
    for number in itertools.count():
        offer = traffic.OFFERS[number % len(traffic.OFFERS)]
        yield RequestRecord(
            f"recorded-{os.getpid()}-{number}",
            time.time_ns() // 1_000_000,
            traffic.PROJECTS[number % len(traffic.PROJECTS)],
            offer.modality,
            offer.provider,
            offer.model_id,
            usage=Usage(input_tokens=chance.randrange(4000), output_tokens=chance.randrange(400)),
            cost_nanousd=chance.randrange(10**7),
            ttfb_ms=chance.lognormvariate(5, 1),
            total_ms=chance.lognormvariate(6, 1),
        )


def main() -> int:
    store, rows_per_s = Path(sys.argv[1]), int(sys.argv[2])
    with Recorder(store, on_sigterm=False) as recorder:
        print(WRITING, flush=True)
        due = time.monotonic()
        for row in _rows():
            due += 1 / rows_per_s
            if select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
                break
            recorder.record(row)
    print(recorder.counts().written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
