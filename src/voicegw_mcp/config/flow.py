"""Cuts inside ``{...}`` and ``[...]``: items go in and out with their commas, on one line or over several.

Each item has the white space and comment lines above it, its own text, and the comma and comment behind it.
May import ``config.nodes``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from voicegw_mcp.config.nodes import Node

_BLANK_LINE = re.compile(r"\r?\n[ \t]*(?=\r?\n)")

Cut = tuple[int, int, str]
"""Replace ``text[start:end]``."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One item of a flow collection; ``lead`` to ``start`` is what stands above, ``stop`` to ``tail`` what is behind."""

    lead: int
    start: int
    stop: int
    tail: int
    comma: int | None
    own_line: bool


def segments(text: str, node: Node) -> list[Segment]:
    """Return the segments of a flow collection in order; what stands between two of them is nobody's."""
    found: list[Segment] = []
    inside = text.index("{" if node.kind == "map" else "[", _opening(text, node)) + 1
    lead = inside
    for index, (key, value) in enumerate(node.items):
        stop = max(key.end, value.end)
        last = index + 1 == len(node.items)
        limit = node.end - 1 if last else _start(text, node.items[index + 1][0])
        comma = _comma(text, stop, limit)
        line_stop = text.find("\n", stop, limit)
        tail = stop if comma is None else comma + 1
        if line_stop >= 0 and (comma is None or comma < line_stop):
            tail = line_stop - 1 if text[line_stop - 1] == "\r" else line_stop
        start = _start(text, key)
        own_line = "\n" in text[lead:start]
        lead = _own_lead(text, lead, start, first=not index) if own_line else lead
        found.append(Segment(lead, start, stop, tail, comma, own_line))
        lead = tail
    return found


def _own_lead(text: str, lead: int, start: int, *, first: bool) -> int:
    """Leave the comment behind the opening brace, and comments that a blank line parts from the item."""
    found = lead
    if first:
        found = text.index("\n", lead)
        found -= text[found - 1] == "\r"
    above = found
    for blank in _BLANK_LINE.finditer(text, above, start):
        if "#" in text[above : blank.start()]:
            found = blank.end()
    return found


def _opening(text: str, node: Node) -> int:
    index = node.start
    while text[index] in "&!":
        while text[index] not in " \t\r\n{[":
            index += 1
        index += len(text[index:]) - len(text[index:].lstrip(" \t\r\n"))
    return index


def _start(text: str, key: Node) -> int:
    before = text[: key.start].rstrip(" ") if text[key.start - 1] == " " else ""
    return len(before) - 1 if before.endswith("?") else key.start


def _comma(text: str, start: int, limit: int) -> int | None:
    index = start
    while index < limit:
        if text[index] == ",":
            return index
        if text[index] == "#":
            found = text.find("\n", index, limit)
            index = limit if found < 0 else found
        index += 1
    return None


def without(parts: Sequence[Segment], gone: Collection[int], *, more: bool) -> list[Cut]:
    """Return the cuts that take items out; at least one must stay. ``more``: others will follow the last kept one."""
    cuts: list[Cut] = []
    kept = [index for index in range(len(parts)) if index not in gone]
    for index in sorted(gone):
        part = parts[index]
        if index < kept[0] and not parts[kept[0]].own_line:
            continue
        cuts.append((part.lead, part.tail, ""))
    first = parts[kept[0]]
    if kept[0] > 0 and not first.own_line:
        cuts.append((parts[0].start, first.start, ""))
    last, end = parts[kept[-1]], parts[-1]
    if last is not end and end.comma is None and last.comma is not None and not more:
        cuts.append((last.comma, last.comma + 1, ""))
    return cuts


def with_items(
    text: str, parts: Sequence[Segment], after: int, items: Sequence[str], *, last: bool, nl: str
) -> list[Cut]:
    """Return the cuts that put ``items`` behind item ``after``; ``last`` when no kept item follows."""
    part, end = parts[after], parts[-1]
    space = text[part.lead : part.start]
    gap = " "
    if part.own_line:
        gap = nl + space.rsplit("\n", 1)[1]
    closing_comma = last and end.comma is not None
    if not last:
        return [(part.tail, part.tail, "".join(f"{gap}{item}," for item in items))]
    body = ",".join(f"{gap}{item}" for item in items) + ("," if closing_comma else "")
    if part.comma is None:
        if part.tail == part.stop:
            return [(part.stop, part.stop, "," + body)]
        return [(part.stop, part.stop, ","), (part.tail, part.tail, body)]
    return [(part.tail, part.tail, body)]
