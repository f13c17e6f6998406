"""Who calls over HTTP: the tokens of the environment, of ``auth.api_keys`` and of ``auth.oauth``, looked up at every request.

Tokens are references; what they stand for is hashed at once and compared as hashes of equal length, all of them, so that
time tells neither which token was nearly right nor how long one is. May import ``web.oauth``, ``core`` and below.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from voicegw_mcp.core.access import ACCESS_TOKEN, EVERYTHING, Access
from voicegw_mcp.domain import Role
from voicegw_mcp.errors import ConfigInvalid
from voicegw_mcp.web.oauth import OAuthTokens

if TYPE_CHECKING:
    from voicegw_mcp.config.oauth import OAuth
    from voicegw_mcp.config.schema import ApiKey
    from voicegw_mcp.core.catalog import Catalog
    from voicegw_mcp.core.gateway import Gateway

ENVIRONMENT_TOKEN: Final = f"${{{ACCESS_TOKEN}}}"

SHORTEST: Final = 8
"""Characters of a token at least: a shorter one is an accident (a placeholder, an empty variable with a quote)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One caller: the name that the journal shows, what he may do, and a fingerprint to bind sessions to.

    It is one of his token, or of whom an authorization server vouches for. ``catalog`` is what was configured when his
    request came: the tool he calls need not look again.
    """

    name: str
    access: Access
    fingerprint: str
    catalog: Catalog | None = field(default=None, compare=False, repr=False)


class Identities:
    """Finds the identity of a token in the file as it is now: a token that was taken out is refused at the next request.

    Args:
        gateway: whose file and secrets.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._access_tokens = OAuthTokens()

    async def identify(self, token: bytes) -> Identity | None:
        """Return who comes with this token, None when nobody does; tokens of the file go first and wait for nothing.

        Raises:
            TokenExpired: it was an access token that was good until it expired.
            InsufficientScope: it is a good access token that allows nothing here.
            ServerUnreachable: it may be an access token, and cannot be checked now.
        """
        found = self.find(token)
        settings = self.oauth() if found is None else None
        if settings is None:
            return found
        grant = await self._access_tokens.identify(settings, token)
        return grant and Identity(grant.name, grant.access, grant.holder, self._catalog())

    def oauth(self) -> OAuth | None:
        """Return whose access tokens are accepted, None when nobody's."""
        catalog = self._catalog()
        return catalog.settings.auth.oauth if catalog is not None else None

    def find(self, token: bytes) -> Identity | None:
        """Return who comes with this token, None when nobody does."""
        catalog = self._catalog()
        keys = catalog.settings.auth.api_keys if catalog is not None else []
        presented = hashlib.sha256(token).digest()
        matches = [
            self._is(presented, reference) for reference in (ENVIRONMENT_TOKEN, *(key.token for key in keys))
        ]
        if True not in matches:
            return None
        number, fingerprint = matches.index(True) - 1, presented.hex()[:16]
        if number < 0:
            return Identity("token", EVERYTHING, fingerprint, catalog)
        key = keys[number]
        access = Access(role_of(key), None if key.projects is None else frozenset(key.projects))
        return Identity(key.name or f"api_keys[{number}]", access, fingerprint, catalog)

    def any_configured(self) -> bool:
        """Say whether a token is asked for: one is named in the file or set for the process, usable or not.

        A reference that stands for nothing, or a token that is too short, closes the door: it must not open it to all.
        """
        if self._gateway.secrets.look_up(ENVIRONMENT_TOKEN).value is not None:
            return True
        catalog = self._catalog()
        if catalog is None:  # a file that was never good may name tokens
            return True
        auth = catalog.settings.auth
        return bool(auth.api_keys) or auth.oauth is not None

    def usable(self) -> list[str]:
        """Return the references of the tokens with which somebody may enter now, the environment's first."""
        catalog = self._catalog()
        keys = catalog.settings.auth.api_keys if catalog is not None else []
        return [name for name in (ENVIRONMENT_TOKEN, *(key.token for key in keys)) if self._token(name)]

    def _is(self, presented: bytes, reference: str) -> bool:
        """Say whether a presented token, as its hash, is what a reference stands for."""
        token = self._token(reference)
        return token != b"" and hmac.compare_digest(presented, hashlib.sha256(token).digest())

    def _token(self, reference: str) -> bytes:
        """Return what a reference stands for, b"" when that is no token."""
        value = self._gateway.secrets.look_up(reference).value
        token = value.get_secret_value().encode() if value is not None else b""
        return token if len(token) >= SHORTEST else b""

    def _catalog(self) -> Catalog | None:
        try:
            return self._gateway.catalog()
        except ConfigInvalid:  # nothing is known of a file that was never good, so nobody enters by it
            return None


def role_of(key: ApiKey) -> Role:
    """Return the role of a token; VoiceGateway's scopes tell where it has none: ``*`` is all, ``write`` may add."""
    if key.role is not None:
        return Role(key.role)
    if "*" in key.scopes or "admin" in key.scopes:
        return Role.ADMIN
    return Role.OPERATOR if "write" in key.scopes else Role.VIEWER
