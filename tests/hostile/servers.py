"""A real server in a folder of its own, over HTTP or stdio, and plain connections to it that send any bytes."""

import contextlib
import http.client
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
TOKEN = "fake-token-of-the-door"
KEY = "fake-key-of-a-provider"
WAIT_S = 30.0
FILE = """\
timezone: UTC
providers:
  deepgram: {api_key: "${DEEPGRAM_API_KEY}"}
  openai: {api_key: "${OPENAI_API_KEY}"}
models:
  stt:
    deepgram/nova-3: {provider: deepgram, model: nova-3}
  llm:
    openai/gpt-4.1-mini: {provider: openai, model: gpt-4.1-mini}
projects:
  support-line: {name: Support line, daily_budget: 5.0}
"""
LEAKS = (
    KEY,
    TOKEN,
    "Traceback",
    'File "',
    "SELECT ",
    "INSERT INTO",
    "sqlite3",
    "site-packages",
    "INTERNAL_ERROR",
)
"""What no answer may hold, whatever was asked."""


@dataclass
class Reply:
    """What came back to one HTTP request; status 0 when the server closed the connection without an answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Server:
    """A server process; ``address`` is where it listens, None over stdio."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Path) -> None:
        self.process = process
        self.errors = errors
        self.address: tuple[str, int] | None = None

    def memory_mb(self, what: str) -> float:
        """Return ``VmHWM`` (the most there was) or ``VmRSS`` (what there is) in MB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def forget_peak(self) -> None:
        """Let ``VmHWM`` begin anew at what is used now (proc(5), clear_refs)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="ascii")

    def complaints(self) -> list[str]:
        """Return what its log holds that it should not: tracebacks and keys."""
        text = self.errors.read_text(encoding="utf-8", errors="replace")
        found = [word for word in (KEY, TOKEN) if word in text]
        if "Traceback" in text:
            found.append("a traceback: " + text[text.index("Traceback") :][-600:])
        return found


@contextlib.contextmanager
def running(folder: Path, *command: str, auth: str = "") -> Generator[Server]:
    """Run ``voicegw-mcp`` without a command, ``voicegw COMMAND`` with one; it is ended by its own process id."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "voicegw.yaml").write_text(FILE + auth, encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "VOICEGW_CONFIG": str(folder / "voicegw.yaml"),
        "VOICEGW_DB_PATH": str(folder / "voicegw.db"),
        "DEEPGRAM_API_KEY": KEY,
        **({"VOICEGW_MCP_TOKEN": TOKEN} if command else {}),
        **{name: value for name, value in os.environ.items() if name == "PYTHONPATH"},
    }
    arguments = [str(BIN / "voicegw"), *command] if command else [str(BIN / "voicegw-mcp")]
    with (folder / "stderr.txt").open("wb") as errors:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=folder,
            env=environment,
        )
        server = Server(process, folder / "stderr.txt")
        try:
            if command:
                server.address = _address(process)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(WAIT_S)
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _address(process: subprocess.Popen[bytes]) -> tuple[str, int]:
    while line := process.stdout.readline().decode():
        if "/mcp" in line and "http://" in line:
            host, _, port = line.split("http://")[1].split("/")[0].rpartition(":")
            return host, int(port)
    raise AssertionError("the server did not start")


def exchange(server: Server, request: bytes, source: str = "127.0.0.1", *, wait_s: float = WAIT_S) -> Reply:
    """Send bytes on a connection of their own and read one answer."""
    with socket.create_connection(server.address, wait_s, source_address=(source, 0)) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
        return read_reply(connection)


def read_reply(connection: socket.socket) -> Reply:
    """Read the answer on a connection; of an event stream only what came with its headers."""
    answer = http.client.HTTPResponse(connection)
    try:
        answer.begin()
        streaming = (answer.getheader("content-type") or "").startswith("text/event-stream")
        body = b"" if streaming else answer.read()
    except (http.client.HTTPException, ConnectionError):
        return Reply(0, {}, b"")
    return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, body)


class Requests:
    """A kept connection for one request after the other, opened anew when the server closes it."""

    def __init__(self, server: Server) -> None:
        self._address = server.address
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, body: Any, headers: Mapping[str, str]) -> Reply:
        """Send one request; ``body`` may be an iterable, which goes in chunks."""
        for attempt in (1, 2):
            if self._connection is None:
                self._connection = http.client.HTTPConnection(*self._address, timeout=WAIT_S)
            try:
                self._connection.request(
                    "POST",
                    path,
                    body,
                    {"authorization": f"Bearer {TOKEN}", "content-type": "application/json", **headers},
                )
                answer = self._connection.getresponse()
                reply = Reply(
                    answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
                )
            except (http.client.HTTPException, ConnectionError):  # a kept connection may have been closed
                self.close()
                if attempt == 2:
                    return Reply(0, {}, b"")
                continue
            return reply
        raise AssertionError

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Lines:
    """The lines of a stream as they come, read by a thread so that every wait has a bound."""

    def __init__(self, stream: Any) -> None:
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._stream = stream
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            for line in self._stream:
                self._lines.put(line)
        self._lines.put(b"")

    def join(self) -> None:
        """Wait until the stream has ended."""
        self._reader.join(WAIT_S)

    def next(self) -> bytes:
        """Return the next line, b"" at the end; raises queue.Empty after ``WAIT_S``."""
        return self._lines.get(timeout=WAIT_S)


def leaks(answer: bytes) -> list[str]:
    """Return what an answer holds that none may."""
    text = answer.decode("utf-8", "replace")
    return [word for word in LEAKS if word in text]


def is_typed(body: bytes) -> bool:
    """Say whether a refusal tells a program what is wrong: our error object, or a JSON-RPC error."""
    try:
        error = json.loads(body)["error"]
        return isinstance(error["message"], str) and isinstance(error["code"], str | int)
    except (ValueError, KeyError, TypeError):
        return False
