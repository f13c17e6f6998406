"""Section ``damage``: bits of a store flip, its file is cut off; no crash, and no wrong total in silence."""

# Seeded generators make the same damage in every run.
# ruff: noqa: S311

import json
import random
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
from tests import proof
from tests.proof import Progress, Section
from tests.store_proofs.writer import record

from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.errors import GatewayError
from voicegw_mcp.store.agreement import Agreed
from voicegw_mcp.store.backup import figures
from voicegw_mcp.store.repair import remove, repair_store
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.retention import prune_batch
from voicegw_mcp.store.schema import connect, prepare
from voicegw_mcp.tools import TOOLS

NAME = "damage"
TITLE = "Damaged stores"
ROUNDS = 1000
CHECKED = """\
A store of eleven days, the first four of them pruned, is copied, and one bit of the copy flips anywhere (in eight of ten rounds), two to eight of them, or
its end is cut off. Reports, projects and logs are asked for, then `voicegw repair --dry-run` and `voicegw repair` are run. It is checked that:

- nothing crashes, and no total is wrong in silence: an answer with totals is the right one or an error;
- repair tells what it could not make whole: when it calls the store sound, or says that all was mended, a second look finds nothing more and the totals
  are exact;
- the dry run and the repair agree.

The second table tells by what the first bit is part of where the damage was noticed. *Differing* are logs, latencies and sessions that were shown
differently, of which repair did or did not tell."""
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
    "logs of a session": ("get_logs", {"session_id": "s120"}),
    "logs of slow errors": ("get_logs", {"search": "exceeded", "min_latency_ms": 100}),
}
PAGE = 4096
_ROUNDS, _REFUSED, _RIGHT = "rounds", "refused by a report", "all answers right"
_REPAIR_TOLD, _DIFFERING_TOLD, _DIFFERING = "told by repair", "differing, told", "differing, found by nothing"
TOTALS = [name for name in QUESTIONS if name.startswith(("totals", "projects"))]


Counted = Counter[str]


def run(rounds: int, seed: int, folder: Path, progress: Progress) -> Section:
    """Damage so many copies of a store, one after the other."""
    return _made(range(rounds), seed, folder, progress)


def repeat(seed: int, number: int, folder: Path, progress: Progress) -> Section:
    """Make one round again."""
    return _made([number], seed, folder, progress)


def _made(numbers: Sequence[int], seed: int, folder: Path, progress: Progress) -> Section:
    section = Section(NAME)
    sound = make_store(folder / "sound.db")
    parts = _parts(sound)
    right = anyio.run(_answers, folder, sound, True)
    held = _held(sound)
    counted: Counted = Counter()
    by_place: dict[str, Counted] = defaultdict(Counter)
    for done, number in enumerate(numbers, 1):
        what, place = _damage(sound, folder / "voicegw.db", random.Random(f"{seed} {number}"))
        found: Counted = Counter()
        try:
            wrong = _look(folder, right, held, found)
        except GatewayError as error:
            wrong = [f"an error where none is expected: {error.message}"]
        again = proof.command("store_proofs", NAME, seed, number)
        section.violations += [f"{text} ({what}) {again}" for text in wrong]
        counted += found
        where = "end cut off" if place is None else parts[place // PAGE]
        by_place[where] += found + Counter({_ROUNDS: 1})
        progress(done, len(numbers))
    for_places = {_DIFFERING, _DIFFERING_TOLD}
    shown = sorted(item for item in counted.items() if item[0] not in for_places)
    section.figures = [("damaged stores", len(numbers)), *shown]
    section.notes = _by_place(by_place)
    return section


def _by_place(found: dict[str, Counted]) -> list[str]:
    """Return a second table: where the damage was, and where it was noticed."""
    columns = (_ROUNDS, _REFUSED, _RIGHT, _REPAIR_TOLD, _DIFFERING_TOLD, _DIFFERING)
    lines = [("where", *columns), tuple("---" for _ in range(len(columns) + 1))]
    lines += [(name, *(str(counts[column]) for column in columns)) for name, counts in sorted(found.items())]
    return ["", *(f"| {' | '.join(line)} |" for line in lines)]


def _parts(store: Path) -> list[str]:
    """Return what each page of a store is part of, by its number from 0."""
    with closing(connect(store, timeout_s=1)) as connection:
        pages, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
        )
        assert size == PAGE
        known = {
            page - 1: f"index of `{table}`" if kind == "index" else f"`{table}`"
            for page, table, kind in connection.execute(
                "SELECT pageno, COALESCE(tbl_name, 'schema'), COALESCE(type, 'table') FROM dbstat "
                "LEFT JOIN sqlite_master ON sqlite_master.name = dbstat.name"
            )
        }
    return [known.get(number, "free pages") for number in range(pages)]


def make_store(path: Path) -> Path:
    """Make a store of eleven days, the first four of them pruned, without a log beside it."""
    prepare(path, deadline=time.monotonic() + 10)
    connection = connect(path, timeout_s=1)
    connection.execute("BEGIN IMMEDIATE")
    spread = 11 * DAY // ROWS
    base = record(0).timestamp_ms // DAY * DAY - 10 * DAY
    insert_requests(connection, [replace(record(n), timestamp_ms=base + n * spread) for n in range(ROWS)])
    while prune_batch(connection, base + 4 * DAY):
        pass
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path


def _damage(sound: Path, path: Path, rng: random.Random) -> tuple[str, int | None]:
    """Put a damaged copy in place; return what was done, and at which byte first (None for the end)."""
    for file in path.parent.glob("voicegw.db*"):
        file.unlink()
    shutil.copyfile(sound, path)
    size = path.stat().st_size
    kind = rng.random()
    with path.open("rb+") as file:
        if kind < 0.1:
            file.truncate(place := rng.randrange(size))
            return f"cut off at {place}", None
        places = [rng.randrange(size) for _ in range(1 if kind < 0.9 else rng.randrange(2, 9))]
        for place in places:
            file.seek(place)
            (byte,) = file.read(1)
            file.seek(place)
            file.write(bytes([byte ^ 1 << rng.randrange(8)]))
    return f"bits flipped at {places}", places[0]


def _look(folder: Path, right: dict[str, str], held: Any, counted: Counter[str]) -> list[str]:
    """Ask the product, then repair; return what must not be."""
    path = folder / "voicegw.db"
    unchecked = anyio.run(_answers, folder, path, False)
    shown = anyio.run(_answers, folder, path, True)
    wrong: list[str] = []
    counted["totals that would be wrong without the comparison of what a report reads"] += any(
        unchecked[name] not in {right[name], "refused"} for name in TOTALS
    )
    differing = [name for name in QUESTIONS if shown[name] not in {right[name], "refused"}]
    counted[_REFUSED] += "refused" in shown.values()
    counted[_RIGHT] += not differing and "refused" not in shown.values()
    crashed = [name for name in differing if shown[name].startswith("crash")]
    wrong += [f"{name}: {shown[name]}" for name in crashed]
    wrong += [f"{name} is wrong in silence" for name in differing if name in TOTALS and name not in crashed]
    told = _repaired(path, folder / "saved.db", held, counted, wrong)
    for name in sorted(set(differing) - set(TOTALS) - set(crashed)):
        truncated = (
            name == "sessions" and '"truncated":true' not in right[name] and '"truncated":true' in shown[name]
        )
        noticed = told or truncated
        counted[f"{name} shown differently, {'told by repair' if noticed else 'found by nothing'}"] += 1
        counted[_DIFFERING_TOLD if noticed else _DIFFERING] += 1
    counted[_REPAIR_TOLD] += told
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


class _Unchecked(Agreed):
    """Takes everything for compared."""

    def require(self, *_: Any) -> None:
        pass

    def require_whole(self, *_: Any) -> None:
        pass


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
                    store = gateway.store_handle._sound = await gateway.store_handle.get()
                    store.shared.agreed = _Unchecked()
                answer = await BY_NAME[tool].run(gateway, BY_NAME[tool].parse(arguments))
                found[name] = json.dumps(answer.as_json(), separators=(",", ":"))
            except GatewayError:
                found[name] = "refused"
            except Exception as error:  # noqa: BLE001 - what must not be is reported with all the rest
                found[name] = f"crash: {type(error).__name__}"
    finally:
        await gateway.close()
    return found
