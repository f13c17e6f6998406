"""Measure voicegw-mcp against ``bare_server.py``: cold start, memory, calls, changes, size of tools/list.

    python benchmarks/run.py                 # a table
    python benchmarks/run.py --json          # the same as JSON
    python benchmarks/run.py --write-docs    # docs/performance.md as well
    python benchmarks/run.py --check         # exit code 1 when a bar is missed

Both servers run in turns within one run, and what is judged is the median of the ratios of neighbours: a machine that
gets slower meanwhile slows both. Linux only, for /proc. Run it on a quiet machine; the load is told with the figures.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import edits
import http_load
import recorder
from client import LineClient
from figures import HEADER, Figure, ratios, table

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "performance.md"
OURS = [str(Path(sys.executable).with_name("voicegw-mcp"))]
BARE = [sys.executable, str(Path(__file__).with_name("bare_server.py"))]
PARTS = ("size", "starts", "calls", "changes", "edits", "recorder", "http")
KEY = "fake-key-0001"
CALLS, BLOCK, WARM_UP = 500, 20, 40
PROVIDERS = """\
providers:
  openai:
    api_key: ${OPENAI_API_KEY}
"""


class Bench:
    """One run: a scratch gateway, and the two servers on it."""

    def __init__(self, folder: Path, rounds: int) -> None:
        self.rounds = rounds
        self._folder = folder
        self._errors = folder / "stderr.log"
        self._environment = {
            **os.environ,
            "HOME": str(folder),
            "VOICEGW_CONFIG": str(folder / "voicegw.yaml"),
            "VOICEGW_DB_PATH": str(folder / "voicegw.db"),
            "OPENAI_API_KEY": KEY,
        }
        starter = files("voicegw_mcp.cli").joinpath("starter.yaml").read_text(encoding="utf-8")
        (folder / "voicegw.yaml").write_text(starter.replace("providers: {}\n", PROVIDERS), encoding="utf-8")

    def ours(self) -> LineClient:
        """Spawn voicegw-mcp on the scratch gateway."""
        return LineClient(OURS, self._environment, self._errors)

    def bare(self) -> LineClient:
        """Spawn the bare server in the same environment."""
        return LineClient(BARE, self._environment, self._errors)

    def starts(self) -> list[Figure]:
        """Cold start until tools/list is answered, then peak memory after one call."""
        wall: dict[str, list[float]] = {"ours": [], "bare": []}
        cpu: dict[str, list[float]] = {"ours": [], "bare": []}
        peak: dict[str, list[float]] = {"ours": [], "bare": []}
        for turn in range(
            -1, 2 * self.rounds
        ):  # the noisiest figure, so twice as often; turn -1 fills the caches and is thrown away
            for which in ("ours", "bare") if turn % 2 else ("bare", "ours"):
                with self.ours() if which == "ours" else self.bare() as client:
                    client.initialize()
                    client.tools()
                    measured = client.elapsed_s() * 1000, client.cpu_s() * 1000
                    client.call("get_health" if which == "ours" else "noop", {})
                    if turn >= 0:
                        wall[which].append(measured[0])
                        cpu[which].append(measured[1])
                        peak[which].append(client.peak_mib())
        return [
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

    def calls(self) -> list[Figure]:
        """The median of 500 calls of get_health and of the no-op, in turns of 20."""
        medians: dict[str, list[float]] = {"ours": [], "bare": []}
        for _ in range(self.rounds):
            with self.ours() as ours, self.bare() as bare:
                took: dict[str, list[float]] = {"ours": [], "bare": []}
                for client in (ours, bare):
                    client.initialize()
                _time_calls(ours, "get_health", WARM_UP)
                _time_calls(bare, "noop", WARM_UP)
                for _ in range(CALLS // BLOCK):
                    took["ours"] += _time_calls(ours, "get_health", BLOCK)
                    took["bare"] += _time_calls(bare, "noop", BLOCK)
            for which, times in took.items():
                medians[which].append(statistics.median(times))
        return [
            Figure("get_health p50", "ms", tuple(medians["ours"])),
            Figure("no-op call p50, bare", "ms", tuple(medians["bare"])),
            Figure("get_health p50, ratio", "x", ratios(medians), bar=1.5),
        ]

    def changes(self, pairs: int = 50) -> list[Figure]:
        """Pairs of register_model and delete_model per second: each is durable in file and journal when answered."""
        rates: list[float] = []
        floors: list[float] = []
        with self.ours() as client, closing(edits.Floor(self._folder, "x" * 2000)) as floor:
            client.initialize()
            for turn in range(-1, self.rounds):
                began = time.perf_counter()
                for number in range(pairs):
                    self._pair(client, number)
                between = time.perf_counter()
                floor.run(2 * pairs)
                ended = time.perf_counter()
                if turn >= 0:
                    rates.append(pairs / (between - began))
                    floors.append(pairs / (ended - between))
        return [
            Figure("register_model + delete_model", "pairs/s", tuple(rates), bar=80, at_least=True),
            Figure("the same durable writes, nothing else", "pairs/s", tuple(floors)),
        ]

    def edits(self) -> list[Figure]:
        """One durable change in process, against its own syncs, and by the length of the file."""
        return edits.measure(self._folder, self.rounds)

    def recorder(self) -> list[Figure]:
        """What recording costs an agent, and how many rows a second get into the store."""
        return recorder.measure(self._folder, self.rounds)

    def http(self) -> list[Figure]:
        """Idle sessions and 64 clients at once over HTTP."""
        return http_load.measure(self._folder, self._environment, self.rounds)

    @staticmethod
    def _pair(client: LineClient, number: int) -> None:
        name = f"gpt-4.1-mini-{number}"
        client.call("register_model", {"modality": "llm", "provider_id": "openai", "model_name": name})
        client.call("delete_model", {"model_id": f"openai/{name}", "confirm": True})

    def size(self) -> list[Figure]:
        """Tokens of tools/list (o200k), as a host forwards it to a model."""
        from bpe_openai import get_encoding  # noqa: PLC0415 - a test dependency

        encoding = get_encoding("o200k_base")
        with self.ours() as client:
            client.initialize()
            tools = client.tools()
        lean = [{key: tool[key] for key in ("name", "description", "inputSchema")} for tool in tools]
        whole = [
            {key: tool[key] for key in ("name", "description", "inputSchema", "outputSchema")}
            for tool in tools
        ]
        return [
            Figure(
                name,
                "tokens",
                (float(len(encoding.encode(json.dumps(part, separators=(",", ":"))))),),
                bar=bar,
            )
            for name, part, bar in (
                ("tools/list", lean, 3000),
                ("tools/list with output schemas", whole, 6000),
            )
        ]


def _time_calls(client: LineClient, tool: str, count: int) -> list[float]:
    took: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        client.call(tool, {})
        took.append((time.perf_counter() - began) * 1000)
    return took


def circumstances(rounds: int) -> dict[str, str]:
    """Return when, of what and on what machine the figures are."""
    versions = {
        name: importlib.metadata.version(name) for name in ("voicegw-mcp", "mcp", "pydantic", "anyio")
    }
    cpus = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = cpus[0].partition(":")[2].strip() if cpus else platform.machine()
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "machine": f"{os.cpu_count()} x {model}, {platform.system()} {platform.release()}",
        "load average at the start": f"{os.getloadavg()[0]:.2f}",
        "versions": ", ".join(
            [
                f"Python {platform.python_version()}",
                *(f"{name} {number}" for name, number in versions.items()),
            ]
        ),
        "rounds": str(rounds),
    }


def _commit() -> str:
    try:
        told = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()


def document(facts: dict[str, str], figures: Iterable[Figure]) -> str:
    rows = "\n".join("| " + " | ".join(figure.cells()) + " |" for figure in figures)
    told = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    return f"""# Performance

Written by `python benchmarks/run.py --write-docs`; do not edit. `make bench` measures again and shows the figures.

{told}

| {" | ".join(HEADER)} |
| --- | --- | ---: | ---: | ---: | --- | --- |
{rows}

## How it is measured

Ours is the installed command `voicegw-mcp` on the starter file with one provider; the other is `benchmarks/bare_server.py`,
a low-level server on the same SDK over the same transport with one tool that does nothing. The client is the same for both:
JSON-RPC lines over pipes, with the `initialize` handshake. The two take turns within one run, and a ratio is that of
neighbours, so that a machine which gets slower or faster meanwhile changes both. Bars are judged on medians.

- Cold start: from spawning the process until tools/list is answered. CPU is that of all threads of the process until then.
- Peak memory: VmHWM after initialize, tools/list and one call (get_health, which reads the file and opens the store; no-op).
- p50: the median of {CALLS} calls after {WARM_UP} that are not counted.
- Pairs: each register_model and delete_model is one change, durable in the file and in the journal when it is answered.
  Three syncs of the disk each; the line below tells how fast this disk does just those, in turns with ours.
- One change: a project added or deleted in process, journal row, file and folder synced, in turns with the same syncs alone
  (a row of the same size into a store like ours, a file of the same size put in place). By length: the same on VoiceGateway's example
  file with projects added until it has that many lines; the bar is twice the short one's time plus {edits.ALLOWANCE_MS} ms.
- Recorder: rows handed to it as fast as it takes them, against the same rows put into one bare table by executemany.
- Idle sessions: {http_load.SESSIONS:,} clients open an event stream, shake hands and stay silent; memory is VmRSS once it stays the same, of a
  server that never had so many before ({http_load.SERVERS} servers). Then all connections are reset at once, {http_load.CYCLES} times on each server. What is
  left per session is the growth from the first of these times to the last. p50 is that of {http_load.CALLS} calls of another session over
  the same transport, before, with and after them. Over /mcp the clients then also send DELETE: a session waits for its client
  half an hour otherwise.
- {http_load.CLIENTS} clients: each one session and its keep-alive connections, calling as fast as it is answered for {http_load.ROUND_S:g} s, in turns with
  `benchmarks/bare_http_server.py`: the SDK's own transports under the same uvicorn, without token, Host check and limits. The client is one
  process, and far from busy.
- Tokens: o200k, of compact JSON.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure voicegw-mcp against a bare server on the same SDK.")
    parser.add_argument(
        "--rounds", type=int, default=9, help="how often each thing is measured (9; at least 3)"
    )
    parser.add_argument(
        "--only",
        action="extend",
        choices=PARTS,
        nargs="+",
        help="measure only this",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bar is missed")
    parser.add_argument("--write-docs", action="store_true", help=f"write {DOCUMENT.relative_to(ROOT)}")
    options = parser.parse_args()
    rounds = max(3, options.rounds)
    facts, figures = circumstances(rounds), []
    for part in PARTS:
        if options.only and part not in options.only:
            continue
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="voicegw-bench-")))
            figures += getattr(Bench(folder, rounds), part)()
    if options.json:
        shown: list[dict[str, Any]] = [
            {**asdict(item), "median": item.median, "holds": item.holds} for item in figures
        ]
        print(json.dumps({**facts, "figures": shown}, indent=2))
    else:
        print("\n".join(f"{name}: {value}" for name, value in facts.items()), table(figures), sep="\n\n")
    if options.write_docs:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(document(facts, figures), encoding="utf-8")
    return 1 if options.check and any(item.holds is False for item in figures) else 0


if __name__ == "__main__":
    raise SystemExit(main())
