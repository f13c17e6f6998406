"""Section ``first_starts``: two servers start on nothing at the same moment, and both work."""

import contextlib
import json
import os
import select
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml
from tests.chaos.scene import KEYS
from tests.chaos.section import command
from tests.chaos.writers import check_chain
from tests.proof import Progress, Section

from voicegw_mcp.store.changes import ChangeRecord

NAME = "first_starts"
TITLE = "Two first starts at once"
ROUNDS = 50
CHECKED = """\
Two `voicegw-mcp` servers are started over stdio with no file and no store: in an empty folder, in one that does not
exist yet, and in a home that does not exist yet. Once both have answered a call that touches neither, both are asked
for `get_health` and `create_project` at the same moment; in every other round the calls are sent with the start
itself, without waiting for it. Then their input ends. It is checked that both answer `ok` and write their project,
end with code 0 and say nothing on standard error, that file and journal hold both changes as an unbroken chain, that
the store is whole and its migrations were made once, and that nothing else is left behind."""

SERVERS = 2
COMMAND = Path(sys.executable).parent / "voicegw-mcp"
WAIT_S = 60.0
PLACES = ("empty folder", "missing folder", "missing home")
EXPECTED = {"voicegw.yaml", ".voicegw.yaml.lock", "voicegw.db", "voicegw.db-wal", "voicegw.db-shm"}


class Starter:
    """One server; what it is asked is sent at once, its answers are read later."""

    def __init__(self, home: Path, cwd: Path, errors: Path) -> None:
        self.errors = errors
        self._unread = b""
        self._last = 0
        environment = {**KEYS, "PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
        # Coverage measures subprocesses by its own variables.
        environment |= {
            name: value
            for name, value in os.environ.items()
            if name.startswith("COV") or name == "PYTHONPATH"
        }
        with errors.open("wb") as stream:
            self.process = subprocess.Popen(
                [COMMAND],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                cwd=cwd,
                env=environment,
                bufsize=0,
            )

    def greet(self) -> None:
        """Shake hands, and ask for something that needs neither file nor store."""
        info = {"name": "chaos", "version": "1"}
        self._send("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info})
        self._write({"jsonrpc": "2.0", "method": "notifications/initialized"})
        self._send("tools/list", {})

    def ask(self, number: int) -> None:
        """Ask for the two calls of the round."""
        project = {
            "project_id": f"project-{number}",
            "name": f"Project {number}",
            "daily_budget": number + 0.5,
        }
        self._send("tools/call", {"name": "get_health", "arguments": {}})
        self._send("tools/call", {"name": "create_project", "arguments": project})

    def answers(self, count: int) -> list[dict[str, Any]]:
        """Return so many answers, fewer when the server ends before.

        Raises:
            TimeoutError: they do not come.
        """
        found: list[dict[str, Any]] = []
        until = time.monotonic() + WAIT_S
        while len(found) < count:
            line, end, rest = self._unread.partition(b"\n")
            if end:
                self._unread = rest
                message = json.loads(line)
                found += [message] if "id" in message and "method" not in message else []
                continue
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError(f"no answer for {WAIT_S:.0f} s")
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            if not data:
                break
            self._unread += data
        return found

    def stop(self) -> None:
        """End its input."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def end(self) -> int:
        """Return its exit code; one that does not end is killed."""
        self.stop()
        try:
            return self.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(WAIT_S)
        finally:
            self.process.stdout.close()

    def _send(self, method: str, parameters: dict[str, Any]) -> None:
        self._last += 1
        self._write({"jsonrpc": "2.0", "id": self._last, "method": method, "params": parameters})

    def _write(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")


def run(rounds: int, seed: int, folder: Path, progress: Progress) -> Section:
    """Start two servers so many times."""
    return _make(range(rounds), seed, folder, progress)


def repeat(seed: int, number: int, folder: Path, progress: Progress) -> Section:
    """Make one round again; who comes first is decided by the machine."""
    return _make([number], seed, folder, progress)


def _make(numbers: Sequence[int], seed: int, folder: Path, progress: Progress) -> Section:
    section = Section(NAME)
    both, seconds, places = 0, 0.0, Counter[str]()
    for done, number in enumerate(numbers, 1):
        place = folder / f"round-{number}"
        place.mkdir()
        try:
            wrong, took = race(number, place)
        except (TimeoutError, sqlite3.Error, OSError, ValueError) as error:
            wrong, took = [f"the round broke: {error!r}"], 0.0
        both += not wrong
        seconds = max(seconds, took if number % 2 == 0 else 0.0)  # in the others the start itself is measured
        where = PLACES[number % len(PLACES)]
        places[where] += 1
        section.violations += [f"{text} [{where}] {command(NAME, seed, number)}" for text in wrong]
        shutil.rmtree(place)
        progress(done, len(numbers))
    section.figures = [
        ("rounds", len(numbers)),
        *(
            (f"in an {where}" if where[0] == "e" else f"in a {where}", count)
            for where, count in places.items()
        ),
        ("both servers worked", f"{both} of {len(numbers)}"),
        ("longest wait for both answers, once both had started (ms)", round(seconds * 1000)),
    ]
    return section


def race(number: int, folder: Path) -> tuple[list[str], float]:
    """Start two servers on nothing; return what is wrong afterwards, and how long both answers took together."""
    home, cwd = folder / "home", folder / "cwd"
    cwd.mkdir()
    gateway = home / ".config" / "voicegateway"
    if PLACES[number % len(PLACES)] == "empty folder":
        gateway.mkdir(parents=True)
    elif PLACES[number % len(PLACES)] == "missing folder":
        home.mkdir()
    starters: list[Starter] = []
    wrong: list[str] = []
    try:
        # One after the other, so that those that were started are ended when a later one cannot be.
        starters.extend(Starter(home, cwd, folder / f"stderr-{index}.txt") for index in range(SERVERS))
        for starter in starters:
            starter.greet()
        wait_for_start = number % 2 == 0
        if wait_for_start:
            for starter in starters:
                starter.answers(2)
        started = time.perf_counter()
        for index, starter in enumerate(starters):
            starter.ask(index)
        answers = [starter.answers(2 if wait_for_start else 4)[-2:] for starter in starters]
        seconds = time.perf_counter() - started
        for starter in starters:
            starter.stop()
    finally:
        codes = [starter.end() for starter in starters]
    for index, (starter, told) in enumerate(zip(starters, answers, strict=True)):
        wrong += [f"server {index}: {text}" for text in _check_answers(told)]
        if said := starter.errors.read_text():
            wrong.append(f"server {index} wrote to standard error: {said[-1000:]}")
    if any(codes):
        wrong.append(f"the servers ended with {codes}")
    return wrong or _check_folder(gateway), seconds


def _check_answers(told: Sequence[dict[str, Any]]) -> list[str]:
    if len(told) != 2 or any("result" not in answer for answer in told):
        return [f"it answered {told}"]
    # The two calls run at the same time: whichever is done first is told first.
    health, project = sorted(
        (answer["result"]["structuredContent"] for answer in told), key=lambda said: "status" not in said
    )
    wrong = []
    if health.get("status") != "ok":
        wrong.append(f"get_health answered {json.dumps(health)}")
    if not project.get("change_id"):
        wrong.append(f"create_project answered {json.dumps(project)}")
    return wrong


def _check_folder(folder: Path) -> list[str]:
    names = {path.name for path in folder.iterdir()}
    wrong = [f"left behind: {sorted(names - EXPECTED)}"] if names - EXPECTED else []
    content = (folder / "voicegw.yaml").read_bytes()
    found = set(yaml.safe_load(content)["projects"])
    if found != {f"project-{index}" for index in range(SERVERS)}:
        wrong.append(f"the file has the projects {sorted(found)}")
    wrong += [
        f"{name} can be read by others"
        for name in ("voicegw.yaml", "voicegw.db")
        if (folder / name).stat().st_mode & 0o077
    ]
    with closing(sqlite3.connect(folder / "voicegw.db")) as connection:
        if (whole := connection.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
            wrong.append(f"the store is damaged: {whole}")
        versions = [
            row[0] for row in connection.execute("SELECT version FROM voicegw_mcp_migrations ORDER BY rowid")
        ]
        if versions != list(range(1, len(versions) + 1)):
            wrong.append(f"the migrations that were made: {versions}")
        columns = ", ".join(ChangeRecord.__dataclass_fields__)
        rows = [
            ChangeRecord(*row) for row in connection.execute(f"SELECT {columns} FROM changes ORDER BY id")
        ]
    states = [row.state for row in rows]
    if states != ["applied"] * SERVERS:
        wrong.append(f"the journal's rows are {states}")
    return wrong + check_chain(b"", rows, content)
