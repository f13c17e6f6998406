"""Access tokens of an authorization server: this server as an OAuth 2.1 resource server, when ``auth.oauth`` is set.

A token is a JWT (RFC 9068) that was signed by a key of the configured issuer for this very server; nothing of it is
believed before its signature was checked, but which issuer and key to ask. Settings are those of the file at each request.
May import pyjwt (only once a token has to be checked), ``transports``, ``web``, ``core``, ``config`` and ``errors``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from voicegw_mcp.config.values import is_list
from voicegw_mcp.core.access import Access
from voicegw_mcp.core.untrusted import escape_untrusted
from voicegw_mcp.domain import Role
from voicegw_mcp.errors import Forbidden
from voicegw_mcp.transports.authorization import AccessToken, TokenVerifier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voicegw_mcp.config.oauth import OAuth
    from voicegw_mcp.web.signing_keys import SigningKey, SigningKeys

MAX_TOKEN: Final = 16_384
"""Characters of a token that are looked at."""

LEEWAY_S: Final = 30.0
"""How far the clocks of the two servers may differ."""

MAX_NAME: Final = 80
"""Characters of a subject in the journal."""

METADATA: Final = "/.well-known/oauth-protected-resource"
"""Where a client without a token learns whom to ask for one (RFC 9728 section 3)."""

_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
"""What a token's header may call it: logout tokens and the like are signed by the same keys."""


class TokenExpired(Exception):
    """A token was good and is no longer."""


class InsufficientScope(Forbidden):
    """A good token that allows nothing here."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a good token says: the name of its subject, what he may do, and whom its sessions belong to."""

    name: str
    access: Access
    holder: str


class JwtVerifier(TokenVerifier):
    """Checks tokens of one authorization server.

    Args:
        settings: whose tokens, and for which resource.
    """

    def __init__(self, settings: OAuth) -> None:
        self.settings = settings
        self._keys: SigningKeys | None = None

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return what a token says, None when it is not one of the issuer for this server.

        Raises:
            TokenExpired: it was one, until it expired.
            ServerUnreachable: it cannot be checked, because the issuer's keys cannot be read.
        """
        import jwt  # noqa: PLC0415 - only who uses OAuth waits for the import

        if len(token) > MAX_TOKEN:
            return None
        try:
            header = jwt.get_unverified_header(token)
            unverified = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError):
            return None
        # Only what calls itself the issuer's token is worth a look at its keys.
        if (
            unverified.get("iss") != self.settings.issuer
            or str(header.get("typ", "jwt")).lower() not in _TYPES
        ):
            return None
        key = await self._find_key(header.get("kid"))
        try:
            claims = self._checked(token, key) if key is not None else None
        except jwt.ExpiredSignatureError:  # raised after the signature was found right
            raise TokenExpired from None
        except (jwt.PyJWTError, ValueError):
            return None
        return _access_token(token, claims) if claims is not None else None

    async def _find_key(self, key_id: str | None) -> SigningKey | None:
        if self._keys is None:
            from voicegw_mcp.web.signing_keys import SigningKeys  # noqa: PLC0415 - as above

            self._keys = SigningKeys(self.settings)
        return await self._keys.find(key_id)

    def _checked(self, token: str, key: SigningKey) -> dict[str, Any]:
        import jwt  # noqa: PLC0415 - as above

        resource = self.settings.resource.rstrip("/")
        return jwt.decode(
            token,
            key.key,
            algorithms=key.algorithms,
            audience=(resource, f"{resource}/"),
            issuer=self.settings.issuer,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
        )


class OAuthTokens:
    """Finds out who comes with an access token; keeps the issuer's keys as long as the settings stay."""

    def __init__(self) -> None:
        self._verifier: JwtVerifier | None = None

    async def identify(self, settings: OAuth, token: bytes) -> Grant | None:
        """Return what a token grants, None when it is not accepted.

        Raises:
            TokenExpired: it was good until it expired.
            InsufficientScope: it is good, and allows nothing here.
            ServerUnreachable: it cannot be checked now.
        """
        if self._verifier is None or self._verifier.settings != settings:
            self._verifier = JwtVerifier(settings)
        found = await self._verifier.verify_token(token.decode("latin-1"))
        if found is None:
            return None
        # Tokens are replaced all the time; a session belongs to whom they are for, through the same client.
        holder = json.dumps([settings.issuer, found.subject, found.client_id])
        return Grant(
            escape_untrusted(found.subject or "", MAX_NAME),
            access_of(found, settings),
            hashlib.sha256(holder.encode()).hexdigest()[:32],
        )


def access_of(token: AccessToken, settings: OAuth) -> Access:
    """Return what a good token allows: the greatest role among its scopes, for the projects of its claim.

    Raises:
        InsufficientScope: none of its scopes is known here, or it names no projects where it has to.
    """
    roles = [settings.scopes[name] for name in token.scopes if name in settings.scopes]
    if not roles:
        raise InsufficientScope(
            "This token has no scope that is known here.",
            hint=f"Ask the authorization server for one of: {', '.join(settings.scopes)}.",
        )
    role = max(roles, key=list(Role).index)  # they are listed from least to greatest
    if settings.projects_claim is None:
        return Access(role)
    named = (token.claims or {}).get(settings.projects_claim)
    if not is_list(named) or not all(isinstance(name, str) for name in named):
        raise InsufficientScope(
            f"This token does not say for which projects it is: the claim {settings.projects_claim} lists none.",
            hint="The authorization server has to put a list of project ids into that claim.",
        )
    return Access(role, frozenset(named))


def metadata_url(settings: OAuth) -> str:
    """Return where the metadata of the resource is (RFC 9728 section 3.1: before the path of the resource)."""
    parts = urlsplit(settings.resource)
    return f"{parts.scheme}://{parts.netloc}{METADATA}{parts.path.rstrip('/')}"


def is_metadata(path: str, settings: OAuth) -> bool:
    """Say whether a client looks for the metadata there: by the resource, by the URL it knows, or at the root."""
    return path.startswith(METADATA) and path in {
        METADATA,
        f"{METADATA}/mcp",
        f"{METADATA}/sse",
        urlsplit(metadata_url(settings)).path,
    }


def describe_resource(settings: OAuth) -> dict[str, object]:
    """Return the protected resource metadata (RFC 9728 section 2)."""
    return {
        "resource": settings.resource,
        "authorization_servers": [settings.issuer],
        "scopes_supported": list(settings.scopes),
        "bearer_methods_supported": ["header"],
        "resource_name": "voicegw-mcp",
    }


def _access_token(token: str, claims: Mapping[str, Any]) -> AccessToken | None:
    subject = claims["sub"]
    if not subject:
        return None
    scopes: Any = claims.get("scope", claims.get("scp"))  # a text by RFC 9068, a list where servers are older
    named: Sequence[Any] = scopes.split() if isinstance(scopes, str) else scopes if is_list(scopes) else []
    client = claims.get("client_id", claims.get("azp"))
    return AccessToken(
        token=token,
        client_id=client if isinstance(client, str) else "",
        scopes=[name for name in named if isinstance(name, str)],
        expires_at=int(claims["exp"]),
        subject=subject,
        claims=dict(claims),
    )
