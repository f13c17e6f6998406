"""Section ``reload``: the file breaks in every way, at the start and while the server runs, and it goes on working."""

import asyncio
import random
import re
import shutil
import time
import traceback
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tests.chaos import cores, memory
from tests.chaos.mutations import MUTATIONS, mutated
from tests.chaos.plans import patched
from tests.chaos.section import sum_up
from tests.proof import Progress, Section
from tests.protocol.agents import FILE, Agent, House

from voicegw_mcp.config.disk import version_of
from voicegw_mcp.config.parse import parse
from voicegw_mcp.config.redaction import shown

NAME = "reload"
TITLE = "Broken files and hot reload"
ROUNDS = 500
CHECKED = """\
A good file is damaged in the ways that people, editors and disks do it, and some that an attacker would: flipped bits,
cut ends, lines deleted, doubled, moved and indented, YAML syntax put anywhere, tabs, binary junk, other encodings,
nesting of 100,000 levels, texts of megabytes, bombs of aliases and merge keys. Each file is met twice, by a server
that starts with it and by one that runs, through an MCP client. It is checked that:

- every call is answered, never by a crash or `INTERNAL_ERROR`;
- when the file is broken, `get_health` is `degraded` and names file, line and column of a place inside the file, the
  last good configuration is served when there was one, writing tools answer `CONFIG_INVALID`, dry or not, and the file
  is left alone;
- when it is still valid, it is what is served: same version, providers and projects as a plain YAML parser reads;
- a change of such a file is refused with a typed error, or is what its diff says;
- the mended file is in force at the very next call."""

BATCH = 20
"""Files that one running server meets."""

WRITES: list[tuple[str, dict[str, Any]]] = [
    ("create_project", {"project_id": "new-one", "name": "New"}),
    ("add_provider", {"provider_id": "groq", "provider_type": "groq"}),
    ("register_model", {"modality": "llm", "provider_id": "openai", "model_name": "new-one"}),
    ("delete_model", {"model_id": "ollama/qwen3", "confirm": True, "cascade": True}),
    ("delete_provider", {"provider_id": "openai", "confirm": True, "cascade": True}),
    ("delete_project", {"project_id": "outbound", "confirm": True}),
]
READS: list[tuple[str, dict[str, Any]]] = [
    ("list_models", {}),
    ("get_provider_status", {}),
    ("get_costs", {}),
    ("get_logs", {}),
    ("get_project", {"project_id": "outbound"}),
]
_LINE_ENDS = [re.compile(pattern) for pattern in ("\r\n|[\n\r\x85\u2028\u2029]", "\n")]
"""What ends a line for YAML 1.1, and for most editors: a place counts as inside the file when it is for one of them."""


@dataclass
class _Batch:
    """What the rounds of one running server came to. ``wrong`` are (number of the round, sentence)."""

    seed: int
    chance: random.Random = field(default_factory=random.Random)
    counted: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[int, str]] = field(default_factory=list)
    slowest: float = 0.0
    number: int = 0
    kind: str = ""
    when: str = ""

    def add(self, sentence: str) -> None:
        self.wrong.append((self.number, f"{self.kind}, {self.when}: {sentence}"))


def run(
    rounds: int,
    seed: int,
    folder: Path,
    progress: Progress,
    spread: Callable[..., list[dict[str, Any]]] = cores.spread,
) -> Section:
    """Make so many damaged files, ``BATCH`` for one running server."""
    numbers = [range(first, min(first + BATCH, rounds)) for first in range(0, rounds, BATCH)]
    return _make([list(batch) for batch in numbers], seed, folder, progress, spread)


def repeat(seed: int, number: int, folder: Path, progress: Progress) -> Section:
    """Make one of the files again."""
    return _make([[number]], seed, folder, progress, cores.spread)


def _make(
    batches: Sequence[list[int]],
    seed: int,
    folder: Path,
    progress: Progress,
    spread: Callable[..., list[dict[str, Any]]],
) -> Section:
    with memory.folder_in_memory(folder) as base:

        def one(numbers: list[int]) -> dict[str, Any]:
            place = base / f"batch-{numbers[0]}"
            place.mkdir()
            try:
                return asyncio.run(_rounds(numbers, _Batch(seed), place))
            finally:
                shutil.rmtree(place, ignore_errors=True)

        total = sum(map(len, batches))
        results = spread(batches, one, lambda done, _: progress(min(done * BATCH, total), total))
    section = Section(NAME)
    counted, section.violations = sum_up(NAME, seed, results)
    section.figures = [
        ("damaged files", counted["files"]),
        *((kind, counted[kind]) for kind in MUTATIONS),
        ("broken: place named, last good version served, changes refused", counted["broken while running"]),
        ("broken at the start: place named, everything else refused", counted["broken at the start"]),
        ("still valid: served", counted["valid while running"]),
        ("changes of a file that is still valid: made, as the diff says", counted["changed"]),
        ("changes of a file that is still valid: refused, nothing written", counted["refused"]),
        ("mended: in force at the next call", counted["mended"]),
        (
            "longest wait for get_health (ms)",
            round(max((r.get("slowest", 0) for r in results), default=0) * 1000),
        ),
    ]
    return section


async def _rounds(numbers: Sequence[int], batch: _Batch, folder: Path) -> dict[str, Any]:
    running = _house(folder / "running")
    async with running.agent() as agent:
        good = await _served(agent)
        for number in numbers:
            batch.number = number
            batch.chance = random.Random(f"{batch.seed}/{number}/calls")  # noqa: S311 - drawn again from the seed
            batch.kind, raw = mutated(batch.seed, number, FILE.encode())
            batch.counted.update({"files": 1, batch.kind: 1})
            places: list[Any] = []
            for batch.when in ("while running", "at the start"):
                try:
                    async with _meeting(batch, agent, running, folder / f"start-{number}", raw) as (
                        there,
                        house,
                    ):
                        places.append(await _meet(batch, there, house, raw, good))
                except Exception:  # noqa: BLE001 - whatever it is, it is what the round is about
                    batch.add(f"the client met {traceback.format_exc()[-1500:]}")
                    _write(running, FILE.encode())
                    await agent.ok("list_projects")
            if len(places) == 2 and places[0] != places[1]:
                batch.add(f"a running server says {places[0]}, one that starts {places[1]}")
    return {"counted": batch.counted, "wrong": batch.wrong, "slowest": batch.slowest}


def _house(folder: Path) -> House:
    house = House(folder)
    folder.mkdir()
    house.write(FILE)
    return house


def _write(house: House, raw: bytes) -> None:
    house.file.write_bytes(raw)


@asynccontextmanager
async def _meeting(
    batch: _Batch, running: Agent, house: House, folder: Path, raw: bytes
) -> AsyncGenerator[tuple[Agent, House]]:
    """Give the server that is to meet the file: the running one, or one that starts with it."""
    if batch.when == "while running":
        _write(house, raw)
        yield running, house
        return
    fresh = _house(folder)
    _write(fresh, raw)
    try:
        async with fresh.agent() as agent:
            yield agent, fresh
    finally:
        shutil.rmtree(folder)


async def _served(agent: Agent) -> tuple[Any, Any]:
    projects = await agent.ok("list_projects")
    while cursor := projects.pop("next_cursor", None):  # long texts make more pages
        more = await agent.ok("list_projects", cursor=cursor)
        projects = {**more, "projects": [*projects["projects"], *more["projects"]]}
    return projects, await agent.ok("list_providers")


async def _meet(batch: _Batch, agent: Agent, house: House, raw: bytes, good: tuple[Any, Any]) -> Any:
    """Let a server meet a file and then a mended one; return where it found it broken."""
    started = time.perf_counter()
    health = await agent.ok("get_health")
    batch.slowest = max(batch.slowest, time.perf_counter() - started)
    error = health["config"].get("error")
    before = house.state()
    if error is None:
        batch.counted[f"valid {batch.when}"] += 1
        await _check_valid(batch, agent, house, raw, health)
    else:
        batch.counted[f"broken {batch.when}"] += 1
        _check_place(batch, house, raw, health)
        await _check_broken(batch, agent, good)
        if house.state() != before:
            batch.add("a call to a broken file wrote something")
    _write(house, FILE.encode())
    if await _served(agent) != good:
        batch.add("the mended file is not in force at the next call")
    elif (health := await agent.ok("get_health"))["status"] != "ok":
        batch.add(f"the mended file leaves the server degraded: {health}")
    else:
        batch.counted["mended"] += 1
    return error and (error["line"], error["column"], error["message"].replace(str(house.folder), ""))


def _check_place(batch: _Batch, house: House, raw: bytes, health: dict[str, Any]) -> None:
    error = health["config"]["error"]
    if health["status"] != "degraded":
        batch.add(f"get_health is {health['status']} with {error}")
    if error["file"] != str(house.file) or not error["message"]:
        batch.add(f"get_health names {error}")
    line, column = error["line"], error["column"]
    texts = [pattern.split(raw.decode(errors="replace")) for pattern in _LINE_ENDS]
    inside = [1 <= line <= len(lines) and 1 <= column <= len(lines[line - 1]) + 1 for lines in texts]
    if not any(inside):
        found = [len(lines[line - 1]) if 1 <= line <= len(lines) else None for lines in texts]
        sizes = [len(lines) for lines in texts]
        batch.add(
            f"{line}:{column} in a file of {sizes} lines, where that line has {found} characters: {error['message']}"
        )


async def _check_broken(batch: _Batch, agent: Agent, good: tuple[Any, Any]) -> None:
    if batch.when == "while running":
        if await _served(agent) != good:
            batch.add("the last good configuration is not what is served")
        tool, given = _reading(batch)
        await agent.ok(tool, **given)
    else:
        error = await agent.refused(*_reading(batch))
        if error["code"] != "CONFIG_INVALID":
            batch.add(f"with no good configuration a reading tool answers {error}")
    for dry_run in (False, True):
        tool, given = batch.chance.choice(WRITES)
        error = await agent.refused(tool, {**given, "dry_run": dry_run})
        if error["code"] != "CONFIG_INVALID":
            batch.add(f"{tool} (dry_run={dry_run}) answers {error} while the file is broken")


async def _check_valid(batch: _Batch, agent: Agent, house: House, raw: bytes, health: dict[str, Any]) -> None:
    projects, providers = await _served(agent)
    if {projects["config_version"], health["config"]["version"]} != {version_of(raw)}:
        batch.add(f"the file at {version_of(raw)} is valid, {projects['config_version']} is served")
    data = yaml.load(raw.decode(), Loader=yaml.CSafeLoader) or {}
    there = {item["provider_id"] for item in providers["providers"]}
    if there != set(data.get("providers") or {}):
        batch.add(f"providers {sorted(there)} are served, the file has {sorted(data.get('providers') or {})}")
    there = {item["id"] for item in projects["projects"]}
    if not there >= set(data.get("projects") or {}):
        batch.add(f"projects {sorted(there)} are served, the file has {sorted(data.get('projects') or {})}")
    tool, given = _reading(batch)
    failed, answer = await agent.call(tool, given)
    if failed and answer["error"]["code"] != "PROJECT_NOT_FOUND":
        batch.add(f"{tool} answers {answer}")
    tool, given = batch.chance.choice(WRITES)
    failed, answer = await agent.call(tool, given)
    after = house.file.read_bytes()
    if failed:
        batch.counted["refused"] += 1
        if answer["error"]["code"] == "INTERNAL_ERROR" or after != raw:
            batch.add(f"{tool} answers {answer}; the file is {'the same' if after == raw else 'another'}")
        return
    batch.counted["changed"] += 1
    if "lines of diff left out" in answer["diff"]:
        return
    # A diff says nothing of line ends, and shows *** for a key that the damage left in the open.
    old, new = (shown(parse(text.decode())).text.replace("\r\n", "\n") for text in (raw, after))
    try:
        if patched(old, answer["diff"]) != new:
            batch.add(f"after {tool} the file is not what the diff says: {answer['diff']!r}")
    except ValueError as error:
        batch.add(f"the diff of {tool} does not fit the file: {error}")


def _reading(batch: _Batch) -> tuple[str, dict[str, Any]]:
    return READS[batch.number % len(READS)]
