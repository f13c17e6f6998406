"""The sessions of Streamable HTTP. When there are too many, the one that was idle longest is given up for a new one.

A client that dies without a DELETE leaves its session behind, and the SDK keeps it for its whole idle time. May import mcp
and anyio. Facts on mcp 2.3: the deadline of a session's ``idle_scope`` is infinite while a request is being served or a
stream is open, else the idle time after the last one; who is told that a session is gone opens another.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import anyio
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

if TYPE_CHECKING:
    from mcp.server.auth.middleware.bearer_auth import AuthorizationContext
    from mcp.server.lowlevel import Server
    from mcp.server.streamable_http import StreamableHTTPServerTransport

KEPT_S: Final = 60.0
"""How long a session is kept in any case after its last request."""

logger = logging.getLogger(__name__)


class Sessions(StreamableHTTPSessionManager):
    """The sessions of one server.

    Args:
        server: made once, shared by all sessions.
        most: open at the same time; one more is answered 503, unless an idle one can be given up.
        idle_s: after how many idle seconds a session is given up in any case.
    """

    def __init__(self, server: Server[dict[str, Any]], *, most: int, idle_s: float) -> None:
        super().__init__(server, max_sessions=most, session_idle_timeout=idle_s)
        self._most = most
        self._idle_s = idle_s

    def count(self) -> int:
        """Return how many sessions are open."""
        return len(self._server_instances)

    def _admit_session(self, requestor: AuthorizationContext | None) -> StreamableHTTPServerTransport | None:
        if len(self._server_instances) >= self._most:
            self._give_up_one()
        return super()._admit_session(requestor)

    def _give_up_one(self) -> None:
        earliest = anyio.current_time() + self._idle_s - KEPT_S
        idle = [
            (scope.deadline, session_id)
            for session_id, session in self._server_instances.items()
            if (scope := session.idle_scope) is not None and scope.deadline <= earliest
        ]
        if not idle:
            return
        _, session_id = min(idle)
        # It counts no more from now on; its task ends it, as it does when the idle time is over.
        session = self._server_instances.pop(session_id)
        self._session_owners.pop(session_id, None)
        if session.idle_scope is not None:
            session.idle_scope.cancel()
        logger.info("session %s was given up for a new one", session_id)
