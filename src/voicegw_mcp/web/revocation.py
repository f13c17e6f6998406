"""Ends what is open once its token was revoked, has expired, or allows something else than when it was opened.

Most requests are over before that matters; a stream may be open for days, a call may follow the log or wait for a person.
May import ``errors``, ``web.identities`` and ``web.oauth``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from voicegw_mcp.errors import Forbidden, ServerUnreachable
from voicegw_mcp.web.oauth import TokenExpired

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicegw_mcp.web.identities import Identities, Identity

LOOK_EVERY_S: Final = 2.0
"""How often the tokens of what is open are looked up again."""

logger = logging.getLogger(__name__)


class OpenRequests:
    """What is open, and the task that looks while anything is.

    Args:
        identities: knows the tokens as they are now.
    """

    def __init__(self, identities: Identities) -> None:
        self._identities = identities
        self._open: dict[Standing, Callable[[], None]] = {}
        self._looking: asyncio.Task[None] | None = None

    def begin(self, standing: Standing, end: Callable[[], None]) -> None:
        """Call ``end`` as soon as a request's token is no longer what it was, unless it is ``over`` before."""
        self._open[standing] = end
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_on(), name="voicegw-revocation")

    def over(self, standing: Standing) -> None:
        """Look no more after a request."""
        self._open.pop(standing, None)

    async def require(self, token: bytes | None, identity: Identity | None) -> None:
        """Refuse when ``token`` is no longer one of ``identity``; without one, when one is asked for now.

        Raises:
            Forbidden: what was allowed is not any more, or something else is.
            ServerUnreachable: an access token cannot be checked now.
        """
        if token is None:
            if self._identities.any_configured():
                raise _no_longer("A token came to be asked for")
            return
        try:
            now = await self._identities.identify(token)
        except TokenExpired:
            raise _no_longer("The token expired") from None
        if now != identity:
            raise _no_longer("The token was revoked" if now is None else "What the token may do was changed")

    async def _look_on(self) -> None:
        # Calls come and go: a task for each would cost more than a look that finds nothing.
        while self._open:
            await asyncio.sleep(LOOK_EVERY_S)
            callers: defaultdict[tuple[bytes | None, Identity | None], list[Standing]] = defaultdict(list)
            for standing in self._open:
                callers[standing.token, standing.identity].append(standing)
            for (token, identity), theirs in callers.items():
                try:
                    await self.require(token, identity)
                except Forbidden as refusal:
                    self._end(theirs, refusal)
                except ServerUnreachable as error:  # that says nothing about the token
                    logger.info("a token cannot be looked up: %s", error.message)
                except Exception:
                    logger.exception("looking up the token of an open request failed")
        self._looking = None

    def _end(self, ended: list[Standing], refusal: Forbidden) -> None:
        for standing in ended:
            end = self._open.pop(standing, None)
            if end is not None:
                standing.refusal = refusal
                end()


class Standing:
    """Who a request came from, and whether that still holds: what takes long has to ask.

    ``refusal`` is why the request was ended before its time, None while it was not.
    """

    __slots__ = ("_requests", "identity", "refusal", "token")

    def __init__(self, requests: OpenRequests, token: bytes | None, identity: Identity | None) -> None:
        self._requests = requests
        self.token = token
        self.identity = identity
        self.refusal: Forbidden | None = None

    def begin(self, end: Callable[[], None]) -> None:
        """Call ``end`` as soon as the token is no longer what it was, unless the request is ``over`` before."""
        self._requests.begin(self, end)

    def over(self) -> None:
        """Tell that the request has ended."""
        self._requests.over(self)

    async def require(self) -> None:
        """Refuse what was allowed when the request came, and is not any more.

        Raises:
            Forbidden, ServerUnreachable: as ``OpenRequests.require``.
        """
        await self._requests.require(self.token, self.identity)


def _no_longer(why: str) -> Forbidden:
    return Forbidden(
        f"{why}, while this call was running.",
        hint="Repeat the call with a token that may. A change that had begun by then was finished: read before you write.",
        details={"reason": "token"},
    )
