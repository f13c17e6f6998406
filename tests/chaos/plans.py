"""Section ``plans``: a dry run tells exactly what the same call then does, and does nothing itself."""

import asyncio
import hashlib
import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import cores, memory, scene
from tests.chaos.section import sum_up
from tests.proof import Progress, Section

from voicegw_mcp.config.disk import version_of
from voicegw_mcp.core.gateway import Gateway

NAME = "plans"
TITLE = "Dry runs"
ROUNDS = 2000
CHECKED = """\
Random calls of all writing tools are made twice: as a dry run, and then for real. In half of the rounds somebody
comes in between: another gateway with a change of its own, or an editor that saves in place or by a rename. Files with
and without a final newline, with CRLF, with a BOM, and no file at all are begun with. It is checked that:

- a dry run leaves file, folder and journal as they were, down to inode and time;
- the real call answers the very diff of the dry run, and the file is then what a small patch function of the test
  makes of the old file and that diff; what the dry run refuses, the real call refuses with the same code;
- when somebody came in between, the real call with `if_version` from the dry run answers `CONFLICT` and writes
  nothing."""

BATCH = 25
TRIES = 20
"""Draws until a plan is one that the dry run does not refuse."""
"""Rounds that one gateway sees, one after the other."""

WRITING = tuple(name for name, tool in scene.BY_NAME.items() if not tool.read_only)
FILES: dict[str, bytes | None] = {
    "as people write it": scene.FILE.encode(),
    "no final newline": scene.FILE.encode().removesuffix(b"\n"),
    "CRLF": scene.FILE.replace("\n", "\r\n").encode(),
    "BOM": b"\xef\xbb\xbf" + scene.FILE.encode(),
    "empty": b"",
    "no file": None,
    "flow style": (
        b"providers: {openai: {api_key: '${OPENAI_API_KEY}'}, ollama: {}}  # both\n"
        b"models:\n  llm: {openai/gpt-4.1-mini: {provider: openai, model: gpt-4.1-mini}}\n"
        b"projects: {outbound: {name: Outbound, llm_model: openai/gpt-4.1-mini}}\n"
    ),
}
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@\n")


def patched(old: str, diff: str) -> str:
    r"""Apply a unified diff, strictly: every line of context and every removed one must be there.

    Raises:
        ValueError: it does not fit.
    """
    if not diff:
        return old
    source = re.findall(r"[^\n]*\n|[^\n]+\Z", old)
    lines = re.findall(r"[^\n]*\n|[^\n]+\Z", diff)
    if not (lines[0].startswith("--- a/") and lines[1].startswith("+++ b/")):
        raise ValueError(f"no header: {lines[:2]}")
    out: list[str] = []
    at, number = 0, 2
    while number < len(lines):
        head = _HUNK.fullmatch(lines[number])
        if not head:
            raise ValueError(f"no hunk: {lines[number]!r}")
        start, taken, _, put = (int(text) if text is not None else 1 for text in head.groups())
        start -= taken > 0
        out += source[at:start]
        at, number, removed, added = start, number + 1, 0, 0
        while number < len(lines) and lines[number][0] in " -+":
            sign, text = lines[number][0], lines[number][1:]
            if lines[number + 1 : number + 2] == ["\\ No newline at end of file\n"]:
                text, number = text.removesuffix("\n"), number + 1
            if sign in " -":
                if source[at : at + 1] != [text]:
                    raise ValueError(f"line {at + 1} is {source[at : at + 1]}, the diff says {text!r}")
                at, removed = at + 1, removed + 1
            if sign in " +":
                out.append(text)
                added += 1
            number += 1
        if (removed, added) != (taken, put):
            raise ValueError(f"the hunk {head[0]!r} has {removed} and {added} lines")
    return "".join(out + source[at:])


@dataclass
class _Batch:
    """One gateway and what its rounds came to. ``wrong`` are (number of the round, sentence)."""

    house: scene.House
    gateway: Gateway
    chance: random.Random
    counted: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[int, str]] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    number: int = 0

    def add(self, sentence: str) -> None:
        self.wrong.append((self.number, sentence))


def run(
    rounds: int,
    seed: int,
    folder: Path,
    progress: Progress,
    spread: Callable[..., list[dict[str, Any]]] = cores.spread,
) -> Section:
    """Make the rounds, ``BATCH`` on one gateway."""
    batches = [(first, min(BATCH, rounds - first)) for first in range(0, rounds, BATCH)]
    return _make(batches, seed, folder, progress, spread)


def repeat(seed: int, number: int, folder: Path, progress: Progress) -> Section:
    """Make the batch of one round again, up to this round."""
    first = number - number % BATCH
    return _make([(first, number - first + 1)], seed, folder, progress, cores.spread)


def _make(
    batches: list[tuple[int, int]],
    seed: int,
    folder: Path,
    progress: Progress,
    spread: Callable[..., list[dict[str, Any]]],
) -> Section:
    with memory.folder_in_memory(folder) as base:

        def one(batch: tuple[int, int]) -> dict[str, Any]:
            place = base / f"batch-{batch[0]}"
            place.mkdir()
            try:
                chance = random.Random(f"{seed}/{batch[0]}")  # noqa: S311 - drawn again from the seed
                return asyncio.run(_rounds(*batch, chance, place))
            finally:
                shutil.rmtree(place, ignore_errors=True)

        total = sum(count for _, count in batches)
        results = spread(batches, one, lambda done, _: progress(min(done * BATCH, total), total))
    section = Section(NAME)
    counted, section.violations = sum_up(NAME, seed, results)
    section.figures = [
        ("plans", counted["plans"]),
        *((f"of {tool}", counted[tool]) for tool in WRITING),
        ("refused alike, dry and for real", counted["refused"]),
        ("same diff, and the file as the diff says", counted["same"]),
        ("nothing to change", counted["nothing"]),
        ("made stale by another change", counted["another change"]),
        ("made stale by an editor", counted["editor, rename"] + counted["editor, in place"]),
        ("stale ones refused with CONFLICT, nothing written", counted["stale refused"]),
    ]
    return section


async def _rounds(first: int, count: int, chance: random.Random, folder: Path) -> dict[str, Any]:
    house = scene.House(folder)
    house.home.mkdir()
    content = FILES[list(FILES)[first // BATCH % len(FILES)]]
    if content is not None:
        house.config.write_bytes(content)
    batch = _Batch(house, house.gateway(), chance)
    try:
        for number in range(first, first + count):
            batch.number = number
            await _round(batch)
    finally:
        await batch.gateway.close()
    return {"counted": batch.counted, "wrong": batch.wrong}


async def _round(batch: _Batch) -> None:
    for _ in range(TRIES):
        if await _plan(batch):
            return


async def _plan(batch: _Batch) -> bool:
    """Draw a plan and check it; return False when the dry run refused it, so that there was nothing to make stale."""
    tool, given = draw(batch)
    what = f"{tool} {json.dumps(given)}"
    if tool in {"delete_project", "undo_change"}:
        await (
            batch.gateway.store()
        )  # they read the store, which makes it; that is none of the dry run's business
    old = batch.house.content()
    before = await _state(batch)
    dry = await scene.answer_of(batch.gateway, (tool, {**given, "dry_run": True}))
    if (after := await _state(batch)) != before:
        batch.add(f"the dry run of {what} left its marks: {_difference(before, after)}")
    told = json.loads(dry["said"]) if dry["answered"] != "INTERNAL_ERROR" else {}
    if told.get("change_id"):
        batch.add(f"the dry run of {what} tells a change_id")
    if dry["answered"] != "ok":
        real = await scene.answer_of(batch.gateway, (tool, given))
        batch.counted["refused"] += 1
        if real["answered"] != dry["answered"] or dry["answered"] == "INTERNAL_ERROR":
            batch.add(
                f"{what} answers {dry['answered']} dry and {real['answered']} for real: {real['said'][-600:]}"
            )
        if batch.house.content() != old:
            batch.add(f"{what} was refused and the file is another")
        return False
    batch.counted["plans"] += 1
    batch.counted[tool] += 1
    if batch.chance.random() < 0.5:
        await _stale(batch, tool, given, told["config_version"], what)
    else:
        await _real(batch, tool, given, told, old, what)
    return True


async def _real(
    batch: _Batch, tool: str, given: dict[str, Any], told: dict[str, Any], old: bytes | None, what: str
) -> None:
    terms = {"if_version": told["config_version"]} if batch.chance.random() < 0.5 else {}
    real = await scene.answer_of(batch.gateway, (tool, {**given, **terms}))
    if real["answered"] != "ok":
        batch.add(f"{what} works as a dry run and answers {real['answered']} for real: {real['said'][-600:]}")
        return
    said = json.loads(real["said"])
    if said["diff"] != told["diff"]:
        batch.add(f"the diffs of {what} differ: {told['diff']!r} and {said['diff']!r}")
    new = batch.house.content() or b""
    text = (old or b"").decode()
    try:
        wanted = patched(text.replace("\r\n", "\n"), told["diff"])
    except ValueError as error:
        batch.add(f"the diff of {what} does not fit the file: {error}")
        return
    # A diff says nothing of line ends: a file that has CRLF keeps it everywhere.
    if new != (wanted.replace("\n", "\r\n") if "\r\n" in text else wanted).encode():
        batch.add(f"after {what} the file is not what the dry run told: {told['diff']!r}, but {new!r}")
    if said["config_version"] != version_of(new):
        batch.add(f"{what} tells the version {said['config_version']}, the file has {version_of(new)}")
    batch.counted["same" if said["diff"] else "nothing"] += 1
    if not said["diff"]:
        if said.get("change_id"):
            batch.add(f"{what} changed nothing and tells a change_id")
        return
    batch.made.append(said["change_id"])
    row = (await scene.journal_of(batch.gateway))[-1]
    if (row.id, row.state, row.diff) != (said["change_id"], "applied", said["diff"]):
        batch.add(f"the journal's last row is not {what}: {row}")


async def _stale(batch: _Batch, tool: str, given: dict[str, Any], version: str, what: str) -> None:
    how = batch.chance.choice(("another change", "editor, rename", "editor, in place"))
    await _interfere(batch, how)
    batch.counted[how] += 1
    before = await _state(batch)
    real = await scene.answer_of(batch.gateway, (tool, {**given, "if_version": version}))
    after = await _state(batch)
    # The first real call makes the lock file and the store.
    if any(before[key] != after[key] for key in ("file", "journal")):
        batch.add(f"{what} was refused and wrote: {_difference(before, after)}")
    if real["answered"] != "CONFLICT":
        batch.add(f"{what} is stale by {how} and answers {real['answered']}: {real['said'][-600:]}")
    else:
        batch.counted["stale refused"] += 1


async def _interfere(batch: _Batch, how: str) -> None:
    if how == "another change":
        other = batch.house.gateway()
        try:
            given = {"project_id": f"other-{batch.number}", "name": "Other"}
            answer = await scene.answer_of(other, ("create_project", given))
        finally:
            await other.close()
        assert answer["answered"] == "ok", answer
        return
    old = batch.house.content() or b""
    line_end = b"\r\n" if b"\r\n" in old else b"\n"
    ending = b"" if not old or old.endswith(b"\n") else line_end
    mark = f"# edited {batch.number:05}".encode() + line_end
    # An edit that keeps the size is the hardest to see.
    edited = re.sub(rb"# edited \d{5}\r?\n", mark, old, count=1)
    new = edited if edited != old else old + ending + mark
    if how == "editor, rename":
        swap = batch.house.home / ".swap"
        swap.write_bytes(new)
        swap.replace(batch.house.config)
    else:
        batch.house.config.write_bytes(new)


async def _state(batch: _Batch) -> dict[str, Any]:
    """Return all that a dry run must leave as it was; the store's own files only by name."""
    home = batch.house.home
    files: dict[str, Any] = {}
    for path in sorted(home.iterdir()):
        found = path.stat()
        files[path.name] = (
            (found.st_ino, found.st_mtime_ns, found.st_mode) if ".db" not in path.name else "there"
        )
    content = batch.house.content()
    journal: list[tuple[str, str]] = []
    if (home / "voicegw.db").exists():
        journal = [(row.id, row.state) for row in await scene.journal_of(batch.gateway)]
        files |= {path.name: "there" for path in home.iterdir() if ".db" in path.name}
    digest = None if content is None else hashlib.sha256(content).hexdigest()
    return {"file": (digest, files.get("voicegw.yaml")), "folder": files, "journal": journal}


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    return "; ".join(f"{key}: {before[key]} -> {after[key]}" for key in before if before[key] != after[key])[
        -800:
    ]


def draw(batch: _Batch) -> tuple[str, dict[str, Any]]:
    """Return a random call: of what is there, of what is not, and now and then one that must be refused."""
    chance, catalog = batch.chance, batch.gateway.catalog()
    tool = chance.choice(WRITING)

    def some(known: Any, fresh: str) -> str:
        there = sorted(known)
        return chance.choice(there) if there and chance.random() < 0.8 else f"{fresh}-{chance.randrange(40)}"

    text = chance.choice(("Plain", "yes", "12:30:45", "a: b # c", "'quoted'", "Ü ☎", "1_000", "- dash", " "))
    if tool == "add_provider":
        name, kind = chance.choice(
            [("groq", "groq"), ("loop", "ollama"), (f"p{chance.randrange(40)}", "openai")]
        )
        options = chance.choice((None, {"note": text}, {"deep": {"list": [1, text, {"x": None}]}}))
        return tool, _given(
            provider_id=name, provider_type=kind, options=options, on_conflict=_conflict(chance)
        )
    if tool == "register_model":
        return tool, _given(
            modality=chance.choice(("stt", "llm", "tts")),
            provider_id=some(catalog.providers, "p"),
            model_name=f"m{chance.randrange(30)}",
            display_name=chance.choice((None, text)),
            enabled=chance.choice((None, True, False)),
            on_conflict=_conflict(chance),
        )
    if tool == "create_project":
        return tool, _given(
            project_id=some(catalog.projects, "project"),
            name=text,
            description=chance.choice((None, "two\nlines\n", text)),
            daily_budget=chance.choice((None, 0, 1.5, 1e-7, 12345678.9, -1)),
            llm_model=chance.choice((None, some(catalog.models, "m"))),
            tags=chance.choice((None, [], ["a", text])),
            on_conflict=_conflict(chance),
        )
    entries = {
        "delete_project": ("project_id", catalog.projects, "project"),
        "delete_provider": ("provider_id", catalog.providers, "p"),
        "delete_model": ("model_id", catalog.models, "m"),
    }
    if tool in entries:
        argument, known, fresh = entries[tool]
        given = {argument: some(known, fresh), "confirm": chance.random() < 0.9}
        return tool, given if tool == "delete_project" else {**given, "cascade": chance.random() < 0.7}
    change = chance.choice(batch.made) if batch.made and chance.random() < 0.8 else None
    return tool, _given(change_id=change)


def _conflict(chance: random.Random) -> str:
    return chance.choice(("error", "update", "update"))


def _given(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}
