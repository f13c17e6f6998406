"""How many requests one process sends to a provider in a minute: any 60 s, not those of the clock. Imports nothing of ours.

Counted in memory and by process: an agent's jobs run in processes of their own, and none waits for another.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW_S: Final = 60.0


class RateLimits:
    """The requests of the last minute, by provider.

    Args:
        seconds: a clock that is never put back.
    """

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._sent: dict[str, deque[float]] = {}

    def take(self, provider: str, per_minute: int) -> float:
        """Count a request to a provider, unless ``per_minute`` were sent in the last 60 s.

        Returns:
            0 when it may be sent; else after how many seconds there is room again, and it is not counted.
        """
        now = self._seconds()
        with self._lock:
            sent = self._sent.setdefault(provider, deque())
            while sent and now - sent[0] >= WINDOW_S:
                sent.popleft()
            if len(sent) >= per_minute:
                # After a lowered limit more than one must have gone by.
                return WINDOW_S - (now - sent[len(sent) - per_minute])
            sent.append(now)
            return 0.0
