"""VoiceGateway in an environment of its own, and its store with the rows of one of ours.

It is installed from the package registry by name, makes its store itself, and is then given our rows by plain SQL: what is
measured of it is its own code on its own schema. Nothing here imports it.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import traffic
import yaml
from client import LineClient
from progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

INSTALL_S = 400.0
LEFTOVERS = ("", "-wal", "-shm", "-journal")
OWN_KEYS = ("timezone",)
OWN_PROJECT_KEYS = ("stt_model", "llm_model", "tts_model")
"""What voicegw.yaml of ours may say and theirs refuses."""

COLUMNS = {
    "id": "row.id",
    "timestamp": "row.timestamp_ms / 1000.0",
    "project": "series.project",
    "modality": "series.modality",
    "model_id": "series.model_id",
    "provider": "series.provider",
    "input_units": """CASE series.modality WHEN 'stt' THEN row.audio_ms / 60000.0
                                           WHEN 'tts' THEN row.characters ELSE row.input_tokens END""",
    "output_units": "row.output_tokens",
    "cached_input_units": "row.cached_tokens",
    "cost_usd": "row.cost_nanousd / 1e9",
    "pricing_source": "price.source || iif(price.dated = '', '', '@' || price.dated)",
    "ttfb_ms": "row.ttfb_us / 1000.0",
    "total_latency_ms": "row.total_us / 1000.0",
    "status": "row.status",
    "fallback_from": "row.fallback_from",
    "error_message": "row.error_message",
    "session_id": "row.session_id",
}
"""A column of theirs, and what of ours goes there: minutes of audio for STT, characters for TTS, tokens for LLM."""


@dataclass(frozen=True)
class Peer:
    """A version of VoiceGateway, and what pip is told so that ``voicegw mcp`` starts."""

    version: str
    requirements: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its name in the figures."""
        return f"voicegateway {self.version}"

    def install(self, folder: Path) -> Path:
        """Return its command; it is installed at the first call, and again when the requirements change.

        Raises:
            RuntimeError: pip did not install it; the end of what it said.
        """
        home = folder / f"voicegateway-{self.version}"
        command, done = home / "bin" / "voicegw", home / "installed.txt"
        wanted = f"Python {sys.version.split()[0]}\n" + "\n".join(self.requirements)
        if command.exists() and done.exists() and done.read_text(encoding="utf-8") == wanted:
            return command
        if home.exists():
            shutil.rmtree(home)
        with Progress(f"install {self.name}", 2) as progress:
            _run([sys.executable, "-m", "venv", str(home)])
            progress.step()
            pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            _run([*pip, "--disable-pip-version-check", *self.requirements])
        done.write_text(wanted, encoding="utf-8")
        return command

    def store_of(self, ours: Path, command: Path, scratch: Path) -> Path:
        """Return its store with the rows of ``ours``, beside that; it is filled at the first call.

        Args:
            ours: a store of ours that nobody writes to.
            command: its own, which makes the store.
            scratch: a folder for its configuration and standard error.
        """
        path = ours.with_name(f"{ours.stem}-voicegateway-{self.version}.db")
        if path.exists() and path.stat().st_mtime >= ours.stat().st_mtime:
            return path
        _remove(path)
        partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
        try:
            with Progress(f"fill the store of {self.name}", 2) as progress:
                with self.serve(command, partial, scratch) as client:
                    client.initialize()
                    ask(client, "get_costs", {"period": "all"})
                progress.step()
                copy_rows(ours, partial)
            partial.replace(path)
        finally:
            _remove(partial)
        return path

    def serve(self, command: Path, store: Path, scratch: Path) -> LineClient:
        """Spawn its MCP server over stdio on a store."""
        config = scratch / "voicegateway.yaml"
        config.write_text(configuration(), encoding="utf-8")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(scratch),
            "VOICEGW_CONFIG": str(config),
            "VOICEGW_DB_PATH": str(store),
        }
        return LineClient([str(command), "mcp"], environment, scratch / f"{self.version}-stderr.log")


PEERS = (
    # It asks for mcp>=1.2 and is written for the decorators of the low-level server, which mcp 2 no longer has.
    Peer("0.4.0", ("voicegateway[mcp]==0.4.0", "mcp<2")),
    # Its MCP server imports its web application (only the extra "dashboard" has what that needs), and that hands Query()
    # the argument "enum", which fastapi takes up to 0.154.
    Peer("0.27.0", ("voicegateway[dashboard]==0.27.0", "fastapi<0.155")),
)


def configuration() -> str:
    """Return the voicegw.yaml of the synthetic calls without what VoiceGateway refuses."""
    content: dict[str, Any] = yaml.safe_load(traffic.voicegw_yaml())
    for key in OWN_KEYS:
        content.pop(key, None)
    for project in content["projects"].values():
        for key in OWN_PROJECT_KEYS:
            project.pop(key, None)
    return yaml.safe_dump(content, sort_keys=False)


def copy_rows(ours: Path, theirs: Path) -> int:
    """Copy every row of a store of ours into an empty store that VoiceGateway made; return how many.

    A column that their version does not have yet is left out.

    Raises:
        RuntimeError: not every row arrived.
    """
    with closing(sqlite3.connect(theirs, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("ATTACH ? AS ours", (str(ours),))
        known = {name for _, name, *_ in connection.execute("PRAGMA main.table_info(requests)")}
        taken = {column: source for column, source in COLUMNS.items() if column in known}
        copied = connection.execute(
            f"INSERT INTO main.requests ({', '.join(taken)}) SELECT {', '.join(taken.values())} "  # noqa: S608 - names from above
            "FROM ours.requests AS row JOIN ours.series USING (series_id) JOIN ours.price USING (price_id) ORDER BY row.seq"
        ).rowcount
        (wanted,) = connection.execute("SELECT COUNT(*) FROM ours.requests").fetchone()
        if copied != wanted:
            raise RuntimeError(f"{copied} of {wanted} rows were copied")
        connection.execute("PRAGMA main.wal_checkpoint(TRUNCATE)")
        return copied


def ask(client: LineClient, tool: str, arguments: Mapping[str, Any]) -> Any:
    """Call a tool; return the JSON of its text block, which VoiceGateway and we both send.

    Raises:
        RuntimeError: the tool answered an error, of either's shape.
    """
    result = client.request("tools/call", {"name": tool, "arguments": arguments})
    text = result["content"][0]["text"]
    if result.get("isError"):
        raise RuntimeError(f"{tool}: {text[:500]}")
    answer = json.loads(text)
    if isinstance(answer, dict) and answer.keys() == {"error"}:
        raise RuntimeError(f"{tool}: {text[:500]}")
    return answer


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{' '.join(command[-2:])} did not end within {INSTALL_S:.0f} s") from error
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[-2:])}: {done.stderr.strip()[-800:]}")


def _remove(path: Path) -> None:
    for leftover in LEFTOVERS:
        path.with_name(path.name + leftover).unlink(missing_ok=True)
