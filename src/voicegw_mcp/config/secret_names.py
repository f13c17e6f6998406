"""By which names secrets go, in any spelling: ``api_key``, ``X-Auth-Token``, ``openai_key_backup``. Imports nothing of ours."""

from __future__ import annotations

import functools
import re
from typing import Final

WORDS: Final = (
    "key",
    "token",
    "secret",
    "pass",
    "pwd",
    "cred",
    "auth",
    "bearer",
    "cookie",
    "jwt",
)
"""Every name of a secret has one of these in it, in any case."""

OWN_SECTIONS: Final = frozenset({"auth", "api_keys"})
"""Our own sections that hold secrets among other things: what is inside is judged by its own name."""

ID_LEVELS: Final = {"projects": 1, "providers": 1, "stacks": 1, "models": 2}
"""How many levels below a section's key are ids: a project ``token`` is no token."""

_NOT_SECRET: Final = frozenset(
    f"{what}_{kind}"
    for kind, kinds in {
        "key": "sort primary cache foreign public partition idempotency group routing row lookup shortcut hot map",
        "token": "eos bos pad unk mask stop start end wake sep cls",
        "pass": "high low band all",
    }.items()
    for what in kinds.split()
)
_KEYS: Final = (
    r"(api|access|private|secret|subscription|signing|encryption|license|account|auth|master|admin)_?keys?"
)
_TOKENS: Final = r"(api|access|auth|bearer|refresh|session|bot|oauth)_?tokens?"
_STRONG: Final = re.compile(
    rf"(^|_)(secrets?|passw(or)?[dt]s?|passphrases?|credentials?|creds|{_KEYS}|{_TOKENS})(_|$)"
    r"|(api|access|private|secret)key|password|passwd|passphrase|(auth|access|bearer|refresh)token|clientsecret"
)
"""Tells a secret wherever it stands in a name, unless the last word says what else is there."""
_ABOUT: Final = frozenset(
    re.findall(
        r"\S+",
        "name names id ids env var variable variables file files path paths dir folder url urls uri "
        "endpoint host header headers prefix suffix length len size limit limits min max count number "
        "type kind format policy ttl timeout expiry expires expiration age lifetime required optional "
        "enabled disabled allowed allow ref refs reference references source provider manager store "
        "backend vault algorithm alg field fields param parameter label description hint help comment "
        "note minute minutes second seconds hour hours day days week month rotation version region "
        "status state scope scopes rate budget cost price location arn hash sha digest checksum "
        "fingerprint mode issuer audience leeway claims strength check checks validation login reset "
        "service method index ",
    )
)
"""As a name's last word: it is about a secret, and is none (``api_key_env``, ``password_file``)."""
_WEAK: Final = re.compile(
    r"(^|_)(keys?|token|pass|pwd|cred|jwts?|authorization|auth|bearer|cookies?)$|^tokens$|(subscription|speech)keys?$"
)
"""Tells a secret as the end of a name."""
_AFTER: Final = re.compile(
    r"(_(\d+|v\d+|old|new|backup|bak|prev|previous|current|value|text|raw|json|b64|base64|pem|plain|literal|content|data"
    r"|string|str|copy|tmp|temp|orig|original|unused|expired|rotated|revoked|live|test|prod|production|dev|staging|main"
    r"|primary|secondary|eu|us))+$"
)
"""What may follow it and still be it."""
_MENTIONED: Final = re.compile(r"(^|_)(keys?|tokens?|secrets?|auth|cred|jwt|bearer|pass)(_|$)")
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BREAK: Final = re.compile(r"[^a-z0-9]+")
_NUMBERED: Final = re.compile(r"(keys?|tokens?|secrets?|pass\w*?|pwd)(\d+)(?=_|$)")


def _snake(name: str) -> str:
    spaced = _BREAK.sub("_", _HUMP.sub("_", name[:256]).lower())
    return _NUMBERED.sub(r"\1_\2", spaced).strip("_")


@functools.lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Say whether what goes by this name is a secret, in any spelling: ``auth_token``, ``X-Api-Key``, ``accessToken``."""
    snake = _snake(name)
    bare = _AFTER.sub("", snake)
    if snake in _NOT_SECRET or bare in _NOT_SECRET:
        return False
    if _WEAK.search(bare):
        return True
    return _STRONG.search(snake) is not None and snake.rsplit("_", 1)[-1] not in _ABOUT


@functools.lru_cache(maxsize=4096)
def is_strong_name(name: str) -> bool:
    """Say whether a secret's name cannot mean anything else (``password``, unlike ``key``)."""
    return is_secret_name(name) and _STRONG.search(_snake(name)) is not None


@functools.lru_cache(maxsize=4096)
def mentions_secret(name: str) -> bool:
    """Say whether a long random value by this name would be a secret: ``openai_key_of_team_a``."""
    snake = _snake(name)
    return (
        _MENTIONED.search(snake) is not None
        and _AFTER.sub("", snake) not in _NOT_SECRET
        and snake.rsplit("_", 1)[-1] not in _ABOUT
    )


def inherited(outer: str, inner: str) -> str:
    """Return the name a value inside a mapping goes by: inside ``credentials`` everything is a secret."""
    return (
        outer if outer not in OWN_SECTIONS and is_secret_name(outer) and not is_secret_name(inner) else inner
    )
