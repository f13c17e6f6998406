"""1, 8 and 64 clients at once: over stdio each with a server of its own on one store, over HTTP all on one server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import http_load
import stdio_load
from at_once import CALLS, Load, by_table
from part import rows_text

if TYPE_CHECKING:
    from figures import Figure
    from part import Run

COUNTS, SHORT_COUNTS = (1, 8, 64), (1, 2)
ROUND_S, SHORT_ROUND_S = 1.0, 0.1
MOST_ROUNDS = 5
ROWS = 1_000_000

TITLE = "Many clients at once"
METHOD = f"""\
On a store of {rows_text(ROWS)} rows. Over stdio each client has a server process of its own, as hosts launch them: 64 clients are 64 servers on one file and
one store. Over HTTP all are clients of one `voicegw serve`, each with its session and keep-alive connections, and the other side is
`benchmarks/bare_http_server.py`: the SDK's own transports under the same uvicorn, without token, Host check and limits. Each client calls
again as soon as it is answered, for {ROUND_S:g} s; the calls and the no-op of the bare server take turns, in {MOST_ROUNDS} rounds at most after one that does
not count. All clients are one process on the same machine: where it uses nearly a whole CPU, the client is what was measured.
"""


def measure(run: Run) -> list[Figure]:
    """Return rates, p50, p95 and CPU of each call by the number of clients and the transport."""
    environment = run.environment_on(run.store(max(rows for rows in run.sizes if rows <= ROWS)))
    load = Load(COUNTS, CALLS, min(run.rounds, MOST_ROUNDS), ROUND_S)
    if run.short:
        load = Load(SHORT_COUNTS, CALLS, run.rounds, SHORT_ROUND_S)
    return by_table(
        [
            *stdio_load.measure_busy(run, environment, load),
            *http_load.measure_busy(run, environment, load),
        ]
    )
