"""Secrets in the comments of voicegw.yaml: entries that were commented out, and what someone noted beside a key.

Comments are written by people for people: a secret's name is followed by its value until the line ends, unless that is
a sentence. May import ``config.layout``, ``config.parse``, ``config.secret_names``, ``config.secret_text``.
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from voicegw_mcp.config.layout import after_properties, content_end, line_end
from voicegw_mcp.config.secret_names import OWN_SECTIONS, WORDS, is_secret_name, is_strong_name
from voicegw_mcp.config.secret_text import (
    HIDDEN,
    MOST,
    MOST_TEXT,
    PEM_BEGIN,
    has_word,
    hide_in_text,
    hide_long,
    is_literal_secret,
    is_nothing,
    pairs,
    replaced,
    value_at,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from voicegw_mcp.config.nodes import Node
    from voicegw_mcp.config.parse import ParsedFile

_FUNCTION_WORDS: Final = frozenset(
    re.findall(
        r"\S+",
        "a an the your our my its their this that these those it see use run set get ask take put add "
        "create comes come is are was be in from stored kept taken lives goes only not no must never "
        "same one for of to what where who as by with on at per name names read here there none and or "
        "if when how every each any all some is, has have can may do does you we needs need without "
        "optional required see: which about ",
    )
)
_WAS: Final = re.compile(
    r"\b(?i:was|were|old|previously|formerly|before|prev|replaces|replaced|now|is)\b[ \t:=]{1,8}[\"'`]?([^\s\"'`,;]+)"
)
_SAID: Final = re.compile(
    rf"(?i:{'|'.join(WORDS)})[A-Za-z_-]{{0,32}}[ \t]{{1,4}}(?:(?i:is|was|were|are)[ \t]{{1,4}}[\"'`]?([^\s\"'`,;]{{6,}})"
    r"|[\"'`]?([A-Za-z0-9]{12,}[^\s\"'`,;]*))"
)
_RUN: Final = re.compile(
    r"(?<![A-Za-z0-9/.~$_{-])(?=[A-Za-z]{0,64}[0-9])(?=[0-9]{0,64}[A-Za-z])[A-Za-z0-9]{12,}[A-Za-z0-9+/_=-]*"
)
_PLAIN: Final = re.compile(
    r"[A-Za-z]{1,16}(?:[-_/.: ](?:[A-Za-z]{1,16}(?![A-Za-z0-9])|[A-Za-z0-9]{1,8}(?![A-Za-z0-9])))*+"
)
_ALONE: Final = re.compile(r"(?=\S*[0-9])(?=\S*[A-Za-z])[^\s${}/<>]{6,}")
_START: Final = re.compile(r"(?:[-?#][ \t]*|export[ ]+|set[ ]+|[\"'`{(\[])*+")
_OPENS: Final = re.compile(
    r"(?:-[ \t]+)?[\"']?([A-Za-z][\w.-]{0,63})[\"']?[ \t]*[:=][ \t]*(?:[|>][0-9+-]*|[\[{\"'])?[ \t]*"
)


@functools.lru_cache(maxsize=4096)
def hide_in_comment(text: str, *, beside_secret: bool = False) -> str:
    """Return one comment line, without its ``#``, as it may be shown; ``beside_secret``: what it is about is a secret."""
    if len(text) > MOST_TEXT and (beside_secret or has_word(text)):
        return HIDDEN
    text = hide_in_text(text)
    text = replaced(text, _commented(text))
    if beside_secret:
        if _ALONE.fullmatch(text.strip()):
            return HIDDEN
        text = replaced(text, _said(text, _WAS, anything=True))
        text = _RUN.sub(HIDDEN, text)
    if beside_secret or has_word(text):
        text = hide_long(replaced(text, _said(text, _SAID, anything=False)))
    return text


def opens_secret(text: str) -> bool:
    """Say whether a comment is the name of a secret whose value stands in the lines below (``# api_key: |``)."""
    match = _OPENS.fullmatch(text.strip())
    return match is not None and match[1] not in OWN_SECTIONS and is_secret_name(match[1])


def is_prose(text: str) -> bool:
    """Say whether a text is a sentence: it begins with a word no key begins with, and has no digit."""
    words = text.split()
    return (
        len(words) > 1
        and words[0].strip(".,").lower() in _FUNCTION_WORDS
        and not any(letter.isdigit() for letter in text)
    )


def _commented(text: str) -> Iterator[tuple[int, int]]:
    head = _START.match(text.lstrip())
    first = len(text) - len(text.lstrip()) + (head.end() if head else 0)
    flow = "{" in text[:first] or "[" in text[:first]
    done = 0
    for begin, at, name, separator in pairs(text):
        if begin < done:
            continue
        found = value_at(text, at) if at >= done else None
        if found is None:
            continue
        start, end = found
        if end - start > MOST:
            done = end
        strong = is_strong_name(name) and text[separator] == ":" and not {'"', "'", "`"} & set(text[:begin])
        if (
            (begin <= first or strong) and not flow and start == at
        ):  # the line is a pair: all the rest is its value
            comment = text.find(" #", start)
            end = len(text[: comment if comment >= 0 else len(text)].rstrip())
            if is_prose(text[start:end]):
                continue
        value = text[start:end]
        word = value.isalpha() and begin > first and not flow and start == at
        if word and (value.lower() in _FUNCTION_WORDS or not is_strong_name(name)):
            continue
        if name.lower() in {"key", "keys"} and _PLAIN.fullmatch(value):
            continue  # of a mapping or a list, not of a provider
        if not is_nothing(value.strip()) and is_literal_secret(name, value):
            yield start, end
            done = end


def _said(text: str, pattern: re.Pattern[str], *, anything: bool) -> Iterator[tuple[int, int]]:
    for match in pattern.finditer(text):
        value = match[1] or match[match.lastindex or 0]
        mixed = any(letter.isdigit() for letter in value) and any(letter.isalpha() for letter in value)
        last = (
            anything
            and match.end(match.lastindex or 0) == len(text.rstrip())
            and value.lower() not in _FUNCTION_WORDS
        )
        if (mixed or last) and not value.startswith(("$", "/", "./", "~", "<")) and HIDDEN not in value:
            yield match.span(match.lastindex or 0)


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment, ``#`` included, as indexes into the text; ``alone`` when nothing else is on its line."""

    start: int
    end: int
    line_start: int
    alone: bool


_COMMENT: Final = re.compile(r"#[^\n\r\x85\u2028\u2029]*")
_KEY: Final = re.compile(r"[\s?{-]*[\"']?([A-Za-z][\w.-]{0,63})[\"']?[ \t]*:(?=\s)")


def comments(parsed: ParsedFile, start: int = 0, end: int | None = None) -> list[Comment]:
    """Return the comments that begin in a part of the file, in order."""
    text = parsed.text
    end = len(text) if end is None else end
    spans = sorted(_spans(parsed.tree.root, text))
    starts = [span[0] for span in spans]
    found: list[Comment] = []
    at = text.find("#", start, end)
    while at >= 0:
        before = bisect_left(starts, at + 1) - 1
        if before >= 0 and at < spans[before][1]:
            at = text.find("#", spans[before][1], end)
            continue
        match = _COMMENT.match(text, at)
        stop = match.end() if match else at + 1
        begin = text.rfind("\n", 0, at) + 1
        found.append(Comment(at, stop, begin, not text[begin:at].strip(" \t\ufeff")))
        at = text.find("#", stop, end)
    return found


def hidden_comments(parsed: ParsedFile, marks: Sequence[int]) -> Iterator[tuple[int, int, str]]:
    """Yield the comments that hold secrets, as they may be shown; ``marks`` is where to look, from ``telling``."""
    text = parsed.text
    if not _is_worth_it(text, marks):
        return
    last = Comment(0, 0, -1, alone=False)
    inside: int | None = None  # how deep the commented-out name of a secret stands whose value follows
    pem = False
    for comment in comments(parsed):
        raw = text[comment.start : comment.end]
        if not (comment.alone and line_end(text, last.start) == comment.line_start and last.line_start >= 0):
            inside, pem = None, False
        last = comment
        bare = raw.lstrip("#").lstrip(" \t")
        head, content = raw[: len(raw) - len(bare)], bare.rstrip()
        depth = len(head.lstrip("#").expandtabs())
        if inside is not None and content and not (depth > inside or (depth == inside and content[0] == "-")):
            inside = None
        if pem or inside is not None:
            shown = _whole(content)
            pem = pem and "-----END" not in content
        else:
            shown = hide_in_comment(content, beside_secret=_beside_secret(text, comment))
            inside = depth if opens_secret(content) else None
        begins = PEM_BEGIN.search(content)
        pem = pem or (begins is not None and "-----END" not in content[begins.end() :])
        if shown != content:
            yield comment.start, comment.start + len(head) + len(content), head + shown


def _whole(content: str) -> str:
    """Return a line of a commented-out secret as it may be shown."""
    value = content.removeprefix("- ").strip().strip("\"'")
    if is_prose(content) or not is_literal_secret("secret", value) or content in {"-", "}", "]", "{", "["}:
        return content
    return f"- {HIDDEN}" if content.startswith("- ") else HIDDEN


def _beside_secret(text: str, comment: Comment) -> bool:
    match = _KEY.match(text, comment.line_start, comment.start)
    return match is not None and is_secret_name(match[1])


def _is_worth_it(text: str, marks: Sequence[int]) -> bool:
    """Say whether a comment on one of these lines may hold a secret, taking every ``#`` for the begin of one."""
    done = 0
    for mark in marks:
        if mark < done:
            continue
        start, done = text.rfind("\n", 0, mark) + 1, line_end(text, mark)
        at = text.find("#", start, done)
        while at >= 0:
            content = text[at + 1 : done].lstrip("# \t").rstrip()
            beside = _beside_secret(text, Comment(at, done, start, alone=False))
            if opens_secret(content) or hide_in_comment(content, beside_secret=beside) != content:
                return True
            at = text.find("#", at + 1, min(done, at + 512))
    return False


def _spans(node: Node | None, text: str) -> Iterator[tuple[int, int]]:
    """Yield where scalars and the tags and anchors of others stand: a ``#`` in them begins no comment."""
    if node is None:
        return
    if node.kind in ("map", "seq"):
        if node.anchor is not None or node.tagged:
            yield node.start, after_properties(text, node)
        for key, value in node.items:
            if node.kind == "map":
                yield from _spans(key, text)
            yield from _spans(value, text)
    elif node.style in ("|", ">"):  # a comment may stand behind the indicator
        yield line_end(text, after_properties(text, node)), content_end(text, node)
    else:
        yield node.start, node.end
