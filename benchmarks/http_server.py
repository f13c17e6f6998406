"""One HTTP server process, and what Linux tells about it from outside."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from http_client import Address

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENDING_S = 15.0
WAIT_S = 60.0
STEADY_KIB, STEADY_S = 64, 1.0
"""Memory that changes by less than that within that time has settled."""
URL = re.compile(rb"http://127\.0\.0\.1:(\d+)/mcp")


class HttpServer:
    """A server from its start, which says where it listens, to SIGTERM.

    Args:
        command: what to run; it tells the URL of ``/mcp`` on standard output.
        environment: all of its environment.
        errors: where its standard error goes.
        token: what it asks for, empty for none.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], errors: Path, token: str = ""
    ) -> None:
        with errors.open("ab") as told:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=told, env=dict(environment)
            )
        assert self._process.stdout
        for line in self._process.stdout:
            if found := URL.search(line):
                self.address = Address(int(found[1]), token)
                break
        else:
            raise RuntimeError(f"{command[0]} did not start; its standard error: {errors}")
        self._proc = Path(f"/proc/{self._process.pid}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(ENDING_S)
        assert self._process.stdout
        self._process.stdout.close()

    def cpu_s(self) -> float:
        """Return the CPU time of all its threads so far, from the scheduler (ns resolution)."""
        tasks = (self._proc / "task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def descriptors(self) -> int:
        """Return how many files and sockets it has open."""
        return sum(1 for _ in (self._proc / "fd").iterdir())

    def resident_kib(self) -> int:
        """Return the memory it has resident (VmRSS)."""
        status = (self._proc / "status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1])

    async def settled_kib(self) -> int:
        """Return its memory once that stays the same."""
        until = time.monotonic() + WAIT_S
        before = self.resident_kib()
        while time.monotonic() < until:
            await asyncio.sleep(STEADY_S)
            now = self.resident_kib()
            if abs(now - before) < STEADY_KIB:
                return now
            before = now
        raise RuntimeError(f"memory did not settle within {WAIT_S:.0f} s")

    async def wait_for_descriptors(self, count: int) -> int:
        """Wait until no more than so many are open, or for WAIT_S; return how many more there are."""
        until = time.monotonic() + WAIT_S
        while self.descriptors() > count and time.monotonic() < until:  # noqa: ASYNC110 - nothing tells us but asking
            await asyncio.sleep(0.05)
        return max(0, self.descriptors() - count)
