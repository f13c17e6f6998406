"""Requests to the whole HTTP application in this process: guard, routes and API, without a port."""

import asyncio
import csv
import io
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import anyio

from voicegw_mcp.server import build_server
from voicegw_mcp.web.app import build_app
from voicegw_mcp.web.hosts import Hosts
from voicegw_mcp.web.identities import Identities

WAIT_S = 20


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool
    """Whether the last message said that it is the last."""

    @property
    def json(self):
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    @property
    def error(self):
        """The one error shape."""
        payload = self.json
        assert set(payload) == {"error"}
        assert {"code", "message", "hint"} <= set(payload["error"]) <= {"code", "message", "hint", "details"}
        assert self.headers["cache-control"] == "no-store"
        return payload["error"]

    @property
    def rows(self):
        """The rows of a CSV."""
        return list(csv.DictReader(io.StringIO(self.body.decode(), newline="")))


class Site:
    """One application on a gateway."""

    def __init__(self, gateway, *, open_without_token=True):
        self.gateway = gateway
        self._app = build_app(
            build_server(gateway),
            gateway,
            Hosts.of("127.0.0.1"),
            Identities(gateway),
            open_without_token=open_without_token,
        )

    def _scope(self, target, method, token, headers):
        parts = urlsplit(target)
        sent = {
            "host": "127.0.0.1:8080",
            **({"authorization": f"Bearer {token}"} if token else {}),
            **headers,
        }
        return {
            "type": "http",
            "method": method,
            "path": parts.path,
            "query_string": parts.query.encode(),
            "client": ("127.0.0.1", 5000),
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        }

    async def get(self, target, *, method="GET", token=None, **headers):
        """Send one request; underscores in names of headers stand for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = []
        asked = False

        async def send(message):
            sent.append(message)

        async def receive():
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await asyncio.Event().wait()
            return None

        with anyio.fail_after(WAIT_S):
            await self._app(self._scope(target, method, token, named), receive, send)
        start, *rest = sent
        found = {name.decode(): value.decode() for name, value in start["headers"]}
        body = b"".join(part.get("body", b"") for part in rest)
        return Answer(start["status"], found, body, whole=bool(rest) and not rest[-1].get("more_body"))

    async def ok(self, target, **options):
        """Return the JSON of an answer that must be one."""
        answer = await self.get(target, **options)
        assert answer.status == 200, answer.body
        return answer.json

    @asynccontextmanager
    async def following(self, target, *, token=None, **headers):
        """Follow the log for the length of the block; give the stream."""
        named = {"accept": "text/event-stream", **{k.replace("_", "-"): v for k, v in headers.items()}}
        stream = Following()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._app, self._scope(target, "GET", token, named), stream.receive, stream.send)
            yield stream
            with anyio.fail_after(WAIT_S):
                stream.leave()
                await stream.ended.wait()
            tasks.cancel_scope.cancel()


class Following:
    """What comes over one stream of events, and the client's leaving."""

    def __init__(self):
        self._left = anyio.Event()
        self._asked = False
        self._text = ""
        self._more = asyncio.Event()
        self.status = None
        self.headers = {}
        self.comments = []
        self.ended = anyio.Event()

    def leave(self):
        self._left.set()

    async def receive(self):
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        self.ended.set()
        return {"type": "http.disconnect"}

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self._text += message.get("body", b"").decode()
            if not message.get("more_body"):
                self.ended.set()
        self._more.set()

    async def event(self):
        """Return the next event as its fields, ``data`` parsed."""
        with anyio.fail_after(WAIT_S):
            while True:
                while "\n\n" not in self._text:
                    self._more.clear()
                    await self._more.wait()
                block, _, self._text = self._text.partition("\n\n")
                if block.startswith(":"):
                    self.comments.append(block)
                    continue
                fields = dict(line.split(": ", 1) for line in block.splitlines())
                return {**fields, "data": json.loads(fields["data"])}

    async def begun(self):
        """Return once the first comment is there: from now on nothing is missed."""
        with anyio.fail_after(WAIT_S):
            while "following" not in self._text and not self.comments:
                self._more.clear()
                await self._more.wait()
