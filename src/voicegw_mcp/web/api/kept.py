"""Keeps the answers of reports while nothing they are made of has changed: dashboards ask the same again and again.

What a report says hangs on its arguments, who asks, the file, the store and the present quarter hour, which windows end at.
Two ``stat`` tell whether the store was written to. A single new row makes every answer void; parts of reports then still
hold (``store.part_cache``). May import ``core``, ``domain`` and ``store``.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from voicegw_mcp.domain import QUARTER_MS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from voicegw_mcp.core.access import Access
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.store.sqlite import Stamp

MOST: Final = 128
"""Answers that are kept; one has at most 64 KB."""


class _State(NamedTuple):
    """What else an answer is made of."""

    version: str
    path: str
    stamp: Stamp
    quarter: int


class KeptAnswers:
    """The answers that were asked for last."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str, frozenset[tuple[str, str]], Access], tuple[_State, bytes]] = (
            OrderedDict()
        )

    async def get(
        self, gateway: Gateway, path: str, given: Mapping[str, str], make: Callable[[], Awaitable[bytes]]
    ) -> bytes:
        """Return the answer to a request, as it is now.

        Args:
            gateway: as its caller may see it.
            path: what is asked, and
            given: with which parameters.
            make: makes the answer.

        Raises:
            GatewayError: what ``make`` raises, or the file or the store cannot be read.
        """
        version = gateway.catalog().configuration.version
        store = await gateway.store_handle.sound()
        # Looked at before it is read: what is written meanwhile is then another state.
        state = _State(version, str(store.path), store.stamp(), gateway.now_ms() // QUARTER_MS)
        key = (path, frozenset(given.items()), gateway.caller.access)
        kept = self._answers.get(key)
        if kept is not None and kept[0] == state:
            self._answers.move_to_end(key)
            return kept[1]
        body = await make()
        if state.stamp.is_settled():
            self._answers[key] = state, body
            if len(self._answers) > MOST:
                self._answers.popitem(last=False)
        return body
