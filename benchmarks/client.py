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
        assert self.process.stdout
        self.process.stdout.close()
        self._errors.close()

    def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request and return its result.

        Raises:
            RuntimeError: the server went away, or answered a protocol error.
        """
        return self._exchange(method, params)[0]

    def timed(self, tool: str, arguments: Mapping[str, Any], count: int) -> list[float]:
        """Call a tool ``count`` times; return how long each took in ms, until its answer's line was read.

        Raises:
            RuntimeError: the tool answered an error.
        """
        params = {"name": tool, "arguments": arguments}
        took: list[float] = []
        for _ in range(count):
            result, elapsed_s = self._exchange("tools/call", params)
            _refuse_error(tool, result)
            took.append(elapsed_s * 1000)
        return took

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
        _refuse_error(name, result)
        return result["structuredContent"]

    def pings_during(self, name: str, arguments: Mapping[str, Any]) -> list[float]:
        """Call a tool, and ping as fast as it is answered until the tool is; return what each ping took, in ms.

        Raises:
            RuntimeError: the server went away, or answered a protocol error.
        """
        return self.timed_during(name, arguments, "ping", {})

    def timed_during(
        self, name: str, arguments: Mapping[str, Any], method: str, params: Mapping[str, Any]
    ) -> list[float]:
        """Do the same with any other request instead of a ping.

        Raises:
            RuntimeError: the server went away, or answered a protocol error.
        """
        self._last_id += 1
        tool, took = self._last_id, list[float]()
        self._send(_request(tool, "tools/call", {"name": name, "arguments": arguments}))
        answered = False
        while not answered:
            self._last_id += 1
            began = time.perf_counter()
            self._send(_request(self._last_id, method, params))
            waiting = {self._last_id}
            while waiting:
                answer = self._answer()
                answered = answered or answer["id"] == tool
                waiting.discard(answer["id"])
            took.append((time.perf_counter() - began) * 1000)
        return took

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

    def _exchange(self, method: str, params: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
        """Return the result of a request, and the seconds from sending it until the line of its answer was read."""
        self._last_id += 1
        message = _line(_request(self._last_id, method, params))
        began = time.perf_counter()
        self._input.write(message)
        line = self._output.readline()
        elapsed_s = time.perf_counter() - began
        answer = self._parsed(line)
        if answer["id"] != self._last_id:
            raise RuntimeError(f"{method}: {line[:500]!r}")
        return answer["result"], elapsed_s

    def _send(self, message: Mapping[str, Any]) -> None:
        self._input.write(_line(message))

    def _answer(self) -> dict[str, Any]:
        """Return the next answer, whatever it answers."""
        return self._parsed(self._output.readline())

    def _parsed(self, line: bytes) -> dict[str, Any]:
        if not line:
            raise RuntimeError(f"the server ended; its standard error: {self._errors.name}")
        answer: dict[str, Any] = json.loads(line)
        if "id" not in answer or "result" not in answer:
            raise RuntimeError(f"no result: {line[:500]!r}")
        return answer


def _request(number: int, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _refuse_error(tool: str, result: Mapping[str, Any]) -> None:
    if result.get("isError"):
        raise RuntimeError(f"{tool}: {result['content'][0]['text']}")
