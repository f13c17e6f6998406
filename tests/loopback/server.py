"""What all loopback providers share: a server on a free port of 127.0.0.1, a key, a log of requests, a script of faults.

A provider's module says which doors it has, how it asks for its key and how it says no. Nothing here knows a protocol.
The servers live in the caller's event loop; ``python -m tests.loopback`` runs them in a process of their own, for
measurements that they must not disturb.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self
from weakref import WeakSet

from aiohttp import WSMsgType, web
from tests.loopback.faults import Call, Fault, Faults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

KEY = "loopback-key-0123456789"
"""The key every provider takes at first."""


@dataclass(frozen=True, slots=True)
class Door:
    """One address of a provider: method, path (aiohttp's syntax), and who answers once the key was right.

    ``open``: without a key. ``late``: the provider's WebSocket opens for everybody, and says in a message that a key is wrong.
    """

    name: str
    method: str
    path: str
    answer: Callable[[web.Request, Call], Awaitable[web.StreamResponse]]
    open: bool = False
    late: bool = False


class Provider:
    """A provider's server, to be used with ``async with``.

    Attributes:
        base_url: the API root as ``voicegw.yaml`` wants it.
        origin: the same without a path.
        key: the key that is right now.
        faults: what goes wrong.
        calls: what came, in order.
    """

    name: ClassVar[str]
    root: ClassVar[str] = ""

    def __init__(self, key: str = KEY) -> None:
        self.key = key
        self.faults = Faults()
        self.calls: list[Call] = []
        self.origin = ""
        self._numbers: Counter[str] = Counter()
        self._told = asyncio.Event()
        self._transports: WeakSet[asyncio.Transport] = WeakSet()

    # What a provider's module says.

    def doors(self) -> Iterable[Door]:
        """Return every address the provider answers at."""
        raise NotImplementedError

    def key_in(self, request: web.Request) -> str | None:
        """Return the key a request bears, in the provider's own form."""
        raise NotImplementedError

    def error_body(self, status: int) -> Any:
        """Return the body of an error answer as the provider writes it: JSON."""
        raise NotImplementedError

    # What tests use.

    @property
    def base_url(self) -> str:
        """The API root."""
        return self.origin + self.root

    def rotate(self, key: str) -> None:
        """Take another key from now on; the old one is refused."""
        self.key = key

    def of(self, door: str) -> list[Call]:
        """Return the requests of a door, in order."""
        return [call for call in self.calls if call.door == door]

    async def arrival(self, door: str, number: int = 1) -> Call:
        """Wait, at most 20 s, until a door had so many requests; return the last of them."""
        async with asyncio.timeout(20):
            while self._numbers[door] < number:
                self._told.clear()
                await self._told.wait()
        return self.of(door)[number - 1]

    async def hearing(self, door: str, audio_ms: int) -> None:
        """Wait, at most 20 s, until the last request of a door brought so much audio, where the door tells of it."""
        async with asyncio.timeout(20):
            while not self.of(door) or self.of(door)[-1].audio_ms < audio_ms:
                self._told.clear()
                await self._told.wait()

    def tell(self) -> None:
        """Let those who wait for a request look at it again."""
        self._told.set()

    # What happens to a request.

    def enter(self, door: str) -> Call:
        """Write a request into the log and choose its fault."""
        self._numbers[door] += 1
        call = Call(door, self._numbers[door])
        call.fault = self.faults.take(call)
        self.calls.append(call)
        self.tell()
        return call

    def refusal(self, status: int, fault: Fault | None = None) -> web.Response:
        """Return an error answer in the provider's form."""
        headers = {}
        if fault is not None and fault.retry_after is not None:
            headers["Retry-After"] = f"{fault.retry_after:g}"
        return web.json_response(self.error_body(status), status=status, headers=headers)

    async def before(self, call: Call, request: web.Request) -> int | None:
        """Let happen what goes wrong before the first byte; return the status to answer, if any."""
        fault = call.fault
        if fault is None:
            return None
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.hang:
            await hold()
        if fault.drop:
            await drop(request)
        return fault.status

    def _handler(self, door: Door) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            if request.transport is not None:
                self._transports.add(request.transport)
            call = self.enter(door.name)
            call.accepted = door.open or self.key_in(request) == self.key
            status = await self.before(call, request)
            if status is not None:
                return self.refusal(status, call.fault)
            if not call.accepted and not door.late:
                return self.refusal(401)
            return await door.answer(request, call)

        return handle

    async def _told_calls(self, _: web.Request) -> web.Response:
        return web.json_response([asdict(call) for call in self.calls])

    async def _told_faults(self, request: web.Request) -> web.Response:
        said = await request.json()
        self.faults.next(Fault(**said["fault"]), times=said.get("times", 1), door=said.get("door"))
        return web.Response(status=204)

    async def _told_key(self, request: web.Request) -> web.Response:
        self.rotate((await request.json())["key"])
        return web.Response(status=204)

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 2**20)
        for door in self.doors():
            app.router.add_route(door.method, door.path, self._handler(door))
        # How another process asks what came and says what is to go wrong.
        app.router.add_get("/_loopback/calls", self._told_calls)
        app.router.add_post("/_loopback/faults", self._told_faults)
        app.router.add_post("/_loopback/key", self._told_key)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        self.origin = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for transport in list(self._transports):  # their handlers are cancelled by it
            transport.abort()
        await self._runner.cleanup()


async def hold() -> None:
    """Wait until the client goes away or the server is closed: the handler is cancelled then."""
    await asyncio.Event().wait()


async def drop(request: web.Request) -> None:
    """Close a request's connection at once; what was not sent yet is lost."""
    if request.transport is not None:
        request.transport.abort()
    await hold()


async def cut_here(request: web.Request, call: Call, sent: int) -> None:
    """Fall silent, or close the connection, when an answer is to break off after what was sent; that arrives."""
    fault = call.fault
    if fault is None:
        return
    if fault.cut_after is not None and sent >= fault.cut_after:
        if request.transport is not None:
            request.transport.close()
        await hold()
    if fault.stall_after is not None and sent >= fault.stall_after:
        await hold()


async def form_in(request: web.Request) -> dict[str, Any]:
    """Return the fields of a form: files as bytes, all else as text."""
    fields: dict[str, Any] = {}
    async for part in await request.multipart():
        fields[part.name] = await (part.read() if part.filename else part.text())
    return fields


class Answer:
    """An answer that goes out in pieces, and breaks off where the request's fault says so."""

    def __init__(self, request: web.Request, call: Call, content_type: str, size: int | None = None) -> None:
        headers = {"Content-Type": content_type}
        if size is not None:
            headers["Content-Length"] = str(size)
        self._request, self._call, self._sent = request, call, 0
        self._response = web.StreamResponse(headers=headers)

    async def write(self, data: bytes) -> None:
        """Send a piece (before the first one the headers), unless the answer breaks off before it."""
        if not self._response.prepared:
            await self._response.prepare(self._request)
        await cut_here(self._request, self._call, self._sent)
        self._sent += 1
        await self._response.write(data)

    async def end(self) -> web.StreamResponse:
        """Say that it is whole, unless it breaks off here."""
        await cut_here(self._request, self._call, self._sent)
        self._call.finished = True
        await self._response.write_eof()
        return self._response


async def send_pieces(
    request: web.Request, call: Call, data: Iterable[bytes], content_type: str
) -> web.StreamResponse:
    """Answer with a body whose length is not said beforehand."""
    answer = Answer(request, call, content_type)
    for piece in data:
        await answer.write(piece)
    return await answer.end()


async def send_json(request: web.Request, call: Call, body: Any) -> web.StreamResponse:
    """Answer with JSON of a said length, in two halves."""
    data = json.dumps(body).encode()
    answer = Answer(request, call, "application/json", len(data))
    await answer.write(data[: len(data) // 2])
    await answer.write(data[len(data) // 2 :])
    return await answer.end()


class Socket:
    """A WebSocket to a client. The messages of an answer break off where a fault says so."""

    def __init__(self, request: web.Request, call: Call) -> None:
        self._request, self._call, self._sent = request, call, 0
        self._ws = web.WebSocketResponse()

    async def open(self) -> None:
        """Accept the handshake."""
        await self._ws.prepare(self._request)

    async def send(self, message: Any) -> None:
        """Send a message that belongs to the connection: bytes as they are, all else as JSON."""
        await cut_here(self._request, self._call, self._sent)
        self._sent += 1
        await self._write(message)

    async def speak(self, call: Call, messages: Iterable[Any], failure: Callable[[int], Any]) -> bool:
        """Answer a synthesis on the open connection, or let it go wrong as its fault says.

        Args:
            call: the synthesis.
            messages: the answer.
            failure: makes the provider's error message of an HTTP status.

        Returns:
            Whether no failure was told.
        """
        fault = call.fault or Fault()
        if fault.hang:
            return True
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.drop:
            await drop(self._request)
        if fault.status is not None:
            await self._write(failure(fault.status))
            return False
        sent = 0
        for sent, message in enumerate(messages):
            await cut_here(self._request, call, sent)
            await self._write(message)
        await cut_here(self._request, call, sent + 1)
        call.finished = True
        return True

    async def close(self, code: int = 1000, reason: str = "") -> web.WebSocketResponse:
        """Close the socket in order; what the connection had to say was whole."""
        await cut_here(self._request, self._call, self._sent)
        self._call.finished = self._call.accepted
        await self._ws.close(code=code, message=reason.encode())
        return self._ws

    async def messages(self) -> AsyncIterator[Any]:
        """Yield what comes until the client closes: bytes as they are, text as JSON, or as text when it is none."""
        async for message in self._ws:
            if message.type is WSMsgType.BINARY:
                yield message.data
            elif message.type is WSMsgType.TEXT:
                try:
                    yield json.loads(message.data)
                except ValueError:
                    yield message.data

    async def _write(self, message: Any) -> None:
        if isinstance(message, bytes):
            await self._ws.send_bytes(message)
        else:
            await self._ws.send_str(json.dumps(message))
