"""A gateway whose file has tokens, and a door in front of a tiny application."""

import asyncio
import json
from dataclasses import dataclass, field

import pytest
from tests.factories import NOW

from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.server import IDENTITY
from voicegw_mcp.web.guard import Guard
from voicegw_mcp.web.hosts import Hosts
from voicegw_mcp.web.identities import Identities

TOKEN = "fake-token-0001"


class Clock:
    """Stands in for the module ``time``: stands still until it is set."""

    now = 1000.0

    def monotonic(self):
        return self.now


@dataclass
class Answer:
    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def error(self):
        """The one error shape."""
        payload = json.loads(self.body)
        assert set(payload) == {"error"}
        return payload["error"]


@dataclass
class Inner:
    """The application behind the door: remembers what came through, and reads the body to its end."""

    came: list[str] = field(default_factory=list)
    callers: list[object] = field(default_factory=list)
    messages: list[dict] = field(default_factory=list)

    async def __call__(self, scope, receive, send):
        self.came.append(scope.get("path", scope["type"]))
        self.callers.append(scope.get(IDENTITY))
        if scope["type"] == "http":
            more = True
            while more:
                message = await receive()
                self.messages.append(message)
                more = message.get("more_body", False)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"in"})


async def never():
    await asyncio.Event().wait()


async def ask(
    guard,
    *authorization,
    path="/mcp",
    host=b"localhost",
    headers=(),
    client="10.0.0.1",
    receive=None,
    method="POST",
):
    """Send one request; every positional argument is an Authorization header."""
    sent = []

    async def send(message):
        sent.append(message)

    async def empty():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "client": (client, 5000) if client is not None else None,
        "headers": [
            *([(b"host", host)] if host is not None else []),
            *((b"authorization", value) for value in authorization),
            *headers,
        ],
    }
    await guard(scope, receive or empty, send)
    start, *rest = sent
    return Answer(start["status"], dict(start["headers"]), b"".join(part.get("body", b"") for part in rest))


def bearer(token=TOKEN):
    return b"Bearer " + (token if isinstance(token, bytes) else token.encode())


@pytest.fixture
def environment(tmp_path):
    return {"VOICEGW_DB_PATH": str(tmp_path / "voicegw.db")}


@pytest.fixture
async def gateway(tmp_path, environment):
    gateway = Gateway.open(
        str(tmp_path / "voicegw.yaml"), door="http", environment=environment, now_ms=lambda: NOW
    )
    yield gateway
    await gateway.close()


@pytest.fixture
def write(gateway):
    """Writes voicegw.yaml with these tokens."""

    def write(*keys):
        entries = "".join(f"    - {json.dumps(key)}\n" for key in keys)
        gateway.config_file.path.write_text(f"auth:\n  api_keys:\n{entries}" if keys else "timezone: UTC\n")

    return write


@pytest.fixture
def secrets(gateway):
    """Writes secrets.env."""

    def write(**values):
        path = gateway.secrets.path
        path.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        path.chmod(0o600)

    return write


@pytest.fixture
def inner():
    return Inner()


@pytest.fixture
def guard(gateway, inner):
    """A door that always asks for a token."""
    return Guard(inner, Hosts.of("127.0.0.1"), Identities(gateway), open_paths={"/health"})


@pytest.fixture
def lenient(gateway, inner):
    """A door that is open while no token is configured, as on a loopback address."""
    return Guard(
        inner, Hosts.of("127.0.0.1"), Identities(gateway), open_paths={"/health"}, open_without_token=True
    )
