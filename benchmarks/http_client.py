"""Clients as small as can be over HTTP/1.1: keep-alive connections, one session each, so that what is measured is the server."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

LEGACY, MODERN = "2025-06-18", "2026-07-28"
CLIENT = {"name": "bench", "version": "1"}
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}
INITIALIZE = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": CLIENT}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 seconds: the connection is reset instead of closed in order."""


@dataclass(frozen=True)
class Address:
    """Where a server listens on this machine, and the token it asks for (empty: none)."""

    port: int
    token: str = ""


class Connection:
    """One HTTP/1.1 connection."""

    def __init__(self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._address = address
        self._reader = reader
        self._writer = writer
        self._common = f"host: 127.0.0.1:{address.port}\r\n"
        if address.token:
            self._common += f"authorization: Bearer {address.token}\r\n"

    @classmethod
    async def open(cls, address: Address) -> Self:
        """Connect."""
        return cls(address, *await asyncio.open_connection("127.0.0.1", address.port))

    async def get(self, path: str, more: str = "") -> None:
        """Ask for an event stream and return when its first bytes are there."""
        self._send(f"GET {path} HTTP/1.1\r\n{self._common}accept: text/event-stream\r\n{more}\r\n".encode())
        status, headers = await self._head()
        if status != 200 or headers.get("transfer-encoding") != "chunked":
            raise RuntimeError(f"GET {path}: {status} {headers}")

    async def fetch(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Ask for a whole answer; return status, headers and body."""
        self._send(f"GET {path} HTTP/1.1\r\n{self._common}\r\n".encode())
        return await self._answer()

    async def post(
        self, path: str, message: dict[str, Any], more: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        """Post a message; return status, headers and body of the answer.

        Connects again when the server closed the connection for want of requests.
        """
        if self._reader.at_eof():
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._address.port)
        body = json.dumps(message, separators=(",", ":")).encode()
        head = (
            f"POST {path} HTTP/1.1\r\n{self._common}accept: application/json, text/event-stream\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{more}\r\n"
        )
        self._send(head.encode() + body)
        return await self._answer()

    async def delete(self, path: str, more: str) -> int:
        """Send a DELETE; return the status."""
        self._send(f"DELETE {path} HTTP/1.1\r\n{self._common}{more}\r\n".encode())
        return (await self._answer())[0]

    async def event(self) -> bytes:
        """Return the data of the next event of the stream; comments (pings) are passed over."""
        while True:
            data = event_data(await self._chunk())
            if data:
                return data

    def reset(self) -> None:
        """Drop the connection without a word, as a client does that dies."""
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._writer.transport.abort()

    def _send(self, data: bytes) -> None:
        self._writer.write(data)

    async def _head(self) -> tuple[int, dict[str, str]]:
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}

    async def _answer(self) -> tuple[int, dict[str, str], bytes]:
        status, headers = await self._head()
        if headers.get("transfer-encoding") != "chunked":
            return status, headers, await self._reader.readexactly(int(headers.get("content-length", 0)))
        body = b""
        while chunk := await self._chunk():
            body += chunk
        return status, headers, body

    async def _chunk(self) -> bytes:
        """Return the next chunk; b"" is the last one."""
        length = int(await self._reader.readuntil(b"\r\n"), 16)
        return (await self._reader.readexactly(length + 2))[:-2]


def event_data(event: bytes) -> bytes:
    """Return the data of one server-sent event."""
    return b"".join(line[6:] for line in event.splitlines() if line.startswith(b"data: "))


class Session(ABC):
    """One client: opens itself, calls tools, goes."""

    kind: ClassVar[str]

    def __init__(self, address: Address, connection: Connection) -> None:
        self._address = address
        self._connection = connection
        self._last_id = 0

    @classmethod
    async def open(cls, address: Address) -> Self:
        """Connect and shake hands, where the protocol has it."""
        session = cls(address, await Connection.open(address))
        await session._begin()
        return session

    async def call(self, tool: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call a tool, without arguments unless they are given; return its structured content.

        Raises:
            RuntimeError: the server answered anything else.
        """
        answer = await self._request("tools/call", {"name": tool, "arguments": arguments or {}})
        if "result" not in answer or answer["result"].get("isError"):
            raise RuntimeError(f"{tool}: {answer}")
        return answer["result"]["structuredContent"]

    def drop(self) -> None:
        """Reset every connection."""
        self._connection.reset()

    def _message(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._last_id += 1
        return {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params}

    @abstractmethod
    async def _begin(self) -> None: ...

    @abstractmethod
    async def _request(self, method: str, params: dict[str, Any]) -> dict[str, Any]: ...


class StatefulSession(Session):
    """Streamable HTTP up to 2025-11-25: ``initialize``, then a session id in every request."""

    kind = "/mcp 2025"

    async def _begin(self) -> None:
        message = self._message("initialize", INITIALIZE)
        status, headers, body = await self._connection.post("/mcp", message)
        if status != 200:
            raise RuntimeError(f"initialize: {status} {body!r}")
        self._more = f"mcp-session-id: {headers['mcp-session-id']}\r\nmcp-protocol-version: {LEGACY}\r\n"
        await self._connection.post("/mcp", INITIALIZED, self._more)

    async def _request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        _, _, body = await self._connection.post("/mcp", self._message(method, params), self._more)
        return json.loads(event_data(body) or body)

    async def idle(self) -> None:
        """Leave one event stream open and nothing else."""
        stream = await Connection.open(self._address)
        await stream.get("/mcp", self._more)
        self._connection.reset()
        self._connection = stream

    async def end(self) -> None:
        """Tell the server that the session is over: without that it waits half an hour for the client to come back."""
        connection = await Connection.open(self._address)
        status = await connection.delete("/mcp", self._more)
        connection.reset()
        if status != 200:
            raise RuntimeError(f"DELETE /mcp: {status}")


class StatelessSession(Session):
    """Streamable HTTP since 2026-07-28: no handshake, every request tells who asks."""

    kind = "/mcp 2026"

    async def _begin(self) -> None:
        """There is nothing to begin."""

    async def _request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        message = self._message(method, {**params, "_meta": META})
        more = f"mcp-protocol-version: {MODERN}\r\nmcp-method: {method}\r\nmcp-name: {params['name']}\r\n"
        _, _, body = await self._connection.post("/mcp", message, more)
        return json.loads(event_data(body) or body)


class EventSession(Session):
    """HTTP+SSE (2024-11-05): a stream for the answers, and posts beside it."""

    kind = "/sse"

    async def _begin(self) -> None:
        await self._connection.get("/sse")
        self._path = (await self._connection.event()).decode()
        self._posting: Connection | None = await Connection.open(self._address)
        await self._request("initialize", INITIALIZE)
        await self._posting.post(self._path, INITIALIZED)

    async def _request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        assert self._posting
        status, _, body = await self._posting.post(self._path, self._message(method, params))
        if status != 202:
            raise RuntimeError(f"{method}: {status} {body!r}")
        return json.loads(await self._connection.event())

    async def idle(self) -> None:
        """Leave the event stream open and nothing else."""
        assert self._posting
        self._posting.reset()
        self._posting = None

    def drop(self) -> None:
        """Reset the stream, and the connection of the posts."""
        super().drop()
        if self._posting:
            self._posting.reset()
