"""What every HTTP request passes before a route sees it: Host, Origin, lockout, token, size.

One place, in front of all routes; only ``/health``, the dashboard's files, and what tells where tokens come from, need no token. Plain ASGI, because Starlette's middleware wraps streams.
May import Starlette, ``transports``, ``web``, ``errors``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from starlette.responses import JSONResponse

from voicegw_mcp.errors import Forbidden, InvalidInput, ServerUnreachable
from voicegw_mcp.server import IDENTITY, STANDING
from voicegw_mcp.transports.connections import BODY_IS_THERE
from voicegw_mcp.transports.http import LET_GO, MAX_BODY_BYTES, bind_session
from voicegw_mcp.web.oauth import METADATA, InsufficientScope, TokenExpired, is_metadata, metadata_url
from voicegw_mcp.web.revocation import OpenRequests, Standing

if TYPE_CHECKING:
    from collections.abc import Container

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from voicegw_mcp.errors import GatewayError
    from voicegw_mcp.web.hosts import Hosts
    from voicegw_mcp.web.identities import Identities, Identity

MAX_DIGITS: Final = 20
"""Digits of a Content-Length at most: Python refuses to read thousands of them with an exception."""

MAX_VALUES: Final = 10_000
"""Values in a body at most, as its commas and brackets tell. A call holds tens of them; a parser needs 100 bytes for each, and a
kilobyte where each is wrong: 2 MB of zeros in one argument cost 1.2 GB."""

BODY_S: Final = 30.0
"""How long a request body may take to arrive."""

RETRY_S: Final = 5
"""What Retry-After says while access tokens cannot be checked."""

FAILURES: Final = 10
FAILURES_S: Final = 60.0
LOCKOUT_S: Final = 60.0
MAX_ADDRESSES: Final = 10_000

_HINT: Final = (
    "Send `Authorization: Bearer TOKEN` with the value of VOICEGW_MCP_TOKEN or of a token in auth.api_keys."
)

logger = logging.getLogger(__name__)


class Lockout:
    """Counts wrong tokens by client address; after ten in a minute the address waits a minute, whatever it sends.

    A right token does not get through meanwhile, else guessing would go on at full speed.
    """

    def __init__(self) -> None:
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, address: str) -> int:
        """Return how many seconds the address has to wait, 0 when it may try."""
        count, until = self._failures.get(address, (0, 0.0))
        left = until - time.monotonic()
        return int(left) + 1 if count >= FAILURES and left > 0 else 0

    def note(self, address: str) -> None:
        """Count one wrong token."""
        now = time.monotonic()
        count, until = self._failures.pop(address, (0, 0.0))
        count = count + 1 if until > now else 1
        self._failures[address] = (count, now + (LOCKOUT_S if count >= FAILURES else FAILURES_S))
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)

    def forget(self, address: str) -> None:
        """Begin anew after a right token."""
        self._failures.pop(address, None)


class Guard:
    """Lets a request through to ``app``, or answers it.

    Args:
        app: all routes.
        hosts: the names that are let in.
        identities: knows the tokens, as they are at each request.
        open_paths: need no token; Host and Origin count for them all the same.
        open_without_token: let everybody in until a token is configured. From then on one is asked for: who takes the
            last one away shuts out who had it, and does not let everybody in.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Hosts,
        identities: Identities,
        *,
        open_paths: Container[str],
        open_without_token: bool = False,
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._identities = identities
        self._open_paths = open_paths
        self._open = open_without_token
        self._lockout = Lockout()
        self._requests = OpenRequests(identities)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no WebSocket is spoken here
            return
        refusal = await self._refusal(scope)
        replay = refusal or await _read_body(scope, receive)
        if isinstance(replay, JSONResponse):
            await replay(scope, receive, send)
        elif replay is not None:
            standing = scope.get(STANDING) if LET_GO in scope else None
            try:
                if standing is not None:  # of a stream
                    standing.begin(scope[LET_GO])
                await self._app(scope, replay.receive, send)
            finally:
                replay.release()
                if standing is not None:
                    standing.over()

    async def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = _headers(scope)
        if not self._hosts.admits_host(headers.get(b"host")):
            return refuse(
                421,
                Forbidden(
                    "This server does not answer under that Host name.",
                    hint="Start it with --allowed-host NAME, or call it by the name it was started with.",
                ),
            )
        if not self._hosts.admits_origin(headers.get(b"origin")):
            return refuse(
                403,
                Forbidden(
                    "Pages of that Origin may not call.",
                    hint="Start the server with --allowed-origin ORIGIN.",
                ),
            )
        length = headers.get(b"content-length")
        if length is not None and (
            not length.isdigit() or len(length) > MAX_DIGITS or int(length) > MAX_BODY_BYTES
        ):
            return _too_large()
        self._open = self._open and not self._identities.any_configured()
        if self._open:
            scope[STANDING] = Standing(self._requests, None, None)
        if self._open or scope["path"] in self._open_paths:
            return None
        if scope["path"].startswith(METADATA):
            oauth = self._identities.oauth()
            if oauth is not None and is_metadata(scope["path"], oauth):
                return None
        return await self._authenticate(scope, headers)

    def _metadata(self) -> str:
        oauth = self._identities.oauth()
        return metadata_url(oauth) if oauth is not None else ""

    async def _authenticate(self, scope: Scope, headers: dict[bytes, bytes]) -> JSONResponse | None:
        address = (scope.get("client") or ("",))[0]
        wait = self._lockout.wait_s(address)
        if wait:
            error = Forbidden("Too many wrong tokens came from this address.", hint=f"Wait {wait} seconds.")
            return refuse(429, error, {"retry-after": str(wait)})
        token = bearer_token(headers.get(b"authorization"))
        if token is None:
            return refuse(
                401,
                Forbidden("A bearer token is needed.", hint=_HINT),
                _challenge(self._metadata()),
            )
        try:
            identity = await self._identities.identify(token)
        except (TokenExpired, InsufficientScope, ServerUnreachable) as error:
            return _answer_to(error, self._metadata())
        if identity is None:
            self._lockout.note(address)
            logger.warning("a wrong token came from %s", address)
            return refuse(
                401,
                Forbidden("The token is not accepted.", hint=_HINT),
                _challenge(self._metadata(), "invalid_token"),
            )
        self._lockout.forget(address)
        admit(scope, identity)
        scope[STANDING] = Standing(self._requests, token, identity)
        return None


def _headers(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers of a request as the bytes they came in; the value of a name that came twice is b"", which nothing admits."""
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        found[name] = b"" if name in found else value
    return found


async def _read_body(scope: Scope, receive: Receive) -> _Replay | JSONResponse | None:
    """Read a request's whole body; return what gives it again, a refusal when it is too much or too slow.

    None when the client left.
    """
    if BODY_IS_THERE in scope:
        return await _collect_body(receive)
    try:
        async with asyncio.timeout(BODY_S):
            return await _collect_body(receive)
    except TimeoutError:
        error = InvalidInput(
            f"The request body did not arrive within {BODY_S:g} seconds.", hint="Send it again."
        )
        return refuse(408, error, {"connection": "close"})


async def _collect_body(receive: Receive) -> _Replay | JSONResponse | None:
    """Collect a body before anybody parses it: what it costs is not its size but how many values it holds."""
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        size, more = size + len(parts[-1]), message.get("more_body", False)
        if size > MAX_BODY_BYTES:
            return _too_large()
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    if size > MAX_VALUES and sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        return refuse(413, InvalidInput(f"A request holds at most {MAX_VALUES:,} values.", hint="Send less."))
    return _Replay(body, receive)


class _Replay:
    """Gives a body that was read, and keeps none of it; afterwards only the client's leaving is waited for."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    def release(self) -> None:
        """Let go of the connection: a session keeps its last request, and must not keep that."""
        self._receive = _gone

    async def receive(self) -> Message:
        body, self._body = self._body, None
        return await self._receive() if body is None else {"type": "http.request", "body": body}


async def _gone() -> Message:
    return {"type": "http.disconnect"}


def admit(scope: Scope, identity: Identity) -> None:
    """Tell the routes who calls, and bind the session he opens to his token and its projects.

    A session goes on telling of what it subscribed to: with other projects that would be rows of those he had.
    """
    scope[IDENTITY] = identity
    projects = identity.access.projects
    bound = "" if projects is None else json.dumps(sorted(projects))
    bind_session(scope, f"{identity.name}:{identity.fingerprint}:{bound}")


def bearer_token(header: bytes | None) -> bytes | None:
    """Return the token of an Authorization header (RFC 6750; the scheme in any case), None without one."""
    if header is None:
        return None
    scheme, _, token = header.partition(b" ")
    token = token.strip(b" ")
    return token if scheme.lower() == b"bearer" and token else None


def refuse(status: int, error: GatewayError, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return the one shape of every failure under an HTTP status."""
    return JSONResponse(error.payload(), status, {"cache-control": "no-store", **(headers or {})})


def _too_large() -> JSONResponse:
    return refuse(
        413, InvalidInput(f"A request body holds at most {MAX_BODY_BYTES:,} bytes.", hint="Send less.")
    )


def _answer_to(error: TokenExpired | InsufficientScope | ServerUnreachable, metadata: str) -> JSONResponse:
    """Return the answer to an access token that is no guess, so that none of these counts as a wrong one."""
    match error:
        case TokenExpired():  # clients learn from this answer that they need the next one
            expired = Forbidden("The token has expired.", hint="Ask the authorization server for a new one.")
            return refuse(401, expired, _challenge(metadata, "invalid_token"))
        case InsufficientScope():
            return refuse(403, error, _challenge(metadata, "insufficient_scope"))
        case _:
            return refuse(503, error, {"retry-after": str(RETRY_S)})


def _challenge(metadata: str, error: str = "") -> dict[str, str]:
    """Return the header by which a client learns what is wrong (RFC 6750), and where to get a token (RFC 9728)."""
    parts = ['Bearer realm="voicegw"']
    parts += [f'error="{error}"'] if error else []
    parts += [f'resource_metadata="{metadata}"'] if metadata else []
    return {"www-authenticate": ", ".join(parts)}
