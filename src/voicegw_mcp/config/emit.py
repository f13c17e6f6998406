"""How a value is written into voicegw.yaml: text that YAML 1.1 and YAML 1.2 readers understand alike.

Strings that either would read as something else are quoted. Long strings stay on one line, line breaks are escaped.
May import ``config.parse``, ``config.nodes``, ``config.values`` and ``errors``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from voicegw_mcp.config.nodes import TAG
from voicegw_mcp.config.parse import Loader
from voicegw_mcp.config.values import is_list, is_map
from voicegw_mcp.errors import ConfigInvalid, quote as shown

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_KEY = 1000
"""Characters of an emitted key; YAML ends what counts as a simple key at 1,024."""

_WORDS = frozenset({"yes", "no", "on", "off", "y", "n", "true", "false", "null", "~", "<<", "=", ""})
_NUMBERISH = re.compile(r"[-+]?\.?[0-9][0-9a-fA-FxXoO_.:,+\-TtZz ]*|[-+]?\.(?:inf|nan)", re.IGNORECASE)
_FIRST = frozenset("-?:,[]{}#&*!|>'\"%@` \t")
_INNER = re.compile(r":(?:[ \t]|$)|[ \t]#|[ \t]$")
_FLOW_INNER = re.compile(r"[,\[\]{}:?#&*!|>'\"%@`]")
_ESCAPED = re.compile(
    r"[\x00-\x1f\x7f-\xa0\"\\\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]"
    r"|[\ufdd0-\ufdef]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\", "\0": "\\0"}


Form = Literal["block", "line", "spread"]
"""A collection as indented lines, as braces on one line, or as braces with an item to a line."""


@dataclass(frozen=True, slots=True)
class Style:
    """How the neighbours write: indentation step, dash offset in lists, and what they show about each key."""

    step: int = 2
    dash: int = 2
    quotes: Mapping[str, str] = field(default_factory=dict[str, str])
    """The quote of a key's value; under "" the one for keys that no neighbour has."""
    forms: Mapping[str, Form] = field(default_factory=dict[str, "Form"])
    """How a key's collection is written; under "" the form in braces for keys that no neighbour has."""
    flow_lists: frozenset[str] = frozenset()
    """Keys that no neighbour has with items, and whose lists go on one line all the same."""
    entries: Form | None = None
    """How the entries beside the new one are written, when they are all alike."""
    key_quote: str = ""
    """The quote all keys beside the new entry have, or ""."""
    inner_quote: str = ""
    """The quote all keys inside of entries have, or ""."""

    def quote(self, name: str) -> str:
        """Return the quote for the value of a key."""
        return self.quotes.get(name, self.quotes.get("", ""))

    def beside_others(self, name: str, value: object) -> Style:
        """Return the style in which the new entry ``name`` looks like the entries beside it."""
        if self.entries is None or not is_map(value) or name in self.forms:
            return self
        return replace(self, forms={**self.forms, name: self.entries})


def refuse(reason: str) -> ConfigInvalid:
    """Make the error for a value or an edit that cannot be written rightly."""
    return ConfigInvalid(
        f"voicegw.yaml cannot be edited safely because {reason}; edit it by hand.", details={"reason": reason}
    )


def scalar(value: object, *, flow: bool = False, like: str = "") -> str:
    """Write None, a bool, a number or a string. ``like`` is the quote to use where quotes are optional.

    Raises ConfigInvalid for NaN, infinities, unpaired surrogates and types that are not JSON's.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value, flow=flow, like=like)
    try:
        if isinstance(value, int):
            return str(int(value))
        if isinstance(value, float) and math.isfinite(value):
            return _float(value)
    except ValueError:
        pass
    what = "a number" if isinstance(value, int) else shown(value)
    raise refuse(f"{what} ({type(value).__name__}) has no plain form in YAML")


def _float(value: float) -> str:
    text = repr(float(value))
    mantissa, exponent, power = text.partition("e")
    if not exponent:
        return text
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{power}"


def _string(value: str, *, flow: bool, like: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise refuse(f"{shown(value)} holds an unpaired surrogate") from None
    escaped = _ESCAPED.sub(_escape, value)
    if like == "'" and escaped.replace('\\"', '"').replace("\\\\", "\\") == value:
        return "'" + value.replace("'", "''") + "'"
    if like != '"' and is_plain(value, flow=flow):
        return value
    return f'"{escaped}"'


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return _SHORT.get(match[0]) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def is_plain(value: str, *, flow: bool) -> bool:
    """Whether a string reads the same without quotes, everywhere."""
    if value.lower() in _WORDS or value[0] in _FIRST or value.startswith("..."):
        return False
    if _NUMBERISH.fullmatch(value) or _INNER.search(value) or (flow and _FLOW_INNER.search(value)):
        return False
    if _ESCAPED.search(value):
        return False
    resolvers: Any = Loader.yaml_implicit_resolvers
    return not any(pattern.match(value) for tag, pattern in resolvers.get(value[0], ()) if tag != TAG + "str")


def key(name: object, *, flow: bool = False, like: str = "") -> str:
    """Write a mapping key. Raises ConfigInvalid when it is no string or too long for one line."""
    if not isinstance(name, str):
        raise refuse(f"the key {shown(name)} is not a string")
    text = scalar(name, flow=flow, like=like)
    if len(text) > MAX_KEY:
        raise refuse(f"a key has more than {MAX_KEY} characters")
    return text


def flow(value: object, style: Style, name: str = "", indent: int = 0) -> str:
    r"""Write any JSON-like value as it may stand inside ``{}`` or ``[]`` too, in a line that is indented by ``indent``.

    Where the neighbours write an item to a line, so it is here; line ends are ``\\n``.
    """
    if not (is_map(value) or is_list(value)):
        return scalar(value, flow=True, like=style.quote(name))
    spread = bool(value) and style.forms.get(name, style.forms.get("")) == "spread"
    inner = indent + style.step if spread else indent
    if is_map(value):
        items = [pair(k, v, style, inner, like=style.inner_quote) for k, v in value.items()]
    else:
        items = [flow(item, style, name, inner) for item in value]
    opening, closing = "{}" if is_map(value) else "[]"
    if not spread:
        return opening + ", ".join(items) + closing
    gap = "\n" + " " * inner
    return f"{opening}{gap}{(',' + gap).join(items)}\n{' ' * indent}{closing}"


def pair(name: object, value: object, style: Style, indent: int = 0, *, like: str = "") -> str:
    """Write ``key: value`` for the inside of a flow mapping; ``like`` is the quote of the keys beside it."""
    return f"{key(name, flow=True, like=like)}: {flow(value, style, str(name), indent)}"


def fits_line(value: object, style: Style, name: str = "") -> bool:
    """Whether a value goes behind its key: scalars, empty collections, what the neighbours write in flow."""
    if not (is_map(value) or is_list(value)) or not value:
        return True
    return (
        style.forms.get(name, "line" if is_list(value) and name in style.flow_lists else "block") != "block"
    )


def inline(value: object, style: Style, name: str = "", indent: int = 0) -> str:
    """Write a value for which ``fits_line`` holds, in block context."""
    if is_map(value) or is_list(value):
        return flow(value, style, name, indent)
    return scalar(value, like=style.quote(name))


def entry(name: object, value: object, indent: int, style: Style, *, like: str = "") -> list[str]:
    """Write one entry of a block mapping as lines without line ends."""
    head = " " * indent + key(name, like=like) + ":"
    if fits_line(value, style, str(name)):
        return f"{head} {inline(value, style, str(name), indent)}".split("\n")
    return [head, *children(value, indent, style, str(name))]


def children(value: object, indent: int, style: Style, name: str = "") -> list[str]:
    """Write the inside of a non-empty collection that stands under a key at ``indent``."""
    if is_map(value):
        return [
            line
            for k, v in value.items()
            for line in entry(k, v, indent + style.step, style, like=style.inner_quote)
        ]
    items: Any = value
    return [line for item in items for line in dashed(item, indent + style.dash, style, name)]


def dashed(value: object, indent: int, style: Style, name: str = "") -> list[str]:
    """Write one item of a block list whose dash stands at ``indent``; a list inside a list is written in flow."""
    lead = " " * indent + "- "
    if is_map(value) and value:
        pairs = value.items()
        lines = [line for k, v in pairs for line in entry(k, v, indent + 2, style, like=style.inner_quote)]
        return [lead + lines[0][indent + 2 :], *lines[1:]]
    if is_list(value):
        return (lead + flow(value, style, name, indent + 2)).split("\n")
    return [lead + inline(value, style, name)]
