"""A client as small as can be: JSON-RPC lines over pipes, so that what is measured is the server."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENDING_S = 10.0


class LineClient:
    """One server process and the line client on it. ``started`` is when it was spawned (``perf_counter`` seconds)."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], errors: Path) -> None:
        self._errors = errors.open("ab")
        self._last_id = 0
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=dict(environment),
            bufsize=0,
        )
        assert self.process.stdin
        assert self.process.stdout
        self._input = self.process.stdin
        self._output = os.fdopen(os.dup(self.process.stdout.fileno()), "rb", buffering=1 << 16)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._input.close()
        try:
            self.process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(ENDING_S)
        self._output.close()
        self._errors.close()

    def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request and return its result.

        Raises:
            RuntimeError: the server went away, or answered a protocol error.
        """
        self._last_id += 1
        self._send({"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params})
        line = self._output.readline()
        if not line:
            raise RuntimeError(f"{method}: the server ended; its standard error: {self._errors.name}")
        answer: dict[str, Any] = json.loads(line)
        if answer.get("id") != self._last_id or "result" not in answer:
            raise RuntimeError(f"{method}: {line[:500]!r}")
        return answer["result"]

    def initialize(self) -> None:
        """Shake hands, the way protocols up to 2025-11-25 do."""
        info = {"name": "bench", "version": "1"}
        self.request("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info})
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def tools(self) -> list[dict[str, Any]]:
        """Return tools/list."""
        return self.request("tools/list", {})["tools"]

    def call(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Call a tool and return its structured content.

        Raises:
            RuntimeError: the tool answered an error.
        """
        result = self.request("tools/call", {"name": name, "arguments": arguments})
        if result.get("isError"):
            raise RuntimeError(f"{name}: {result['content'][0]['text']}")
        return result["structuredContent"]

    def elapsed_s(self) -> float:
        """Return the wall time since the process was spawned."""
        return time.perf_counter() - self.started

    def cpu_s(self) -> float:
        """Return the CPU time of all its threads so far, from the scheduler (ns resolution; Linux)."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9

    def peak_mib(self) -> float:
        """Return the most memory it ever had resident (VmHWM; Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024

    def _send(self, message: Mapping[str, Any]) -> None:
        self._input.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
