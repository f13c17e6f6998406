"""Keeps the answers of reports while nothing they are made of has changed: dashboards ask the same again and again.

What a report says hangs on its arguments, who asks, the file, the store and the present quarter hour, which windows end at.
SQLite tells whether the store was written to. A single new row makes every answer void; parts of reports then still
hold (``store.part_cache``), and who asks while an answer of the same state is made shares it: however many ask, an answer is
made once between two commits. May import ``core``, ``domain`` and ``store``.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from voicegw_mcp.domain import QUARTER_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from voicegw_mcp.core.access import Access
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.store.sqlite import Store

MOST: Final = 128
"""Answers that are kept; one has at most 64 KB."""


class _Asked(NamedTuple):
    """What an answer is to."""

    path: str
    given: frozenset[tuple[str, str]]
    access: Access


class _State(NamedTuple):
    """What else an answer is made of."""

    configuration: str
    store: Store
    version: int
    quarter: int


class _Making:
    """An answer that is being made, in a task of its own: who asked first may leave before the others."""

    def __init__(self, state: _State, answer: Coroutine[Any, Any, bytes]) -> None:
        self.state = state
        self.task = asyncio.create_task(answer)
        self.waiting = 0


class KeptAnswers:
    """The answers that were asked for last, and those that are being made."""

    def __init__(self) -> None:
        self._answers: OrderedDict[_Asked, tuple[_State, bytes]] = OrderedDict()
        self._making: dict[_Asked, _Making] = {}

    async def get(
        self,
        gateway: Gateway,
        path: str,
        given: Mapping[str, str],
        make: Callable[[], Coroutine[Any, Any, bytes]],
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
        # Looked at before anything is read: what is written meanwhile is then another state.
        state = await _state(gateway)
        if state is None:
            return await make()
        asked = _Asked(path, frozenset(given.items()), gateway.caller.access)
        kept = self._answers.get(asked)
        if kept is not None and kept[0] == state:
            self._answers.move_to_end(asked)
            return kept[1]
        making = self._making.get(asked)
        if making is None or making.state != state:
            making = self._making[asked] = _Making(state, make())
        return await self._wait(asked, making)

    async def _wait(self, asked: _Asked, making: _Making) -> bytes:
        """Return what is being made, and keep it unless another state is asked for by now; stop it when nobody waits any more."""
        making.waiting += 1
        try:
            body = await asyncio.shield(making.task)
            if self._making.get(asked) is making:
                self._keep(asked, making.state, body)
        finally:
            making.waiting -= 1
            if not making.waiting:
                making.task.cancel()  # of no effect behind its end
                if self._making.get(asked) is making:
                    del self._making[asked]
        return body

    def _keep(self, asked: _Asked, state: _State, body: bytes) -> None:
        self._answers[asked] = state, body
        self._answers.move_to_end(asked)
        if len(self._answers) > MOST:
            self._answers.popitem(last=False)


async def _state(gateway: Gateway) -> _State | None:
    """Return the present state, None when the store does not tell its own."""
    store = await gateway.store_handle.sound()
    version = await store.version()
    if version is None:
        return None
    configuration = gateway.catalog().configuration.version
    return _State(configuration, store, version, gateway.now_ms() // QUARTER_MS)
