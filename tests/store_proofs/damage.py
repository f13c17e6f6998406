"""Section ``damage``: bits of a store flip, its file is cut off; no crash, and no wrong total in silence."""

# Seeded generators make the same damage in every run.
# ruff: noqa: S311

import json
import random
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
from tests.chaos.section import Progress, Section
from tests.store_proofs.writer import record

from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.errors import GatewayError
from voicegw_mcp.store.backup import figures
from voicegw_mcp.store.repair import remove, repair_store
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.retention import prune_batch
from voicegw_mcp.store.schema import connect, prepare
from voicegw_mcp.tools import TOOLS

NAME = "damage"
ROUNDS = 1000
ROWS = 1500
DAY = 86_400_000
BY_NAME = {tool.name: tool for tool in TOOLS}
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "totals": ("get_costs", {"period": "all"}),
    "totals by day": ("get_costs", {"period": "all", "group_by": "day"}),
    "totals of a project": ("get_costs", {"period": "all", "project": "p1", "group_by": "hour"}),
    "totals of a window": ("get_costs", {"start": "2026-11-19T06:15:00Z", "end": "2026-11-20T17:45:00Z"}),
    "projects": ("list_projects", {}),
    "sessions": ("get_costs", {"period": "all", "group_by": "session"}),
    "latency": ("get_latency_stats", {"period": "all"}),
    "logs": ("get_logs", {"limit": 200}),
}
TOTALS = [name for name in QUESTIONS if name.startswith(("totals", "projects"))]


def run(rounds: int, seed: int, folder: Path, progress: Progress) -> Section:
    """Damage so many copies of a store, one after the other."""
    section = Section(NAME)
    sound = make_store(folder / "sound.db")
    right = anyio.run(_answers, folder, sound, True)
    held = _held(sound)
    counted: Counter[str] = Counter()
    for number in range(rounds):
        what = _damage(sound, folder / "voicegw.db", random.Random(f"{seed} {number}"))
        try:
            wrong = _look(folder, right, held, counted)
        except GatewayError as error:
            wrong = [f"an error where none is expected: {error.message}"]
        section.violations += [f"round {number} ({what}): {text}" for text in wrong]
        progress(number + 1, rounds)
    section.figures = [("damaged stores", rounds), *sorted(counted.items())]
    return section


def make_store(path: Path) -> Path:
    """Make a store of eleven days, the first four of them pruned, without a log beside it."""
    prepare(path, deadline=time.monotonic() + 10)
    connection = connect(path, timeout_s=1)
    connection.execute("BEGIN IMMEDIATE")
    spread = 11 * DAY // ROWS
    base = record(0).timestamp_ms // DAY * DAY - 10 * DAY
    rows = [record(number) for number in range(ROWS)]
    for number, row in enumerate(rows):
        object.__setattr__(row, "timestamp_ms", base + number * spread)
    insert_requests(connection, rows)
    while prune_batch(connection, base + 4 * DAY):
        pass
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path


def _damage(sound: Path, path: Path, rng: random.Random) -> str:
    """Put a damaged copy in place and say what was done."""
    for file in path.parent.glob("voicegw.db*"):
        file.unlink()
    shutil.copyfile(sound, path)
    size = path.stat().st_size
    kind = rng.random()
    with path.open("rb+") as file:
        if kind < 0.1:
            file.truncate(place := rng.randrange(size))
            return f"cut off at {place}"
        places = [rng.randrange(size) for _ in range(1 if kind < 0.9 else rng.randrange(2, 9))]
        for place in places:
            file.seek(place)
            (byte,) = file.read(1)
            file.seek(place)
            file.write(bytes([byte ^ 1 << rng.randrange(8)]))
    return f"bits flipped at {places}"


def _look(folder: Path, right: dict[str, str], held: Any, counted: Counter[str]) -> list[str]:
    """Ask the product, then repair; return what must not be."""
    path = folder / "voicegw.db"
    unchecked = anyio.run(_answers, folder, path, False)
    shown = anyio.run(_answers, folder, path, True)
    wrong: list[str] = []
    counted["totals that would be wrong without the comparison at the first report"] += any(
        unchecked[name] not in {right[name], "refused"} for name in TOTALS
    )
    differing = [name for name in QUESTIONS if shown[name] not in {right[name], "refused"}]
    counted["refused by a report"] += "refused" in shown.values()
    counted["all answers right"] += not differing and "refused" not in shown.values()
    crashed = [name for name in differing if shown[name].startswith("crash")]
    wrong += [f"{name}: {shown[name]}" for name in crashed]
    wrong += [f"{name} is wrong in silence" for name in differing if name in TOTALS and name not in crashed]
    told = _repaired(path, folder / "saved.db", held, counted, wrong)
    for name in sorted(set(differing) - set(TOTALS) - set(crashed)):
        truncated = (
            name == "sessions" and '"truncated":true' not in right[name] and '"truncated":true' in shown[name]
        )
        counted[
            f"{name} shown differently, {'told by repair' if told or truncated else 'found by nothing'}"
        ] += 1
    return wrong


def _repaired(path: Path, saved: Path, held: Any, counted: Counter[str], wrong: list[str]) -> bool:
    """Repair the store and return whether that told of anything."""
    remove(saved)
    try:
        looked = repair_store(path, saved, dry_run=True, progress=lambda *_: None)
        done = repair_store(path, saved, dry_run=False, progress=lambda *_: None)
    except GatewayError:
        counted["repair: nothing can be read, said so"] += 1
        return True
    if looked.is_clean() != done.is_clean():
        wrong.append("the dry run and the repair disagree")
    now = _held(saved if done.saved is not None else path)
    same = (now.requests, now.cost_nanousd, now.totals) == (held.requests, held.cost_nanousd, held.totals)
    if done.saved is not None:
        counted[f"repair: rows saved in a new store, totals {'exact' if same else 'not whole, said so'}"] += 1
    elif done.is_clean():
        counted["repair: nothing to do"] += 1
        if not same:
            wrong.append("repair calls a store sound whose totals are wrong")
    else:
        counted[f"repair: mended, totals {'exact' if same else 'not whole, said so'}"] += 1
    if done.mended:
        again = repair_store(
            saved if done.saved else path, saved.with_name("again.db"), dry_run=True, progress=lambda *_: None
        )
        if again.structure or any(item.remedy != "keep" for item in again.findings.differences):
            wrong.append("a second repair finds more")
    return not done.is_clean()


def _held(path: Path) -> Any:
    connection = connect(path, timeout_s=1)
    try:
        return figures(connection)
    finally:
        connection.close()


async def _answers(folder: Path, store: Path, checked: bool) -> dict[str, str]:
    """Return each answer as text, ``refused`` for an error of ours; anything else is a crash."""
    environment = {"VOICEGW_DB_PATH": str(store)}
    now = record(0).timestamp_ms + DAY
    gateway = Gateway.open(
        str(folder / "voicegw.yaml"), door="cli", environment=environment, now_ms=lambda: now
    )
    found: dict[str, str] = {}
    try:
        for name, (tool, arguments) in QUESTIONS.items():
            try:
                if not checked:
                    gateway.store_handle._sound = await gateway.store_handle.get()
                answer = await BY_NAME[tool].run(gateway, BY_NAME[tool].parse(arguments))
                found[name] = json.dumps(answer.as_json(), separators=(",", ":"))
            except GatewayError:
                found[name] = "refused"
            except Exception as error:  # noqa: BLE001 - what must not be is reported with all the rest
                found[name] = f"crash: {type(error).__name__}"
    finally:
        await gateway.close()
    return found
