"""Hooks into forks, SIGTERM and the end of a child, for what must not outlive its owner or be left out there.

Imports nothing of ours.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import weakref
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

Handler: TypeAlias = "Callable[[int, FrameType | None], object] | int | None"


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


class AtSigterm:
    """Lets what is waiting be written at a SIGTERM, before the program does what it did before.

    A program that ignores SIGTERM is left alone. To be made in the main thread.

    Args:
        flush: writes what is waiting; called where a handler of the program's own follows.
        before_end: may add more; called where the process ends at once.
        close: writes everything; called after that.
    """

    def __init__(
        self, flush: Callable[[], object], before_end: Callable[[], object], close: Callable[[], object]
    ) -> None:
        self._flush, self._before_end, self._close = flush, before_end, close
        self._previous: Handler = signal.getsignal(signal.SIGTERM)
        # None: set by something that is not Python and cannot be called.
        self._taken = self._previous is not None and self._previous != signal.SIG_IGN
        if self._taken:
            signal.signal(signal.SIGTERM, self._handle)

    def leave(self) -> None:
        """Let SIGTERM do what it did before; a handler that came later stays, and so does this one when asked in another thread."""
        if (
            self._taken
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) == self._handle
        ):
            signal.signal(signal.SIGTERM, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        chain: list[AtSigterm] = [self]
        previous = self._previous
        # One that was there before may be closed already; all of them know together what SIGTERM does to the program.
        while isinstance(before := getattr(previous, "__self__", None), AtSigterm):
            chain.append(before)
            previous = before._previous  # noqa: SLF001 - of its own class
        if callable(previous):
            # The program ends as it sees fit and may record more meanwhile; or at once, so the queue comes first.
            for each in chain:
                each._flush()  # noqa: SLF001 - likewise
            previous(number, frame)
        else:
            for each in chain:
                each._before_end()  # noqa: SLF001 - likewise
            for each in chain:
                each._close()  # noqa: SLF001 - likewise
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
