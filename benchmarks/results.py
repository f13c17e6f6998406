"""What a run found, with when, of what and on what machine: written as JSON, read again for the page."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import sqlite3
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Result:
    """What one part found. ``facts`` are the circumstances, ``seconds`` how long it took."""

    facts: dict[str, str]
    seconds: float
    figures: list[Figure]


def circumstances(rounds: int) -> dict[str, str]:
    """Return when, of what and on what machine figures are."""
    versions = {
        name: importlib.metadata.version(name) for name in ("voicegw-mcp", "mcp", "pydantic", "anyio")
    }
    cpus = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = cpus[0].partition(":")[2].strip() if cpus else platform.machine()
    told = [f"Python {platform.python_version()}", f"SQLite {sqlite3.sqlite_version}"]
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "machine": f"{os.cpu_count()} x {model}, {platform.system()} {platform.release()}",
        "load average at the start": f"{os.getloadavg()[0]:.2f}",
        "versions": ", ".join([*told, *(f"{name} {number}" for name, number in versions.items())]),
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


def to_json(results: Mapping[str, Result]) -> str:
    """Return results as JSON, by part; each figure also with its median and whether its bar holds."""
    shown = {
        name: {
            "facts": result.facts,
            "seconds": round(result.seconds, 1),
            "figures": [_shown(figure) for figure in result.figures],
        }
        for name, result in results.items()
    }
    return json.dumps(shown, indent=1)


def _shown(figure: Figure) -> dict[str, Any]:
    return {
        **asdict(figure),
        "median": figure.median,
        "holds": figure.holds,
    }


def from_json(text: str) -> dict[str, Result]:
    """Return what ``to_json`` wrote."""
    return {
        name: Result(part["facts"], part["seconds"], [_figure(figure) for figure in part["figures"]])
        for name, part in json.loads(text).items()
    }


def _figure(shown: dict[str, Any]) -> Figure:
    fields = {name: value for name, value in shown.items() if name not in {"median", "holds"}}
    return Figure(**{**fields, "values": tuple(fields["values"])})
