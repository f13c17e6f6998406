"""Which URLs and addresses the gateway may connect to: the guard against server-side request forgery.

It exists because a provider's ``base_url`` can come from a coding agent or from a file someone else wrote. What is judged
here is text and addresses; ``core.outgoing`` resolves names and connects. May import ``config.redaction`` and ``errors`` only.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from voicegw_mcp.config.redaction import hide_in_text
from voicegw_mcp.errors import InvalidInput, quote

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_URL: Final = 2048
"""Characters a URL may have."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA_HOSTS: Final = frozenset(
    {
        "instance-data",
        "instance-data.ec2.internal",
        "metadata",
        "metadata.azure.internal",
        "metadata.goog",
        "metadata.google.internal",
        "metadata.tencentyun.com",
    }
)
"""Names under which the clouds' documentation reaches the instance metadata service."""

_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure's wire server
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::254",  # AWS over IPv6
        "fd20:ce::254",  # Google Cloud over IPv6
    )
)
"""Metadata services outside the link-local range."""

_OWN_NETWORK: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # carrier-grade NAT: also overlay networks such as Tailscale
        "198.18.0.0/15",  # benchmarking: also the stand-in addresses of local proxies
        "::1/128",
        "fc00::/7",
    )
)
"""Loopback and private ranges: reached only when ``allow_private``."""

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_OBSOLETE: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "::/96",  # IPv4-compatible, deprecated; holds the unspecified address too
        "64:ff9b:1::/48",  # NAT64 of a local operator
        "2001::/32",  # Teredo
        "2002::/16",  # 6to4
        "fec0::/10",  # site-local, deprecated
    )
)
_LOOPBACK_6: Final = ipaddress.IPv6Address("::1")
_HOST: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_NUMERIC: Final = re.compile(r"(0x[0-9a-f]*|[0-9]+)")


def check_base_url(url: str, *, allow_private: bool = True) -> str:
    """Return ``url`` when a provider may have it as ``base_url``: one of ``check_url`` without a key in it.

    Raises:
        InvalidInput: as ``check_url``, or it holds a key.
    """
    check_url(url, allow_private=allow_private)
    if hide_in_text(url) != url:
        raise _holds_a_key()
    return url


def check_url(url: str, *, allow_private: bool) -> str:
    """Return ``url`` when it may be connected to as far as its text tells, without touching the network.

    Args:
        url: http or https, with a host; no user or password, fragment, blank or control character; at most ``MAX_URL``
            characters.
        allow_private: whether a host written as a loopback or private address is accepted. This is about the text alone;
            what a connection may reach is judged when it is made (``core.outgoing.resolve_checked``), for names and addresses alike.

    Raises:
        InvalidInput: ``base_url``. The message never repeats a password, and of a bad URL nothing but its host.
    """
    if len(url) > MAX_URL:
        raise _refused(f"A URL has at most {MAX_URL} characters.")
    if any(character.isspace() or not character.isprintable() or character == "\\" for character in url):
        raise _refused("A URL has no blanks, backslashes or control characters.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused("The URL is not a valid URL.") from None
    if parts.scheme not in {"http", "https"}:
        raise _refused("A URL starts with http:// or https://.")
    if "@" in parts.netloc:
        raise _holds_a_key()
    if "#" in url:
        raise _refused("A URL has no fragment (#).")
    if not parts.hostname or port == 0:
        raise _refused("The URL names no host, or port 0.")
    host = canonical_host(parts.hostname)
    address = _literal(host)
    if "[" in parts.netloc and not isinstance(address, ipaddress.IPv6Address):
        raise _refused("The URL's IPv6 address is not a plain one.")
    reason = "" if address is None else refusal(address, allow_private=allow_private)
    if reason:
        raise refused_host(host, reason)
    return url


def canonical_host(host: str) -> str:
    """Return a URL's host in the one form that is compared, resolved and sent: lower case ASCII, no final dot.

    Raises:
        InvalidInput: ``base_url``: not a host name, an IPv6 zone, a cloud's metadata name, or an IPv4 address in
            another spelling than four decimal numbers (``0x7f.1``, ``2130706433``, ``0177.0.0.1``).
    """
    if ":" in host:
        address = _literal(host)
        if address is None:
            raise _refused("The URL's IPv6 address is not a plain one.")
        return str(address)
    try:
        name = host.encode("ascii" if host.isascii() else "idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        raise _refused("The URL's host is not a valid name.") from None
    if _HOST.fullmatch(name) is None:
        raise _refused(f"The URL's host {quote(name)} is not a valid name.")
    if name in _METADATA_HOSTS:
        raise refused_host(name, "a cloud's metadata service")
    if _NUMERIC.fullmatch(name.rpartition(".")[2]) is not None and _literal(name) is None:
        raise _refused(
            f"{quote(name)} is not an address.", hint="Write IPv4 addresses as four decimal numbers."
        )
    return name


def _literal(host: str) -> _Address | None:
    """Return the address a host spells, None when it is a name (or an IPv6 address with a zone)."""
    try:
        return None if "%" in host else ipaddress.ip_address(host)
    except ValueError:
        return None


def refusal(address: _Address, *, allow_private: bool) -> str:
    """Say why nothing may connect to ``address``; "" when it is fine.

    Special ranges are those of the IANA IPv4 and IPv6 special-purpose address registries. An IPv6 address that carries an
    IPv4 one is judged by that; tunnels (6to4, Teredo) are refused whole.
    """
    inner = _carried(address)
    if inner is not None:
        return refusal(inner, allow_private=allow_private)
    if address in _METADATA or address.is_link_local:
        return "link-local or a cloud's metadata service"
    if any(address in network for network in _OBSOLETE) and address != _LOOPBACK_6:
        return "unspecified, or of a tunnel or an obsolete range"
    if any(address in network for network in _OWN_NETWORK):
        return "" if allow_private else "loopback or private"
    fine = address.is_global and not (address.is_unspecified or address.is_multicast or address.is_reserved)
    return "" if fine else "unspecified, multicast or reserved"


def _carried(address: _Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv4-mapped or NAT64 address stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped


def _refused(message: str, *, hint: str = "") -> InvalidInput:
    usual = "Pass the root of the provider's API, such as https://api.example.com/v1, or leave base_url out."
    return InvalidInput(message, field="base_url", hint=hint or usual)


def _holds_a_key() -> InvalidInput:
    return _refused(
        "A URL holds no user name, password or key.", hint="Give the key by api_key, as a reference."
    )


def is_listed(host: str, listed: Collection[str]) -> bool:
    """Say whether a host, as ``canonical_host`` returns it, is among host names that may be spelled in other ways."""
    return any(host == name.strip("[]").lower().removesuffix(".") for name in listed)


def refused_host(host: str, reason: str) -> InvalidInput:
    """Return the error for a host that nothing may connect to, for a ``reason`` that ``refusal`` gave."""
    private = reason == "loopback or private"
    return _refused(
        f"The host {quote(host)} of the URL is not one to connect to: {reason}.",
        hint="Someone with access to voicegw.yaml can list the host under security.allow_private_hosts."
        if private
        else "",
    )
