"""``voicegw-mcp`` with one tool more, which tells how long its event loop stood still: for ``stall.py``.

Everything else is the product's: its server over stdio, its tools, its garbage collection. A task that wants to wake up
every millisecond runs beside them; what it oversleeps is a stall.
"""

from __future__ import annotations

import time

import anyio

from voicegw_mcp.cli.modes import Mode
from voicegw_mcp.cli.stdio import collect_seldom, tell_lost
from voicegw_mcp.core.answers import Answer
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.server import build_server
from voicegw_mcp.tools.define import Input, Tool, tool
from voicegw_mcp.transports.stdio import serve_stdio

TICK_S = 0.001


class Ticker:
    """The longest stall since it was last asked."""

    def __init__(self) -> None:
        self._longest_s = 0.0
        self._woke = time.perf_counter()

    async def run(self) -> None:
        """Tick until cancelled."""
        self._woke = time.perf_counter()
        while True:
            await anyio.sleep(TICK_S)
            now = time.perf_counter()
            self._longest_s = max(self._longest_s, now - self._woke - TICK_S)
            self._woke = now

    def take_ms(self) -> float:
        """Return it, and begin anew."""
        longest_s, self._longest_s = self._longest_s, 0.0
        return longest_s * 1000


class Stall(Answer):
    """Answer of longest_stall."""

    longest_ms: float


class LongestStall(Input):
    """Arguments of longest_stall."""


def longest_stall(ticker: Ticker) -> Tool:
    """Return the tool that tells of ``ticker``."""

    @tool("Longest stall", read_only=True)
    async def longest_stall(gateway: Gateway, args: LongestStall) -> Stall:  # noqa: ARG001 - every tool takes both
        """Tell how long the event loop stood still since this was last asked."""
        return Stall(longest_ms=ticker.take_ms())

    return longest_stall


async def main() -> None:
    gateway, ticker = Mode().open_gateway(None, "stdio"), Ticker()
    server = build_server(gateway, (*Mode().choose_tools(), longest_stall(ticker)))
    async with anyio.create_task_group() as group:
        group.start_soon(ticker.run)
        await serve_stdio(server, gateway.close, tell_lost)
        group.cancel_scope.cancel()


if __name__ == "__main__":
    collect_seldom()
    anyio.run(main)
