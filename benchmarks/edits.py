"""One change of voicegw.yaml in process: how much it adds to the syncs it needs, and how it grows with the file."""

from __future__ import annotations

import os
import statistics
import time
from contextlib import closing
from dataclasses import replace
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING

import anyio
from figures import Figure
from progress import Progress

from voicegw_mcp.cli.stdio import collect_seldom
from voicegw_mcp.config.document import DELETE, Edit
from voicegw_mcp.core.changes import apply_change
from voicegw_mcp.core.drafts import Plan
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.store.changes import ChangeRecord, insert_pending, next_id
from voicegw_mcp.store.schema import connect, prepare

if TYPE_CHECKING:
    from pathlib import Path

    from voicegw_mcp.core.catalog import Catalog

SHORT, LONG = 265, 2365
"""Lines of the two files that are compared."""
ALLOWANCE_MS = 20
CHANGES = 20
"""Changes per round; half of them add, half delete."""
GENERATED = """\
  generated-{number}:
    name: Generated {number}
    # agreed with team {number}
    daily_budget: {number}.5
    default_stack: premium
    tags: [generated, benchmark]

"""


ROW = ChangeRecord(
    id="", created_ms=0, applied_ms=None, state="pending", actor="benchmark", door="benchmark", tool="create_project",
    summary="Create project measured", file="/etc/voicegateway/voicegw.yaml", version_before="0" * 12,
    version_after="1" * 12, diff="x" * 400, edits="x" * 1200, undoes=None,
)  # fmt: skip
"""As long as the row of a small change."""


class Floor:
    """What the disk has to do for one change and nothing else: a journal row, a file and a folder, all synced.

    The row goes into a store like ours and is one of ours, so that as much is synced.
    """

    def __init__(self, folder: Path, text: str) -> None:
        path = folder / "floor.db"
        prepare(path, deadline=time.monotonic() + 10)
        self._store = connect(path, timeout_s=10)
        self._store.execute("PRAGMA synchronous = FULL")
        self._folder = os.open(folder, os.O_RDONLY)
        self._temporary, self._target = folder / "floor.tmp", folder / "floor.yaml"
        self._content = text.encode()

    def run(self, count: int) -> None:
        """Do it ``count`` times."""
        for _ in range(count):
            self._store.execute("BEGIN IMMEDIATE")
            insert_pending(self._store, replace(ROW, id=next_id(self._store, 0)))
            self._store.execute("COMMIT")
            with self._temporary.open("wb") as file:
                file.write(self._content)
                file.flush()
                os.fsync(file.fileno())
            self._temporary.replace(self._target)
            os.fsync(self._folder)

    def close(self) -> None:
        """Close the store and the folder."""
        self._store.close()
        os.close(self._folder)


def file_of(lines: int) -> str:
    """Return the example file with as many projects added as make it about that long."""
    text = files("voicegw_mcp.cli").joinpath("example.yaml").read_text(encoding="utf-8")
    count = (lines - text.count("\n")) // GENERATED.count("\n")
    added = "".join(GENERATED.format(number=number) for number in range(count))
    return text.replace("\nprojects:\n", f"\nprojects:\n{added}", 1)


def measure(folder: Path, rounds: int) -> list[Figure]:
    """Return the figures of changes in process."""
    return anyio.run(_measure, folder, rounds)


async def _measure(folder: Path, rounds: int) -> list[Figure]:
    starter = files("voicegw_mcp.cli").joinpath("starter.yaml").read_text(encoding="utf-8")
    texts = {"starter": starter, "short": file_of(SHORT), "long": file_of(LONG)}
    gateways = {name: _gateway(folder / name, text) for name, text in texts.items()}
    took: dict[str, list[float]] = {name: [] for name in (*texts, "floor")}
    collect_seldom()  # as the server does when it is ready
    with closing(Floor(folder, starter)) as floor, Progress("single changes", rounds + 1) as progress:
        for turn in range(-1, rounds):
            measured = {name: await _change_ms(gateway, floor) for name, gateway in gateways.items()}
            if turn >= 0:
                for name, (change, _) in measured.items():
                    took[name].append(change)
                took["floor"].append(measured["starter"][1])
            progress.step()
    for gateway in gateways.values():
        await gateway.close()
    ratio = tuple(change / alone for change, alone in zip(took["starter"], took["floor"], strict=True))
    growth = tuple(long - 2 * short for long, short in zip(took["long"], took["short"], strict=True))
    return [
        Figure("one change, starter file", "ms", tuple(took["starter"])),
        Figure("the same syncs, nothing else", "ms", tuple(took["floor"])),
        Figure("one change, ratio", "x", ratio, bar=3),
        Figure(f"one change, {SHORT} lines", "ms", tuple(took["short"])),
        Figure(f"one change, {LONG} lines", "ms", tuple(took["long"])),
        Figure(f"{LONG} lines less twice {SHORT} lines", "ms", growth, bar=ALLOWANCE_MS),
    ]


def _gateway(folder: Path, text: str) -> Gateway:
    folder.mkdir()
    file = folder / "voicegw.yaml"
    file.write_text(text, encoding="utf-8")
    environment = {
        **os.environ,
        "VOICEGW_DB_PATH": str(folder / "voicegw.db"),
        "VOICEGW_DASHBOARD_TOKEN": "fake-0001",
    }
    return Gateway.open(str(file), door="benchmark", environment=environment)


async def _change_ms(gateway: Gateway, floor: Floor) -> tuple[float, float]:
    """Return the medians of changes and of their syncs alone, which take turns."""
    took: list[float] = []
    alone: list[float] = []
    for number in range(CHANGES):
        value = {"name": "Measured"} if number % 2 == 0 else DELETE
        plan = partial(_plan, edit=Edit(("projects", "measured"), value))
        began = time.perf_counter()
        await apply_change(gateway, plan, tool="benchmark")
        between = time.perf_counter()
        floor.run(1)
        took.append((between - began) * 1000)
        alone.append((time.perf_counter() - between) * 1000)
    return statistics.median(took), statistics.median(alone)


def _plan(_catalog: Catalog, edit: Edit) -> Plan:
    return Plan("measured", [edit])
