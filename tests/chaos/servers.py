"""``voicegw-mcp`` servers as real processes over stdio, several on one gateway, asked without waiting for each."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.chaos.scene import KEYS, House

COMMAND = Path(sys.executable).parent / "voicegw-mcp"
ENDING_S = 20.0


class Server:
    """One server process. ``fileno`` is its output, for a selector."""

    def __init__(self, house: House) -> None:
        environment = {
            **KEYS,
            "PATH": os.environ["PATH"],
            "HOME": str(house.folder),
            "LANG": "C.UTF-8",
            "VOICEGW_CONFIG": str(house.config),
            "VOICEGW_DB_PATH": str(house.home / "voicegw.db"),
        }
        if "PYTHONPATH" in os.environ:
            environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
        self._errors = (house.folder / "stderr.txt").open("ab")
        self.process = subprocess.Popen(
            [COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=house.folder,
            env=environment,
            bufsize=0,
        )
        os.set_blocking(self.fileno(), False)
        self._buffer = b""
        self._asked = 0
        info = {"name": "chaos", "version": "1"}
        self._send("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info})
        self._write({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def fileno(self) -> int:
        return self.process.stdout.fileno()

    def call(self, tool: str, arguments: dict[str, Any]) -> None:
        """Ask for a call; the answer comes with ``answers``."""
        self._send("tools/call", {"name": tool, "arguments": arguments})

    def answers(self) -> list[dict[str, Any]] | None:
        """Return the answers to calls that have come, None when the server is gone."""
        try:
            data = os.read(self.fileno(), 1 << 16)
        except BlockingIOError:
            return []
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        messages = [json.loads(line) for line in lines if line]
        found = [
            message["result"] for message in messages if message.get("id", 1) != 1 and "result" in message
        ]
        return found if found or data else None

    def kill(self) -> None:
        """Kill it, by its own process id, and take what it had answered before."""
        self.process.kill()
        self.process.wait(ENDING_S)

    def close(self) -> None:
        """End it in order: close its input; kill it when it does not end."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process.stdout.close()
        self._errors.close()

    def _send(self, method: str, parameters: dict[str, Any]) -> None:
        self._asked += 1
        self._write({"jsonrpc": "2.0", "id": self._asked, "method": method, "params": parameters})

    def _write(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
