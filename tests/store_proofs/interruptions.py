"""Section ``interruptions``: a command on the store, and at one of its file-system calls it is killed or the call fails."""

import asyncio
import fnmatch
import math
import random
import shutil
import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import proof
from tests.chaos import cores
from tests.chaos.faults import FAULTS, LASTING, Inject
from tests.chaos.recovery import FORBIDDEN
from tests.chaos.tracer import Call, JustWatch, Outcome, Trace
from tests.proof import Progress, Section
from tests.store_proofs.commands import COMMANDS, Command, answer, run_here

from voicegw_mcp.errors import GatewayError

NAME = "interruptions"
TITLE = "Interrupted backups, restores, prunes, repairs and recordings"
ROUNDS = 2000
CHECKED = """\
A command runs in a process of its own under `ptrace`. At one of its file-system calls the process is killed before the call or right after it, or the
call returns `ENOSPC`, `EIO`, `EACCES` or `EINTR` instead of being made; or from there on all that write fail with `ENOSPC`, or all that need the disk
with `EIO`. Calls and faults are drawn evenly over each command. Then a fresh process looks at what is left and it is checked that:

- under the final name of a backup there is nothing, the older backup, or a whole one, and the store is what it was;
- the store after a restore is what it was (with the rows of a log that nobody had written back) or what the backup was, and what it was is kept;
- after a prune all totals are what they were, no young row is gone, and rows and sums agree;
- a repair leaves a damaged file as it is, and what it said to have mended or saved is so;
- a recorder loses no row that it said is stored; a single failing call costs no row, and rows that a broken disk cost are counted;
- an error has a type, and shows no traceback and no SQL; a process that was not killed leaves no temporary file;
- the same command works afterwards."""

KINDS = ("lost", "untyped", "left behind", "not recovered")
_BESIDE = (
    "voicegw.db",
    "voicegw.db-wal",
    "voicegw.db-shm",
    "voicegw.db-journal",
    "backup.db",
    "backup.db-wal",
    "backup.db-shm",
)
_UNLINKS = frozenset({"unlink", "unlinkat"})
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass
class Template:
    """A command, its folder as it is before a round, and the calls it makes."""

    command: Command
    folder: Path
    calls: list[Call]


def run(rounds: int, seed: int, folder: Path, progress: Progress) -> Section:
    """Make so many rounds."""
    return _made(list(range(rounds)), seed, folder, progress)


def repeat(seed: int, number: int, folder: Path, progress: Progress) -> Section:
    """Make one round again."""
    return _made([number], seed, folder, progress)


def _made(numbers: list[int], seed: int, folder: Path, progress: Progress) -> Section:
    templates = [_template(kind(), folder / f"before-{number}") for number, kind in enumerate(COMMANDS)]

    def one(number: int) -> dict[str, Any]:
        place = folder / f"round-{number}"
        try:
            return _round(number, seed, templates, place)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    return _report(cores.spread(numbers, one, progress), templates, seed)


def _template(command: Command, folder: Path) -> Template:
    """Prepare a command's folder, and run it undisturbed to learn its calls."""
    folder.mkdir()
    command.prepare(folder)
    for what in ("warmed", "counted"):
        place = folder.with_name(f"{folder.name}-{what}")
        shutil.copytree(folder, place)
        if what == "warmed":
            found = run_here(command, place, again=False)
            assert found["answered"] == "ok", found
            assert not command.wrong(place, True, found["told"]), command.wrong(place, True, found["told"])
        else:
            outcome = _traced(command, place, JustWatch())
            assert outcome.answer, outcome.told
            assert outcome.answer["answered"] == "ok", outcome.answer
        shutil.rmtree(place)
    return Template(command, folder, outcome.calls)


def _traced(command: Command, folder: Path, watch: JustWatch) -> Outcome:
    def child(tell: Any) -> None:
        tell({"begin": True})
        tell(asyncio.run(answer(command, folder, tell, again=False)))

    return Trace(folder, watch).run(child)


def _round(number: int, seed: int, templates: list[Template], folder: Path) -> dict[str, Any]:
    chance = random.Random(f"{seed}/{number}")  # noqa: S311 - drawn again from the seed
    template = templates[number % len(templates)]
    fault = list(FAULTS)[number // len(templates) % len(FAULTS)]
    share = (number * _GOLDEN + chance.random() / 50) % 1
    shutil.copytree(template.folder, folder)
    watch = Inject(int(share * len(template.calls)), fault)
    outcome = _traced(template.command, folder, watch)
    said = outcome.answer
    done = None if said is None else said["answered"] == "ok"
    return {
        "number": number,
        "command": template.command.name,
        "fault": fault if watch.at else "none: the call was not reached",
        "at": str(watch.at or ""),
        "answer": "none" if said is None else said["answered"],
        "wrong": _wrong(template, folder, outcome, watch, done),
    }


def _wrong(
    template: Template, folder: Path, outcome: Outcome, watch: Inject, done: bool | None
) -> list[tuple[str, str]]:
    command, said = template.command, outcome.answer
    wrong: list[tuple[str, str]] = []
    if outcome.overdue:
        wrong.append(("not recovered", f"the process hung and was killed ({outcome.overdue})"))
    if said is not None and (said["answered"] == "INTERNAL_ERROR" or FORBIDDEN.search(said["said"])):
        wrong.append(("untyped", said["said"]))
    wrong += [("untyped", f"it broke outside: {item['broke']}") for item in outcome.told if "broke" in item]
    lasting = watch.at is not None and (watch.at.name in _UNLINKS or watch.fault in LASTING)
    left = [path.name for path in folder.iterdir() if not _is_expected(path.name, command)]
    if said is not None and left and not lasting:
        wrong.append(("left behind", ", ".join(left)))
    try:
        wrong += [("lost", text) for text in command.wrong(folder, done, outcome.told)]
        again = run_here(command, folder, again=True)
        if again["answered"] != "ok":
            wrong.append(("not recovered", f"the next one was answered {again['answered']}: {again['said']}"))
        wrong += [("not recovered", text) for text in command.finished(folder)]
    except (GatewayError, sqlite3.Error, OSError) as error:
        wrong.append(("lost", f"what is left cannot be read: {type(error).__name__} {error}"))
    return wrong


def _is_expected(name: str, command: Command) -> bool:
    return name in _BESIDE or (
        ".partial-" not in name and any(fnmatch.fnmatch(name, pattern) for pattern in command.new_names)
    )


def _report(results: list[dict[str, Any]], templates: list[Template], seed: int) -> Section:
    section = Section(NAME)
    made = [result for result in results if "raised" not in result]
    by_fault = Counter(result["fault"] for result in made)
    kinds = Counter(kind for result in made for kind in {kind for kind, _ in result["wrong"]})
    section.figures = [("rounds", len(results))]
    section.figures += [
        (f"rounds: {fault}", by_fault[fault]) for fault in (*FAULTS, *sorted(set(by_fault) - set(FAULTS)))
    ]
    for template in templates:
        name = template.command.name
        answers = Counter(result["answer"] for result in made if result["command"] == name)
        killed = answers.pop("none", 0)
        errors = sum(count for code, count in answers.items() if code != "ok")
        section.figures.append(
            (f"{name}, {len(template.calls)} calls: killed, answered with an error, done all the same",
             f"{killed}, {errors}, {answers['ok']}")
        )  # fmt: skip
    section.figures += [(f"violations: {kind}", kinds[kind]) for kind in KINDS]
    for result in sorted(made, key=lambda result: result["number"]):
        again = proof.command("store_proofs", NAME, seed, result["number"])
        section.violations += [
            f"{kind}: {sentence} [{result['command']}; {result['fault']} at {result['at']}; answer {result['answer']}] {again}"
            for kind, sentence in result["wrong"]
        ]
    section.violations += [
        f"the harness broke: {result['raised']} {proof.command('store_proofs', NAME, seed, result['item'] or 0)}"
        for result in results
        if "raised" in result
    ]
    return section
