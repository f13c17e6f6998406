"""One request to an address that somebody else may have written, sent so that nothing but what was judged is reached.

The name is resolved once, every address is judged, and the connection goes to one of exactly these addresses: a name that
resolves differently a moment later gains nothing. No redirect is followed, no proxy or ``.netrc`` of the environment is
used, TLS is verified against the host name. May import ``config.addresses``, ``core.untrusted``, ``errors``, anyio, and
httpx2 inside the functions that send.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import anyio
import anyio.to_thread

from voicegw_mcp.config.addresses import canonical_host, refusal, refused_host
from voicegw_mcp.core.untrusted import escape_untrusted
from voicegw_mcp.errors import ProviderFailed, quote

if TYPE_CHECKING:
    from collections.abc import Mapping

CONNECT_S: Final = 5.0
"""Most seconds a connection may take, TLS included."""

MAX_BODY: Final = 64 * 1024
"""Bytes of an answer that are read; the rest is never taken off the wire."""


class Reply(NamedTuple):
    """What came back: the status, the header fields by lower-case name, and the beginning of the body."""

    status: int
    headers: Mapping[str, str]
    body: str


class NoReply(Exception):
    """Nothing that can be read came back. ``message`` is a sentence for people."""

    def __init__(self, reason: Literal["timeout", "unreachable"], message: str) -> None:
        super().__init__(message)
        self.reason: Literal["timeout", "unreachable"] = reason
        self.message = message


async def send(
    method: Literal["GET", "POST"],
    url: str,
    headers: Mapping[str, str],
    *,
    allow_private: bool,
    body: bytes = b"",
) -> Reply:
    """Send one request to the first judged address that takes a connection, and return what comes back.

    Args:
        method: of the request.
        url: one that ``config.addresses.check_url`` passed.
        headers: beside those that every request has.
        allow_private: whether the host may be at a loopback or private address. Link-local ones are never connected to.
        body: of the request.

    Raises:
        InvalidInput: the host or one of its addresses is refused.
        ProviderFailed: the name does not resolve.
        NoReply: no connection, or no HTTP on it. There is no limit of time but ``CONNECT_S``: the caller has one.
    """
    import httpx2  # noqa: PLC0415 - mcp has loaded it already; without mcp only this needs it

    parts = urlsplit(url)
    host = canonical_host(parts.hostname or "")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    addresses = await resolve_checked(host, port, allow_private=allow_private)
    verify: ssl.SSLContext | bool = False
    if parts.scheme == "https":
        verify = await anyio.to_thread.run_sync(_tls_context)
    authority = f"[{host}]" if ":" in host else host
    sent = {
        "Accept-Encoding": "identity",
        "User-Agent": "voicegw-mcp",
        **headers,
        "Host": authority if parts.port is None else f"{authority}:{port}",
    }
    trouble = NoReply("unreachable", "No connection.")
    limits = httpx2.Timeout(None, connect=CONNECT_S)
    async with httpx2.AsyncClient(
        verify=verify, trust_env=False, follow_redirects=False, timeout=limits
    ) as client:
        for address in addresses:
            netloc = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            target = urlunsplit(parts._replace(netloc=netloc))
            try:
                async with client.stream(
                    method, target, headers=sent, content=body, extensions={"sni_hostname": host}
                ) as response:
                    return Reply(response.status_code, dict(response.headers), await _beginning(response))
            except httpx2.ConnectTimeout:
                trouble = NoReply("timeout", f"No connection within {CONNECT_S:g} s.")
            except httpx2.ConnectError as error:
                message, final = _connect_trouble(error)
                trouble = NoReply("unreachable", message)
                if final:
                    break
            except httpx2.TransportError:
                trouble = NoReply("unreachable", "The connection broke, or what came back is not HTTP.")
                break
    raise trouble


async def resolve_checked(host: str, port: int, *, allow_private: bool) -> list[str]:
    """Resolve ``host`` once and return its addresses, IPv4 first, all of them acceptable.

    One address that is not acceptable refuses the host as a whole: otherwise a name with a good and a bad address would
    be a matter of luck. IPv4 goes first because ``localhost`` often has both while local servers listen on 127.0.0.1.

    Args:
        host: a name or an address as a URL has it (IPv6 without brackets).
        port: TCP port, passed to the resolver.
        allow_private: whether loopback and private ranges are fine. Link-local ones never are.

    Raises:
        InvalidInput: ``base_url``; the host or one of its addresses is refused.
        ProviderFailed: the name does not resolve.
    """
    name = canonical_host(host)
    try:
        found = await anyio.getaddrinfo(name, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        found = []
    if not found:
        raise ProviderFailed(
            f"The host name {quote(name)} does not resolve.",
            hint="Check the URL and this machine's DNS.",
        )
    texts = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for text in texts:
        reason = refusal(ipaddress.ip_address(text.partition("%")[0]), allow_private=allow_private)
        if reason:
            raise refused_host(name, reason)
    return sorted(texts, key=lambda text: ":" in text)


def _tls_context() -> ssl.SSLContext:
    """Return the context that verifies certificates by the system's authorities; 20 ms and more, in a worker thread."""
    import httpx2  # noqa: PLC0415 - see send

    return httpx2.create_ssl_context(trust_env=False)


async def _beginning(response: Any) -> str:
    """Read at most ``MAX_BODY`` bytes of the body as they are on the wire."""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) >= MAX_BODY:
            break
    return bytes(body[:MAX_BODY]).decode("utf-8", "replace")


def _connect_trouble(error: BaseException) -> tuple[str, bool]:
    """Say why there is no connection, and whether another address of the host would tell the same."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"The TLS certificate is not valid for this host: {escape_untrusted(cause.verify_message, 120)}.",
                True,
            )
        if isinstance(cause, ssl.SSLError):
            return "The TLS handshake failed: the server may not speak https on this port.", True
        cause = cause.__cause__ or cause.__context__
    return "The host refused the connection, or there is no route to it.", False
