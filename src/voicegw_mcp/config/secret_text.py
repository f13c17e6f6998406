"""Secrets inside texts: user and password of a URL, ``name: value`` pairs, and the shapes of well-known keys.

Every pattern reads a text once. May import ``config.secret_names``, ``config.secrets``.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final

from voicegw_mcp.config.secret_names import WORDS, is_secret_name, is_strong_name, mentions_secret
from voicegw_mcp.config.secrets import REFERENCE, SECRET_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HIDDEN: Final = "***"
MOST_TEXT: Final = 65_536
"""A text of that length with a word like ``key`` in it is hidden whole: the time of a look has a bound."""
MOST: Final = 256
"""A value that is longer is looked at as a whole: names inside it are not looked for again."""

_URL_USER: Final = re.compile(
    r"(?<=://)[^/\s?#]+(?=@)|(?<=://)[^/\s?#@:\[$]{1,64}:(?!\d*/)[^\s:@]{1,128}(?=@)"
)
_URL_PARAMETER: Final = re.compile(r"(?<=[?&])([^=&#?\s]{1,64})=([^&#\s]+)")
_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?s:.*?)(?:-----END [A-Z0-9 ]{0,60}(?:-----)?|(?=[\"'])|\Z)"
)
PEM_BEGIN: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY")
_SHAPE: Final = re.compile(
    r"\b(?:sk|rk|pk|gsk|csk|xai|pplx|nvapi|tvly|glpat|whsec)[-_][A-Za-z0-9_-]{12,}"
    r"|\b(?:hf|r8|npm)_[A-Za-z0-9]{20,}"
    r"|(?<![A-Za-z0-9])(?:"
    r"AIza[A-Za-z0-9_-]{16,}|A[KS]IA[A-Z0-9]{12,}|gh[opusr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}"
    r"|(?:xox[a-eoprs]|xapp)-[A-Za-z0-9-]{8,}|eyJ[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]*){0,4}={0,2}"
    r"|ya29\.[A-Za-z0-9_-]{16,})"
    r"|(?<=\bBearer )[^\s${}*]{8,}"
)
_DASHED: Final = re.compile(
    r"[-_](?=[A-Za-z0-9_-]{8})(?:(?<=[srp]k.)|(?<=xai.)|(?<=pplx.)|(?<=nvapi.)|(?<=tvly.)|(?<=glpat.)|(?<=whsec.)|(?<=hf_)"
    r"|(?<=r8_)|(?<=npm_)|(?<=gh[opusr]_)|(?<=github_)|(?<=_pat_)|(?<=xox[a-eoprs]-)|(?<=xapp-))"
)
_BEFORE_DASH: Final = (
    *(
        "sk",
        "rk",
        "pk",
        "xai",
        "pplx",
        "nvapi",
        "tvly",
        "glpat",
        "whsec",
        "hf",
        "r8",
        "npm",
        "github",
        "pat",
        "xapp",
    ),
    *(f"gh{kind}" for kind in "opusr"),
    *(f"xox{kind}" for kind in "abcdeoprs"),
)
_BEFORE_DASH_ENDS: Final = frozenset(prefix[-2:] for prefix in _BEFORE_DASH)
"""A cheap look for the shapes with a dash: what stands before one is compared, which most texts are spared after."""
_MARKS: Final = ("AIza", "IA", "eyJ", "ya29.", "-----B", "\\")
"""The same for the others; behind a backslash anything may stand."""

_LONG: Final = re.compile(
    r"(?<![A-Za-z0-9_/+.~$-])(?:[0-9a-fA-F]{32,}+(?![A-Za-z0-9_+/-])|(?!/)[A-Za-z0-9+/_-]{40,}+={0,2}(?!\w))"
)
"""Random texts that are keys beside a word such as ``key``: hex of 32, Base64 of 40 characters and more."""
_PAIR: Final = re.compile(
    rf"(?i:{'|'.join(WORDS)})[A-Za-z0-9_.-]{{0,48}}(\\?[\"'`]|\]|\*\*)?[ \t]{{0,8}}(:=|=>|->|[:=])[ \t]{{0,8}}"
)
_VALUE: Final = re.compile(
    r"(?P<quote>\\?[\"'`])(?P<quoted>(?:(?!(?P=quote))(?:\\[^\n]|[^\\\n]))*+)"
    r"|(?P<bare>(?:(?i:bearer|basic|token|digest)[ ]+)?(?:\$\{[^}\n]*\}|[^\s,;}\])\"'`&])+)"
)
_NAME_CHARACTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
_EMPTY: Final = frozenset(
    {"", "null", "~", "true", "false", "none", "|", ">", "|-", ">-", "|+", ">+", "{", "[", "..."}
)
_PLACEHOLDER: Final = re.compile(
    r"<[^<>]*>|\.{3,}|…|\*{3,}|x{3,}|X{3,}|\{+[\w ]*\}+|\$\w+|\$\([^)]*\)|%\w+%?"
)
_MIXED: Final = re.compile(r"(?=\S*\d)(?=\S*[A-Za-z])\S{8,}")
_RANDOM: Final = re.compile(r"(?<![A-Za-z0-9])(?=[A-Za-z]*+[0-9])(?=[0-9]*+[A-Za-z])[A-Za-z0-9]{8,}")
_HEADER_REFERENCE: Final = re.compile(rf"(?:[A-Za-z][A-Za-z0-9_-]{{0,31}} )?{REFERENCE.pattern}")


def telling(text: str) -> list[int]:
    """Return where a look for secrets is worth it, sorted: nothing else in the text is one, comments below aside."""
    lower = text.lower()
    if len(lower) != len(text):  # a few letters become two
        lower = "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)
    found: list[int] = []
    pieces = text.replace("_", "-").split("-")
    if any(piece.endswith(_BEFORE_DASH) for piece in pieces if piece[-2:] in _BEFORE_DASH_ENDS):
        found += [match.start() for match in _DASHED.finditer(text)]
    for inside, marks in ((lower, WORDS), (text, _MARKS)):
        for mark in marks:
            found += _all(inside, mark)
    end = 0
    worth = False
    for at in _all(text, "://"):
        if at >= end:
            start, end = at, text.find("\n", at)
            end = end if end >= 0 else len(text)
            worth = text.find("@", start, end) >= 0 or text.find("=", start, end) >= 0
        if worth:
            found.append(at)
    return sorted(found)


def marked_lines(text: str, marks: Sequence[int]) -> Iterator[str]:
    """Yield the lines that ``telling`` found worth a look."""
    done = 0
    for mark in marks:
        if mark >= done:
            end = text.find("\n", mark)
            done = end + 1 if end >= 0 else len(text)
            yield text[text.rfind("\n", 0, mark) + 1 : done]


def is_literal_secret(name: str, value: object) -> bool:
    """Say whether ``value`` is a secret by its name or shape and no reference; ``Bearer ${NAME}`` is one in a header."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    if not isinstance(value, str):
        return is_secret_name(name)
    value = value.strip()
    if not is_secret_name(name):
        if _SHAPE.fullmatch(value):
            return True
        return len(value) >= 32 and mentions_secret(name) and hide_long(value) == HIDDEN
    reference = REFERENCE if SECRET_KEYS.search(name) else _HEADER_REFERENCE
    return bool(value) and reference.fullmatch(value) is None


@functools.lru_cache(maxsize=1024)
def has_shape(text: str) -> bool:
    """Say whether there is a well-known key or a password of a URL in a text."""
    if "://" in text and _hide_url_user(text) != text:
        return True
    return _SHAPE.search(text) is not None or PEM_BEGIN.search(text) is not None


def hide_in_text(text: str) -> str:
    """Return a text as it may be shown: without user, password and secret parameters of a URL, pairs and known keys."""
    if "://" in text:
        text = _hide_url_user(text)
    if "=" in text:
        text = _URL_PARAMETER.sub(
            lambda match: f"{match[1]}={HIDDEN}" if is_literal_secret(match[1], match[2]) else match[0], text
        )
    text = _hide_shapes(text)
    if has_word(text):
        if len(text) > MOST_TEXT:
            return HIDDEN
        text = hide_long(replaced(text, _pairs(text)))
    return text


def has_word(text: str) -> bool:
    """Say whether a word stands in a text that names of secrets have."""
    lower = text.lower()
    return any(word in lower for word in WORDS)


def hide_long(text: str) -> str:
    """Return a text without long random runs; in Base64 there are letters of both cases and digits."""
    return _LONG.sub(lambda match: HIDDEN if _is_mixed(match[0]) else match[0], text)


def _is_mixed(value: str) -> bool:
    both = value.lower() != value != value.upper()
    return any(map(str.isdigit, value)) and (both or not value.strip("0123456789abcdefABCDEF"))


def pairs(text: str) -> Iterator[tuple[int, int, str, int]]:
    """Yield for each ``name: `` of a secret: where the name begins, where its value does, the name, where it ends at most."""
    done = 0
    for match in _PAIR.finditer(text):
        start = match.start()
        if start < done:
            continue
        floor = max(done, start - 64)
        begin = floor + len(text[floor:start].rstrip(_NAME_CHARACTERS))
        tail = match[0][: match.end() - start].rstrip(" \t")
        name = text[begin:start] + tail.rstrip(":=->").rstrip(" \t\"'`\\]*")
        if is_secret_name(name):
            yield begin, match.end(), name, match.start(2)
            done = match.end()


def value_at(text: str, at: int) -> tuple[int, int] | None:
    """Return where the value that begins at ``at`` stands, its quotes not among it; None when there is none."""
    match = _VALUE.match(text, at)
    if match is None:
        return None
    return match.span("quoted" if match["quote"] else "bare")


def is_nothing(value: str) -> bool:
    """Say whether what stands after a name is no value: ``null``, ``<your key>``, ``...``."""
    return value.lower() in _EMPTY or _PLACEHOLDER.fullmatch(value) is not None


def _pairs(text: str) -> Iterator[tuple[int, int]]:
    """Yield what is a secret by the name before it; prose (``the token: a word``) is none."""
    done = 0
    for begin, at, name, separator in pairs(text):
        found = value_at(text, at) if at >= done else None
        if found is None:
            continue
        start, end = found
        if end - start > MOST:
            done = end
        value = text[start:end]
        quoted = start > at
        tight = text[separator] == "=" and text[separator - 1 : separator] != " " and separator + 1 == at
        json = quoted and text[begin - 1 : begin] in {'"', "'"}
        strong = is_strong_name(name)
        mixed = (_MIXED.fullmatch if strong else _RANDOM.search)(value) is not None
        sure = json or (strong and (quoted or tight)) or mixed
        if sure and len(value) > 2 and not is_nothing(value) and is_literal_secret(name, value):
            yield start, end
            done = end


def replaced(text: str, spans: Iterator[tuple[int, int]]) -> str:
    """Return a text with what stands in these places hidden."""
    parts: list[str] = []
    done = 0
    for start, end in spans:
        if start >= done:
            parts += [text[done:start], HIDDEN]
            done = end
    return "".join([*parts, text[done:]]) if parts else text


def _hide_url_user(text: str) -> str:
    return _URL_USER.sub(lambda match: match[0] if REFERENCE.fullmatch(match[0]) else HIDDEN, text)


def _hide_shapes(text: str) -> str:
    if "-----BEGIN " in text:
        text = _PEM.sub(HIDDEN, text)
    return _SHAPE.sub(HIDDEN, text)


def _all(text: str, mark: str) -> Iterator[int]:
    at = text.find(mark)
    while at >= 0:
        yield at
        at = text.find(mark, at + len(mark))
