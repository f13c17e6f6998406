"""A progress bar on standard error: on a terminal one line that is drawn again, elsewhere a line every ten seconds."""

from __future__ import annotations

import sys
import time
from typing import Self

WIDTH = 30
DRAWN_EVERY_S = 0.2
TOLD_EVERY_S = 10.0


class Progress:
    """What is done of ``total`` steps of something named ``title``."""

    def __init__(self, title: str, total: int) -> None:
        self._title = title
        self._total = total
        self._done = 0
        self._began = time.monotonic()
        self._drawn = 0.0
        self._alive = sys.stderr.isatty()

    def __enter__(self) -> Self:
        self._draw()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._done = self._total
        self._draw()
        if self._alive:
            sys.stderr.write("\n")

    def step(self) -> None:
        """One more is done."""
        self.reach(self._done + 1)

    def reach(self, done: int) -> None:
        """So many are done."""
        self._done = done
        if time.monotonic() - self._drawn >= (DRAWN_EVERY_S if self._alive else TOLD_EVERY_S):
            self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        share = self._done / max(1, self._total)
        bar = "#" * round(share * WIDTH)
        text = f"{self._title}: [{bar:<{WIDTH}}] {share:4.0%}  {self._drawn - self._began:.0f} s"
        sys.stderr.write(f"\r{text}\x1b[K" if self._alive else f"{text}\n")
        sys.stderr.flush()
