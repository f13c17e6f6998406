"""Servers as real processes over stdio, spoken to by lines; each is ended by its own pid when its test is over."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
COMMAND = BIN / "voicegw-mcp"
KEY = "fake-key-0001"
WAIT_S = 30
CONFIG = """\
# The gateway of the tests: this comment stays.
timezone: UTC  # and this one

providers:
  deepgram:
    api_key: ${DEEPGRAM_API_KEY}

models:
  stt:
    deepgram/nova-3:
      provider: deepgram
      model: nova-3

projects:
  kept:
    name: Kept  # the last comment
    daily_budget: 5.00

security:
  allow_private_hosts: [127.0.0.1]
"""


class LineServer:
    """A server process and its three streams; every wait has a bound."""

    def __init__(self, process):
        self.process = process
        self.last_id = 0
        self.seen = b""
        self._buffer = b""
        os.set_blocking(process.stdout.fileno(), False)

    def send_bytes(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, message):
        self.send_bytes(json.dumps(message).encode() + b"\n")

    def ask(self, method, **params):
        """Send a request without waiting; return its id."""
        self.last_id += 1
        self.send({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params})
        return self.last_id

    def line(self):
        """Return the next line of standard output, b"" at its end; fails after WAIT_S."""
        until = time.monotonic() + WAIT_S
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, until - time.monotonic()))
            assert ready, f"no line within {WAIT_S} s"
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            self.seen += data
            if not data:
                return b""
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def answer(self, asked):
        """Return the answer to the request with this id, passing over everything else."""
        while line := self.line():
            message = json.loads(line)
            if message.get("id") == asked and "method" not in message:
                return message
        pytest.fail("the server ended without an answer")

    def request(self, method, **params):
        return self.answer(self.ask(method, **params))

    def initialize(self):
        info = {"name": "tests", "version": "1"}
        told = self.request("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=info)
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return told["result"]

    def call(self, tool, **arguments):
        """Return structured content of a call, which may be the error object."""
        result = self.request("tools/call", name=tool, arguments=arguments)["result"]
        assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
        return result["structuredContent"]

    def health(self):
        return self.call("get_health")

    def close(self):
        """Close its input and return its exit code."""
        self.process.stdin.close()
        return self.process.wait(WAIT_S)


@pytest.fixture
def config(tmp_path):
    """A file with comments, in the folder that is the home."""
    path = tmp_path / "voicegw.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def environment(tmp_path, config):
    """An empty home with a key; of ours only what coverage measures subprocesses by."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("COV")}
    return {
        **kept,
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "VOICEGW_CONFIG": str(config),
        "VOICEGW_DB_PATH": str(tmp_path / "voicegw.db"),
        "DEEPGRAM_API_KEY": KEY,
    }


@pytest.fixture
def spawn(tmp_path, environment):
    """Start servers; whatever still runs at the end is killed by its pid. No stream ever held the key."""
    started = []

    def spawn(*arguments, command=(COMMAND,), **variables):
        errors = (tmp_path / f"stderr-{len(started)}.txt").open("w+b")
        process = subprocess.Popen(
            [*map(str, command), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=tmp_path,
            env={**environment, **variables},
        )
        server = LineServer(process)
        server.errors = Path(errors.name)
        started.append((server, errors))
        return server

    yield spawn
    for server, errors in started:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait(WAIT_S)
        for stream in (server.process.stdin, server.process.stdout, errors):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        assert KEY.encode() not in server.seen + server.errors.read_bytes()
