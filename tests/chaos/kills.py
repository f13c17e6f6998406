"""Section ``kills``: real servers write on one gateway at once, and are killed at any moment."""

import json
import random
import selectors
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import cores, recovery, scene
from tests.chaos.section import breakages, command
from tests.chaos.servers import Server
from tests.proof import Progress, Section

from voicegw_mcp.config.file import version_of

NAME = "kills"
TITLE = "Servers killed while several write"
ROUNDS = 100
CHECKED = """\
Three `voicegw-mcp` servers on one gateway, over stdio as an agent host starts them, are asked for one change after
another, all three at once. At a random moment one of them, or all three, is killed with SIGKILL, and another one
started in its place. At the end a fresh gateway is opened and it is checked that:

- every change that a server answered as success is `applied` in the journal, and its outcome is in the file;
- the file is the end of an unbroken chain: each applied change begins with the version that the one before left;
- a change that was answered as an error is not in the journal as applied;
- nothing is pending, no temporary file is left, and the next change works."""

SERVERS = 3
KILLS = 10
"""Kills that one gateway sees before it is looked at."""
PATIENCE_S = 60.0


@dataclass
class _Seat:
    """Where a server sits: its process, and what it was asked last."""

    server: Server
    asked: tuple[str, float] | None = None
    answered: int = 0


@dataclass
class _Session:
    """One gateway with its servers, and what they said. ``budgets``: the budgets a project may have in the end."""

    house: scene.House
    chance: random.Random
    seats: list[_Seat] = field(default_factory=list)
    budgets: dict[str, set[float | None]] = field(default_factory=dict)
    applied: list[str] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    last: int = 0

    def ask(self, seat: _Seat) -> None:
        """Ask for a new project or another budget for one; every budget is another, so no version comes twice."""
        self.last += 1
        free = sorted(self.budgets.keys() - {other.asked[0] for other in self.seats if other.asked})
        project = self.chance.choice(free) if free and self.chance.random() < 0.5 else f"line-{self.last}"
        budget = float(self.last)
        self.budgets.setdefault(project, {None}).add(budget)
        seat.asked = (project, budget)
        arguments = {"project_id": project, "name": project, "daily_budget": budget, "on_conflict": "update"}
        seat.server.call("create_project", arguments)

    def hear(self, seat: _Seat, answers: list[dict[str, Any]]) -> None:
        for result in answers:
            assert seat.asked
            (project, budget), seat.asked = seat.asked, None
            seat.answered += 1
            content = result["structuredContent"]
            answer = {"answered": "ok", "said": json.dumps(content)}
            if result.get("isError"):
                answer["answered"] = content["error"]["code"]
                self.budgets[project].discard(budget)
            else:
                self.applied.append(content["change_id"])
                self.budgets[project] = {budget}
            self.codes[answer["answered"]] += 1
            found = recovery.Recovery()
            recovery.check_answer(found, answer)
            self.wrong += found.wrong


def run(rounds: int, seed: int, folder: Path, progress: Progress) -> Section:
    """Make as many kills as there are rounds, ``KILLS`` to a gateway."""
    sessions = [(number, min(KILLS, rounds - number * KILLS)) for number in range(-(-rounds // KILLS))]
    return _report(_make(sessions, seed, folder, progress), seed)


def repeat(seed: int, number: int, folder: Path, progress: Progress) -> Section:
    """Make one gateway's kills again; the moments are drawn again, the machine decides what they hit."""
    return _report(_make([(number, KILLS)], seed, folder, progress), seed)


def _make(
    sessions: list[tuple[int, int]], seed: int, folder: Path, progress: Progress
) -> list[dict[str, Any]]:
    template = scene.prepare(scene.Variety("several servers", scene.UPDATE), folder / "before")

    def one(item: tuple[int, int]) -> dict[str, Any]:
        number, kills = item
        place = folder / f"gateway-{number}"
        try:
            chance = random.Random(f"{seed}/{number}")  # noqa: S311 - drawn again from the seed
            return _session(number, kills, chance, template, place)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    return cores.spread(sessions, one, progress)


def _session(
    number: int, kills: int, chance: random.Random, template: scene.Template, folder: Path
) -> dict[str, Any]:
    session = _Session(template.copy(folder), chance)
    killed = midway = 0
    try:
        session.seats = [_Seat(Server(session.house)) for _ in range(SERVERS)]
        for _ in range(kills):
            victims = _work_until_a_moment(session)
            midway += sum(seat.asked is not None for seat in victims)
            killed += len(victims)
            for seat in victims:
                seat.server.kill()
            for seat in victims:
                session.hear(seat, seat.server.answers() or [])
                seat.server.close()
                seat.server, seat.asked, seat.answered = Server(session.house), None, 0
        _work(session, lambda: all(seat.answered for seat in session.seats))
    finally:
        for seat in session.seats:
            seat.server.close()
    found = recovery.recover(session.house, template)
    found.wrong += session.wrong[:3]
    if session.wrong:
        log = (folder / "stderr.txt").read_text(errors="replace")
        found.add("untyped", f"the end of the servers' log: {log[-800:]}")
    _check(session, template, found)
    return {
        "number": number,
        "killed": killed,
        "midway": midway,
        "codes": dict(session.codes),
        "seconds": found.seconds,
        "wrong": found.wrong,
    }


def _work_until_a_moment(session: _Session) -> list[_Seat]:
    """Let the servers work until a drawn one has answered, and then a drawn while longer; return whom to kill."""
    victim = session.chance.choice(session.seats)
    wanted = victim.answered + session.chance.randint(1, 4)
    _work(session, lambda: victim.answered >= wanted)
    moment = time.monotonic() + session.chance.random() * 0.03
    _work(session, lambda: time.monotonic() >= moment, until=moment)
    return list(session.seats) if session.chance.random() < 0.2 else [victim]


def _work(session: _Session, done: Any, *, until: float = 0.0) -> None:
    """Keep every server busy until ``done``, or until the monotonic time ``until``."""
    bound = time.monotonic() + PATIENCE_S
    with selectors.DefaultSelector() as selector:
        for seat in session.seats:
            selector.register(seat.server, selectors.EVENT_READ, seat)
        while not done():
            for seat in session.seats:
                if seat.asked is None:
                    session.ask(seat)
            for key, _ in selector.select(max(0.0, (until or bound) - time.monotonic())):
                answers = key.data.server.answers()
                if answers is None:
                    raise RuntimeError("a server ended by itself")
                session.hear(key.data, answers)
            if time.monotonic() > bound:
                raise TimeoutError(f"no answer within {PATIENCE_S:g} s")


def _check(session: _Session, template: scene.Template, found: recovery.Recovery) -> None:
    applied = {row.id: row for row in found.new_rows(template.known) if row.state == "applied"}
    for change_id in session.applied:
        if change_id not in applied:
            found.add("lost", f"change {change_id} was answered as success and is not applied in the journal")
    after = {row.version_before: row.version_after for row in applied.values()}
    version, steps = version_of(template.old or b""), 0
    while version in after and steps <= len(after):
        version, steps = after[version], steps + 1
    if found.content is None or version != version_of(found.content) or steps != len(applied):
        found.add(
            "disagreeing", f"the applied changes lead through {steps} of {len(applied)} and not to the file"
        )
    budgets = _budgets(found.content or b"")
    for project, allowed in session.budgets.items():
        if budgets.get(project) not in allowed:
            found.add(
                "lost",
                f"{project} has the budget {budgets.get(project)}, not one of {sorted(map(str, allowed))}",
            )


def _budgets(content: bytes) -> dict[str, float]:
    """Return the budgets of the projects named line-N, read without the program's own parser."""
    found: dict[str, float] = {}
    project = ""
    for line in content.decode().splitlines():
        if line.startswith("  ") and not line.startswith("   "):
            project = line.strip().rstrip(":")
        elif project.startswith("line-") and line.strip().startswith("daily_budget:"):
            found[project] = float(line.partition(":")[2])
    return found


def _report(results: list[dict[str, Any]], seed: int) -> Section:
    section = Section(NAME)
    made = [result for result in results if "raised" not in result]
    codes = sum((Counter(result["codes"]) for result in made), Counter[str]())
    kinds = Counter(kind for result in made for kind in {kind for kind, _ in result["wrong"]})
    section.figures = [
        ("gateways", len(made)),
        ("servers killed", sum(result["killed"] for result in made)),
        ("of them with a change under way", sum(result["midway"] for result in made)),
        ("changes answered as success", codes.pop("ok", 0)),
        ("changes answered as an error", ", ".join(f"{code} {n}" for code, n in sorted(codes.items())) or 0),
        *(
            (f"violations: {kind}", kinds[kind])
            for kind in recovery.KINDS
            if kind not in recovery.EDITORS_ONLY
        ),
        ("slowest recovery (ms)", round(max((result["seconds"] for result in made), default=0) * 1000, 1)),
    ]
    for result in made:
        again = command(NAME, seed, result["number"])
        section.violations += [f"{kind}: {sentence} {again}" for kind, sentence in result["wrong"]]
    section.violations += breakages(NAME, seed, results)
    return section
