"""Section ``tokens``: wrong tokens in odd encodings."""

import base64
import codecs
import random
import urllib.parse
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.hostile.servers import TOKEN, exchange, is_typed, leaks, running
from tests.proof import Progress, Section
from tests.unit.web.authorization import (
    AuthorizationServer,
    authorization_server,
    encoded,
    rsa_key,
    shared_secret_token,
)

NAME = "tokens"
TITLE = "Wrong tokens"
CHECKED = """\
Tokens that are nearly the right one (cut, longer, in other letters, encodings and alphabets, quoted, doubled, behind other schemes, in the query)
and access tokens that are nearly good (without signature, signed by another key or with the public key as a secret, with changed claims, for
another audience or time), from many addresses, so that the lockout does not answer for the check. Each must be answered 401, or 429 once an address is
locked out.
"""
ROUNDS = 10_000
PER_ADDRESS = 20
"""Requests from one address: some more than lock it out, as those without a token do not count."""

Maker = Callable[[random.Random, AuthorizationServer], bytes]
_BARE = TOKEN.encode()


def _spoiled(draw: random.Random, token: bytes) -> bytes:
    """Change, insert or drop a byte, which may be none of ASCII."""
    at = draw.randrange(len(token))
    byte = bytes([draw.choice([code for code in (*range(33, 127), *range(128, 256)) if code != token[at]])])
    return draw.choice(
        [token[:at] + byte + token[at + 1 :], token[:at] + byte + token[at:], token[:at] + token[at + 1 :]]
    )


def _jwt(draw: random.Random, issuer: AuthorizationServer) -> bytes:
    changed = draw.choice(
        [
            {"aud": "https://other.example.com"}, {"aud": None}, {"iss": "https://id.example.com"}, {"nbf": 2**40},
            {"exp": 1}, {"exp": "x"}, {"exp": None}, {"sub": None}, {"sub": ""}, {"sub": draw.randrange(9)},
        ]
    )  # fmt: skip
    return issuer.token(**changed)


def _unsigned(draw: random.Random, issuer: AuthorizationServer) -> bytes:
    header = {
        "alg": draw.choice(["none", "None", "NONE", "HS256", "RS256", "", None, 7]),
        "typ": "JWT",
        "kid": "one",
    }
    return (
        encoded(header)
        + b"."
        + encoded(issuer.claims())
        + b"."
        + draw.choice([b"", b"AA", encoded(draw.randbytes(256))])
    )


MAKERS: list[Maker] = [
    lambda draw, _: _spoiled(draw, _BARE),
    lambda draw, _: _spoiled(draw, _spoiled(draw, _BARE)),
    lambda draw, _: _BARE[: draw.randrange(1, len(_BARE))],
    lambda draw, _: _BARE + draw.randbytes(draw.randrange(1, 40)).hex().encode(),
    lambda draw, _: _BARE * draw.randrange(2, 20),
    lambda draw, _: draw.choice([_BARE.upper(), _BARE.title(), _BARE.swapcase(), _BARE[::-1]]),
    lambda draw, _: draw.choice([base64.b64encode, base64.b32encode, base64.b85encode, base64.b16encode])(_BARE),
    lambda draw, _: "".join(f"%{byte:02x}" if draw.random() < 0.5 else chr(byte) for byte in _BARE).encode() + b"%00",
    lambda draw, _: urllib.parse.quote(TOKEN, safe="").replace("-", draw.choice(["%2D", "%2d", "&#45;", "\\x2d"])).encode(),
    lambda draw, _: "".join(chr(ord(c) + 0xFEE0) if draw.random() < 0.5 else c for c in TOKEN).encode() + "\uff0d".encode(),
    lambda draw, _: TOKEN.replace("-", draw.choice("‐‑‒–—−­")).encode(),
    lambda draw, _: (draw.choice("\u200b\u200d\u2060\ufeff\u00a0\u202e") + TOKEN).encode(),
    lambda draw, _: (TOKEN + draw.choice("\u200b\u200d\u2060\ufeff\u00a0\u202e\x85")).encode(),
    lambda draw, _: TOKEN.replace(draw.choice("aoe"), draw.choice("аοе")).encode(),
    lambda draw, _: draw.choice([b'"%s"', b"'%s'", b"<%s>", b"[%s]", b"${%s}", b"%s,", b"%s;", b",%s", b"=%s"]) % _BARE,
    lambda draw, _: codecs.encode(TOKEN, "rot13").encode() + str(draw.randrange(10)).encode(),
    lambda draw, _: bytes(byte | 0x80 for byte in _BARE) + bytes([draw.randrange(128, 256)]),
    lambda draw, _: b"x" * draw.randrange(1, 30_000),
    lambda draw, _: bytes(draw.choice(range(128, 256)) for _ in range(draw.randrange(1, 200))),
    lambda draw, _: draw.choice([b"null", b"undefined", b"None", b"true", b"0", b"*", b"${VOICEGW_MCP_TOKEN}", b"' OR '1'='1"]),
    lambda draw, issuer: _spoiled(draw, issuer.token()),
    lambda draw, issuer: issuer.token(rsa_key("another"), draw.choice(["one", "two", None])),
    lambda _, issuer: shared_secret_token(issuer.claims(), rsa_key()),
    lambda draw, issuer: issuer.token().rpartition(b".")[0] + draw.choice([b"", b".", b"..", b".e30"]),
    _jwt,
    _unsigned,
]  # fmt: skip
SCHEMES = (
    b"Bearer ",
    b"Bearer ",
    b"Bearer ",
    b"bearer   ",
    b"BEARER ",
    b"Token ",
    b"Basic ",
    b"Bearer\t",
    b"",
)


def run(rounds: int, seed: int, folder: Path, progress: Progress) -> Section:
    """Send so many wrong tokens."""
    section, draw = Section(NAME), random.Random(seed)  # noqa: S311 - to be repeated
    counts: Counter[int] = Counter()
    with authorization_server() as issuer:
        settings = f'auth:\n  oauth: {{issuer: "{issuer.issuer}", resource: "http://127.0.0.1:8090"}}\n'
        with running(folder / "server", "serve", "-p", "0", auth=settings) as server:
            for number in range(rounds):
                while (token := draw.choice(MAKERS)(draw, issuer)) == _BARE:
                    pass  # changed twice, it may be the right one again
                value = draw.choice(SCHEMES) + token
                query = b"?access_token=" + TOKEN.encode() if draw.random() < 0.05 else b""
                doubled = b"Authorization: Bearer " + _BARE + b"\r\n" if draw.random() < 0.05 else b""
                place = number // PER_ADDRESS + 2
                source = f"127.{place >> 16 & 255}.{place >> 8 & 255}.{place & 255}"
                reply = exchange(
                    server,
                    b"POST /mcp%s HTTP/1.1\r\nHost: localhost\r\n%sAuthorization: %s\r\nContent-Length: 0\r\n\r\n"
                    % (query, doubled, value),
                    source,
                )
                counts[reply.status] += 1
                if reply.status not in {401, 429} or not is_typed(reply.body) or leaks(reply.body):
                    section.violations.append(f"token {number} ({value[:80]!r}): status {reply.status}")
                progress(number + 1, rounds)
            for good in (_BARE, issuer.token(scope="voicegw.read")):
                head = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n" % good
                reply = exchange(server, head + b"Accept: */*\r\nContent-Length: 0\r\n\r\n")
                if reply.status in {0, 401, 403, 429, 503}:  # an empty body is refused behind the door
                    section.violations.append(f"afterwards a good token is answered {reply.status}")
            section.violations += server.complaints()
    section.figures += [
        ("tokens", rounds),
        ("ways to make one", len(MAKERS) * len(set(SCHEMES))),
        *((f"answered {status}", count) for status, count in sorted(counts.items())),
        ("accepted", sum(count for status, count in counts.items() if status not in {401, 429})),
    ]
    return section
