"""The gateways that the rounds work on, and the changes they make: a folder as it was before, and one call.

Each variety is prepared once as a folder and copied for each round, so that a round begins with the same bytes.
"""

import asyncio
import json
import os
import shutil
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.errors import GatewayError
from voicegw_mcp.store.changes import ChangeRecord, list_changes
from voicegw_mcp.tools import TOOLSETS, choose_tools

FILE = """\
# The gateway of the rounds.
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

fallbacks:
  llm: [openai/gpt-4.1-mini, ollama/qwen3]  # local last

projects:
  # The first customer.
  support-line:
    name: Support line
    daily_budget: 5.0
    tags: [inbound]
  outbound:
    name: Outbound
    llm_model: ollama/qwen3
"""

MODE = 0o640
KEYS = {"DEEPGRAM_API_KEY": "fake-key-0001", "OPENAI_API_KEY": "fake-key-0002"}
BY_NAME = {tool.name: tool for tool in choose_tools(TOOLSETS)}
"""The tool that takes a change back, as soon as there is one."""

Call = tuple[str, Mapping[str, Any]]

UPDATE: Call = (
    "create_project",
    {"project_id": "support-line", "name": "Support line", "daily_budget": 9.5, "on_conflict": "update"},
)
ADD_PROJECT: Call = (
    "create_project",
    {"project_id": "night-shift", "name": "Night shift", "daily_budget": 1},
)
NEXT: Call = ("create_project", {"project_id": "the-next-one", "name": "The next one"})
"""The change that must work after every recovery."""


@dataclass(frozen=True)
class Variety:
    """A gateway as it is before a round, and the change of the round.

    ``warm``: the store is open already, as in a server that has worked before. ``dirty``: an earlier change was killed
    while it was pending.
    """

    name: str
    call: Call
    file: str | None = FILE
    store: bool = True
    warm: bool = False
    link: bool = False
    dirty: bool = False
    undo: bool = False


VARIETIES = [
    Variety("update of a project", UPDATE, warm=True),
    Variety("new project", ADD_PROJECT),
    Variety(
        "new provider",
        ("add_provider", {"provider_id": "groq", "provider_type": "groq", "api_key": "${GROQ_API_KEY}"}),
        warm=True,
    ),
    Variety(
        "new model",
        ("register_model", {"modality": "tts", "provider_id": "openai", "model_name": "tts-1"}),
        warm=True,
    ),
    Variety("deleted project", ("delete_project", {"project_id": "outbound", "confirm": True}), warm=True),
    Variety(
        "deleted model, with its mentions",
        ("delete_model", {"model_id": "ollama/qwen3", "confirm": True, "cascade": True}),
        warm=True,
    ),
    Variety(
        "deleted provider, with its models",
        ("delete_provider", {"provider_id": "openai", "confirm": True, "cascade": True}),
    ),
    Variety("first change: no file, no store, no folder", ADD_PROJECT, file=None, store=False),
    Variety("first change: no store", UPDATE, store=False),
    Variety("file behind a symlink", UPDATE, link=True, warm=True),
    Variety("after a crash between journal and file", ADD_PROJECT, dirty=True),
    Variety("undo of a change", ("undo_change", {}), undo=True, warm=True),
]


@dataclass
class House:
    """A folder with a gateway in it. ``config`` is the path that the program is given."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "gateway"

    @property
    def config(self) -> Path:
        return self.home / "voicegw.yaml"

    @property
    def target(self) -> Path:
        """The file itself, behind a link."""
        return Path(os.path.realpath(self.config))

    def content(self) -> bytes | None:
        try:
            return self.config.read_bytes()
        except FileNotFoundError:
            return None

    def gateway(self) -> Gateway:
        environment = {**KEYS, "HOME": str(self.folder), "VOICEGW_DB_PATH": str(self.home / "voicegw.db")}
        return Gateway.open(str(self.config), door="test", environment=environment)


@dataclass
class Template:
    """A prepared folder, what the file holds before, and the journal's rows by then."""

    variety: Variety
    folder: Path
    old: bytes | None
    known: set[str]
    call: Call
    new: bytes | None = None
    calls: list[Any] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    edited: bool = False
    """Whether an editor saves meanwhile: what he saved may then be kept beside the file."""

    def copy(self, folder: Path) -> House:
        shutil.copytree(self.folder, folder, symlinks=True)
        return House(folder)


async def answer_of(gateway: Gateway, call: Call) -> dict[str, Any]:
    """Make a call as a door does; the answer is ``ok`` or an error's code, with what was said."""
    name, arguments = call
    tool = BY_NAME[name]
    try:
        said = (await tool.run(gateway, tool.parse(arguments))).as_json()
    except GatewayError as error:
        return {"answered": error.error_code, "said": json.dumps(error.payload())}
    except Exception:  # noqa: BLE001 - the doors answer INTERNAL_ERROR to it, and the round is a violation
        return {"answered": "INTERNAL_ERROR", "said": traceback.format_exc()}
    return {"answered": "ok", "said": json.dumps(said)}


def change(house: House, template: Template) -> Callable[[Callable[[dict], None]], None]:
    """Return what a traced child does: the change of the round, on a gateway of its own."""

    async def act(tell: Callable[[dict], None]) -> None:
        gateway = house.gateway()
        if template.variety.warm:
            await gateway.store()
            gateway.catalog()
        tell({"begin": True})
        tell(await answer_of(gateway, template.call))
        await gateway.close()
        tell({"end": True})

    return lambda tell: asyncio.run(act(tell))


def one_call(house: House, call: Call) -> dict[str, Any]:
    """Make one call in this process and close the gateway."""

    async def act() -> dict[str, Any]:
        gateway = house.gateway()
        try:
            return await answer_of(gateway, call)
        finally:
            await gateway.close()

    answer = asyncio.run(act())
    join_threads()
    return answer


async def journal_of(gateway: Gateway) -> list[ChangeRecord]:
    """Open the store, which settles what a crash left, and return the newest changes, oldest first."""
    return (await (await gateway.store()).ask(list_changes, limit=1000))[::-1]


def join_threads() -> None:
    """Wait for the threads of a closed gateway: only a process with one thread may fork."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(10)


def prepare(variety: Variety, folder: Path) -> Template:
    """Make the folder of a variety; all that an import or a first call does in this process is done then."""
    house = House(folder)
    folder.mkdir(parents=True)
    if variety.file is not None:
        house.home.mkdir()
        place = house.config
        if variety.link:
            place = house.home / "real" / "config.yaml"
            place.parent.mkdir()
            house.config.symlink_to("real/config.yaml")
        place.write_text(variety.file, encoding="utf-8")
        place.chmod(MODE)
    if variety.store:
        for call in (
            ("create_project", {"project_id": "early", "name": "Early"}),
            ("delete_project", {"project_id": "early", "confirm": True}),
            ("create_project", {"project_id": "evening", "name": "Evening"}),
        ):
            answer = one_call(house, call)
            assert answer["answered"] == "ok", answer
    rows = asyncio.run(_rows(house)) if variety.store else []
    join_threads()
    return Template(variety, folder, house.content(), {row.id for row in rows}, variety.call)


async def _rows(house: House) -> list[ChangeRecord]:
    gateway = house.gateway()
    try:
        return await journal_of(gateway)
    finally:
        await gateway.close()
