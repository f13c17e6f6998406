"""A look at the files four times a second, in a thread of its own: what is configured is known before a request asks.

A request would pay for it otherwise: three looks at files take longer than all else that is done before it is sent, a file system
may not answer for seconds, and a file of 500 projects is read and checked for 30 ms. Imports nothing of this program.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicegw_mcp.core.catalog import Catalog

LOOK_EVERY_S: Final = 0.25
"""A change of a file holds for requests that begin so much later, and as long as it takes to read it."""


class Watch:
    """What is configured, as it was at the last look.

    Args:
        look: looks at the files and returns what is configured, in whatever thread.

    Raises:
        Exception: what the first look raises.
    """

    def __init__(self, look: Callable[[], Catalog]) -> None:
        self._look = look
        self._looking = threading.Lock()
        self._ended = threading.Event()
        self.catalog = look()

    def start(self) -> None:
        """Begin the thread.

        Raises:
            RuntimeError: there is none to be had.
        """
        threading.Thread(target=self._work, name="voicegw-config-watch", daemon=True).start()

    def look(self) -> Catalog:
        """Look now, and let it hold from now on; of several threads that look the last one has the newest.

        Raises:
            Exception: what the look raises; what was known holds on.
        """
        with self._looking:
            self.catalog = self._look()
            return self.catalog

    def end(self) -> None:
        """End the thread; it is not waited for."""
        self._ended.set()

    def _work(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            # Whoever asks for a look himself is told; what is known of a file that is gone or broken goes on to hold.
            with contextlib.suppress(Exception):
                self.look()
