"""What every HTTP request passes before a route sees it: Host, Origin, lockout, token, size.

One place, in front of all routes; only ``/health`` needs no token. Plain ASGI, because Starlette's middleware wraps streams.
May import Starlette, ``transports.http``, ``web``, ``errors``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from starlette.responses import JSONResponse

from voicegw_mcp.errors import Forbidden, InvalidInput
from voicegw_mcp.server import IDENTITY
from voicegw_mcp.transports.http import MAX_BODY_BYTES, bind_session

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from voicegw_mcp.errors import GatewayError
    from voicegw_mcp.web.hosts import Hosts
    from voicegw_mcp.web.identities import Identities, Identity

OPEN_PATHS: Final = frozenset({"/health"})

MAX_DIGITS: Final = 20
"""Digits of a Content-Length at most: Python refuses to read thousands of them with an exception."""

BODY_S: Final = 30.0
"""How long a request body may take to arrive."""

FAILURES: Final = 10
FAILURES_S: Final = 60.0
LOCKOUT_S: Final = 60.0
MAX_ADDRESSES: Final = 10_000

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
        open_without_token: let everybody in while no token is configured.
    """

    def __init__(
        self, app: ASGIApp, hosts: Hosts, identities: Identities, *, open_without_token: bool = False
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._identities = identities
        self._open = open_without_token
        self._lockout = Lockout()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no WebSocket is spoken here
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, _Body(receive).receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = _Headers(scope)
        if not self._hosts.admits_host(headers.only(b"host")):
            return refuse(
                421,
                Forbidden(
                    "This server does not answer under that Host name.",
                    hint="Start it with --allowed-host NAME, or call it by the name it was started with.",
                ),
            )
        if headers.count(b"origin") > 1 or not self._hosts.admits_origin(headers.only(b"origin")):
            return refuse(
                403,
                Forbidden(
                    "Pages of that Origin may not call.",
                    hint="Start the server with --allowed-origin ORIGIN.",
                ),
            )
        length = headers.only(b"content-length")
        if length is not None and (
            not length.isdigit() or len(length) > MAX_DIGITS or int(length) > MAX_BODY_BYTES
        ):
            return refuse(
                413,
                InvalidInput(f"A request body holds at most {MAX_BODY_BYTES:,} bytes.", hint="Send less."),
            )
        if scope["path"] in OPEN_PATHS or (self._open and not self._identities.any_configured()):
            return None
        return self._authenticate(scope, headers)

    def _authenticate(self, scope: Scope, headers: _Headers) -> JSONResponse | None:
        address = (scope.get("client") or ("",))[0]
        wait = self._lockout.wait_s(address)
        if wait:
            error = Forbidden("Too many wrong tokens came from this address.", hint=f"Wait {wait} seconds.")
            return refuse(429, error, {"retry-after": str(wait)})
        token = bearer_token(headers.only(b"authorization"))
        identity = self._identities.find(token) if token else None
        if identity is None:
            if token is not None:
                self._lockout.note(address)
                logger.warning("a wrong token came from %s", address)
            return _unauthorized(given=token is not None)
        self._lockout.forget(address)
        admit(scope, identity)
        return None


class _Headers:
    """The headers of a request as the bytes they came in; a name that came twice has no value."""

    def __init__(self, scope: Scope) -> None:
        self._pairs: list[tuple[bytes, bytes]] = scope["headers"]

    def count(self, name: bytes) -> int:
        return sum(key == name for key, _ in self._pairs)

    def only(self, name: bytes) -> bytes | None:
        values = [value for key, value in self._pairs if key == name]
        return values[0] if len(values) == 1 else None


class _Body:
    """Ends a request whose body does not arrive in time; afterwards only the client's leaving is waited for."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._until = time.monotonic() + BODY_S
        self._complete = False

    async def receive(self) -> Message:
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._until - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            self._complete = True
            return {"type": "http.disconnect"}
        self._complete = message["type"] != "http.request" or not message.get("more_body", False)
        return message


def admit(scope: Scope, identity: Identity) -> None:
    """Tell the routes who calls, and bind the session he opens to his token."""
    scope[IDENTITY] = identity
    bind_session(scope, f"{identity.name}:{identity.fingerprint}")


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


def _unauthorized(*, given: bool) -> JSONResponse:
    error = Forbidden(
        "The token is not accepted." if given else "A bearer token is needed.",
        hint="Send `Authorization: Bearer TOKEN` with the value of VOICEGW_MCP_TOKEN or of a token in auth.api_keys.",
    )
    challenge = 'Bearer realm="voicegw"' + (', error="invalid_token"' if given else "")
    return refuse(401, error, {"www-authenticate": challenge})
