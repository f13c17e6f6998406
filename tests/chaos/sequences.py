"""Random sequences of changes, undos and redos on random files, compared with a model that remembers the bytes.

``run_sequence(seed, folder)`` plays one and returns what was violated; everything is made from the seed.

* An undo of the newest change brings the bytes back that were there before it, a redo those that were there after it.
* An undo of an older change either is refused and leaves the bytes alone, or changes no other entry, and its redo
  brings the very bytes back. It is refused when a later change in force was at one of its entries, and not when nobody
  was there.
* A dry run and a refusal change nothing.
* After an edit by hand all of that holds for the meaning of the file, and what was written by hand stays.
* In the end all changes are taken back, and the file is what it was at the start.
"""

import contextlib
import functools
import json
import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from tests.protocol.agents import FILE

from voicegw_mcp.config.document import entry_text
from voicegw_mcp.config.file import ConfigFile
from voicegw_mcp.config.parse import decode, parse
from voicegw_mcp.config.secrets import Secrets
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.undo import undo_change
from voicegw_mcp.errors import Conflict, GatewayError
from voicegw_mcp.store import changes as journal
from voicegw_mcp.tools import TOOLS

CASES = Path(__file__).parents[1] / "config_cases"
STEPS = 14
BY_NAME = {tool.name: tool for tool in TOOLS}
KEY = "sk-fake-0123456789abcdef"
WITH_KEYS = FILE.replace('"${OPENAI_API_KEY}"', f"{KEY}  # to be moved").replace(
    "  ollama: {", "  # before: sk-fake-before-0123456789\n  ollama: {"
)
DEPTHS = {"providers": 2, "models": 3, "projects": 2, "stacks": 2, "fallbacks": 2}
TEXTS = ("Plain", "yes", "12:30", "a: b # c", "Ünïcode", "it's", "- x", "null", "")


@dataclass
class Done:
    """A change in force: the ids by which it can be taken back, the bytes around it, the entries it left and was at."""

    ids: list[str]
    before: bytes
    after: bytes
    left: dict[tuple[str, ...], str]
    own: set[tuple[str, ...]]


@dataclass
class Sequence:
    """One sequence on one gateway."""

    gateway: Gateway
    file: Path
    random: random.Random
    done: list[Done] = field(default_factory=list)
    undone: list[Done] = field(default_factory=list)
    by_hand: str = ""
    log: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)

    @property
    def raw(self) -> bytes:
        return self.file.read_bytes() if self.file.exists() else b""

    async def play(self) -> None:
        start = self.raw
        steps = [self.change] * 6 + [self.undo] * 2 + [self.redo] * 2 + [self.undo_older] * 2 + [self.dry_run]
        if self.random.random() < 0.3:
            steps.append(self.edit_by_hand)
        for _ in range(STEPS):
            if not self.found:
                await self.random.choice(steps)()
        while self.done and not self.found:
            if not await self.undo():
                return  # refused for a reason that the model knows
        if not self.found:
            self.expect(start, "the end")

    def expect(self, wanted: bytes, what: str) -> None:
        """The file holds ``wanted``; after an edit by hand it means the same, and the edit is there."""
        now = self.raw
        if now == wanted:
            return
        if self.by_hand and self.by_hand in now.decode() and meaning(now) == meaning(wanted):
            return
        self.found.append(f"{what}: the file is {now!r}, not {wanted!r}")

    async def change(self, *, dry_run: bool = False) -> None:
        name, arguments = self.draw()
        self.log.append(f"{name} {json.dumps(arguments, ensure_ascii=False)}{' (dry run)' * dry_run}")
        before = self.raw
        tool = BY_NAME[name]
        answer: Any
        try:
            answer = await tool.run(self.gateway, tool.parse({**arguments, "dry_run": dry_run}))
        except GatewayError as error:
            self.log.append(f"  refused: {error.message}")
            self.expect(before, "a refused change")
            return
        if answer.change_id is None:
            self.expect(before, "a dry run")
        else:
            own = await self.own(answer.change_id)
            self.done.append(Done([answer.change_id], before, self.raw, self.entries(), own))
            self.undone.clear()

    async def undo(self) -> bool:
        if not self.done:
            return False
        done = self.done[-1]
        change_id = self.random.choice([None, *done.ids])
        new = await self.take_back(change_id, f"undo {change_id or 'the newest'}", may_lose_key=done)
        if new is None:
            return False
        self.expect(done.before, "an undo")
        self.done.pop()
        self.undone.append(Done([new, *done.ids], done.before, done.after, done.left, done.own))
        return True

    async def redo(self) -> None:
        if self.undone:
            undone = self.undone.pop()
            new = await self.take_back(undone.ids[0], f"redo by {undone.ids[0]}")
            if new is not None:
                self.expect(undone.after, "a redo")
                ids = [*undone.ids[1:], new]
                self.done.append(Done(ids, undone.before, undone.after, undone.left, undone.own))

    async def undo_older(self) -> None:
        """Take back what is not the newest, look at all other entries, and redo it."""
        if len(self.done) < 2:
            return
        number = self.random.randrange(len(self.done) - 1)
        done = self.done[number]
        change_id, own = done.ids[0], done.own
        before, was = self.raw, self.entries()
        others = {path for later in self.done[number + 1 :] for path in later.own}
        touched = {path for path in own if was.get(path) != done.left.get(path)} | (own & others)
        whole = all(len(path) == DEPTHS.get(path[0], 1) for path in own)
        try:
            undo = (await undo_change(self.gateway, change_id, tool="undo")).receipt.change_id
        except Conflict as error:
            self.log.append(f"undo {change_id}: refused: {error.message}")
            self.expect(before, "a refused undo")
            if "was changed since" in error.message and whole and not touched and not self.by_hand:
                self.found.append(f"undo of {change_id} was refused, but nobody changed its entries")
            return
        self.log.append(f"undo {change_id}: {undo}")
        if whole and touched and not self.by_hand:
            self.found.append(f"undo of {change_id} went over later changes of {touched}")
        now = self.entries()
        for path in was.keys() | now.keys():
            mine = any(path[: len(at)] == at or at[: len(path)] == path for at in own)
            if not mine and was.get(path) != now.get(path):
                self.found.append(f"undo of {change_id}: {path} was {was.get(path)!r}, is {now.get(path)!r}")
        if undo is not None and await self.take_back(undo, f"redo by {undo}") is not None:
            self.expect(before, "the redo of an older change")

    async def dry_run(self) -> None:
        before = self.raw
        if self.done and self.random.random() < 0.5:
            self.log.append("undo (dry run)")
            with contextlib.suppress(Conflict):
                await undo_change(self.gateway, tool="undo", dry_run=True)
        else:
            await self.change(dry_run=True)
        self.expect(before, "a dry run")

    async def edit_by_hand(self) -> None:
        """Write a comment at the top, where it is nobody's."""
        text = self.raw.decode()
        if text.startswith(("\ufeff", "%", "---")) or not text.strip():
            return
        self.by_hand = f"# by hand {len(self.log)}"
        self.log.append(self.by_hand)
        self.file.write_bytes(f"{self.by_hand}\n\n{text}".encode())

    async def take_back(
        self, change_id: str | None, what: str, *, may_lose_key: Done | None = None
    ) -> str | None:
        before = self.raw
        try:
            undone = await undo_change(self.gateway, change_id, tool="undo")
        except GatewayError as error:
            self.log.append(f"{what}: refused: {error.message}")
            self.expect(before, "a refused undo")
            held = may_lose_key is not None and b"sk-fake-" in may_lose_key.before
            known = held and "held a key" in error.message
            # In a file that was touched by hand nobody knows whether a reference led nowhere before.
            known = known or bool(self.by_hand and "which does not exist" in error.message)
            if not known:
                self.found.append(f"{what} was refused: {error.error_code} {error.message}")
            return None
        self.log.append(f"{what}: {undone.receipt.change_id}")
        return undone.receipt.change_id

    async def own(self, change_id: str) -> set[tuple[str, ...]]:
        """Return the entries that a change was at."""
        change = await (await self.gateway.store()).ask(journal.get_change, change_id)
        assert change is not None
        edits = json.loads(change.edits)
        return {
            tuple(edit["before"]["path"])
            for edit in edits
            if not edit["before"]["present"]
            or edit["before"]["text"].strip() != (edit["after"] or "").strip()
        }

    def entries(self) -> dict[tuple[str, ...], str]:
        """Return the text of every entry."""
        parsed = parse(decode(self.raw))
        found: dict[tuple[str, ...], str] = {}
        todo: list[tuple[str, ...]] = [(section,) for section in parsed.data]
        for path in todo:
            value: Any = parsed.data
            for step in path:
                value = value[step]
            if len(path) < DEPTHS.get(path[0], 1):
                todo += [(*path, str(key)) for key in value or ()]
            else:
                with contextlib.suppress(GatewayError):  # it shares its lines with others
                    found[path] = (entry_text(parsed, path) or "").rstrip()
        return found

    def draw(self) -> tuple[str, dict[str, Any]]:
        """Return a call, which may well be refused."""
        draw, catalog = self.random, self.gateway.catalog()
        providers, models = [*catalog.providers, "p1"], [*catalog.models, "p1/m1"]
        projects = [*catalog.settings.projects, "default"]
        conflict = draw.choice(["error", "update", "update"])
        name = draw.choice(
            ["add_provider", "register_model", "create_project"] * 2
            + ["delete_provider", "delete_model", "delete_project"]
        )
        optional: dict[str, Any] = {}
        if name.startswith("delete_"):
            kind = name.removeprefix("delete_")
            ids = {"provider": providers, "model": models, "project": projects}[kind]
            cascade = {} if kind == "project" else {"cascade": draw.random() < 0.8}
            return name, {f"{kind}_id": draw.choice(ids), "confirm": True, **cascade}
        if name == "add_provider":
            wanted: dict[str, Any] = {
                "provider_id": draw.choice([*providers, "p1", "p1", "p2"]),
                "provider_type": draw.choice(["openai", "deepgram", "groq", "ollama"]),
            }
            optional = {
                "api_key": "${A_KEY}",
                "base_url": f"https://h{draw.randrange(9)}.example.com/v1",
                "options": {"region": draw.choice(TEXTS), "retries": draw.randrange(5)},
            }
        elif name == "register_model":
            wanted = {
                "modality": draw.choice(["stt", "llm", "tts"]),
                "provider_id": draw.choice(providers),
                "model_name": draw.choice(["m1", "m1", "gpt-4.1-mini", "nova-3"]),
            }
            optional = {
                "display_name": draw.choice(TEXTS[:-1]),
                "enabled": draw.random() < 0.5,
                "config": {"stop": [draw.choice(TEXTS), "b"], "temperature": draw.random()},
            }
        else:
            wanted = {
                "project_id": draw.choice([*projects[:1], "j1", "j1", "j2"]),
                "name": draw.choice(TEXTS[:-1]),
            }
            optional = {
                "description": draw.choice([*TEXTS, "several\nlines\n"]),
                "daily_budget": draw.choice([0, 1, 2.5]),
                "tags": draw.sample(TEXTS[:-1], 2),
                "llm_model": draw.choice(models),
            }
        kept = {key: value for key, value in optional.items() if draw.random() < 0.4}
        return name, {**wanted, **kept, "on_conflict": conflict}


def meaning(raw: bytes) -> dict[str, Any]:
    """Return what a file means; an empty section may be written in several ways."""
    data = parse(decode(raw)).data
    return {key: value for key, value in data.items() if value}


@functools.cache
def starts() -> list[bytes | None]:
    """Return the files a sequence may begin with; None is no file."""
    found: list[bytes | None] = [None, b"", b"{}\n", b"# only a comment", FILE.encode(), WITH_KEYS.encode()]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "voicegw.yaml"
        for case in sorted(CASES.rglob("*.case")):
            head, rest = case.read_text("utf-8").split("<<<<<< input\n")
            text = rest.split("======", 1)[0]
            text = text.removesuffix("\n") if "final-newline: no" in head else text
            text = text.replace("\n", "\r\n") if "newline: crlf" in head else text
            raw = ("\ufeff" * ("bom: yes" in head) + text).encode()
            path.write_bytes(raw)
            with contextlib.suppress(GatewayError):
                ConfigFile(path, Secrets(path.with_name("secrets.env"), {})).load_unbroken()
                found.append(raw)
    return found


def run_sequence(seed: int, folder: Path) -> list[str]:
    """Play the sequence of ``seed`` in an empty folder; return what was violated, nothing when all is well."""
    return anyio.run(_run, seed, folder)


async def _run(seed: int, folder: Path) -> list[str]:
    draw = random.Random(seed)  # noqa: S311 - chance, not secrets
    file = folder / "voicegw.yaml"
    # Ordinary files as often as odd ones.
    start = draw.choice(starts() if draw.random() < 0.6 else starts()[:6])
    if start is not None:
        file.write_bytes(start)
    now = 1_795_000_000_000

    def now_ms() -> int:
        nonlocal now
        now += draw.choice((0, 0, 1, 1000))
        return now

    environment = {"VOICEGW_DB_PATH": str(folder / "voicegw.db")}
    gateway = Gateway.open(str(file), door="test", environment=environment, now_ms=now_ms)
    sequence = Sequence(gateway, file, draw)
    try:
        await sequence.play()
    finally:
        await gateway.close()
    steps = "; ".join(sequence.log)
    return [f"{found} [run_sequence({seed}): {steps}; on {start!r}]" for found in sequence.found]
