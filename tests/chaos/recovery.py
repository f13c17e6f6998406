"""What must hold after a round: a fresh gateway is opened on the folder, and file, journal and answer are compared."""

import asyncio
import json
import re
import stat
import time
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.scene import MODE, NEXT, House, Template, answer_of, join_threads, journal_of

from voicegw_mcp.errors import GatewayError
from voicegw_mcp.store.changes import ChangeRecord

LIMIT_S = 1.0
"""Recovery is to take no longer than this."""

LEFT_BEHIND = re.compile(r"voicegw\.yaml|voicegw\.db(-wal|-shm)?|\.voicegw(\.overlay)?\.yaml\.lock|real")
LEFT_BEHIND_LINK = re.compile(r"config\.yaml|\.config\.yaml\.lock")
"""All the names there may be in the gateway's folder, and in the one behind the link."""

SAVED = re.compile(r"(voicegw|config)\.yaml\.saved-[0-9a-z]{20}")
"""Besides, where an editor was at work: his first save, when his second one met the new file in its place."""

FORBIDDEN = re.compile(
    r"Traceback|sqlite3\.|\bSELECT \w|\bINSERT INTO\b|\bUPDATE \w+ SET\b|\bBEGIN IMMEDIATE\b|\bPRAGMA\b"
)
"""What an answer never shows: a traceback, or SQL."""

WRITTEN = "was written, but"
"""What the one error says after which the change is in the file: the disk failed once it was in place."""

UNKNOWN = "may have been written or not"
"""What the one error says that leaves it open: the disk failed, and goes on failing."""

KINDS = ("torn", "lost", "disagreeing", "edit lost", "no conflict", "untyped", "left behind", "not recovered")
EDITORS_ONLY = ("edit lost", "no conflict")
"""Kinds that only an external editor can bring about."""


@dataclass
class Recovery:
    """What a fresh gateway found. ``wrong`` are (kind, sentence)."""

    content: bytes | None = None
    journal: list[ChangeRecord] = field(default_factory=list)
    seconds: float = 0.0
    wrong: list[tuple[str, str]] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)

    def add(self, kind: str, sentence: str) -> None:
        assert kind in KINDS
        self.wrong.append((kind, sentence))

    def new_rows(self, known: set[str]) -> list[ChangeRecord]:
        return [row for row in self.journal if row.id not in known]


def recover(house: House, template: Template) -> Recovery:
    """Open the gateway afresh, look at what is there, and make the next change."""
    found = Recovery()
    asyncio.run(_recover(house, template, found))
    join_threads()
    return found


async def _recover(house: House, template: Template, found: Recovery) -> None:
    started = time.perf_counter()
    gateway = house.gateway()
    try:
        gateway.catalog()
        found.journal = await journal_of(gateway)
        found.seconds = time.perf_counter() - started
        found.content = house.content()
        _look_around(house, template, found)
        await _next_change(house, gateway, found)
    except GatewayError as error:
        found.add("not recovered", f"opening it afresh answered {error.error_code}: {error.message}")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the round is about
        found.add("not recovered", f"opening it afresh raised {error!r}")
    finally:
        await gateway.close()


def _look_around(house: House, template: Template, found: Recovery) -> None:
    pending = [row.id for row in found.journal if row.state == "pending"]
    if pending:
        found.add("disagreeing", f"{len(pending)} row(s) still pending once the store is open")
    folders = [(house.home, LEFT_BEHIND)]
    if template.variety.link:
        folders.append((house.home / "real", LEFT_BEHIND_LINK))
        if not house.config.is_symlink():
            found.add("torn", "the symlink was replaced by a file")
    for folder, names in folders:
        for path in sorted(folder.iterdir()) if folder.exists() else ():
            if SAVED.fullmatch(path.name) and template.edited:
                found.kept.append(path.read_bytes())
            elif not names.fullmatch(path.name):
                found.add("left behind", f"{path.name} is left behind")
    if found.content is not None:
        mode = stat.S_IMODE(house.config.stat().st_mode)
        wanted = MODE if template.old is not None else 0o600
        if mode != wanted:
            found.add("torn", f"the file's mode is {mode:o}, not {wanted:o}")


async def _next_change(house: House, gateway: Any, found: Recovery) -> None:
    answer = await answer_of(gateway, NEXT)
    content = house.content() or b""
    if answer["answered"] != "ok":
        found.add("not recovered", f"the next change answered {answer['answered']}: {answer['said']}")
    elif NEXT[1]["project_id"].encode() not in content:
        found.add("lost", "the next change was answered as success and is not in the file")
    else:
        said = json.loads(answer["said"])
        rows = {row.id: row.state for row in await journal_of(gateway)}
        if rows.get(said.get("change_id")) != "applied":
            found.add(
                "disagreeing", "the next change was answered as success and is not applied in the journal"
            )


def check_whole(found: Recovery, allowed: dict[str, bytes | None]) -> str:
    """Return which of the ``allowed`` contents the file has, "" when it has another one."""
    for name, content in allowed.items():
        if found.content == content:
            return name
    shown = "gone" if found.content is None else f"{len(found.content)} bytes that are neither"
    found.add("torn", f"the file is {shown}: allowed are {', '.join(allowed)}")
    return ""


def check_answer(found: Recovery, answer: dict[str, Any] | None) -> None:
    """An answer is a success or a typed error, and shows nothing of the inside."""
    if answer is None:
        return
    if answer["answered"] == "INTERNAL_ERROR":
        found.add("untyped", f"the answer was INTERNAL_ERROR: {_message(answer)}")
    elif FORBIDDEN.search(answer["said"]):
        found.add("untyped", f"the answer shows the inside: {answer['said'][:400]}")


def _message(answer: dict[str, Any]) -> str:
    try:
        return json.loads(answer["said"])["error"]["message"]
    except (ValueError, KeyError):
        frames = re.findall(r'voicegw_mcp/(\S+)", line (\d+), in (\w+)', answer["said"])
        where = " < ".join(f"{file}:{line} {name}" for file, line, name in frames[:-4:-1])
        return f"{answer['said'].strip().splitlines()[-1]} in {where}"


def check_agreement(found: Recovery, template: Template, answer: dict[str, Any] | None, state: str) -> None:
    """File, journal and answer tell the same. ``state`` is ``old``, ``new``, or "" when the file is neither."""
    if not state:
        return
    rows = [row for row in found.new_rows(template.known) if row.state == "applied"]
    said = answer["answered"] if answer else None
    if state == "new" and len(rows) != 1:
        states = [row.state for row in found.new_rows(template.known)]
        kind = "lost" if said == "ok" else "disagreeing"
        found.add(
            kind, f"the change is in the file and the journal has {states or 'no row'}, not one applied"
        )
    if state == "old" and rows:
        found.add("disagreeing", "the change is not in the file and the journal has it as applied")
    if state == "old" and said == "ok":
        found.add("lost", "the change was answered as success and is not in the file")
    known = answer is None or UNKNOWN not in answer["said"]
    if answer and said != "ok" and known and (state == "new") != (WRITTEN in answer["said"]):
        where = "in the file" if state == "new" else "not in the file"
        found.add("disagreeing", f"the change is {where} and was answered {said}: {_message(answer)}")
    if state == "new" and said == "ok":
        change_id = json.loads(answer["said"]).get("change_id")
        if change_id not in {row.id for row in rows}:
            found.add("lost", "the change was answered as success and is not applied in the journal")
