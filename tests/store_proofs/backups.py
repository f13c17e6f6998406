"""Section ``backups``: backups of a store that is written to a thousand times a second, each restored and added up."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio
from tests.proof import Progress, Section
from tests.store_proofs.writer import BATCH, cost_of, counted

from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.maintenance import restore
from voicegw_mcp.store.backup import back_up, figures
from voicegw_mcp.store.schema import connect, prepare

NAME = "backups"
TITLE = "Backups of a store that is written to"
ROUNDS = 200
CHECKED = """\
A process of its own records a thousand requests a second, each of a cost that is known. `voicegw backup` copies the store while it does, and
`voicegw restore` puts each copy into a new folder, one after the other. It is checked that every restored store has all rows that were committed before
its backup began and none that came after it, each once, and that rows and rollups add up to the known cost to the nano-dollar."""
ROOT = Path(__file__).parents[2]
BOUND_S = 60.0


class _Writer:
    """The process that writes, and how many requests it said are committed."""

    def __init__(self, store: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.store_proofs.writer", str(store)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        self.committed = 0
        self.last = ""
        self.moved = threading.Condition()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            with self.moved:
                if line.startswith("end"):
                    self.last = line
                else:
                    self.committed = int(line)
                self.moved.notify_all()

    def wait_for(self, rows: int) -> None:
        """Wait until so many are committed."""
        with self.moved:
            if not self.moved.wait_for(lambda: self.committed >= rows, BOUND_S):
                raise TimeoutError("the writer does not write")

    def pause(self) -> None:
        """Let it stand still, maybe in the middle of a transaction, while a backup is added up."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self.go_on()
        self.process.stdin.close()
        try:
            self.process.wait(BOUND_S)
        finally:
            self.process.kill()
            self._thread.join()
            self.process.stdout.close()


def run(rounds: int, seed: int, folder: Path, progress: Progress) -> Section:  # noqa: ARG001 - nothing is left to chance
    """Make so many backups."""
    section = Section(NAME)
    store, target = folder / "voicegw.db", folder / "backup.db"
    prepare(store, deadline=time.monotonic() + 10)
    writer = _Writer(store)
    seconds: list[float] = []
    exact, writing = 0, 0.0
    try:
        for number in range(rounds):
            writer.go_on()
            begun, first = time.monotonic(), writer.committed
            writer.wait_for(first + 3 * BATCH)
            before = writer.committed
            started = time.monotonic()
            back_up(store, target, force=True, progress=lambda _done, _total: None)
            seconds.append(time.monotonic() - started)
            writer.wait_for(before + 3 * BATCH)
            writing += time.monotonic() - begun
            after = writer.committed
            writer.pause()
            found = _restored(folder / f"restored-{number}", target)
            exact += not (wrong := _wrong(found, before, after))
            section.violations += [f"backup {number}: {text}" for text in wrong]
            progress(number + 1, rounds)
    finally:
        writer.end()
    rows = writer.last.removeprefix("end ")
    section.figures += [
        ("backups", rounds),
        ("restored with exact totals", exact),
        ("rows written meanwhile, a second", round(int(rows) / writing)),
        ("rows at the end", int(rows)),
        (
            "a backup took in ms, median and longest",
            f"{sorted(seconds)[len(seconds) // 2] * 1000:.0f}, {max(seconds) * 1000:.0f}",
        ),
        ("files left beside the backups", len(list(folder.glob("*.partial-*")))),
    ]
    return section


def _restored(folder: Path, backup: Path) -> tuple[int, int, int, int]:
    """Restore into a new folder; return rows and their cost, then requests and their cost in the rollups."""
    folder.mkdir()
    environment = {"VOICEGW_DB_PATH": str(folder / "voicegw.db")}

    async def work() -> None:
        gateway = Gateway.open(str(folder / "voicegw.yaml"), door="cli", environment=environment)
        try:
            await restore(gateway, backup, force=False, progress=lambda _done, _total: None)
        finally:
            await gateway.close()

    anyio.run(work)
    connection = connect(folder / "voicegw.db", timeout_s=1)
    held = figures(connection)
    connection.close()
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    return held.counts["requests"], held.rows_cost_nanousd, held.requests, held.cost_nanousd


def _wrong(found: tuple[int, int, int, int], before: int, after: int) -> list[str]:
    rows, rows_cost, requests, cost = found
    expected = sum(map(cost_of, range(rows)))
    wrong = []
    if not before <= rows <= after + BATCH:  # one batch may be committed and not yet told
        wrong.append(f"{rows} rows, but {before} were committed before and {after} after it")
    if (rows_cost, requests, cost) != (expected, counted(rows), expected):
        wrong.append(f"{found} in place of {expected}")
    return wrong
