"""Changes of voicegw.yaml: pairs of register_model and delete_model over stdio, and one change in process."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

import edits
from figures import Figure
from progress import Progress

if TYPE_CHECKING:
    from client import LineClient
    from part import Run

PAIRS = 50

TITLE = "Changes"
METHOD = f"""\
- Pairs: each register_model and delete_model is one change, durable in the file and in the journal when it is answered.
  Three syncs of the disk each; the line below tells how fast this disk does just those, in turns with ours.
- One change: a project added or deleted in process, journal row, file and folder synced, in turns with the same syncs alone
  (a row of the same size into a store like ours, a file of the same size put in place). By length: the same on VoiceGateway's example
  file with projects added until it has that many lines; the bar is twice the short one's time plus {edits.ALLOWANCE_MS} ms.
"""


def measure(run: Run) -> list[Figure]:
    """Return pairs per second, and what one change takes in process."""
    rates: list[float] = []
    floors: list[float] = []
    with (
        run.ours() as client,
        closing(edits.Floor(run.folder, "x" * 2000)) as floor,
        Progress("pairs of changes", run.rounds + 1) as progress,
    ):
        client.initialize()
        for turn in range(-1, run.rounds):
            began = time.perf_counter()
            for number in range(PAIRS):
                _pair(client, number)
            between = time.perf_counter()
            floor.run(2 * PAIRS)
            ended = time.perf_counter()
            if turn >= 0:
                rates.append(PAIRS / (between - began))
                floors.append(PAIRS / (ended - between))
            progress.step()
    return [
        Figure("register_model + delete_model", "pairs/s", tuple(rates), bar=80, at_least=True),
        Figure("the same durable writes, nothing else", "pairs/s", tuple(floors)),
        *edits.measure(run.folder, run.rounds),
    ]


def _pair(client: LineClient, number: int) -> None:
    name = f"gpt-4.1-mini-{number}"
    client.call("register_model", {"modality": "llm", "provider_id": "openai", "model_name": name})
    client.call("delete_model", {"model_id": f"openai/{name}", "confirm": True})
