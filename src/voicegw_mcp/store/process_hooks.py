"""Hooks into forks and into the end of a child, for what must not outlive its owner or be left out there. Imports nothing of ours."""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def call_weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls a method as long as its object is alive: fork hooks cannot be taken back."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    return call


def at_exit_of_child(close: Callable[[], object]) -> None:
    """Call ``close`` at the end of a ``multiprocessing`` child: it leaves by os._exit and without ``atexit``."""
    if "multiprocessing.process" in sys.modules:
        from multiprocessing import parent_process, util  # noqa: PLC0415 - only where it is loaded already

        if parent_process() is not None:
            util.Finalize(None, close, exitpriority=-100)
