r"""Conditions on an answer, for scripts: ``total_usd > 10 and not len(groups) == 0``.

A small language of its own, in which nothing but comparing can be said: no arithmetic, no names of Python. Bounded in
length and depth. Imports ``errors`` only.

::

    condition := all ("or" all)*            all      := negated ("and" negated)*
    negated   := "not" negated | compared   compared := operand [("==" | "!=" | "<" | "<=" | ">" | ">=") operand]
    operand   := "(" condition ")" | "len" "(" path ")" | path | number | text | true | false | null
    path      := (name | index) ("." name | index)*      without blanks; index := "[" (digits | text) "]"
    text      := "as in JSON" | 'as it is'
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Final, NoReturn, TypeAlias, cast

from voicegw_mcp.errors import InvalidInput, nearest, quote

MAX_LENGTH: Final = 1000
MAX_DEPTH: Final = 20

_TEXT: Final = r""""(?:[^"\\]|\\.)*"|'[^']*'"""
_NAME: Final = r"[A-Za-z_][\w-]*"
_INDEX: Final = rf"\[(?:[0-9]+|{_TEXT})\]"
_KEY: Final = re.compile(rf"({_NAME})|\[([0-9]+)\]|\[({_TEXT})\]", re.ASCII | re.DOTALL)
_TOKEN: Final = re.compile(
    rf"\s*(?:(?P<number>-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?![\w.])|(?P<text>{_TEXT})"
    rf"|(?P<path>(?:{_NAME}|{_INDEX})(?:\.{_NAME}|{_INDEX})*)|(?P<sign>==|!=|<=|>=|[<>()])|(?P<end>\Z))",
    re.ASCII | re.DOTALL,
)
_SIGNS: Final = {"==": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
_CONSTANTS: Final = {"true": True, "false": False, "null": None}

Seen: TypeAlias = dict[str, Any]
_Node: TypeAlias = Callable[[Any, Seen], Any]


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that was read; ``text`` is how it was written."""

    text: str
    evaluate: _Node

    def check(self, answer: Any) -> tuple[bool, Seen]:
        """Return whether it holds of an answer (JSON-like), and the values of the paths that decided it.

        Raises:
            InvalidInput: the answer has no such path, or its values cannot be compared.
        """
        seen: Seen = {}
        return _truth(self.evaluate(answer, seen)), seen


def parse_condition(text: str) -> Condition:
    """Read a condition.

    Raises:
        InvalidInput: it is none; the message tells the place.
    """
    if len(text) > MAX_LENGTH:
        raise _invalid(f"A condition has at most {MAX_LENGTH} characters.")
    return Condition(text, _Parser(text).whole())


class _Parser:
    """Reads from left to right; ``_kind`` and ``_word`` are the token that comes next."""

    def __init__(self, text: str) -> None:
        self._text, self._kind, self._word = text, "", ""
        self._place: int = 0
        self._end: int = 0
        self._take()

    def whole(self) -> _Node:
        node = self._condition(0)
        return node if self._kind == "end" else self._refuse()

    def _condition(self, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            raise _invalid(f"The condition is nested deeper than {MAX_DEPTH} levels.")
        return self._chain("or", lambda: self._chain("and", lambda: self._negated(depth)))

    def _chain(self, word: str, part: Callable[[], _Node]) -> _Node:
        parts = [part()]
        while self._takes(word):
            parts.append(part())
        combine = any if word == "or" else all
        if len(parts) == 1:
            return parts[0]
        return lambda answer, seen: combine(_truth(node(answer, seen)) for node in parts)

    def _negated(self, depth: int) -> _Node:
        negations = 0
        while self._takes("not"):
            negations += 1
        node = self._compared(depth)
        return (lambda answer, seen: _truth(node(answer, seen)) != bool(negations % 2)) if negations else node

    def _compared(self, depth: int) -> _Node:
        left = self._operand(depth)
        if self._word not in _SIGNS or self._kind != "sign":
            return left
        sign, right = self._take(), self._operand(depth)
        return lambda answer, seen: _compare(left(answer, seen), sign, right(answer, seen))

    def _operand(self, depth: int) -> _Node:
        if self._takes("("):
            node = self._condition(depth + 1)
            return node if self._takes(")") else self._refuse()
        if self._kind in {"number", "text"}:
            value = _literal(self._take())
            return lambda _answer, _seen: value
        path = self._path()
        if path == "len" and self._takes("("):
            path = self._path()
            return _looks_up(f"len({path})", path) if self._takes(")") else self._refuse()
        if path in _CONSTANTS:
            return lambda _answer, _seen: _CONSTANTS[path]
        return _looks_up(path, path)

    def _path(self) -> str:
        return self._refuse() if self._kind != "path" or self._word in {"and", "or", "not"} else self._take()

    def _take(self) -> str:
        word, match = self._word, _TOKEN.match(self._text, self._end)
        if match is None:
            rest = self._text[self._end :].strip()
            raise _invalid(f"The condition cannot be read from {quote(rest[:30])} on.")
        self._kind = str(match.lastgroup)
        self._word, self._place = match[self._kind], match.start(self._kind)
        self._end = match.end()
        return word

    def _takes(self, word: str) -> bool:
        """Pass over a sign or a word, when it comes next."""
        return self._word == word and self._kind in {"sign", "path"} and bool(self._take())

    def _refuse(self) -> NoReturn:
        what = "ends too early" if self._kind == "end" else f"has an unexpected {quote(self._word)}"
        raise _invalid(f"The condition {what} (character {self._place + 1}).")


def _looks_up(name: str, path: str) -> _Node:
    keys = [
        int(digits) if digits else word or str(_literal(text)) for word, digits, text in _KEY.findall(path)
    ]

    def look_up(answer: Any, seen: Seen) -> Any:
        value = answer
        for key in keys:
            value = _step(value, key, path)
        if name != path:
            if not isinstance(value, str | list | dict):
                raise _invalid(f"{quote(path)} is {_kind(value)} and has no length.")
            value = len(cast("str | list[Any] | dict[str, Any]", value))
        seen[name] = value
        return value

    return look_up


def _step(value: Any, key: str | int, path: str) -> Any:
    """Return what ``value`` has under ``key``; nothing there is an error, never false."""
    if isinstance(value, list if isinstance(key, int) else dict):
        with contextlib.suppress(KeyError, IndexError):
            return cast("Any", value)[key]
    known = list(cast("dict[str, Any]", value)) if isinstance(value, dict) else []
    near = [quote(name)[1:-1] for name in nearest(str(key), known, count=1) or known[:20]]
    message = f"The answer has no {quote(path)}: {_kind(value)} there has no {quote(key)}."
    raise _invalid(message, f"It has: {', '.join(near)}." if near else "")


def _literal(word: str) -> Any:
    if word[0] == "'":
        return word[1:-1]
    try:
        value = json.loads(word)
    except ValueError:
        value = math.inf
    if isinstance(value, float) and not math.isfinite(value):
        raise _invalid(f"{quote(word)} is no number or text as in JSON.")
    return value


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _invalid(f"A condition is true or false; {_kind(value)} is neither.", "Compare it with something.")


def _compare(left: Any, sign: str, right: Any) -> bool:
    kinds = {_kind(left), _kind(right)}
    if kinds in ({"a number"}, {"a text"}):
        return _SIGNS[sign](left, right)
    if sign not in {"==", "!="} or kinds & {"a list", "an object", "no number"}:
        raise _invalid(f"{sign} does not compare {_kind(left)} with {_kind(right)}.")
    return (left is right) == (sign == "==")


def _kind(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "no number"
    kinds = (
        (bool, "a boolean"),
        (str, "a text"),
        (int | float, "a number"),
        (list, "a list"),
        (dict, "an object"),
    )
    return next((name for kind, name in kinds if isinstance(value, kind)), "null")


def _invalid(message: str, hint: str = "") -> InvalidInput:
    return InvalidInput(message, field="fail_if", hint=hint or "docs/ci.md tells what can be written.")
