"""A gateway in a folder of its own, and agents that talk to it through the official SDK's in-memory client."""

import json
import sqlite3
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mcp import Client
from pydantic_core import to_json
from tests.factories import NOW

from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.server import build_server
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.sqlite import Store
from voicegw_mcp.tools import TOOLS

ERAS = ("legacy", "auto")
"""Protocol eras the client can speak: the initialize handshake, and discovery (2026-07-28), which has no sessions."""

CODES = {
    "VALIDATION_ERROR",
    *(
        f"{kind}_{what}"
        for kind in ("PROVIDER", "MODEL", "PROJECT")
        for what in ("NOT_FOUND", "ALREADY_EXISTS")
    ),
    "CONFLICT",
    "CONFIRMATION_REQUIRED",
    "READ_ONLY_RESOURCE",
    "FORBIDDEN",
    "BUDGET_EXCEEDED",
    "PROVIDER_TEST_FAILED",
    "CONFIG_INVALID",
    "STORE_UNAVAILABLE",
    "INTERNAL_ERROR",
}

FILE = """\
# The gateway of the tests.
timezone: UTC  # days end at midnight

providers:
  # Speech to text.
  deepgram:
    api_key: ${DEEPGRAM_API_KEY}   # rotated monthly
  openai:
    api_key: "${OPENAI_API_KEY}"
  ollama: {base_url: "http://127.0.0.1:11434"}

models:
  stt:
    deepgram/nova-3:
      provider: deepgram
      model: nova-3
      default_language: en  # most callers
  llm:
    openai/gpt-4.1-mini: {provider: openai, model: gpt-4.1-mini}
    ollama/qwen3:
      provider: ollama
      model: qwen3
  tts:
    openai/tts-1:
      provider: openai
      model: tts-1
      enabled: false

stacks:
  standard:
    stt: deepgram/nova-3
    llm: openai/gpt-4.1-mini
    tts: openai/tts-1

fallbacks:
  llm: [openai/gpt-4.1-mini, ollama/qwen3]  # local last

projects:
  # The first customer.
  support-line:
    name: Support line
    daily_budget: 5.0
    default_stack: standard
    tags: [inbound]
  outbound:
    name: Outbound
    llm_model: ollama/qwen3
    timezone: America/New_York
"""


@dataclass
class Agent:
    """One client of one gateway. ``ok`` and ``refused`` check the form of every answer they return."""

    client: Client
    gateway: Gateway

    async def call(self, tool, arguments):
        """Return whether the call failed, and its one object."""
        result = await self.client.call_tool(tool, arguments)
        (block,) = result.content
        assert json.loads(block.text) == result.structured_content
        assert block.text == to_json(result.structured_content).decode()  # compact
        return result.is_error, result.structured_content

    async def ok(self, tool, **arguments):
        failed, answer = await self.call(tool, arguments)
        assert not failed, answer
        return answer

    async def refused(self, tool, arguments=None, /, **named):
        """Return the error of a call that must fail."""
        failed, answer = await self.call(tool, named if arguments is None else arguments)
        assert failed, answer
        assert set(answer) == {"error"}
        error = answer["error"]
        assert {"code", "message"} <= set(error) <= {"code", "message", "hint", "details"}
        assert error["code"] in CODES
        assert error["message"]
        assert error["message"].isprintable()
        assert len(json.dumps(answer)) < 20_000
        return error

    async def resource(self, uri):
        (contents,) = (await self.client.read_resource(uri)).contents
        assert contents.mime_type == "application/json"
        return json.loads(contents.text)


@dataclass
class House:
    """A folder with ``voicegw.yaml`` and the store, and a clock that stands still."""

    folder: Path
    now: int = NOW
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def file(self):
        return self.folder / "voicegw.yaml"

    @property
    def database(self):
        return self.folder / "voicegw.db"

    def write(self, text):
        self.file.write_text(text, encoding="utf-8", newline="")

    @property
    def text(self):
        return self.file.read_text(encoding="utf-8")

    @property
    def lines(self):
        return self.text.splitlines()

    def secrets(self, **values):
        """Write secrets.env."""
        path = self.folder / "secrets.env"
        path.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        path.chmod(0o600)

    def state(self):
        """Return all that a refused call must leave as it was."""
        found = self.file.stat() if self.file.exists() else None
        return (self.file.read_bytes(), found.st_mtime_ns, found.st_ino) if found else None, self.journal()

    def journal(self, columns="id, state, tool, summary, actor, door, diff, edits"):
        if not self.database.exists():
            return []
        with closing(sqlite3.connect(f"{self.database.as_uri()}?mode=ro", uri=True)) as connection:
            try:
                return connection.execute(f"SELECT {columns} FROM changes ORDER BY rowid").fetchall()
            except sqlite3.OperationalError:  # not made yet
                return []

    async def log(self, *records):
        store = await Store.open(self.database)
        try:
            await store.write(partial(insert_requests, records=records))
        finally:
            await store.close()

    def gateway(self, door="test"):
        environment = {"VOICEGW_DB_PATH": str(self.database), **self.environment}
        return Gateway.open(str(self.file), door=door, environment=environment, now_ms=lambda: self.now)

    @asynccontextmanager
    async def agent(self, *, mode="auto", tools=TOOLS, door="test"):
        gateway = self.gateway(door)
        try:
            async with Client(build_server(gateway, tools), mode=mode) as client:
                yield Agent(client, gateway)
        finally:
            await gateway.close()
