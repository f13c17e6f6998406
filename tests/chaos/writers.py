"""Section ``writers``: sixteen processes change one gateway at once, and nothing they were promised is lost."""

import asyncio
import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tests.chaos import scene
from tests.proof import Progress, Section

from voicegw_mcp.config.disk import version_of
from voicegw_mcp.store.changes import ChangeRecord, list_changes

NAME = "writers"
TITLE = "Many processes write at once"
ROUNDS = 3200
CHECKED = """\
Sixteen processes, each with a gateway of its own on the same file and store, start together on an empty store and make
200 calls each: providers, models and projects are added, changed and deleted, with and without `if_version`, some as
dry runs, many on the same ids on purpose. It is checked that:

- each call is answered with a success or a typed error;
- every change that was answered as a success is `applied` in the journal, once, and the journal has no other;
- the journal is an unbroken chain from the first bytes of the file to the last: each change begins with the version
  that the one before left, so none was written over another;
- the file means what the acknowledged changes mean, made one after the other in the journal's order;
- nothing is pending, no temporary file is left."""

PROCESSES = 16
STARTING_S = 120.0
SILENCE_S = 120.0
"""How long no process at all may tell anything before the section gives up."""

ROOT = Path(__file__).parents[2]


@dataclass
class Writer:
    """One process, and what it told."""

    number: int
    process: subprocess.Popen[bytes]
    unread: bytes = b""
    told: list[dict[str, Any]] = field(default_factory=list)

    def fileno(self) -> int:
        return self.process.stdout.fileno()


def run(rounds: int, seed: int, folder: Path, progress: Progress) -> Section:
    """Make about as many changes as there are rounds, with all processes."""
    section = contend(PROCESSES, max(1, rounds // PROCESSES), seed, folder, progress)
    scene.join_threads()
    return section


def contend(processes: int, changes: int, seed: int, folder: Path, progress: Progress) -> Section:
    """Let so many processes make so many changes each, and look at what is left."""
    house = scene.House(folder)
    house.home.mkdir()
    house.config.write_text(scene.FILE, encoding="utf-8")
    section = Section(NAME)
    writers: list[Writer] = []
    try:
        with (folder / "stderr.txt").open("wb") as errors:
            # One after the other, so that those that were started are ended when a later one cannot be.
            writers.extend(_start(folder, errors, seed, number, changes) for number in range(processes))
            _listen(writers, processes, lambda _: None)
            started = time.monotonic()
            for writer in writers:
                writer.process.stdin.write(b"go\n")
                writer.process.stdin.flush()
            _listen(writers, processes * changes, lambda done: progress(done, processes * changes))
            seconds = time.monotonic() - started
            codes = [writer.process.wait(STARTING_S) for writer in writers]
        if any(codes):
            section.violations.append(
                f"processes ended with {codes}: {(folder / 'stderr.txt').read_text()[-2000:]}"
            )
    finally:
        for writer in writers:
            _end(writer)
    _judge(section, house, writers, changes, seconds)
    section.violations = [f"{text} {_repeat(seed)}" for text in section.violations]
    return section


def _repeat(seed: int) -> str:
    return f"python -m tests.chaos --only {NAME} --seed {seed}"


def _start(folder: Path, errors: Any, seed: int, number: int, changes: int) -> Writer:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.writer", folder, str(seed), str(number), str(changes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        cwd=ROOT,
    )
    return Writer(number, process)


def _end(writer: Writer) -> None:
    if writer.process.poll() is None:
        writer.process.kill()
    writer.process.wait(STARTING_S)
    with contextlib.suppress(BrokenPipeError):
        writer.process.stdin.close()
    writer.process.stdout.close()


def _listen(writers: Sequence[Writer], lines: int, heard: Any) -> None:
    """Take what the processes tell until that is so many lines, or all have ended.

    Raises:
        TimeoutError: none of them told anything for too long.
    """
    count = 0
    with selectors.DefaultSelector() as selector:
        for writer in writers:
            selector.register(writer, selectors.EVENT_READ)
        while count < lines and selector.get_map():
            ready = selector.select(SILENCE_S)
            if not ready:
                raise TimeoutError(f"no process told anything for {SILENCE_S:.0f} s")
            for key, _ in ready:
                writer: Writer = key.fileobj  # type: ignore[assignment]
                data = os.read(writer.fileno(), 1 << 16)
                if not data:
                    selector.unregister(writer)
                *whole, writer.unread = (writer.unread + data).split(b"\n")
                writer.told += map(json.loads, whole)
                count += len(whole)
            heard(count)


def _judge(
    section: Section, house: scene.House, writers: Sequence[Writer], changes: int, seconds: float
) -> None:
    wrong = section.violations
    answers = [told for writer in writers for told in writer.told if "call" in told]
    rows = asyncio.run(_rows(house))
    asked = len(writers) * changes
    if len(answers) != asked:
        wrong.append(f"{asked} calls were asked for and {len(answers)} were answered")
    acknowledged = {told["change_id"]: told for told in answers if told["change_id"]}
    applied = {row.id: row for row in rows if row.state == "applied"}
    for told in answers:
        if told["answered"] == "INTERNAL_ERROR":
            wrong.append(f"INTERNAL_ERROR: {told['call']}: {told['said']}")
        if told["answered"] == "ok" and bool(told["change_id"]) == told["dry_run"]:
            wrong.append(
                f"{'a dry run wrote' if told['dry_run'] else 'nothing was written by'} {told['call']}"
            )
    for change_id, told in acknowledged.items():
        if change_id not in applied:
            wrong.append(f"{told['call']} was answered as success and is not applied in the journal")
    for change_id, row in applied.items():
        if change_id not in acknowledged:
            wrong.append(f"{row.summary} ({change_id}) is applied in the journal and nobody was told")
    states = Counter(row.state for row in rows)
    if states["pending"]:
        wrong.append(f"{states['pending']} rows are pending")
    left = [path.name for path in house.home.iterdir() if path.name.endswith(".tmp")]
    if left:
        wrong.append(f"temporary files are left: {left}")
    in_order = sorted(applied.values(), key=lambda row: row.id)
    wrong += check_chain(scene.FILE.encode(), in_order, house.config.read_bytes())
    wrong += _check_meaning(
        [acknowledged[row.id]["call"] for row in in_order if row.id in acknowledged], house
    )
    refused = Counter(told["answered"] for told in answers if told["answered"] != "ok")
    waits = sorted(told["seconds"] for told in answers) or [0.0]
    section.figures = [
        ("processes", len(writers)),
        ("calls", len(answers)),
        ("in the file and the journal", len(acknowledged)),
        ("dry runs answered", sum(told["dry_run"] and told["answered"] == "ok" for told in answers)),
        ("refused", ", ".join(f"{code} {count}" for code, count in refused.most_common()) or 0),
        (
            "conflicts: another version than `if_version`",
            sum(told["conflict"] == "version" for told in answers),
        ),
        ("conflicts: the file was locked for too long", sum(told["conflict"] == "lock" for told in answers)),
        ("links of the unbroken chain", len(in_order)),
        ("calls per second", round(len(answers) / seconds, 1)),
        ("changes written per second", round(len(acknowledged) / seconds, 1)),
        ("median wait (ms)", round(waits[len(waits) // 2] * 1000)),
        ("longest wait (ms)", round(waits[-1] * 1000)),
    ]


async def _rows(house: scene.House) -> list[ChangeRecord]:
    gateway = house.gateway()
    try:
        return await (await gateway.store()).ask(list_changes, limit=100_000)
    finally:
        await gateway.close()


def check_chain(first: bytes, rows: Sequence[ChangeRecord], last: bytes) -> list[str]:
    """Return where the applied rows, oldest first, do not lead from the first bytes to the last without a gap."""
    wrong: list[str] = []
    version = version_of(first)
    for row in rows:
        if row.version_before != version:
            wrong.append(
                f"{row.summary} ({row.id}) begins with {row.version_before}, the one before left {version}"
            )
        version = row.version_after
    if version != version_of(last):
        wrong.append(f"the last change left {version}, the file is {version_of(last)}")
    return wrong


def _check_meaning(calls: Sequence[scene.Call], house: scene.House) -> list[str]:
    """Make the calls on plain dictionaries and compare the outcome with the file."""
    wanted = yaml.safe_load(scene.FILE)
    providers, models, projects = wanted["providers"], wanted["models"]["llm"], wanted["projects"]

    def forget(model_ids: list[str]) -> None:
        for model_id in model_ids:
            models.pop(model_id, None)  # what is not there was lost before: the comparison tells
            for project in projects.values():
                if project.get("llm_model") == model_id:
                    del project["llm_model"]

    for tool, given in calls:
        if tool == "add_provider":
            entry = providers.setdefault(given["provider_id"], {})
            entry |= {"type": given["provider_type"], **given["options"]}
        elif tool == "delete_provider":
            providers.pop(given["provider_id"], None)
            forget([name for name, model in models.items() if model["provider"] == given["provider_id"]])
        elif tool == "register_model":
            entry = models.setdefault(given["model_id"], {})
            named = {"provider": given["provider_id"], "model": given["model_name"]}
            entry |= {**named, "display_name": given["display_name"]}
        elif tool == "delete_model":
            forget([given["model_id"]])
        elif tool == "create_project":
            kept = {
                key: value for key, value in given.items() if key in {"name", "daily_budget", "llm_model"}
            }
            projects.setdefault(given["project_id"], {}).update(kept)
        else:
            projects.pop(given["project_id"], None)
    try:
        found = yaml.safe_load(house.config.read_bytes())
        there = {
            "providers": found["providers"],
            "models": found["models"]["llm"],
            "projects": found["projects"],
        }
    except (yaml.YAMLError, KeyError, TypeError) as error:
        return [f"the file cannot be read any more: {error!r}"]
    return [
        f"{kind}.{name} is {there[kind].get(name)}, the acknowledged changes say {entries.get(name)}"
        for kind, entries in (("providers", providers), ("models", models), ("projects", projects))
        for name in sorted(entries.keys() | there[kind].keys())
        if entries.get(name) != there[kind].get(name)
    ]
