"""Which Host and Origin headers are let in: exact names from a closed list.

A web page must not reach a local gateway through a name of its own (DNS rebinding). Imports ``errors`` only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from voicegw_mcp.errors import InvalidInput, quote

if TYPE_CHECKING:
    from collections.abc import Iterable

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
WILDCARDS: Final = frozenset({"0.0.0.0", "::", "[::]", "*", ""})  # noqa: S104 - names that mean "every address"

_NAME: Final = r"(?:[a-z0-9][a-z0-9_-]{0,62}(?:\.[a-z0-9][a-z0-9_-]{0,62})*|\[[0-9a-f:.]{2,45}\])"
_HOST: Final = re.compile(rf"({_NAME})(?::([0-9]{{1,5}}))?")
_ORIGIN: Final = re.compile(rf"(https?)://({_NAME})(?::([0-9]{{1,5}}))?")
"""Lower case as RFC 9110 and RFC 6454 compare them; nothing but a name and a port, so no user, path or trailing dot."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """The names that are let in.

    ``hosts`` are names without a port (any port will do: containers and tunnels map them) or with one; ``origins`` are
    whole origins. Pages served from loopback names may always call, because their host is checked the same way.
    """

    hosts: frozenset[str]
    origins: frozenset[str]

    @classmethod
    def of(cls, bind: str, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> Hosts:
        """Return the list for a server bound to ``bind``: loopback names, that name, and what was added by hand.

        Raises:
            InvalidInput: an added name is none: a typo must not widen or close anything in silence.
        """
        named = bind_name(bind)
        own = LOOPBACK if named is None else LOOPBACK | {named}
        return cls(
            own
            | {
                _checked(host, _HOST, "--allowed-host", "gateway.example.com or gateway.example.com:8090")
                for host in hosts
            },
            frozenset(
                _checked(origin, _ORIGIN, "--allowed-origin", "https://ops.example.com") for origin in origins
            ),
        )

    def also(self, bind: str) -> Hosts:
        """Return the list for a server that listens on ``bind`` as well."""
        named = bind_name(bind)
        return self if named is None else replace(self, hosts=self.hosts | {named})

    def admits_host(self, header: bytes | None) -> bool:
        """Say whether a Host header names this server."""
        found = _HOST.fullmatch(_lowered(header)) if header is not None else None
        return (
            found is not None
            and _port_is_real(found[2])
            and (found[1] in self.hosts or found[0] in self.hosts)
        )

    def admits_origin(self, header: bytes | None) -> bool:
        """Say whether a page of this origin may call; without the header no page calls."""
        if header is None:
            return True
        found = _ORIGIN.fullmatch(_lowered(header))
        return (
            found is not None
            and _port_is_real(found[3])
            and (found[2] in LOOPBACK or found[0] in self.origins)
        )


def bind_name(bind: str) -> str | None:
    """Return the Host by which a bound address is reached, None for "every address"."""
    lowered = bind.strip().lower()
    if lowered in WILDCARDS:
        return None
    return f"[{lowered}]" if ":" in lowered and not lowered.startswith("[") else lowered


def is_loopback(bind: str) -> bool:
    """Say whether only this machine reaches an address; a name but localhost is not looked up and counts as reachable."""
    name = bind_name(bind)
    return name in LOOPBACK or (name is not None and re.fullmatch(r"127(\.\d{1,3}){3}", name) is not None)


def _checked(value: str, form: re.Pattern[str], option: str, example: str) -> str:
    found = form.fullmatch(value.strip().lower())
    if found is None or not _port_is_real(found[found.re.groups]):
        raise InvalidInput(
            f"{quote(value)} is no name for {option}.",
            field=option,
            hint=f"Write it like {example}; there are no wildcards.",
        )
    return found[0]


def _lowered(header: bytes) -> str:
    return header.decode("latin-1").lower()


def _port_is_real(port: str | None) -> bool:
    return port is None or 0 < int(port) < 65536
