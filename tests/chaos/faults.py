"""Section ``faults``: one change, and at one of its file-system calls the process is killed or the call fails."""

import errno
import json
import math
import os
import random
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.chaos import cores, order, recovery, scene
from tests.chaos.section import breakages, command
from tests.chaos.tracer import Act, Call, Fail, JustWatch, Outcome, Trace
from tests.proof import Progress, Section

NAME = "faults"
TITLE = "A fault at every system call"
ROUNDS = 2000
CHECKED = """\
One change is made by a process of its own, on a real file and a real SQLite store, under `ptrace`. At one of the
file-system calls that the change makes (by the program or by SQLite, from its begin until its gateway is closed) the
process is killed before the call, killed right after it, or the call returns `ENOSPC`, `EIO`, `EACCES` or `EINTR`
instead of being made; or from there on all calls that need the disk fail with `EIO`, or all that write with `ENOSPC`.
Every call of the first variety gets every fault; further rounds draw variety, call and fault.
Then a fresh gateway is opened and it is checked that:

- the file holds exactly the bytes from before or exactly those from after the change, with its mode, and a symlink
  is still one;
- no row of the journal is pending once the store is open, and a row is `applied` exactly when the change is in the file;
- a change that was answered as success is in the file and in the journal; one that was answered as an error is not,
  unless the error says that it was written;
- an error has a type, and shows no traceback and no SQL;
- no temporary file is left, and the next change works.

In the calls of each undisturbed change it is checked that the journal's row is synced before the file is replaced, the
new file before it is put into place, and the folder before the change is answered."""

FAULTS: dict[str, int | Fail] = {
    "killed before": Act.KILL_BEFORE,
    "killed after": Act.KILL_AFTER,
    "ENOSPC": Fail(errno.ENOSPC),
    "EIO": Fail(errno.EIO),
    "EACCES": Fail(errno.EACCES),
    "EINTR": Fail(errno.EINTR),
    "ENOSPC from then on": Fail(errno.ENOSPC),
    "EIO from then on": Fail(errno.EIO),
}
_WRITING = frozenset({"write", "pwrite64", "ftruncate", "fsync", "fdatasync", "mkdir"})
LASTING = {
    "ENOSPC from then on": _WRITING,
    "EIO from then on": _WRITING
    | {
        "read",
        "pread64",
        "open",
        "openat",
        "stat",
        "newfstatat",
        "statx",
        "access",
        "faccessat",
        "faccessat2",
    }
    | {"rename", "renameat", "renameat2", "unlink", "unlinkat", "readlink", "readlinkat", "fchmod", "fchown"},
}
"""The calls that go on failing when the disk is full, or broken; locks are kept in memory and go on working."""
RANDOM_FROM = 100_000
"""Rounds with smaller numbers are the systematic ones."""

_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Plan:
    """What a round does: a variety's change, and a fault at its n-th call."""

    number: int
    variety: int
    index: int
    fault: str


class Inject(JustWatch):
    """Does what a fault says at the call with this number, or from there on. ``at`` is the call, None until then."""

    def __init__(self, index: int, fault: str) -> None:
        self._index = index
        self.fault = fault
        self.at: Call | None = None

    def enter(self, call: Call) -> int | Fail:
        act = FAULTS[self.fault]
        if self.fault in LASTING:
            if call.number < self._index or call.name not in LASTING[self.fault]:
                return Act.GO
            self.at = self.at or call
            return act
        if call.number != self._index or (call.name == "mmap" and isinstance(act, Fail)):
            return Act.GO
        self.at = call
        return act


def run(rounds: int, seed: int, folder: Path, progress: Progress) -> Section:
    """Make the rounds: all systematic ones when there is room for them, and drawn ones."""
    templates = count(folder)
    systematic = len(templates[0].calls) * len(FAULTS)
    numbers = list(range(systematic)) if rounds >= systematic else []
    numbers += range(RANDOM_FROM, RANDOM_FROM + rounds - len(numbers))
    return _report(_make(numbers, seed, templates, folder, progress), templates, seed)


def repeat(seed: int, number: int, folder: Path, progress: Progress) -> Section:
    """Make one round again."""
    templates = count(folder)
    return _report(_make([number], seed, templates, folder, progress), templates, seed)


def count(folder: Path) -> list[scene.Template]:
    """Prepare the varieties, and make each change once without a fault to learn its calls and its outcome."""
    templates = []
    for number, variety in enumerate(scene.VARIETIES):
        template = scene.prepare(variety, folder / f"before-{number}")
        warmed, here = begin(template, folder / f"warmed-{number}")
        answer = scene.one_call(warmed, here.call)
        assert answer["answered"] == "ok", answer
        house, here = begin(template, folder / f"counted-{number}")
        template.old = house.content()
        outcome = Trace(house.folder, JustWatch()).run(scene.change(house, here))
        assert outcome.answer, outcome
        assert outcome.answer["answered"] == "ok", outcome.answer
        assert house.content() == warmed.content(), "a change has one outcome"
        template.new, template.calls = house.content(), outcome.calls
        target = os.path.relpath(house.target, os.path.realpath(house.folder))
        template.out_of_order = order.out_of_order(outcome.calls, outcome.told_at[1], target)
        templates.append(template)
    return templates


def begin(template: scene.Template, folder: Path) -> tuple[scene.House, scene.Template]:
    """Copy the folder, and do there what must have happened at that very path before the change of the round."""
    house = template.copy(folder)
    if template.variety.dirty:
        other = replace(template, call=scene.UPDATE)
        outcome = Trace(house.folder, _AtRename()).run(scene.change(house, other))
        assert outcome.answer is None, outcome.answer
    if template.variety.undo:
        answer = scene.one_call(house, scene.ADD_PROJECT)
        change_id = json.loads(answer["said"])["change_id"]
        call = ("undo_change", {"change_id": change_id})
        template = replace(template, call=call, known=template.known | {change_id})
    return house, template


class _AtRename(JustWatch):
    """Leaves a pending row behind: kills a change where it would put its file into place."""

    def enter(self, call: Call) -> int | Fail:
        return Act.KILL_BEFORE if call.name == "renameat2" else Act.GO


def planned(number: int, seed: int, templates: list[scene.Template]) -> Plan:
    """Return what the round with this number does."""
    names = list(FAULTS)
    if number < RANDOM_FROM:
        return Plan(number, 0, number // len(names), names[number % len(names)])
    chance = random.Random(f"{seed}/{number}")  # noqa: S311 - drawn again from the seed
    variety = chance.randrange(len(templates))
    # Evenly over the calls even when the rounds are few.
    share = (number * _GOLDEN + chance.random() / 50) % 1
    return Plan(number, variety, int(share * len(templates[variety].calls)), names[number % len(names)])


def _make(
    numbers: list[int], seed: int, templates: list[scene.Template], folder: Path, progress: Progress
) -> list[dict[str, Any]]:
    def one(number: int) -> dict[str, Any]:
        plan = planned(number, seed, templates)
        place = folder / f"round-{number}"
        try:
            return _round(plan, templates[plan.variety], place)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    return cores.spread(numbers, one, progress)


def _round(plan: Plan, template: scene.Template, folder: Path) -> dict[str, Any]:
    house, template = begin(template, folder)
    watch = Inject(plan.index, plan.fault)
    outcome = Trace(house.folder, watch).run(scene.change(house, template))
    found = recovery.recover(house, template)
    state = recovery.check_whole(found, {"old": template.old, "new": template.new})
    recovery.check_answer(found, outcome.answer)
    _check_settled(found, template)
    recovery.check_agreement(found, template, outcome.answer, state)
    _check_end(found, outcome)
    return {
        "number": plan.number,
        "variety": template.variety.name,
        "fault": plan.fault if watch.at else "none: the call was not reached",
        "call": watch.at.name if watch.at else "",
        "at": str(watch.at or ""),
        "answer": outcome.answer["answered"] if outcome.answer else "none",
        "state": state,
        "open": bool(outcome.answer and recovery.UNKNOWN in outcome.answer["said"]),
        "seconds": found.seconds,
        "wrong": found.wrong,
    }


def _check_settled(found: recovery.Recovery, template: scene.Template) -> None:
    """Take the row that the crash before the round left out of the comparison; it must be failed."""
    if not template.variety.dirty:
        return
    left = [
        row
        for row in found.new_rows(template.known)
        if row.tool == scene.UPDATE[0] and "support" in row.summary
    ]
    if [row.state for row in left] != ["failed"]:
        found.add(
            "disagreeing", f"the row left by the crash before is {[row.state for row in left]}, not failed"
        )
    found.journal = [row for row in found.journal if row not in left]


def _check_end(found: recovery.Recovery, outcome: Outcome) -> None:
    if outcome.overdue:
        found.add("not recovered", f"the process hung and was killed ({outcome.overdue})")
    for told in outcome.told:
        if "broke" in told:
            found.add("untyped", f"the process broke outside the change: {told['broke']}")


def _report(results: list[dict[str, Any]], templates: list[scene.Template], seed: int) -> Section:
    section = Section(NAME)
    made = [result for result in results if "raised" not in result]
    by_fault = Counter(result["fault"] for result in made)
    by_call = Counter(result["call"] for result in made if result["call"])
    kinds = Counter(kind for result in made for kind in {kind for kind, _ in result["wrong"]})
    section.figures = [
        ("rounds", len(results)),
        ("varieties of change", len(templates)),
        (f"calls of the first variety ({templates[0].variety.name})", len(templates[0].calls)),
        ("most calls of a variety", max(len(template.calls) for template in templates)),
        (
            "systematic rounds: calls of the first variety, times faults",
            sum(r["number"] < RANDOM_FROM for r in made),
        ),
        *((f"rounds: {fault}", by_fault[fault]) for fault in (*FAULTS, *sorted(set(by_fault) - set(FAULTS)))),
        ("changes whose calls are out of order", sum(bool(template.out_of_order) for template in templates)),
        ("rounds by call", ", ".join(f"{name} {count}" for name, count in by_call.most_common())),
        ("errors that left the outcome open", sum(result["open"] for result in made)),
        ("ended with the old file", sum(result["state"] == "old" for result in made)),
        ("ended with the new file", sum(result["state"] == "new" for result in made)),
        *(
            (f"violations: {kind}", kinds[kind])
            for kind in recovery.KINDS
            if kind not in recovery.EDITORS_ONLY
        ),
        ("slowest recovery (ms)", round(max((result["seconds"] for result in made), default=0) * 1000, 1)),
        (f"recoveries over {recovery.LIMIT_S:g} s", sum(r["seconds"] > recovery.LIMIT_S for r in made)),
    ]
    section.violations += [
        f"order: {wrong} [{template.variety.name}] {command(NAME, seed, 0)}"
        for template in templates
        for wrong in template.out_of_order
    ]
    for result in sorted(made, key=lambda result: result["number"]):
        again = command(NAME, seed, result["number"])
        section.violations += [
            f"{kind}: {sentence} [{result['variety']}; {result['fault']} at {result['at']}; answer {result['answer']}] "
            f"{again}"
            for kind, sentence in result["wrong"]
        ]
    section.violations += breakages(NAME, seed, results)
    return section
