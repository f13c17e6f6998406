"""What a part of the benchmark is, and what it is given.

A part is a module of this folder with

* ``TITLE``: the heading of its section in ``docs/performance.md``;
* ``METHOD``: Markdown that says how it is measured;
* ``measure(run) -> list[Figure]``.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import traffic
from client import LineClient
from stores import kept_store, make_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from figures import Figure

OURS = (str(Path(sys.executable).with_name("voicegw-mcp")),)
BARE = (sys.executable, str(Path(__file__).with_name("bare_server.py")))
KEYS = {f"{provider.upper()}_API_KEY": "fake-key-0001" for provider in traffic.PROVIDERS}
PROVIDERS = """\
providers:
  openai:
    api_key: ${OPENAI_API_KEY}
"""


@dataclass(frozen=True)
class Run:
    """One run of one part.

    Args:
        folder: empty, and removed afterwards.
        rounds: how often each thing is measured.
        sizes: rows of the stores that tools are measured on, smallest first.
        kept: where filled stores are kept.
        short: make do with as few calls as give a figure.
    """

    folder: Path
    rounds: int
    sizes: tuple[int, ...]
    kept: Path
    short: bool = False
    _stores: dict[int, Path] = field(default_factory=dict)

    @cached_property
    def environment(self) -> dict[str, str]:
        """Of servers on a scratch gateway in ``folder``: the starter file with one provider, and no store yet."""
        starter = files("voicegw_mcp.cli").joinpath("starter.yaml").read_text(encoding="utf-8")
        file = self.folder / "voicegw.yaml"
        file.write_text(starter.replace("providers: {}\n", PROVIDERS), encoding="utf-8")
        return self._environment(file, self.folder / "voicegw.db")

    def store(self, rows: int) -> Path:
        """Return a store with so many rows of ``traffic``."""
        if rows not in self._stores:
            if rows:
                self._stores[rows] = kept_store(rows, self.kept)
            else:
                self._stores[rows] = self.folder / "empty" / "voicegw.db"
                make_store(self._stores[rows], 0)
        return self._stores[rows]

    def environment_on(self, store: Path) -> dict[str, str]:
        """Return that of servers on a store that ``store`` gave, and the file that fits."""
        return self._environment(store.with_name("voicegw.yaml"), store)

    def ours(self, environment: Mapping[str, str] | None = None) -> LineClient:
        """Spawn voicegw-mcp, on the scratch gateway unless an environment says where."""
        return LineClient(OURS, environment or self.environment, self.folder / "stderr.log")

    def bare(self) -> LineClient:
        """Spawn the bare server."""
        return LineClient(BARE, self.environment, self.folder / "stderr.log")

    def _environment(self, file: Path, store: Path) -> dict[str, str]:
        return {
            **os.environ,
            **KEYS,
            "HOME": str(self.folder),
            "VOICEGW_CONFIG": str(file),
            "VOICEGW_DB_PATH": str(store),
        }


class Part(Protocol):
    """The shape of such a module."""

    TITLE: str
    METHOD: str

    def measure(self, run: Run) -> list[Figure]:
        """Measure."""
        ...


def rows_text(rows: int) -> str:
    """Return a number of rows as tables show it."""
    if rows and rows % 1_000_000 == 0:
        return f"{rows // 1_000_000} M"
    return f"{rows // 1000} k" if rows and rows % 1000 == 0 else f"{rows}"
