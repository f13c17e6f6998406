"""Remembers settled parts of reports: sums of hours that nobody writes to any more are read once.

What was written to since is told by the table ``touched``: triggers give each hour, and each span of eight days, a new
random number whenever one of its cells changes, whichever process of whichever version changes it. The sum of the
numbers of a part's hours is its signature; the part holds as long as that is the same. Imports nothing of ours.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import sqlite3

MOST_WEIGHT: Final = 40_000
"""What is remembered of all parts together, in units of half a kilobyte."""

MISSING: Final[Any] = object()


_TOUCH_ALL: Final = """
INSERT INTO touched (grain_s, bucket_ms, stamp)
SELECT DISTINCT grain_s, bucket_ms, 0 FROM rollup WHERE grain_s IN (3600, 691200)
ON CONFLICT (grain_s, bucket_ms) DO NOTHING
"""


def touch_all(connection: sqlite3.Connection) -> None:
    """Say of everything that it was written to: what is remembered of it holds no more."""
    connection.execute(_TOUCH_ALL)
    connection.execute("UPDATE touched SET stamp = random() & 281474976710655")


class _Kept(NamedTuple):
    signature: int
    value: Any
    weight: int


class PartCache:
    """The values of parts, the ones used last. ``MISSING`` stands for one that is not there or no longer holds.

    Threads of several connections share it.
    ``watched`` says whether the triggers are what they should be, None before that was looked at.
    """

    def __init__(self, most_weight: int = MOST_WEIGHT) -> None:
        self._most_weight = most_weight
        self._lock = Lock()
        self._weight = 0
        self.watched: bool | None = None
        self._kept: OrderedDict[Any, _Kept] = OrderedDict()

    def get(self, key: Any, signature: int) -> Any:
        """Return the value of a part, if its signature is still this one."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or kept.signature != signature:
                return MISSING
            self._kept.move_to_end(key)
            return kept.value

    def put(self, key: Any, signature: int, value: Any, weight: int) -> None:
        """Remember a value, unless it takes half of all there is; what was not used for longest goes for it."""
        with self._lock:
            self._drop(key)
            if weight > self._most_weight // 2:
                return
            self._kept[key] = _Kept(signature, value, weight)
            self._weight += weight
            while self._weight > self._most_weight:
                self._drop(next(iter(self._kept)))

    def _drop(self, key: Any) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._weight -= kept.weight
