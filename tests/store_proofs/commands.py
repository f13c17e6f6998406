"""What section ``interruptions`` interrupts: backups, restores, prunes, repairs and recordings, and what must hold afterwards.

Each works on a folder with ``voicegw.db`` and, where it needs one, ``backup.db``. A fresh process looks at what is left.
"""

import asyncio
import shutil
import sqlite3
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.chaos.scene import join_threads
from tests.store_proofs.writer import BATCH, cost_of, counted, record

from voicegw_mcp.core import maintenance
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.errors import GatewayError
from voicegw_mcp.store.backup import Figures, back_up, figures
from voicegw_mcp.store.recorder import Recorder
from voicegw_mcp.store.repair import repair_store
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.schema import connect, prepare

DAY = 86_400_000
NOW = record(0).timestamp_ms // DAY * DAY + DAY // 2
OLD_ROWS, NEW_ROWS = 620, 80
PATIENCE_S = 1.0
Tell = Callable[[dict[str, Any]], None]


def quiet(_done: int, _total: int) -> None:
    """Show no progress."""


def gateway_of(folder: Path, later_ms: int = 0) -> Gateway:
    """Open the gateway of a folder, some time later when asked so."""
    environment = {"HOME": str(folder), "VOICEGW_DB_PATH": str(folder / "voicegw.db")}
    return Gateway.open(
        str(folder / "voicegw.yaml"), door="cli", environment=environment, now_ms=lambda: NOW + later_ms
    )


def fill(path: Path, first: int, count: int, *, days_ago: int = 0) -> None:
    """Add rows ``first`` and following to a store, which is made."""
    prepare(path, deadline=float("inf"))
    rows = [replace(record(first + n), timestamp_ms=NOW - days_ago * DAY - n * 1000) for n in range(count)]
    with closing(connect(path, timeout_s=5)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        insert_requests(connection, rows)
        connection.execute("COMMIT")


def held(path: Path) -> Figures | None:
    """Return what a store holds, None when there is none."""
    if not path.exists():
        return None
    with closing(connect(path, timeout_s=5)) as connection:
        return figures(connection)


def all_held(folder: Path, pattern: str) -> list[Figures]:
    """Return what each store of these names holds; what SQLite puts beside them is none."""
    return [
        found
        for path in folder.glob(pattern)
        if not path.name.endswith(("-wal", "-shm")) and ".partial-" not in path.name and (found := held(path))
    ]


def is_sound(path: Path) -> bool:
    """Say whether structure, rows and sums of a store are in order."""
    return repair_store(path, path.with_name("never"), dry_run=True, progress=quiet).is_clean()


class Command:
    """One command and its folder. ``done`` is None when its process was killed, else whether it was answered as a success."""

    name: str
    new_names: tuple[str, ...] = ()
    """Patterns of what it may leave in the folder when it was not killed, besides the store and the backup."""

    def __init__(self) -> None:
        self.before: Figures | None = None

    def prepare(self, folder: Path) -> None:
        """Make the folder."""
        fill(folder / "voicegw.db", 0, OLD_ROWS, days_ago=20)
        fill(folder / "voicegw.db", OLD_ROWS, NEW_ROWS)
        self.before = held(folder / "voicegw.db")

    async def act(self, gateway: Gateway, folder: Path, tell: Tell, *, again: bool) -> None:
        """Do it; ``again`` after it was interrupted."""
        raise NotImplementedError

    def wrong(self, folder: Path, done: bool | None, told: list[dict[str, Any]]) -> list[str]:
        """Return what must not be after a round."""
        raise NotImplementedError

    def finished(self, folder: Path) -> list[str]:
        """Return what must not be after a success."""
        raise NotImplementedError


class Backup(Command):
    name = "backup"

    async def act(self, gateway: Gateway, folder: Path, tell: Tell, *, again: bool) -> None:  # noqa: ARG002 - as of all
        await maintenance.back_up(
            gateway, folder / "backup.db", force=again or self._older is not None, progress=quiet
        )

    def __init__(self) -> None:
        super().__init__()
        self._older: Figures | None = None

    def wrong(self, folder: Path, done: bool | None, told: list[dict[str, Any]]) -> list[str]:  # noqa: ARG002 - as of all
        found = [] if held(folder / "voicegw.db") == self.before else ["the store is not what it was"]
        whole = held(folder / "backup.db")
        if whole not in ((self.before,) if done else (self._older, self.before)):
            found.append("the backup is neither what was there before nor a whole one")
        return found

    def finished(self, folder: Path) -> list[str]:
        return self.wrong(folder, True, [])


class BackupAnew(Backup):
    name = "backup --force over an older one"

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        fill(folder / "backup.db", 0, 10)
        self._older = held(folder / "backup.db")


class Restore(Command):
    """The store has rows in a log that nobody wrote back, as after a crash."""

    name = "restore"
    new_names = ("voicegw.db.before-restore-*",)

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        path = folder / "voicegw.db"
        back_up(path, folder / "backup.db", progress=quiet)
        self.backed_up = self.before
        with closing(connect(path, timeout_s=5)) as connection:
            insert_requests(
                connection, [replace(record(number), timestamp_ms=NOW) for number in range(5000, 5040)]
            )
            self.before = figures(connection)
            for name in ("voicegw.db", "voicegw.db-wal"):
                shutil.copyfile(folder / name, folder / f"{name}.aside")
        for name in ("voicegw.db", "voicegw.db-wal"):
            (folder / f"{name}.aside").replace(folder / name)

    async def act(self, gateway: Gateway, folder: Path, tell: Tell, *, again: bool) -> None:  # noqa: ARG002 - as of all
        await maintenance.restore(gateway, folder / "backup.db", force=False, progress=quiet)

    def wrong(self, folder: Path, done: bool | None, told: list[dict[str, Any]]) -> list[str]:  # noqa: ARG002 - as of all
        now = held(folder / "voicegw.db")
        kept = all_held(folder, "voicegw.db.before-restore-*")
        found = (
            []
            if now in ((self.backed_up,) if done else (self.before, self.backed_up))
            else ["the store is neither"]
        )
        if now != self.before and self.before not in kept:
            found.append("what the store was is lost")
        if held(folder / "backup.db") != self.backed_up:
            found.append("the backup is not what it was")
        return found

    def finished(self, folder: Path) -> list[str]:
        return self.wrong(folder, True, [])


class RestoreIntoNothing(Restore):
    name = "restore where no store is"

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        for path in folder.glob("voicegw.db*"):
            path.unlink()
        self.before = None

    def wrong(self, folder: Path, done: bool | None, told: list[dict[str, Any]]) -> list[str]:  # noqa: ARG002 - as of all
        now = held(folder / "voicegw.db")
        return (
            []
            if now in ((self.backed_up,) if done else (None, self.backed_up))
            else ["the store is not whole"]
        )


class Prune(Command):
    name = "prune"
    vacuum = False

    async def act(self, gateway: Gateway, folder: Path, tell: Tell, *, again: bool) -> None:  # noqa: ARG002 - as of all
        await maintenance.prune(gateway, older_than=5, dry_run=False, progress=quiet)
        if self.vacuum:
            await maintenance.compact(gateway)

    def wrong(self, folder: Path, done: bool | None, told: list[dict[str, Any]]) -> list[str]:  # noqa: ARG002 - as of all
        now = held(folder / "voicegw.db")
        rows = now.counts["requests"]
        found = [] if now.totals == self.before.totals else ["the totals are not what they were"]
        if rows != NEW_ROWS if done else not NEW_ROWS <= rows <= OLD_ROWS + NEW_ROWS:
            found.append(f"{rows} rows are left")
        if not is_sound(folder / "voicegw.db"):
            found.append("the store contradicts itself")
        return found

    def finished(self, folder: Path) -> list[str]:
        return self.wrong(folder, True, [])


class PruneAndVacuum(Prune):
    name = "prune --vacuum"
    vacuum = True


class Repair(Command):
    """Sums that were changed are mended from the others, unless a page cannot be read: then what can be is saved."""

    name = "repair of sums"
    new_names = ("voicegw.db.saved-*",)
    damage = "UPDATE rollup SET cost_nanousd = cost_nanousd + 7 WHERE grain_s = 3600"

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        with closing(connect(folder / "voicegw.db", timeout_s=5)) as connection:
            connection.execute(self.damage)

    async def act(self, gateway: Gateway, folder: Path, tell: Tell, *, again: bool) -> None:  # noqa: ARG002 - as of all
        await maintenance.mend(gateway, dry_run=False, progress=quiet)

    def wrong(self, folder: Path, done: bool | None, told: list[dict[str, Any]]) -> list[str]:  # noqa: ARG002 - as of all
        return self.finished(folder) if done and not all_held(folder, self.new_names[0]) else []

    def finished(self, folder: Path) -> list[str]:
        if held(folder / "voicegw.db") != self.before or not is_sound(folder / "voicegw.db"):
            return ["the store is not mended"]
        return []


class Salvage(Command):
    """A page of rows is gone, so what can be read is saved in a new store and the file stays."""

    name = "repair of a damaged file"
    new_names = ("voicegw.db.saved-*",)

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        path = folder / "voicegw.db"
        with closing(sqlite3.connect(path)) as connection:
            page, size = connection.execute(
                "SELECT pageno, (SELECT page_size FROM pragma_page_size) FROM dbstat "
                "WHERE name = 'requests' AND pagetype = 'leaf' ORDER BY pageno LIMIT 1 OFFSET 3"
            ).fetchone()
        with path.open("rb+") as file:
            file.seek((page - 1) * size)
            file.write(b"\xff" * size)
        self._bytes = path.read_bytes()

    async def act(self, gateway: Gateway, folder: Path, tell: Tell, *, again: bool) -> None:  # noqa: ARG002 - as of all
        _, _, done = await maintenance.mend(gateway, dry_run=False, progress=quiet)
        tell({"lost": done.lost_rows})

    def wrong(self, folder: Path, done: bool | None, told: list[dict[str, Any]]) -> list[str]:
        found = (
            [] if (folder / "voicegw.db").read_bytes() == self._bytes else ["the damaged file was changed"]
        )
        saved = all_held(folder, "voicegw.db.saved-*")
        if any(now.totals != self.before.totals for now in saved):
            found.append("a half of what can be saved has the final name")
        if done:
            lost = next(item["lost"] for item in told if "lost" in item)
            if sum(now.counts["requests"] for now in saved) + lost > OLD_ROWS + NEW_ROWS or not lost:
                found.append("what was saved does not add up")
        return found

    def finished(self, folder: Path) -> list[str]:
        saved = all_held(folder, "voicegw.db.saved-*")
        return [] if any(now.totals == self.before.totals for now in saved) else ["nothing was saved"]


class Record(Command):
    """An agent's process records, and is told that the first half is stored."""

    name = "recording"
    count = 8 * BATCH

    def prepare(self, folder: Path) -> None:
        prepare(folder / "voicegw.db", deadline=float("inf"))

    async def act(self, gateway: Gateway, folder: Path, tell: Tell, *, again: bool) -> None:
        first = self.count if again else 0
        recorder = Recorder(folder / "voicegw.db", on_sigterm=False, now_ms=gateway.now_ms)
        half = first + self.count // 2
        for number in range(first, half):
            recorder.record(record(number))
        if recorder.flush(PATIENCE_S):
            tell({"stored": half})
        for number in range(half, first + self.count):
            recorder.record(record(number))
        recorder.close(PATIENCE_S)
        counts = recorder.counts()
        tell({"written": counts.written, "lost": sum(counts.lost.values()), "waiting": counts.waiting})

    def wrong(self, folder: Path, done: bool | None, told: list[dict[str, Any]]) -> list[str]:
        now = held(folder / "voicegw.db")
        rows = now.counts["requests"]
        stored = max((item.get("stored", 0) for item in told), default=0)
        found = [] if rows >= stored else [f"{stored} rows were said to be stored, {rows} are there"]
        if (now.requests, now.cost_nanousd) != (counted(rows), sum(map(cost_of, range(rows)))):
            found.append("rows and sums do not agree, or a row is missing in the middle")
        if done:
            counts = next(item for item in told if "written" in item)
            # What the disk took and then failed to say is neither counted as written nor missing.
            if counts["written"] > rows or counts["waiting"] or rows + counts["lost"] < self.count:
                found.append(f"{rows} rows are there, but the recorder counts {counts}")
        return found

    def finished(self, folder: Path) -> list[str]:
        return [] if is_sound(folder / "voicegw.db") else ["the store contradicts itself"]


COMMANDS: tuple[type[Command], ...] = (
    Backup, BackupAnew, Restore, RestoreIntoNothing, Prune, PruneAndVacuum, Repair, Salvage, Record,
)  # fmt: skip


async def answer(command: Command, folder: Path, tell: Tell, *, again: bool) -> dict[str, Any]:
    """Run the command as a door does; the answer is ``ok`` or an error's code, with what was said."""
    gateway = gateway_of(folder, later_ms=60_000 if again else 0)
    try:
        try:
            await command.act(gateway, folder, tell, again=again)
        except GatewayError as error:
            return {"answered": error.error_code, "said": str(error.payload())}
        finally:
            await gateway.close()
    except Exception:  # noqa: BLE001 - the doors answer INTERNAL_ERROR to it, and the round is a violation
        return {"answered": "INTERNAL_ERROR", "said": traceback.format_exc()}
    return {"answered": "ok", "said": ""}


def run_here(command: Command, folder: Path, *, again: bool) -> dict[str, Any]:
    """Run the command in this process, which has one thread afterwards."""
    told: list[dict[str, Any]] = []
    try:
        return {**asyncio.run(answer(command, folder, told.append, again=again)), "told": told}
    finally:
        join_threads()
