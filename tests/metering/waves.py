"""Many calls at once through the three stages: is every one a row, is the money right, and who holds up the event loop?

The providers run in a process of their own. What they say they counted, times the prices of the file, is what all rows must
have cost: to the nano-dollar.
"""

import asyncio
import json
import sqlite3
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal

import aiohttp
from livekit.agents import APIConnectOptions, utils
from tests.metering.desk import PRICES, ask, recognize, say

from voicegw_mcp import inference
from voicegw_mcp.domain import Modality
from voicegw_mcp.inference import runtime
from voicegw_mcp.inference.attempts import Attempt
from voicegw_mcp.inference.build import build
from voicegw_mcp.inference.listening import Listening
from voicegw_mcp.inference.meter import Meter
from voicegw_mcp.inference.streams import Chat, Recognition, Speech

MODELS = {Modality.STT: "openai/whisper-1", Modality.LLM: "openai/gpt-4o-mini", Modality.TTS: "openai/tts-1"}
OPTIONS = APIConnectOptions(max_retry=0, timeout=30)
STALL_S = 0.02
BEAT_S = 0.005


@asynccontextmanager
async def providers(folder, *names, more=PRICES):
    """Run loopback providers in a process of their own, and point a voicegw.yaml at them; yields name -> address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.loopback",
        *names,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        where = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        entries = "".join(
            f"  {name}: {{api_key: '{each['key']}', base_url: '{each['base_url']}'}}\n"
            for name, each in where.items()
        )
        path = folder / "voicegw.yaml"
        path.write_text(
            f"providers:\n{entries}cost_tracking: {{db_path: '{folder / 'voicegw.db'}'}}\n{more}",
            encoding="utf-8",
        )
        inference.configure(path)
        async with utils.http_context.open():
            yield where
    finally:
        inference.configure(None)
        process.stdin.close()
        await process.wait()


@dataclass
class Loop:
    """How long the loop let nobody else run, and how much of that was our own code, in seconds."""

    beats: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    async def beat(self):
        """Want to run every 5 ms, and note how late it is."""
        while True:
            due = time.perf_counter() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self.beats.append(time.perf_counter() - due)


OURS = [
    (Attempt, "__init__"),
    (Meter, "_enter"),
    *((kind, name) for kind in (Chat, Speech, Listening) for name in ("watch", "send", "_end")),
    (Listening, "push_frame"),  # with what LiveKit does there itself
    (Recognition, "end"),
]


@asynccontextmanager
async def watched(clock=time.thread_time):
    """Note how long each stretch of our own code on the loop takes, by default its CPU time, and how late others run."""
    loop, before, depth = Loop(), {}, [0]

    def timed(function):
        def run(*args, **kwargs):
            if depth[0]:  # within a stretch that is measured already
                return function(*args, **kwargs)
            depth[0] = 1
            began = clock()
            try:
                return function(*args, **kwargs)
            finally:
                loop.ours.append(clock() - began)
                depth[0] = 0

        return run

    for owner, name in OURS:
        before[owner, name] = owner.__dict__.get(name)
        setattr(owner, name, timed(getattr(owner, name)))
    beat = asyncio.create_task(loop.beat())
    try:
        yield loop
    finally:
        beat.cancel()
        for (owner, name), function in before.items():
            if function is None:
                delattr(owner, name)
            else:
                setattr(owner, name, function)


@asynccontextmanager
async def stages(*, metered=True, models=MODELS):
    """Make one instance of each stage."""
    async with AsyncExitStack() as stack:
        made = {}
        for modality, model in models.items():
            make = getattr(inference, modality.upper())
            made[modality] = (
                make(model, fallback=[]) if metered else build(runtime.current(), modality, model)[0]
            )
            stack.push_async_callback(made[modality].aclose)
            client = getattr(made[modality], "_client", None)
            if client is not None:
                stack.push_async_callback(client.close)
        yield made


async def turn(made, number):
    """Hear, think, speak; what is said differs from call to call."""
    with inference.session(f"call-{number}"):
        await recognize(made[Modality.STT], 200 + number % 7 * 100, options=OPTIONS)
        await ask(
            made[Modality.LLM], f"{'word ' * (1 + number % 9)}{number}", system="Be brief.", options=OPTIONS
        )
        await say(made[Modality.TTS], f"It is number {number}.", options=OPTIONS)


async def wave(made, calls, at_once):
    """Make calls, ``at_once`` at a time: the next wave begins when the last of one has ended."""
    for first in range(0, calls, at_once):
        await asyncio.gather(*(turn(made, number) for number in range(first, min(calls, first + at_once))))


def nano(usd):
    """Round to nano-USD as money is stored."""
    return int((usd * 10**9).to_integral_value(ROUND_HALF_EVEN))


def owed(call):
    """Return what a request cost, by what its provider counted and the prices of the file."""
    if call["door"] == "chat":
        uncached = call["input_tokens"] - call["cached_tokens"]
        return nano(
            (
                uncached * Decimal("0.15")
                + call["cached_tokens"] * Decimal("0.075")
                + call["output_tokens"] * Decimal("0.60")
            )
            / 10**6
        )
    if call["door"] == "speech":
        return nano(call["characters"] * Decimal("0.015") / 1000)
    return nano(call["audio_ms"] * Decimal("0.006") / 60000)


@dataclass
class Books:
    """What was recorded, and what should have been."""

    rows: int
    calls: int
    successes: int
    sessions: set[int]
    spent: int
    owed: int


async def balance(folder, address):
    """Compare the log with what the provider says."""
    assert runtime.current().recorder().flush(60)
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{address['origin']}/_loopback/calls") as answer,
    ):
        calls = await answer.json()
    with closing(sqlite3.connect(folder / "voicegw.db")) as store:
        rows, successes, spent = store.execute(
            "SELECT COUNT(*), SUM(status = 'success'), SUM(cost_nanousd) FROM requests"
        ).fetchone()
        sessions = {count for (count,) in store.execute("SELECT COUNT(*) FROM requests GROUP BY session_id")}
        rolled = store.execute("SELECT SUM(cost_nanousd) FROM rollup WHERE grain_s = 86400").fetchone()[0]
    assert rolled == spent
    return Books(rows, len(calls), successes, sessions, spent, sum(map(owed, calls)))
