"""Requests that go wrong in every way at every stage, many at once: exactly one row each."""

import asyncio
import contextlib

from livekit.agents import APIConnectOptions
from tests.loopback import Fault
from tests.metering.desk import ask, conversation, recognize, say

from voicegw_mcp import inference

SOMETIMES_AGAIN = (
    APIConnectOptions(max_retry=0, timeout=5),
    APIConnectOptions(max_retry=1, retry_interval=0, timeout=5),
)

FAULTS = (
    Fault(status=401),
    Fault(status=402),
    Fault(status=404),
    Fault(status=408),
    Fault(status=429, retry_after=0),
    Fault(status=500),
    Fault(status=503),
    Fault(drop=True),
    Fault(cut_after=0),
    Fault(cut_after=1),
    Fault(hang=True),
)
DOORS = {"chat": 0, "speech": 0, "transcriptions": 0}


def plan(call):
    """Let every request of the three stages go wrong, each in its turn's way."""
    return FAULTS[call.number % len(FAULTS)] if call.door in DOORS else None


async def leave(stream):
    """Close a stream while its request is under way."""
    async with stream:
        await asyncio.sleep(0)


async def call(stage, instance, number, patience_s):
    """Make a call that goes wrong; every fifth is left by the caller, at some moment of it."""
    options = SOMETIMES_AGAIN[number % 2]
    with inference.session(f"{stage}-{number}"), contextlib.suppress(Exception, asyncio.CancelledError):
        if stage == "llm" and number % 5 == 0:
            await leave(instance.chat(chat_ctx=conversation(), conn_options=options))
        elif stage == "tts" and number % 5 == 0:
            await leave(instance.synthesize("Good morning.", conn_options=options))
        else:
            use = {"llm": ask, "tts": say, "stt": recognize}[stage]
            task = asyncio.ensure_future(use(instance, options=options))
            # Who waits in vain gives up: hung requests of OpenAI's plugins would otherwise take 30 s.
            done, _ = await asyncio.wait([task], timeout=patience_s)
            if not done:
                task.cancel()
            await task


async def storm(made, calls, at_once, patience_s):
    """Make so many calls of each stage, ``at_once`` at a time; callers give up after ``patience_s``."""
    for stage, instance in made.items():
        for first in range(0, calls, at_once):
            await asyncio.gather(
                *(
                    call(str(stage), instance, n, patience_s)
                    for n in range(first, min(calls, first + at_once))
                )
            )
