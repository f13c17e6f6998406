"""What ``auth.oauth`` may hold: an authorization server whose access tokens are accepted over HTTP.

Facts: RFC 8414 section 2 (an issuer has neither query nor fragment), RFC 8707 section 2 (a resource has no fragment),
RFC 6749 section 3.3 (characters of a scope). May import pydantic and ``domain``.
"""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from voicegw_mcp.domain import Role

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

DEFAULT_SCOPES: Final = {
    "voicegw.read": Role.VIEWER,
    "voicegw.write": Role.OPERATOR,
    "voicegw.admin": Role.ADMIN,
}


def check_server_url(url: str) -> str:
    """Return ``url`` when it is https, or http on this machine, and nothing but scheme, host, port and path."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    plain = url.isascii() and url.isprintable() and not set(url) & set(' "\\<>?#@')
    if not plain or not parts.hostname or port == 0:
        raise ValueError("must be a URL of scheme, host, port and path only, such as https://id.example.com")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ValueError("must begin with https:// (http:// only for localhost)")
    return url


def check_scope(name: str) -> str:
    """Return ``name`` when a scope may be called so."""
    if not name or any(not "!" <= character <= "~" or character in '"\\' for character in name):
        raise ValueError("is no name of a scope: no blanks, quotes or characters outside ASCII")
    return name


ServerUrl = Annotated[str, AfterValidator(check_server_url)]
Scope = Annotated[str, AfterValidator(check_scope)]


class OAuth(BaseModel):
    """``auth.oauth``: whose tokens are accepted, for which resource, and what their scopes allow.

    ``resource`` is the URL of this server that a token's audience has to name. ``jwks_url`` is where the keys are; without it
    the issuer's own metadata tells. With ``projects_claim`` a token sees the projects that this claim lists, and no other.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    issuer: ServerUrl
    resource: ServerUrl
    jwks_url: ServerUrl | None = None
    scopes: dict[Scope, Role] = Field(default_factory=lambda: dict(DEFAULT_SCOPES), min_length=1)
    projects_claim: str | None = Field(default=None, min_length=1)
