"""Counts the calls that follow the log, so that no client takes the room of the others. Imports ``errors`` only."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Final

from voicegw_mcp.errors import InvalidInput, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Generator

MOST_OF_A_SESSION: Final = 50
MOST: Final = 2000
"""Of all sessions together."""


class Followers:
    """The calls that follow now, by session."""

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()

    def count(self) -> int:
        """Return how many there are now."""
        return self._count.total()

    @contextlib.contextmanager
    def joined(self, session: str) -> Generator[None]:
        """Count one call until the block is left.

        Args:
            session: what tells its client from the others.

        Raises:
            InvalidInput: field ``follow_seconds``: this client follows with as many calls as he may.
            StoreUnavailable: all clients together do.
        """
        goes_on = "next_cursor of an earlier call goes on without a gap."
        if self._count[session] >= MOST_OF_A_SESSION:
            raise InvalidInput(
                f"{MOST_OF_A_SESSION} calls of this session follow the log already.",
                field="follow_seconds",
                hint=f"Wait until one of them has answered, or look with follow_seconds=0: {goes_on}",
            )
        if self._count.total() >= MOST:
            raise StoreUnavailable(
                f"{MOST:,} calls follow the log already.",
                hint=f"Try again in a few seconds, or look with follow_seconds=0: {goes_on}",
                details={"reason": "followers"},
            )
        self._count[session] += 1
        try:
            yield
        finally:
            self._count[session] -= 1
            if not self._count[session]:
                del self._count[session]
