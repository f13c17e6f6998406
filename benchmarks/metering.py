"""Metering: what it adds to a call of a plugin, by making the same call with and without it in turns.

The providers are on loopback, in a process of their own. A call there takes milliseconds and varies by more than what is looked
for, so besides the difference of what the calls took, the CPU time of our own code in each call is measured.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from figures import Figure
from progress import Progress

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.metering.desk import PRICES, ask, listen, recognize, say, speak
from tests.metering.waves import OPTIONS, STALL_S, providers, stages, watched, wave

from voicegw_mcp import inference
from voicegw_mcp.domain import Modality
from voicegw_mcp.inference import context, runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import Any

    from part import Run

TITLE = "Metering"
CALLS = 400
TAIL_CALLS = 2_000
"""A percentile that one call in a hundred is above needs more of them than a median."""
BLOCK = 25
DRAWS = 400
ASKED = 20_000
AT_ONCE = 256
METHOD = f"""\
The same call of a LiveKit plugin metered and bare, in turns within one process, against a provider on loopback in a process of its
own (OpenAI's speech as PCM: MP3 is decoded in another thread, and varies), from its beginning until its stream is closed and the caller goes on. Longer, p50, and more CPU are the median difference of
neighbours, whose order is left to chance; more CPU is that of the thread of the event loop. In brackets is the interval
that holds the median with 95 % (from its order statistics). The same is done with a second bare instance in place of the metered one: what that
is "longer" is the error of the method, and its interval should hold 0. Longer, p99, is the difference of both percentiles of {TAIL_CALLS:,} calls of each kind a round, made in blocks of
{BLOCK}, metered and bare by turns, so that what comes after a call (its row is priced and written in another thread, its garbage is
collected) falls on calls of its own kind; in brackets the 95 % interval of {DRAWS} bootstrap samples of blocks. A call takes milliseconds and
varies by more than what is looked for, so the time in our own code alone is measured as well (of frames that are pushed into a stream of
speech with LiveKit's part of it), with the least and the most of the rounds. What stands before each request is asked by itself, {ASKED:,} times on end. The imports are CPU time
of processes of their own, in turns. For stalls, {AT_ONCE} callers at once go through the three stages (recognize, chat, synthesize)
with and without meters, in turns: a task that wants to run every 5 ms tells how late it came, and each stretch of our own code
how much CPU time it took.
"""
ADDED = "What a meter adds to a call"
BARS = {
    f"{what}, {part}": bar
    for what in ("own code", "more CPU", "longer")
    for part, bar in (("p50", 60.0), ("p99", 400.0))
}
"""The limits are on what a call takes longer; our own code alone is what noise lets one see of it."""
Took: TypeAlias = tuple[float, float]
"""Wall and CPU time of a call, us."""
STAGES: dict[str, tuple[Modality, str, Callable[..., Awaitable[Any]]]] = {
    "LLM chat (openai)": (Modality.LLM, "openai/gpt-4o-mini", ask),
    "TTS synthesize (openai)": (Modality.TTS, "openai/tts-1", say),
    "TTS stream (cartesia)": (Modality.TTS, "cartesia/sonic-3", speak),
    "STT recognize (openai)": (Modality.STT, "openai/whisper-1", recognize),
    "STT recognize (deepgram)": (Modality.STT, "deepgram/nova-3", recognize),
    "STT stream (cartesia)": (Modality.STT, "cartesia/ink-2", listen),
}


SPEECH = "models: {tts: {openai/tts-1: {provider: openai, model: tts-1, response_format: pcm}}}\n"
"""The default is MP3, which the plugin decodes in a thread of its own: that alone makes the same call vary by more than 100 us."""


def measure(run: Run) -> list[Figure]:
    """Return the figures of metering."""
    logging.disable(logging.WARNING)
    try:
        return [
            *_import(run),
            *_ask_the_guard(run),
            *asyncio.run(_measure(run)),
            *asyncio.run(_stalls(run)),
        ]
    finally:
        logging.disable(logging.NOTSET)


def _import(run: Run) -> list[Figure]:
    """Return what importing us adds to importing LiveKit."""
    livekit, both = [], []
    for _ in range(run.rounds):
        livekit.append(_cpu_ms("import livekit.agents"))
        both.append(_cpu_ms("import livekit.agents, voicegw_mcp.inference"))
    ratios = tuple(with_us / alone for with_us, alone in zip(both, livekit, strict=True))
    return [
        Figure("import livekit.agents, CPU", "ms", tuple(livekit)),
        Figure("import livekit.agents and voicegw_mcp.inference, CPU", "ms", tuple(both)),
        Figure("imports, ratio", "x", ratios, 1.1),
    ]


def _cpu_ms(program: str) -> float:
    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return 1e3 * (children.ru_utime + children.ru_stime)

    before = used()
    subprocess.run([sys.executable, "-c", program], check=True)
    return used() - before


async def _stalls(run: Run) -> list[Figure]:
    """Return how late others came while many calls were under way, and how long our own code ran on end."""
    callers = 16 if run.short else AT_ONCE
    late: dict[str, list[list[float]]] = {"metered": [], "bare": []}
    ours: list[float] = []
    async with providers(run.folder, "openai"):
        for number in range(2 * run.rounds):
            name = ("metered", "bare")[(number + number // 2) % 2]
            async with stages(metered=name == "metered") as made:
                await wave(made, callers, callers)  # connects
                async with watched() as loop:
                    await wave(made, callers, callers)
            late[name].append(loop.beats)
            if name == "metered":
                ours.append(1e3 * max(loop.ours))
    over = {
        name: tuple(float(sum(beat > STALL_S for beat in beats)) for beats in rounds)
        for name, rounds in late.items()
    }
    table = f"{callers} callers at once"
    return [
        *(
            Figure(name, "beats", over[name], table=table, column="over 20 ms late", interval=True)
            for name in over
        ),
        *(
            Figure(
                name,
                "ms",
                tuple(1e3 * max(beats) for beats in rounds),
                table=table,
                column="latest",
                interval=True,
            )
            for name, rounds in late.items()
        ),
        Figure("metered", "ms", tuple(ours), 20.0, table=table, column="our own code on end", interval=True),
    ]


async def _measure(run: Run) -> list[Figure]:
    figures: list[Figure] = []
    calls, tail = (BLOCK, 2 * BLOCK) if run.short else (CALLS, TAIL_CALLS)
    async with providers(run.folder, "openai", "deepgram", "cartesia", more=PRICES + SPEECH):
        with Progress("metering", len(STAGES) * run.rounds) as progress:
            for name, (modality, model, call) in STAGES.items():
                models, found = {modality: model}, Compared()
                # An instance may be slower than another one of its kind: each round has its own.
                for _ in range(run.rounds):
                    async with (
                        stages(models=models) as metered,
                        stages(metered=False, models=models) as bare,
                        stages(metered=False, models=models) as again,
                    ):
                        instances = metered[modality], bare[modality], again[modality]
                        await _compare(instances, call, 2, BLOCK, Compared())  # connects
                        await _compare(instances, call, calls, tail, found)
                    progress.step()
                figures += [
                    Figure(name, "us", values, BARS.get(column), table=ADDED, column=column, interval=True)
                    for column, values in found.columns().items()
                ]
    return figures


def _ask_the_guard(run: Run) -> list[Figure]:
    """Return what it takes to be let through by budgets and rate limits."""
    from voicegw_mcp.inference.guard import Guard  # noqa: PLC0415 - after LiveKit
    from voicegw_mcp.inference.leaf import Leaf  # noqa: PLC0415 - likewise

    path = run.folder / "guard.yaml"
    path.write_text(
        "providers: {openai: {api_key: none}, groq: {api_key: none}}\n"
        "projects: {free: {name: Free}, shop: {name: Shop, daily_budget: 5, budget_action: block}}\n"
        f"rate_limits: {{groq: {{requests_per_minute: {10**9}}}}}\n"
        f"cost_tracking: {{db_path: '{run.folder / 'guard.db'}'}}\n",
        encoding="utf-8",
    )
    inference.configure(path)
    guard = Guard(runtime.current(), Modality.LLM)
    runtime.current().recorder()
    figures = []
    for name, project, provider in (
        ("neither", "free", "openai"),
        ("a budget", "shop", "openai"),
        ("a budget and a rate limit", "shop", "groq"),
    ):
        leaf = Leaf(Modality.LLM, provider, provider, f"{provider}/m", "m")
        with context.set_project(runtime.current().catalog(), project):
            took = [_ask(guard, leaf, project) for _ in range(run.rounds + 1)][1:]
        figures.append(
            Figure(name, "us", tuple(took), 5.0, table="What stands before a request", column="us")
        )
    inference.configure(None)
    return figures


def _ask(guard: Callable[..., object], leaf: object, project: str) -> float:
    began = time.perf_counter()
    for _ in range(ASKED):
        guard(leaf, project, True)
        guard(leaf, project, False)
    return 1e6 * (time.perf_counter() - began) / ASKED


@dataclass
class Compared:
    """What was measured of one kind of call, in microseconds.

    Args:
        turns: of a metered call, its bare neighbour and one of another bare instance, each wall and CPU time.
        blocks: wall times of calls made in blocks, by whether they are metered.
        own: time in our own code, by round.
    """

    turns: list[tuple[Took, Took, Took]] = field(default_factory=list)
    blocks: dict[bool, list[list[float]]] = field(default_factory=lambda: {True: [], False: []})
    own: list[list[float]] = field(default_factory=list)

    def columns(self) -> dict[str, tuple[float, ...]]:
        """Return the columns of a row: of differences the estimate between the ends of its interval."""
        return {
            "bare, p50": (statistics.median(bare[0] for _, bare, _ in self.turns),),
            "bare again, longer, p50": _median([again[0] - bare[0] for _, bare, again in self.turns]),
            "own code, p50": tuple(map(statistics.median, self.own)),
            "own code, p99": tuple(map(_p99, self.own)),
            "more CPU, p50": _median([ours[1] - bare[1] for ours, bare, _ in self.turns]),
            "longer, p50": _median([ours[0] - bare[0] for ours, bare, _ in self.turns]),
            "longer, p99": _difference(self.blocks[True], self.blocks[False]),
        }


async def _compare(
    instances: tuple[object, object, object],
    call: Callable[..., Awaitable[Any]],
    calls: int,
    tail: int,
    found: Compared,
) -> None:
    """Make calls of a metered and of two bare instances, and add what they took to ``found``."""
    order, (metered, bare, _) = instances, instances
    for _ in range(calls):
        order = random.sample(order, 3)  # none shall always come after another
        took = {id(instance): await _time(call, instance) for instance in order}
        ours, theirs, others = (took[id(instance)] for instance in instances)
        found.turns.append((ours, theirs, others))
    recorder = runtime.current().recorder()
    assert recorder is not None
    for number in range(2 * tail // BLOCK):
        ours = (number + number // 2) % 2 == 0  # neither is always the first of two
        recorder.flush()
        found.blocks[ours].append([(await _time(call, metered if ours else bare))[0] for _ in range(BLOCK)])
    own: list[float] = []
    async with watched(time.perf_counter) as loop:
        for _ in range(calls // 2):
            loop.ours.clear()
            await call(metered, options=OPTIONS)
            own.append(1e6 * sum(loop.ours))
    found.own.append(own)


async def _time(call: Callable[..., Awaitable[Any]], instance: object) -> Took:
    """Return the wall time and the thread's CPU time of a call."""
    began, busy = time.perf_counter(), time.thread_time()
    await call(instance, options=OPTIONS)
    return 1e6 * (time.perf_counter() - began), 1e6 * (time.thread_time() - busy)


def _median(values: list[float]) -> tuple[float, float, float]:
    """Return the median between the order statistics that hold it with 95 %."""
    ordered = sorted(values)
    reach = math.ceil(1.96 * math.sqrt(len(ordered)) / 2)
    middle = len(ordered) // 2
    return (
        ordered[max(0, middle - reach)],
        statistics.median(ordered),
        ordered[min(len(ordered) - 1, middle + reach)],
    )


def _difference(ours: list[list[float]], theirs: list[list[float]]) -> tuple[float, float, float]:
    """Return the difference of both 99th percentiles between the ends of its bootstrap interval.

    Blocks are drawn and not calls, because what makes one call long makes those beside it long, too.
    """
    drawn = sorted(
        _p99(chain(*random.choices(ours, k=len(ours)))) - _p99(chain(*random.choices(theirs, k=len(theirs))))  # noqa: S311 - samples
        for _ in range(DRAWS)
    )
    found = _p99(chain(*ours)) - _p99(chain(*theirs))
    return (
        min(found, drawn[round(0.025 * DRAWS)]),
        found,
        max(found, drawn[round(0.975 * DRAWS) - 1]),
    )


def _p99(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[int(0.99 * (len(ordered) - 1))]
