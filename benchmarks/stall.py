"""How long the event loop stands still, and other calls wait, while a heavy one runs on the largest store."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client import LineClient
from figures import Figure
from part import rows_text
from progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from part import Run

SERVER = (sys.executable, str(Path(__file__).with_name("stall_server.py")))
BAR_MS = 20
IDLE_S = 0.5
HEAVY: dict[str, tuple[str, Mapping[str, Any]]] = {
    "get_costs all, by session": ("get_costs", {"period": "all", "group_by": "session"}),
    "get_costs all, by hour": ("get_costs", {"period": "all", "group_by": "hour"}),
    "get_latency_stats all, by hour": ("get_latency_stats", {"period": "all", "group_by": "hour"}),
    "get_logs, a threshold no row has": ("get_logs", {"min_latency_ms": 1e8}),
    "get_logs, a text no error has": ("get_logs", {"search": "no such text anywhere"}),
    "get_logs, 1,000 rows in full": ("get_logs", {"limit": 1000, "detail": "full"}),
}

CALL, STALL, PING, HEALTH = COLUMNS = (
    "the call",
    "longest stall",
    "longest ping meanwhile",
    "longest get_health meanwhile",
)

TITLE = "Stalls"
METHOD = f"""\
The server is `benchmarks/stall_server.py`: the product's stdio server and one tool more, which tells how much a task that wants to
run every millisecond was held up since it was last asked. Each heavy call runs on the largest store, once before it counts. The
longest stall is that inside the loop, with the making of the answer; idle is {IDLE_S:g} s without calls, so what the machine does
by itself. Then the call runs again while the client asks, as fast as it is answered, for a ping, and a third time for get_health:
the longest of these waits.
"""


def measure(run: Run) -> list[Figure]:
    """Return the longest stalls of the event loop, and the longest waits of other calls."""
    rows = run.sizes[-1]
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    with (
        LineClient(SERVER, run.environment_on(run.store(rows)), run.folder / "stderr.log") as client,
        Progress(f"stalls at {rows_text(rows)}", run.rounds * len(HEAVY)) as progress,
    ):
        client.initialize()
        for tool, arguments in HEAVY.values():
            client.call(tool, arguments)
        for _ in range(run.rounds):
            client.call("longest_stall", {})
            time.sleep(IDLE_S)
            took["idle", STALL].append(client.call("longest_stall", {})["longest_ms"])
            for name, (tool, arguments) in HEAVY.items():
                client.call("longest_stall", {})
                took[name, CALL] += client.timed(tool, arguments, 1)
                took[name, STALL].append(client.call("longest_stall", {})["longest_ms"])
                took[name, PING].append(max(client.pings_during(tool, arguments)))
                others = client.timed_during(
                    tool, arguments, "tools/call", {"name": "get_health", "arguments": {}}
                )
                took[name, HEALTH].append(max(others))
                progress.step()
    return [
        Figure(
            name,
            "ms",
            tuple(took[name, column]),
            bar=BAR_MS if column == STALL and name != "idle" else None,
            table=f"At {rows_text(rows)}",
            column=column,
        )
        for name in ("idle", *HEAVY)
        for column in COLUMNS
        if (name, column) in took
    ]
