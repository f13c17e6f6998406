"""Section ``editors``: somebody saves the file in an editor between two system calls of a change.

The tracer stops the writer at a call, and this process saves the file as an editor does; nothing is left to chance.
"""

import json
import math
import random
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos import cores, recovery, scene
from tests.chaos.editor import ONCE_MORE, STYLES, WAITING_S, Editor, Plan
from tests.chaos.section import breakages, command
from tests.chaos.tracer import JustWatch, Outcome, Trace
from tests.proof import Progress, Section

NAME = "editors"
TITLE = "An editor saves the file meanwhile"
ROUNDS = 1000
CHECKED = """\
A change is stopped at one of its file-system calls, and the harness saves the file as an editor does that takes no
lock and read the file before the change began: by renaming a new file over it, in place (truncate, write, close), or
in place and slowly (truncate at one call, with nothing or half of the text written, and the rest at a later call,
after 0.3 s, or once the change has been answered). Others save twice, with a further line the second time, or the
writer is killed some calls after the save, or is killed and the editor saves before anyone has looked at what it left.
The editor changed another entry than the writer, or the same one.
It is checked that:

- the human's edit is in the file in the end, always;
- the change is in as well and was answered as success, or it is not in and was answered with a typed error; only when
  the editor saved after the file had been replaced does the human's text come on top of it;
- where both touched the same entry, and the writer had planned on the text before the edit, the answer is `CONFLICT` (or
  `CONFIG_INVALID` while half of the human's text is all there is);
- what the section on faults checks of journal, temporary files and the next change."""

_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Pair:
    """A writer's change, and a human's edit (text found, text instead) of another entry and of the same one."""

    variety: scene.Variety
    other: tuple[str, str]
    same: tuple[str, str] | None


_OUTBOUND = ("    name: Outbound\n", "    name: Outbound calls  # a human's words\n")
_BUDGET = ("    daily_budget: 5.0\n", "    daily_budget: 7.25  # a human's words\n")
_KEY = ("# rotated monthly", "# rotated weekly: a human's words")
MARK = b"a human's words"

PAIRS = [
    Pair(scene.Variety("update of a project", scene.UPDATE, warm=True), _OUTBOUND, _BUDGET),
    Pair(
        scene.Variety(
            "deleted project", ("delete_project", {"project_id": "outbound", "confirm": True}), warm=True
        ),
        _BUDGET,
        _OUTBOUND,
    ),
    Pair(scene.Variety("new project", scene.ADD_PROJECT), _KEY, None),
    Pair(scene.Variety("update behind a symlink", scene.UPDATE, warm=True, link=True), _OUTBOUND, _BUDGET),
]


@dataclass
class Prepared:
    """A pair with its templates: the file before, as the human leaves it, and as the change leaves that."""

    pair: Pair
    template: scene.Template
    answered: int
    human: dict[bool, bytes]
    merged: dict[bool, bytes | None]


def run(rounds: int, seed: int, folder: Path, progress: Progress) -> Section:
    """Make the rounds; each is drawn from its number."""
    return _report(_make(range(rounds), seed, folder, progress), seed)


def repeat(seed: int, number: int, folder: Path, progress: Progress) -> Section:
    """Make one round again."""
    return _report(_make([number], seed, folder, progress), seed)


def _make(numbers: Any, seed: int, folder: Path, progress: Progress) -> list[dict[str, Any]]:
    prepared = [_prepare(pair, folder / f"pair-{number}") for number, pair in enumerate(PAIRS)]

    def one(number: int) -> dict[str, Any]:
        plan = _planned(number, seed, prepared)
        place = folder / f"round-{number}"
        try:
            return _round(plan, prepared[plan.pair], place)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    return cores.spread(list(numbers), one, progress)


def _prepare(pair: Pair, folder: Path) -> Prepared:
    template = scene.prepare(pair.variety, folder / "before")
    house = template.copy(folder / "counted")
    outcome = Trace(house.folder, JustWatch()).run(scene.change(house, template))
    assert outcome.answer, outcome
    assert outcome.answer["answered"] == "ok", outcome.answer
    template.new, template.calls, template.edited = house.content(), outcome.calls, True
    human: dict[bool, bytes] = {}
    merged: dict[bool, bytes | None] = {}
    for same, edit in ((False, pair.other), (True, pair.same)):
        if edit is None:
            continue
        text = (template.old or b"").decode()
        assert edit[0] in text or edit[0].strip() in text
        human[same] = text.replace(edit[0], edit[1]).encode()
        copy = template.copy(folder / f"merged-{same}")
        copy.target.write_bytes(human[same])
        answer = scene.one_call(copy, template.call)
        assert answer["answered"] == "ok", answer
        merged[same] = copy.content()
    return Prepared(pair, template, outcome.told_at[1], human, merged)


def _planned(number: int, seed: int, prepared: list[Prepared]) -> Plan:
    chance = random.Random(f"{seed}/{number}")  # noqa: S311 - drawn again from the seed
    pair = chance.choice((0, 0, 0, 1, 1, 2, 3))
    same = prepared[pair].pair.same is not None and chance.random() < 0.5
    calls = prepared[pair].answered
    # Half of the rounds fall into the second half of the calls, where the file is replaced.
    share = (number * _GOLDEN + chance.random() / 50) % 1
    style = STYLES[number % len(STYLES)]
    if "twice" not in style and "killed" not in style:
        return Plan(number, pair, same, style, int(share * calls), chance.randint(1, calls))
    # These aim at the replacement itself: begin shortly before it, and come back while the writer looks what it met.
    replaced = next(call.number for call in prepared[pair].template.calls if call.name == "renameat2")
    first = replaced - 30 if style != "killed, then saved" else replaced - 5
    return Plan(number, pair, same, style, first + int(share * 32), chance.randint(1, 50))


def _round(plan: Plan, prepared: Prepared, folder: Path) -> dict[str, Any]:
    template = prepared.template
    house = template.copy(folder)
    human, merged = prepared.human[plan.same], prepared.merged[plan.same]
    editor = Editor(plan, house, human, {template.new, merged})
    outcome = Trace(house.folder, editor, patience_s=WAITING_S).run(scene.change(house, template))
    editor.finish()
    if plan.style == "killed, then saved":
        editor.replaced = house.content() in {template.new, merged}
        editor.save(human, in_place=plan.number % 2 == 0)
    found = recovery.recover(house, template)
    texts = {"human": human, "human first": human, "merged": merged, "new": template.new}
    if editor.twice:
        texts |= {"human": human + ONCE_MORE, "merged": (merged or b"") + ONCE_MORE}
    state = _check(editor, plan, found, outcome, texts, template)
    return {
        "number": plan.number,
        "style": plan.style,
        "same": plan.same,
        "variety": template.variety.name,
        "at": editor.at,
        "answer": outcome.answer["answered"] if outcome.answer else "none",
        "state": state,
        "replaced": editor.replaced,
        "amid": editor.amid,
        "kept": len(found.kept),
        "seconds": found.seconds,
        "wrong": found.wrong,
    }


def _check(
    editor: Editor,
    plan: Plan,
    found: recovery.Recovery,
    outcome: Outcome,
    texts: dict[str, bytes | None],
    template: scene.Template,
) -> str:
    answer = outcome.answer
    if outcome.overdue or (answer is None and not editor.killed):
        found.add("not recovered", f"the change was never answered: {outcome.told} {outcome.overdue}")
        return ""
    for kept in found.kept:
        if kept != texts["human first"]:
            found.add(
                "edit lost", f"what was kept beside the file is not what the editor saved first: {kept!r}"
            )
    if not editor.done:
        found.add("not recovered", "the editor never came to save: the harness is wrong")
    state = next((name for name in ("human", "merged") if found.content == texts[name]), "")
    if not state:
        edits = (MARK, ONCE_MORE) if editor.twice else (MARK,)
        kind = "torn" if all(edit in (found.content or b"") for edit in edits) else "edit lost"
        what = (
            "the change without the edit"
            if found.content == texts["new"]
            else f"{len(found.content or b'')} bytes"
        )
        found.add(kind, f"the file is neither the human's text nor that with the change: {what}")
        return ""
    early = not editor.replaced
    rows = [row for row in found.new_rows(template.known) if row.state == "applied"]
    if (early or state == "merged") and len(rows) != (state == "merged"):
        found.add("disagreeing", f"the file has the {state} text and the journal {len(rows)} applied row(s)")
    if answer is not None:
        _check_answer(editor, plan, found, answer, state)
    return state


def _check_answer(
    editor: Editor, plan: Plan, found: recovery.Recovery, answer: dict[str, Any], state: str
) -> None:
    recovery.check_answer(found, answer)
    said, early = answer["answered"], not editor.replaced
    if state == "human" and said == "ok" and early:
        found.add(
            "lost", "the change was answered as success and is not in the file, which the editor saved before"
        )
    if state == "merged" and said != "ok" and recovery.WRITTEN not in answer["said"]:
        found.add("disagreeing", f"the change was answered {said} and is in the file")
    # Half of a text may be no YAML at all: that is what the writer then finds, and all it can say.
    refusals = {"CONFLICT", "CONFIG_INVALID"} if plan.style == "slow, half" else {"CONFLICT"}
    if plan.same and early and editor.planned_before and said not in refusals:
        found.add("no conflict", f"both touched the same entry and the answer is {said}")
    rows = [row.id for row in found.journal if row.state == "applied"]
    if said == "ok" and json.loads(answer["said"]).get("change_id") not in rows:
        found.add("disagreeing", "the change was answered as success and is not applied in the journal")


def _report(results: list[dict[str, Any]], seed: int) -> Section:
    section = Section(NAME)
    made = [result for result in results if "raised" not in result]
    styles = Counter(result["style"] for result in made)
    kinds = Counter(kind for result in made for kind in {kind for kind, _ in result["wrong"]})
    ends = Counter((result["state"], result["answer"] == "ok", result["replaced"]) for result in made)
    refused = Counter(result["answer"] for result in made if result["answer"] != "ok")
    section.figures = [
        ("interleavings", len(results)),
        *((f"saved: {style}", styles[style]) for style in STYLES),
        ("edits of the entry that the change is about", sum(result["same"] for result in made)),
        ("saved before the file was replaced", sum(not result["replaced"] for result in made)),
        (
            "saved again, or killed, while the writer had the edit taken out",
            sum(result["amid"] for result in made),
        ),
        ("his first save kept beside the file", sum(result["kept"] for result in made)),
        ("edit and change both in the file, answered as success", ends["merged", True, False]),
        ("saved after the change, on top of it", ends["human", True, True]),
        ("edit in the file, change refused", refused.total() - refused["none"]),
        ("killed: edit in the file", sum(r["answer"] == "none" and r["state"] == "human" for r in made)),
        (
            "killed: edit and change both in the file",
            sum(r["answer"] == "none" and r["state"] == "merged" for r in made),
        ),
        (
            "refusals",
            ", ".join(f"{code} {count}" for code, count in refused.most_common() if code != "none") or 0,
        ),
        *((f"violations: {kind}", kinds[kind]) for kind in recovery.KINDS),
        ("slowest recovery (ms)", round(max((result["seconds"] for result in made), default=0) * 1000, 1)),
    ]
    for result in sorted(made, key=lambda result: result["number"]):
        entry = "the same entry" if result["same"] else "another entry"
        section.violations += [
            f"{kind}: {sentence} [{result['variety']}; {entry}; {result['style']} at {result['at']}; "
            f"answer {result['answer']}] {command(NAME, seed, result['number'])}"
            for kind, sentence in result["wrong"]
        ]
    section.violations += breakages(NAME, seed, results)
    return section
