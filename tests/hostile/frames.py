"""Section ``frames``: mutated JSON-RPC frames over every transport."""

import contextlib
import http.client
import json
import queue
import random
import socket
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

from tests.hostile.mutations import INITIALIZE, META, mutated
from tests.hostile.servers import (
    TOKEN,
    WAIT_S,
    Lines,
    Reply,
    Requests,
    Server,
    is_typed,
    leaks,
    running,
)
from tests.proof import Progress, Section

NAME = "frames"
TITLE = "Mutated frames"
CHECKED = """\
Valid frames of 26 kinds are changed (flipped bits, truncated, types swapped, keys dropped, doubled and renamed, huge numbers, deep nesting, invalid UTF-8, other
encodings, odd ids, batches, answers nobody asked for) and sent one after the other to one server per transport. Every answer must be JSON-RPC, every refusal
typed (a code and a message; -32603 counts as a failure of ours), none may hold a traceback, SQL or a key, and a good call in between and afterwards must be answered.
"""
ROUNDS = 20_000
CHECK_EVERY = 200
INTERNAL = -32603
JSON_TYPES = {"accept": "application/json, text/event-stream"}


class Channel(ABC):
    """One transport of one server: sends frames, and judges what comes back."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.counts: Counter[str] = Counter()
        self.troubles: list[str] = []
        self._checks = 0

    @abstractmethod
    def send(self, method: str, name: str, data: bytes, draw: random.Random) -> None:
        """Send one mutated frame."""

    @abstractmethod
    def ask(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """Send a good request; return its answer, None when there is none."""

    def close(self) -> None:  # noqa: B027 - stdio is closed with its server
        """Close the connections."""

    def check(self) -> None:
        """Make a good call, which must be answered well."""
        self._checks += 1
        message = {
            "jsonrpc": "2.0",
            "id": f"check-{self._checks}",
            "method": "tools/call",
            "params": {"name": "get_health", "arguments": {}},
        }
        answer = self.ask(message)
        if answer is None or "status" not in answer.get("result", {}).get("structuredContent", {}):
            self.troubles.append(f"a good call is answered {str(answer)[:300]}")

    def judge(self, text: bytes) -> dict[str, Any] | None:
        """Look at one JSON-RPC message of the server; return it."""
        for word in leaks(text):
            self.troubles.append(f"an answer holds {word!r}: {text[:300]!r}")
        try:
            message = json.loads(text)
        except ValueError:
            self.troubles.append(f"an answer is no JSON: {text[:300]!r}")
            return None
        if "error" in message:
            self.counts["refused as JSON-RPC errors"] += 1
            if not is_typed(text) or message["error"]["code"] == INTERNAL:
                self.troubles.append(f"an untyped refusal: {text[:300]!r}")
        elif message.get("result", {}).get("isError"):
            self.counts["refused by a tool"] += 1
            if not is_typed(json.dumps(message["result"].get("structuredContent")).encode()):
                self.troubles.append(f"an untyped refusal: {text[:300]!r}")
        elif "result" in message:
            self.counts["answered"] += 1
        return message

    def judge_status(self, reply: Reply) -> None:
        """Look at the HTTP answer to a frame that has no JSON-RPC answer in it."""
        self.counts[f"status {reply.status}"] += 1
        for word in leaks(reply.body):
            self.troubles.append(f"an answer holds {word!r}: {reply.body[:300]!r}")
        if reply.status >= 500 or reply.status < 200:
            self.troubles.append(f"status {reply.status}: {reply.body[:300]!r}")


class Stdio(Channel):
    """Standard input and output, as hosts speak them."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._lines = Lines(server.process.stdout)
        self.ask({"jsonrpc": "2.0", "id": "check-0", "method": "initialize", "params": INITIALIZE})
        self._write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')

    def send(self, method: str, name: str, data: bytes, draw: random.Random) -> None:  # noqa: ARG002 - no headers
        self._write(data)

    def ask(self, message: dict[str, Any]) -> dict[str, Any] | None:
        self._write(b"\n" + json.dumps(message).encode())
        with contextlib.suppress(queue.Empty):
            while line := self._lines.next():
                answer = self.judge(line)
                if answer is not None and answer.get("id") == message["id"] and "method" not in answer:
                    return answer
        return None

    def _write(self, data: bytes) -> None:
        try:
            self.server.process.stdin.write(data + b"\n")
            self.server.process.stdin.flush()
        except BrokenPipeError:
            self.troubles.append("the server closed its input")


class Streamable(Channel):
    """``/mcp`` with a session, as in the revisions up to 2025-11-25."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._requests = Requests(server)
        self._session: dict[str, str] = {}
        self._begin()

    def _begin(self) -> None:
        message = {"jsonrpc": "2.0", "id": "check-0", "method": "initialize", "params": INITIALIZE}
        reply = self._requests.post("/mcp", json.dumps(message), JSON_TYPES)
        self._session = {
            **JSON_TYPES,
            "mcp-session-id": reply.headers.get("mcp-session-id", ""),
            "mcp-protocol-version": "2025-06-18",
        }
        self._requests.post("/mcp", '{"jsonrpc":"2.0","method":"notifications/initialized"}', self._session)

    def close(self) -> None:
        self._requests.close()

    def headers(self, method: str, name: str, draw: random.Random | None) -> dict[str, str]:  # noqa: ARG002 - see below
        return self._session

    def send(self, method: str, name: str, data: bytes, draw: random.Random) -> None:
        self._post(data, self.headers(method, name, draw))

    def ask(self, message: dict[str, Any]) -> dict[str, Any] | None:
        headers = self.headers(message["method"], message["params"]["name"], None)
        found = self._post(json.dumps(message).encode(), headers)
        return next((answer for answer in found if answer.get("id") == message["id"]), None)

    def _post(self, data: bytes, headers: dict[str, str]) -> list[dict[str, Any]]:
        try:
            reply = self._requests.post("/mcp", data, headers)
        except TimeoutError:
            self._requests.close()
            self.troubles.append(f"no answer within {WAIT_S:g} s to {data[:300]!r}")
            return []
        if reply.headers.get("content-type", "").startswith("text/event-stream"):
            texts = [
                line[6:]
                for line in reply.body.splitlines()
                if line.startswith(b"data: ") and line[6:].strip()
            ]
        elif reply.headers.get("content-type", "").startswith("application/json") and reply.body:
            texts = [reply.body]
        else:
            texts = []
        found = [message for text in texts if (message := self.judge(text)) is not None]
        self.judge_status(reply)
        if reply.status >= 400 and not is_typed(reply.body):
            self.troubles.append(f"an untyped refusal with status {reply.status}: {reply.body[:200]!r}")
        return found


class Sessionless(Streamable):
    """``/mcp`` without sessions, as in the revision 2026-07-28: method and name in headers as well."""

    def _begin(self) -> None:
        pass

    def headers(self, method: str, name: str, draw: random.Random | None) -> dict[str, str]:
        headers = {**JSON_TYPES, "mcp-protocol-version": "2026-07-28", "mcp-method": method}
        if name:
            headers["mcp-name"] = name
        if draw is not None and draw.random() < 0.2:
            headers.pop(draw.choice(sorted(headers)))
        return headers

    def ask(self, message: dict[str, Any]) -> dict[str, Any] | None:
        message["params"]["_meta"] = META
        return super().ask(message)


class EventStream(Channel):
    """``/sse`` and ``/messages``: answers come on the stream."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._requests = Requests(server)
        self._stream = http.client.HTTPConnection(*server.address, timeout=None)
        self._stream.request("GET", "/sse", headers={"authorization": f"Bearer {TOKEN}"})
        self._response = self._stream.getresponse()
        self._lines = Lines(self._response)
        self._path = ""
        while not self._path:
            self._path = (self._data() or b"").decode()
        self.ask({"jsonrpc": "2.0", "id": "check-0", "method": "initialize", "params": INITIALIZE})
        self._requests.post(self._path, '{"jsonrpc":"2.0","method":"notifications/initialized"}', {})

    def send(self, method: str, name: str, data: bytes, draw: random.Random) -> None:  # noqa: ARG002 - no headers
        reply = self._requests.post(self._path, data, {})
        self.judge_status(reply)

    def ask(self, message: dict[str, Any]) -> dict[str, Any] | None:
        self._requests.post(self._path, json.dumps(message), {})
        with contextlib.suppress(queue.Empty):
            while (data := self._data()) is not None:
                answer = self.judge(data)
                if answer is not None and answer.get("id") == message["id"] and "method" not in answer:
                    return answer
        return None

    def close(self) -> None:
        self._requests.close()
        self._stream.sock.shutdown(socket.SHUT_RDWR)  # its reader waits in it
        self._lines.join()
        self._response.close()
        self._stream.close()

    def _data(self) -> bytes | None:
        while line := self._lines.next():
            if line.startswith(b"data: "):
                return line[6:].strip()
        return None


TRANSPORTS: dict[str, tuple[type[Channel], tuple[str, ...], bool]] = {
    "stdio": (Stdio, (), False),
    "/mcp, up to 2025-11-25": (Streamable, ("serve", "-p", "0"), False),
    "/mcp, 2026-07-28": (Sessionless, ("serve", "-p", "0"), True),
    "/sse": (EventStream, ("serve", "-p", "0"), False),
}


def run(rounds: int, seed: int, folder: Path, progress: Progress) -> Section:
    """Send so many frames over each transport."""
    section = Section(NAME, figures=[("frames per transport", rounds)])
    for number, (name, (kind, command, modern)) in enumerate(TRANSPORTS.items()):
        with _channel(kind, folder / str(number), command) as channel:
            draw = random.Random(seed)  # noqa: S311 - to be repeated
            for frame in range(rounds):
                method, of, data = mutated(draw, frame + 1, modern=modern)
                channel.send(method, of, data, draw)
                if frame % CHECK_EVERY == 0:
                    channel.check()
                progress(number * rounds + frame + 1, len(TRANSPORTS) * rounds)
                if len(channel.troubles) > 20 or channel.server.process.poll() is not None:
                    break
            channel.check()
            if channel.server.process.poll() is not None:
                channel.troubles.append(f"the server ended with {channel.server.process.returncode}")
            told = ", ".join(f"{what}: {count:,}" for what, count in sorted(channel.counts.items()))
            section.figures.append((name, f"alive; {told}" if not channel.troubles else told))
        section.violations += [f"{name}: {trouble}" for trouble in channel.troubles]
        section.violations += [f"{name}: the log holds {word}" for word in channel.server.complaints()]
    return section


@contextlib.contextmanager
def _channel(kind: type[Channel], folder: Path, command: tuple[str, ...]) -> Generator[Channel]:
    with running(folder, *command) as server:
        channel = kind(server)
        try:
            yield channel
        finally:
            channel.close()
