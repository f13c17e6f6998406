"""Metering: what it adds to a call of a plugin, by making the same call with and without it in turns.

The providers are on loopback, in a process of their own. A call there takes milliseconds and varies by more than what is looked
for, so besides the difference of what the calls took, the CPU time of our own code in each call is measured.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from figures import Figure
from progress import Progress

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.metering.desk import ask, listen, recognize, say, speak
from tests.metering.waves import OPTIONS, providers, stages, watched

from voicegw_mcp import inference
from voicegw_mcp.domain import Modality
from voicegw_mcp.inference import context, runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from part import Run

TITLE = "Metering"
METHOD = """\
The same call of a LiveKit plugin metered and bare, in turns, against a provider on loopback: what it took longer, and the CPU time
of our own code on the event loop. What stands before each request is asked by itself.
"""
CALLS = 150
ASKED = 20_000
STAGES: dict[str, tuple[Modality, str, Callable[..., Awaitable[Any]]]] = {
    "LLM chat (openai)": (Modality.LLM, "openai/gpt-4o-mini", ask),
    "TTS synthesize (openai)": (Modality.TTS, "openai/tts-1", say),
    "TTS stream (cartesia)": (Modality.TTS, "cartesia/sonic-3", speak),
    "STT recognize (openai)": (Modality.STT, "openai/whisper-1", recognize),
    "STT recognize (deepgram)": (Modality.STT, "deepgram/nova-3", recognize),
    "STT stream (cartesia)": (Modality.STT, "cartesia/ink-2", listen),
}


def measure(run: Run) -> list[Figure]:
    """Return the figures of metering."""
    logging.disable(logging.WARNING)
    try:
        return [*_ask_the_guard(run), *asyncio.run(_measure(run))]
    finally:
        logging.disable(logging.NOTSET)


async def _measure(run: Run) -> list[Figure]:
    found: dict[tuple[str, str], list[float]] = {}
    calls = 20 if run.short else CALLS
    async with providers(run.folder, "openai", "deepgram", "cartesia"):
        with Progress("metering", len(STAGES) * run.rounds) as progress:
            for name, (modality, model, call) in STAGES.items():
                models = {modality: model}
                async with stages(models=models) as metered, stages(metered=False, models=models) as bare:
                    for turn in range(run.rounds + 1):
                        figures = await _compare(metered[modality], bare[modality], call, calls)
                        if turn:  # the first one connects
                            for column, value in figures.items():
                                found.setdefault((name, column), []).append(value)
                            progress.step()
    bars = {"more, p50 us": 60.0, "more, p99 us": 400.0, "own CPU, p50 us": 60.0, "own CPU, p99 us": 400.0}
    return [
        Figure(name, "us", tuple(values), bars.get(column), table="A metered call", column=column)
        for (name, column), values in found.items()
    ]


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


async def _compare(
    metered: object, bare: object, call: Callable[..., Awaitable[Any]], calls: int
) -> dict[str, float]:
    took: dict[bool, list[float]] = {True: [], False: []}
    own: list[float] = []
    for number in range(2 * calls):
        ours = (number + number // 2) % 2 == 0  # neither is always the first of a pair
        began = time.perf_counter()
        await call(metered if ours else bare, options=OPTIONS)
        took[ours].append(1e6 * (time.perf_counter() - began))
    async with watched() as loop:
        for _ in range(calls // 4):
            loop.ours.clear()
            await call(metered, options=OPTIONS)
            own.append(1e6 * sum(loop.ours))
    return {
        "bare, p50 us": statistics.median(took[False]),
        "more, p50 us": statistics.median(took[True]) - statistics.median(took[False]),
        "more, p99 us": _p99(took[True]) - _p99(took[False]),
        "own CPU, p50 us": statistics.median(own),
        "own CPU, p99 us": _p99(own),
    }


def _p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))]
