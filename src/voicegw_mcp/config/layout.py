"""Which lines of voicegw.yaml belong to which entry, and how the entries around a new one are written.

An entry owns its lines, the comment lines directly above it at its own indentation (no blank line between; a comment
that opens the file is the file's), and comment lines below it that are indented deeper. Blank lines belong to nobody.
May import ``config.nodes`` and ``config.emit``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from voicegw_mcp.config.emit import Style, refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voicegw_mcp.config.nodes import Node, Tree

_BEFORE_ITEM = re.compile(r"[ ]*(\?[ ]+|-[ ]+|-)?")
_PROPERTIES = re.compile(r"(?:[&!][^\s,\[\]{}]*[ \t]*)*")


@dataclass(frozen=True, slots=True)
class Slot:
    """The lines of one block entry, as indexes into the text."""

    indent: int
    lead: int
    """Where its comments above begin, or ``first``."""
    first: int
    """Start of the line of its key or dash."""
    content: int
    """Just past its last character that is not comment or blank."""
    end: int
    """Just past its last line."""
    explicit: bool = False
    """Written as ``? key``."""


class Lines(NamedTuple):
    """Indexes of a block entry: end of what is before, begin of what goes with it, its comments, its end, end of what goes."""

    floor: int
    cut: int
    lead: int
    end: int
    upto: int


def line_start(text: str, index: int) -> int:
    """Return where the line of ``index`` begins (a BOM is not part of the first line)."""
    start = text.rfind("\n", 0, index) + 1
    return 1 if start == 0 and text.startswith("\ufeff") and index > 0 else start


def line_end(text: str, index: int) -> int:
    """Return where the line after that of ``index`` begins."""
    found = text.find("\n", index)
    return len(text) if found < 0 else found + 1


def is_blank(text: str, start: int) -> bool:
    """Whether the line that begins at ``start`` has a line end and nothing else."""
    return start < len(text) and not text[start : line_end(text, start)].strip(" \t\r\n")


def comment_indent(text: str, start: int) -> int | None:
    """Return the indentation of the comment line that begins at ``start``; None when it is none."""
    line = text[start : line_end(text, start)]
    bare = line.lstrip(" \t")
    return len(line) - len(bare) if bare.startswith("#") else None


def blank_above(text: str, index: int, floor: int) -> int:
    """Return where the run of blank lines right above the line start ``index`` begins."""
    while index > floor and is_blank(text, line_start(text, index - 1)):
        index = line_start(text, index - 1)
    return max(index, floor)


def content_end(text: str, node: Node) -> int:
    """Return the index just past the last character of a node that carries meaning."""
    if node.items and not node.flow:
        return max(content_end(text, part) for part in node.items[-1])
    if node.style not in ("|", ">"):
        return node.end
    raw = text[node.start : node.end]
    if keeps_blanks(text, node):
        return node.start + (
            raw.rfind("\n") if raw.endswith("\n") or not raw.rsplit("\n", 1)[-1].strip() else len(raw)
        )
    return node.start + len(raw.rstrip(" \t\r\n"))


def cut_to(text: str, node: Node, lead: int, end: int, floor: int) -> int:
    """Return the end of a removal: blank lines below go too when the entry opened its section and another follows."""
    after = end
    while is_blank(text, after):
        after = line_end(text, after)
    return after if lead == floor and after < node.items[-1][0].start else end


def last_of(node: Node) -> Node:
    """Return the node that is written last inside a node."""
    while node.items and not node.flow:
        node = node.items[-1][1]
    return node


def is_literal(node: Node) -> bool:
    """Whether a node ends with a block text (``|`` or ``>``)."""
    return last_of(node).style in ("|", ">")


def keeps_blanks(text: str, node: Node) -> bool:
    """Whether blank lines below a node are part of its meaning (``|+``)."""
    start = last_of(node).start
    return is_literal(node) and "+" in text[start : line_end(text, start)].split("#", maxsplit=1)[0]


def after_properties(text: str, node: Node) -> int:
    """Return where a node's own text begins, past its anchor and tag."""
    if node.anchor is None and not node.tagged:
        return node.start
    found = _PROPERTIES.match(text, node.start)
    return found.end() if found else node.start


def slot(text: str, node: Node, index: int, floor: int, *, root: bool = False) -> Slot:
    """Return the lines of item ``index`` of a block collection; ``floor`` is where the lines before it end.

    Raises ConfigInvalid when the item does not begin its own line.
    """
    head, value = node.items[index]
    first = line_start(text, head.start)
    before = _BEFORE_ITEM.fullmatch(text[first : head.start])
    sequence = node.kind == "seq"
    if before is None or sequence != (before[1] or "").startswith("-"):
        raise refuse(f"line {head.line + 1} is not written with one entry to a line")
    indent = before.start(1) if before[1] else before.end()
    content = max(content_end(text, head), content_end(text, value))
    lead = first
    while lead > floor and comment_indent(text, line_start(text, lead - 1)) == indent:
        above = line_start(text, lead - 1)
        if above < floor:
            break
        lead = above
    if root and index == 0 and lead <= 1 and not text[:lead].strip("\ufeff"):
        lead = first
    return Slot(indent, lead, first, content, _end(text, content, indent), bool(before[1]) and not sequence)


def _end(text: str, content: int, indent: int) -> int:
    end = probe = line_end(text, content)
    while probe < len(text):
        depth = comment_indent(text, probe)
        if depth is None and not is_blank(text, probe):
            break
        if depth is not None and depth <= indent:
            break
        probe = line_end(text, probe)
        if depth is not None:
            end = probe
    return end


def floor_of(text: str, node: Node, index: int, opening: int) -> int:
    """Return where the lines before item ``index`` end; ``opening`` is that for the first item."""
    if index == 0:
        return opening
    return line_end(text, max(content_end(text, part) for part in node.items[index - 1]))


def newline_at(text: str, index: int) -> str:
    """Return the line end in use around ``index``."""
    found = text.rfind("\n", 0, index)
    found = found if found >= 0 else text.find("\n")
    return "\r\n" if found > 0 and text[found - 1] == "\r" else "\n"


@dataclass(slots=True)
class _Survey:
    step: int = 0
    dash: int | None = None
    flow_lists: bool = False
    quotes: dict[str, str] = field(default_factory=dict[str, str])
    flows: dict[str, bool] = field(default_factory=dict[str, bool])

    def visit(self, node: Node, depth: int = 0) -> None:
        if node.kind != "map":
            return
        for name, value in reversed(node.items):
            label = str(name.composed.value)
            if value.kind == "scalar" and isinstance(value.composed.value, str):
                self.quotes.setdefault(label, value.style if value.style in ("'", '"') else "")
            elif value.kind == "seq":
                self.flows.setdefault(label, value.flow)
                self.flow_lists |= value.flow
                if value.items and value.items[0][0].kind == "scalar":
                    self.quotes.setdefault(label, _quote_of(value.items[0][0]))
            if value.items and not value.flow and not node.flow:
                first = value.items[0][0].column
                if value.kind == "map" and not self.step and not value.anchor:
                    self.step = max(first - name.column, 0)
                elif value.kind == "seq" and self.dash is None and value.anchor is None:
                    self.dash = max(value.column - name.column, 0)
            if depth < 4:
                self.visit(value, depth + 1)


def _quote_of(node: Node) -> str:
    return node.style if node.style in ("'", '"') else ""


def survey(tree: Tree, near: Node | None) -> Style:
    """Return how entries beside ``near``'s items are written; what they do not show is taken from the whole file."""
    seen, whole = _Survey(), _Survey()
    keys: list[str] = []
    if near is not None:
        seen.visit(near)
        keys = [_quote_of(name) for name, _ in near.items if not name.is_merge]
    if tree.root is not None and (not seen.step or seen.dash is None):
        whole.visit(tree.root)
    step = seen.step or whole.step or 2
    dash = seen.dash if seen.dash is not None else whole.dash if whole.dash is not None else step
    only_flow = whole.dash is None and seen.dash is None and (whole.flow_lists or seen.flow_lists)
    flows = {label for label, is_flow in seen.flows.items() if is_flow}
    if only_flow:
        flows |= {label for label, is_flow in whole.flows.items() if is_flow} | {"tags", "percentiles"}
    same = keys[0] if keys and all(quote and quote == keys[0] for quote in keys) else ""
    return Style(step, dash, seen.quotes, frozenset(flows), same)


def entry_place(tree: Tree, path: Sequence[str]) -> tuple[Node, tuple[Node, int] | None, int] | None:
    """Return the mapping an entry is written in, that mapping's owner, and its index; None when it is not written."""
    node, owner, index = tree.root, None, None
    for depth, name in enumerate(path):
        index = node.find(name) if node is not None and node.kind == "map" else None
        if node is None or index is None:
            return None
        if depth < len(path) - 1:
            node, owner = node.items[index][1], (node, index)
    return None if node is None or index is None else (node, owner, index)
