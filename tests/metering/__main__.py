"""The long form of ``test_waves``: ``python -m tests.metering [--calls 10000] [--faults 5000] [--at-once 256]``."""

import argparse
import asyncio
import gc
import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.metering.desk import Desk
from tests.metering.faults import plan, storm
from tests.metering.waves import STALL_S, balance, providers, stages, watched, wave


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def waves(folder, calls, at_once):
    """Make calls with and without meters, in turns; compare the books, and who held up the loop."""
    late = {True: [], False: []}
    ours = []
    parts = 4
    turns = -(-calls // 3 // parts)
    async with providers(folder, "openai") as where:
        async with stages(metered=False) as bare:
            await wave(bare, at_once, at_once)  # connections, and what is imported late
        for part in range(parts):
            for metered in (part % 2 == 0, part % 2 != 0):
                async with stages(metered=metered) as made, watched() as loop:
                    began = time.perf_counter()
                    await wave(made, turns, at_once)
                    say(
                        f"  {3 * turns} calls {'metered' if metered else 'bare'}: {time.perf_counter() - began:.1f} s"
                    )
                late[metered] += loop.beats
                ours += loop.ours
        books = await balance(folder, where["openai"])
    say(f"rows {books.rows}, successes {books.successes}, rows per call {books.sessions}")
    metered_calls = 3 * turns * parts
    say(f"metered calls {metered_calls}, as many bare")
    say(f"spent {books.spent} nano-USD")
    for metered, beats in late.items():
        over = sum(each > STALL_S for each in beats)
        say(
            f"{'metered' if metered else 'bare   '}: {over} of {len(beats)} beats over 20 ms late, worst {1000 * max(beats):.1f} ms"
        )
    say(f"our own code: worst {1000 * max(ours):.2f} ms, over 20 ms: {sum(each > STALL_S for each in ours)}")
    return books.rows == books.successes == metered_calls and max(ours) < STALL_S


async def money(folder, calls, at_once):
    """Make metered calls only: what all rows cost is what the provider's own figures cost."""
    async with providers(folder, "openai") as where, stages() as made:
        await wave(made, -(-calls // 3), at_once)
        books = await balance(folder, where["openai"])
    say(f"rows {books.rows} of {books.calls} calls; spent {books.spent}, owed {books.owed} nano-USD")
    return (
        books.rows == books.calls == books.successes and books.spent == books.owed and books.sessions == {3}
    )


async def faults(folder, calls, at_once):
    """Let calls of each stage go wrong: each is exactly one row."""
    async with Desk(folder) as desk:
        server = await desk.start("openai")
        server.faults.plan(plan)
        async with stages() as made:
            await storm(made, calls, at_once, 4.0)
            gc.collect()
            rows = desk.rows()
    per_call = Counter(Counter(row.session_id for row in rows).values())
    say(f"{3 * calls} calls that went wrong: {len(rows)} rows, rows per call {dict(per_call)}")
    say(f"{dict(Counter((row.modality, row.status) for row in rows))}")
    say(f"{dict(Counter(row.error_kind for row in rows))}")
    return len(rows) == 3 * calls and set(per_call) == {1}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--faults", type=int, default=5_000)
    parser.add_argument("--at-once", type=int, default=256)
    said = parser.parse_args()
    logging.disable(logging.ERROR)
    held = []
    for prove, calls in ((money, said.calls), (waves, said.calls), (faults, said.faults)):
        if calls:
            with tempfile.TemporaryDirectory() as folder:
                say(prove.__doc__)
                held.append(asyncio.run(prove(Path(folder), calls, said.at_once)))
    sys.exit(not all(held))


if __name__ == "__main__":
    main()
