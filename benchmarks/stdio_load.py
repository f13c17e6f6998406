"""Many clients over stdio at once: each has a server process of its own, as hosts launch them, on the same file and store.

All clients are driven by this thread, which looks into an answer no further than whether it is an error.
"""

from __future__ import annotations

import json
import os
import selectors
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from at_once import HEALTH, NOOP, Rounds, crowd_name
from progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from at_once import Load
    from client import LineClient
    from figures import Figure
    from part import Run
    from reading_calls import Call

STARTED_AT_ONCE = 4
"""Servers that start at the same time: what the machine has CPUs for, or little more."""
READ_BYTES = 1 << 20
WAIT_S = 60.0


def measure_busy(run: Run, environment: Mapping[str, str], load: Load) -> list[Figure]:
    """Return the figures of many clients at once; as many servers as the most are started once, ours and bare ones.

    Args:
        run: spawns the servers.
        environment: of ours; names file and store.
        load: who calls what.
    """
    figures: list[Figure] = []
    with ExitStack() as stack:
        bare, ours = _started(run, environment, max(load.counts), stack)
        with Progress("clients over stdio", load.turns) as progress:
            for count in load.counts:
                measured = Rounds(crowd_name(count, "stdio"), load)
                for turn in measured.turns():
                    callers = (bare if turn.call is NOOP else ours)[:count]
                    with turn.measured(lambda them=callers: sum(client.cpu_s() for client in them)):
                        turn.took_ms += call_at_once(callers, turn.call, load.round_s)
                    progress.step()
                figures += measured.figures()
    return figures


def _started(
    run: Run, environment: Mapping[str, str], count: int, stack: ExitStack
) -> tuple[list[LineClient], list[LineClient]]:
    """Return so many bare servers and so many of ours, each called once; they end with the stack.

    The first call opens the store and costs more than others, so a few at a time.
    """
    spawned = [(run.bare, NOOP)] * count + [(lambda: run.ours(environment), HEALTH)] * count
    clients: list[LineClient] = []
    with Progress(f"start {len(spawned)} servers", len(spawned)) as progress:
        for at in range(0, len(spawned), STARTED_AT_ONCE):
            fresh = [
                (stack.enter_context(spawn()), call) for spawn, call in spawned[at : at + STARTED_AT_ONCE]
            ]
            for client, call in fresh:
                client.initialize()
                client.timed(call.tool, call.arguments, 1)
                clients.append(client)
                progress.step()
    stack.callback(_end_inputs, clients)
    return clients[:count], clients[count:]


def call_at_once(clients: Sequence[LineClient], call: Call, round_s: float) -> list[float]:
    """Let every client call as fast as it is answered for so many seconds; return how long each call took, in ms.

    Raises:
        RuntimeError: a server went away, answered an error, or nothing for ``WAIT_S``.
    """
    params = {"name": call.tool, "arguments": call.arguments}
    message = {"jsonrpc": "2.0", "id": "at-once", "method": "tools/call", "params": params}
    line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
    took: list[float] = []
    sent: dict[int, float] = {}
    parts: dict[int, list[bytes]] = {}
    inputs: dict[int, int] = {}
    with selectors.DefaultSelector() as waiting:

        def send(output: int) -> None:
            parts[output] = []
            sent[output] = time.perf_counter()
            os.write(inputs[output], line)

        until = time.perf_counter() + round_s
        for client in clients:
            assert client.process.stdin
            assert client.process.stdout
            output = client.process.stdout.fileno()
            inputs[output] = client.process.stdin.fileno()
            waiting.register(output, selectors.EVENT_READ)
            send(output)
        while inputs:
            ready = waiting.select(WAIT_S)
            if not ready:
                raise RuntimeError(f"{call.name}: no answer for {WAIT_S:.0f} s")
            for key, _ in ready:
                output = key.fd
                part = os.read(output, READ_BYTES)
                now = time.perf_counter()
                parts[output].append(part)
                if part and not part.endswith(b"\n"):
                    continue
                _check(call, b"".join(parts[output]))
                took.append((now - sent[output]) * 1000)
                if now < until:
                    send(output)
                else:
                    waiting.unregister(output)
                    del inputs[output]
    return took


def _check(call: Call, answer: bytes) -> None:
    if b'"result":' not in answer[:200] or b'"isError":true' in answer:
        raise RuntimeError(f"{call.name}: {answer[:500]!r}")


def _end_inputs(clients: Sequence[LineClient]) -> None:
    """Let all servers end at the same time, before each is waited for."""
    for client in clients:
        assert client.process.stdin
        client.process.stdin.close()
