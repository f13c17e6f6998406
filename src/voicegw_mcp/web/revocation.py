"""Ends open streams whose token was revoked, has expired, or allows something else than when they were opened.

A request is over before that matters; a stream may be open for days. May import ``errors``, ``web.identities`` and ``web.oauth``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from voicegw_mcp.errors import ServerUnreachable
from voicegw_mcp.web.oauth import InsufficientScope, TokenExpired

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from voicegw_mcp.web.identities import Identities, Identity

LOOK_EVERY_S: Final = 2.0
"""How often tokens of open streams are looked up again."""

logger = logging.getLogger(__name__)


class OpenStreams:
    """The open streams by who opened them, and the task that looks while there are any."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities
        self._open: defaultdict[tuple[bytes, Identity], set[Callable[[], None]]] = defaultdict(set)
        self._looking: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def watched(self, token: bytes, identity: Identity, end: Callable[[], None]) -> Generator[None]:
        """Call ``end`` as soon as ``token`` is no longer one of ``identity``, until the block is left."""
        key = (token, identity)
        self._open[key].add(end)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_on(), name="voicegw-revocation")
        try:
            yield
        finally:
            self._open[key].discard(end)
            if not self._open[key]:
                del self._open[key]
            if not self._open:
                self._looking.cancel()
                self._looking = None

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for token, identity in list(self._open):
                try:
                    if not await self._holds(token, identity):
                        for end in list(self._open.get((token, identity), ())):
                            end()
                except Exception:
                    logger.exception("looking up the token of an open stream failed")

    async def _holds(self, token: bytes, identity: Identity) -> bool:
        try:
            return await self._identities.identify(token) == identity
        except (TokenExpired, InsufficientScope):
            return False
        except ServerUnreachable:  # that says nothing about the token
            return True
