"""The public keys of an authorization server: fetched when they are needed, kept, and fetched again when they are old.

The server is named by whoever owns the file, so it may be private; all the same it gets no more than a bounded answer in a
bounded time, and no redirect is followed. May import pyjwt, httpx2, anyio, ``config`` and ``errors``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import httpx2
import jwt

from voicegw_mcp.config.oauth import check_server_url
from voicegw_mcp.config.values import is_list, is_map
from voicegw_mcp.errors import ServerUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from voicegw_mcp.config.oauth import OAuth

FETCH_S: Final = 5.0
"""How long all requests of one look may take together."""

MAX_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 100

FRESH_S: Final = 600.0
"""After this time keys are fetched again, beside the requests: a key that the server took back is refused from then on."""

USABLE_S: Final = 3600.0
"""How long keys are used while they cannot be fetched again."""

UNKNOWN_S: Final = 30.0
"""A key id that nobody knows is looked for once in this time, however many tokens come with one."""

RETRY_S: Final = 5
"""How long to wait after a look that failed; what Retry-After says meanwhile."""

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_BY_CURVE: Final = {
    ("EC", "P-256"): "ES256",
    ("EC", "P-384"): "ES384",
    ("EC", "P-521"): "ES512",
    ("OKP", "Ed25519"): "EdDSA",
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key and the algorithms for which it may be used: the key decides, never the token."""

    key: Any
    algorithms: tuple[str, ...]


class _Unusable(Exception):
    """What came back is not what was asked for; the text is for the log."""


class SigningKeys:
    """The keys of one authorization server.

    Args:
        settings: names the server.
    """

    def __init__(self, settings: OAuth) -> None:
        self._settings = settings
        self._keys: list[tuple[str | None, SigningKey]] = []
        self._fresh_until = self._usable_until = self._next_look = float("-inf")
        self._failed = False
        self._looking: asyncio.Task[None] | None = None

    async def find(self, key_id: str | None) -> SigningKey | None:
        """Return the key a token names, None when the server has no such key.

        A known key is returned without waiting for the network.

        Args:
            key_id: the token's ``kid``; without one, the only key there is.

        Raises:
            ServerUnreachable: the keys cannot be read now.
        """
        now = time.monotonic()
        found = self._pick(key_id) if now < self._usable_until else None
        if found is not None:
            if now >= max(self._fresh_until, self._next_look):
                self._look()
            return found
        if self._looking is not None or now >= self._next_look:
            await asyncio.shield(self._look())  # who leaves must not end it for the others
            found = self._pick(key_id)
        if found is None and self._failed:
            raise ServerUnreachable(
                "The keys of the authorization server cannot be read now, so no token of it can be checked.",
                hint=f"Try again in {RETRY_S} seconds. The server's log says what is wrong.",
            )
        return found

    def _pick(self, key_id: str | None) -> SigningKey | None:
        named = [key for name, key in self._keys if key_id is None or name == key_id]
        return named[0] if len(named) == 1 else None

    def _look(self) -> asyncio.Task[None]:
        if self._looking is None:
            self._looking = asyncio.create_task(self._fetch())
        return self._looking

    async def _fetch(self) -> None:
        """Fetch the keys; never raises, what went wrong is logged."""
        trouble = ""
        try:
            with anyio.fail_after(FETCH_S):
                self._keys = await _fetch_keys(self._settings)
        except TimeoutError:
            trouble = f"no answer within {FETCH_S:g} s"
        except (_Unusable, httpx2.HTTPError, httpx2.InvalidURL, ValueError, RecursionError) as error:
            trouble = str(error) if isinstance(error, _Unusable) else type(error).__name__
        finally:
            self._looking = None
        now = time.monotonic()
        self._failed = bool(trouble)
        self._next_look = now + (RETRY_S if trouble else UNKNOWN_S)
        if not trouble:
            self._fresh_until, self._usable_until = now + FRESH_S, now + USABLE_S
            return
        if now >= self._usable_until:
            self._keys = []
        logger.warning("the keys of %s could not be read: %s", self._settings.issuer, trouble)


async def _fetch_keys(settings: OAuth) -> list[tuple[str | None, SigningKey]]:
    context = await anyio.to_thread.run_sync(lambda: httpx2.create_ssl_context(trust_env=False))
    async with httpx2.AsyncClient(
        verify=context,
        trust_env=False,
        follow_redirects=False,
        timeout=FETCH_S,
        limits=httpx2.Limits(max_keepalive_connections=0),  # a kept one may just be closing
    ) as client:
        url = settings.jwks_url or await _discover(client, settings.issuer)
        found = list(_usable((await _read(client, url)).get("keys")))
    if not found:
        raise _Unusable("the key set holds no public key for signatures")
    return found


async def _discover(client: httpx2.AsyncClient, issuer: str) -> str:
    """Return where the issuer says its keys are (RFC 8414 section 3, then OpenID Connect Discovery section 4)."""
    root, path = issuer.rstrip("/"), urlsplit(issuer).path.rstrip("/")
    host = root.removesuffix(path)
    places = (
        f"{host}/.well-known/oauth-authorization-server{path}",
        f"{root}/.well-known/openid-configuration",
    )
    trouble = _Unusable("it has no metadata")
    for place in places:
        try:
            metadata = await _read(client, place)
        except _Unusable as error:
            trouble = error
            continue
        url = metadata.get("jwks_uri")
        if metadata.get("issuer") != issuer:
            trouble = _Unusable("its metadata names another issuer")
        elif not isinstance(url, str) or (issuer.startswith("https:") and not url.startswith("https:")):
            trouble = _Unusable("its metadata names no https address of keys")
        else:
            return check_server_url(url)
    raise trouble


async def _read(client: httpx2.AsyncClient, url: str) -> Mapping[str, Any]:
    """Return the JSON object at ``url``: status 200, and no more bytes than ``MAX_BYTES``."""
    body = bytearray()
    headers = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "voicegw-mcp"}
    async with client.stream("GET", url, headers=headers) as response:
        if response.status_code != 200:
            raise _Unusable(f"status {response.status_code}")
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_BYTES:
                raise _Unusable(f"an answer of more than {MAX_BYTES:,} bytes")
    data: Any = json.loads(bytes(body))
    if not is_map(data):
        raise _Unusable("an answer that is no JSON object")
    return data


def _usable(entries: object) -> Iterator[tuple[str | None, SigningKey]]:
    """Yield the public keys for signatures of a JWK set (RFC 7517), passing over everything else in it."""
    for entry in entries[:MAX_KEYS] if is_list(entries) else ():
        key = _signing_key(entry) if is_map(entry) else None
        if key is not None:
            key_id = entry.get("kid")
            yield (key_id if isinstance(key_id, str) else None), key


def _signing_key(entry: Mapping[str, Any]) -> SigningKey | None:
    if entry.get("use", "sig") != "sig":
        return None
    family, curve, named = entry.get("kty"), entry.get("crv"), entry.get("alg")
    fitting = _RSA if family == "RSA" else tuple(filter(None, [_BY_CURVE.get((str(family), str(curve)))]))
    algorithms = fitting if named is None else tuple(name for name in fitting if name == named)
    if not algorithms:  # a shared secret, or a curve that is not taken
        return None
    try:
        key = jwt.PyJWK(dict(entry), algorithms[0]).key
    except jwt.PyJWTError:
        return None
    # A private key that was published by mistake is none to trust.
    return SigningKey(key, algorithms) if hasattr(key, "verify") and not hasattr(key, "sign") else None
