"""What an agent's session begins with: the size of tools/list, the cold start, and the memory of the server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from figures import Figure, ratios
from progress import Progress

if TYPE_CHECKING:
    from part import Run

TITLE = "Start and memory"
METHOD = """\
- Tokens: o200k, of compact JSON, as a host forwards the list to a model.
- Cold start: from spawning the process until tools/list is answered. CPU is that of all threads of the process until then.
- Peak memory: VmHWM after initialize, tools/list and one call (get_health, which reads the file and opens the store; no-op).
"""


def measure(run: Run) -> list[Figure]:
    """Return the figures of the start; it is the noisiest, so measured twice as often as other things."""
    wall: dict[str, list[float]] = {"ours": [], "bare": []}
    cpu: dict[str, list[float]] = {"ours": [], "bare": []}
    peak: dict[str, list[float]] = {"ours": [], "bare": []}
    turns = range(-1, 2 * run.rounds)  # turn -1 fills the caches and is thrown away
    with Progress("cold starts", len(turns)) as progress:
        for turn in turns:
            for which in ("ours", "bare") if turn % 2 else ("bare", "ours"):
                with run.ours() if which == "ours" else run.bare() as client:
                    client.initialize()
                    client.tools()
                    measured = client.elapsed_s() * 1000, client.cpu_s() * 1000
                    client.call("get_health" if which == "ours" else "noop", {})
                    if turn >= 0:
                        wall[which].append(measured[0])
                        cpu[which].append(measured[1])
                        peak[which].append(client.peak_mib())
            progress.step()
    return [
        *_tokens(run),
        Figure("cold start, voicegw-mcp", "ms", tuple(wall["ours"])),
        Figure("cold start, bare", "ms", tuple(wall["bare"])),
        Figure("cold start, ratio", "x", ratios(wall), bar=1.25),
        Figure("cold start CPU, voicegw-mcp", "ms", tuple(cpu["ours"])),
        Figure("cold start CPU, bare", "ms", tuple(cpu["bare"])),
        Figure("cold start CPU, ratio", "x", ratios(cpu)),
        Figure("peak memory, voicegw-mcp", "MiB", tuple(peak["ours"])),
        Figure("peak memory, bare", "MiB", tuple(peak["bare"])),
        Figure("peak memory, ratio", "x", ratios(peak), bar=1.3),
    ]


def _tokens(run: Run) -> list[Figure]:
    from bpe_openai import get_encoding  # noqa: PLC0415 - a test dependency

    encoding = get_encoding("o200k_base")
    with run.ours() as client:
        client.initialize()
        tools = client.tools()
    lean = ("name", "description", "inputSchema")
    return [
        Figure(name, "tokens", (float(len(encoding.encode(_compact(tools, fields)))),), bar=bar)
        for name, fields, bar in (
            ("tools/list", lean, 3000),
            ("tools/list with output schemas", (*lean, "outputSchema"), 6000),
        )
    ]


def _compact(tools: list[dict[str, object]], fields: tuple[str, ...]) -> str:
    return json.dumps([{name: tool[name] for name in fields} for tool in tools], separators=(",", ":"))
