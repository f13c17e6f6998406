"""Who calls over HTTP: the bearer tokens of the environment and of ``auth.api_keys``, looked up at every request.

Tokens are references; what they stand for is hashed at once and compared as hashes of equal length, all of them, so that
time tells neither which token was nearly right nor how long one is. May import ``core`` and below.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from voicegw_mcp.core.access import Access
from voicegw_mcp.domain import Role
from voicegw_mcp.errors import ConfigInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voicegw_mcp.config.schema import ApiKey
    from voicegw_mcp.core.gateway import Gateway

ENVIRONMENT_TOKEN: Final = "${VOICEGW_MCP_TOKEN}"  # noqa: S105 - a reference
"""The one token that opens everything, as VoiceGateway names it; from the environment or ``secrets.env``."""

SHORTEST: Final = 8
"""Characters of a token at least: a shorter one is an accident (a placeholder, an empty variable with a quote)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One caller: the name that the journal shows, what he may do, and a fingerprint of his token to bind sessions to."""

    name: str
    access: Access
    fingerprint: str


class Identities:
    """Finds the identity of a token in the file as it is now: a token that was taken out is refused at the next request.

    Args:
        gateway: whose file and secrets.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def find(self, token: bytes) -> Identity | None:
        """Return who comes with this token, None when nobody does."""
        presented = hashlib.sha256(token).digest()
        found: Identity | None = None
        for digest, identity in self._known():
            if hmac.compare_digest(presented, digest):
                found = found or identity
        return found

    def any_configured(self) -> bool:
        """Say whether a token is asked for: one is named in the file or set for the process, usable or not.

        A reference that stands for nothing, or a token that is too short, closes the door: it must not open it to all.
        """
        if self._gateway.secrets.look_up(ENVIRONMENT_TOKEN).value is not None:
            return True
        try:
            return bool(self._gateway.catalog().settings.auth.api_keys)
        except ConfigInvalid:  # a file that was never good may name tokens
            return True

    def _known(self) -> Iterator[tuple[bytes, Identity]]:
        yield from self._entry(ENVIRONMENT_TOKEN, "token", Access())
        for number, key in enumerate(self._keys()):
            # A token for some projects must not open all of them: it opens none until reports are cut by project.
            if not key.projects:
                yield from self._entry(key.token, key.name or f"api_keys[{number}]", Access(role_of(key)))

    def _keys(self) -> list[ApiKey]:
        try:
            return self._gateway.catalog().settings.auth.api_keys
        except ConfigInvalid:  # nothing is known of a file that was never good, so nobody enters by it
            return []

    def _entry(self, reference: str, name: str, access: Access) -> Iterator[tuple[bytes, Identity]]:
        value = self._gateway.secrets.look_up(reference).value
        if value is not None:
            token = value.get_secret_value().encode()
            if len(token) >= SHORTEST:
                digest = hashlib.sha256(token).digest()
                yield digest, Identity(name, access, digest.hex()[:16])


def role_of(key: ApiKey) -> Role:
    """Return the role of a token; VoiceGateway's scopes tell where it has none: ``*`` is all, ``write`` may add."""
    if key.role is not None:
        return Role(key.role)
    if "*" in key.scopes or "admin" in key.scopes:
        return Role.ADMIN
    return Role.OPERATOR if "write" in key.scopes else Role.VIEWER
