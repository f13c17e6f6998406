"""Which lines of voicegw.yaml belong to which entry, and how the entries around a new one are written.

An entry owns its lines, the comment lines directly above it at its own indentation (no blank line between; a comment
that opens the file is the file's), and comment lines below it that are indented deeper. Blank lines belong to nobody.
May import ``config.nodes`` and ``config.emit``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from voicegw_mcp.config.emit import Form, Style, is_plain, refuse
from voicegw_mcp.config.nodes import TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voicegw_mcp.config.nodes import Item, Node, Tree

NEIGHBOURS = 32
"""How many entries of one mapping are looked at to see how they are written: the time of an edit has a bound."""

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


def kept_properties(text: str, node: Node, new: object) -> int:
    """Return where the text begins that a new scalar replaces: anchor and ``!!str`` stay where they still hold."""
    fits = not node.tagged or (isinstance(new, str) and node.tag == TAG + "str")
    return after_properties(text, node) if node.kind == "scalar" and fits else node.start


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
    quotes: dict[str, str] = field(default_factory=dict[str, str])
    forms: dict[str, Form] = field(default_factory=dict[str, "Form"])
    empty: set[str] = field(default_factory=set[str])
    """Keys of empty lists, which show no form."""
    entries: set[Form] = field(default_factory=set["Form"])
    """Forms of the mappings directly in the surveyed one."""
    braces: set[Form] = field(default_factory=set["Form"])
    strings: set[str] = field(default_factory=set[str])
    """Quotes of the strings that need none; that one is plain is all there is to know."""
    keys: set[str] = field(default_factory=set[str])
    inner: set[str] = field(default_factory=set[str])
    flow_lists: bool = False

    def visit(self, node: Node, depth: int = 0, around: int | None = None) -> None:
        if node.kind != "map":
            return
        quotes = self.inner if depth else self.keys
        for name, value in reversed(_neighbours(node.items, around)):
            if name.is_merge:
                continue
            quotes.add(_quote_of(name))
            if value.kind == "scalar":
                if name.name not in self.quotes or "" not in self.strings:
                    self._string(name.name, value, flow=node.flow)
            elif value.kind in ("map", "seq"):
                self._collection(name, value, flow=node.flow, depth=depth)
            if depth < 4:
                self.visit(value, depth + 1)

    def _string(self, label: str, value: Node, *, flow: bool) -> None:
        if value.tag != TAG + "str" or value.style in ("|", ">"):
            return
        quote = _quote_of(value)
        self.quotes.setdefault(label, quote)
        if "" not in self.strings and is_plain(value.name, flow=flow):
            self.strings.add(quote)

    def _collection(self, name: Node, value: Node, *, flow: bool, depth: int) -> None:
        label = name.name
        self.flow_lists |= value.kind == "seq" and value.flow
        if not value.items:
            if value.kind == "seq":
                self.empty.add(label)
            return
        first = value.items[0][0]
        form: Form = "block" if not value.flow else "spread" if first.line > value.line else "line"
        self.forms.setdefault(label, form)
        if form != "block":
            self.braces.add(form)
        if value.kind == "map":
            if not depth:
                self.entries.add(form)
            if not self.step and ((form == "block" and not flow) or form == "spread"):
                self.step = max(first.column - name.column, 0)
        elif first.kind == "scalar":
            self._string(label, first, flow=value.flow)
        if value.kind == "seq" and form == "block" and self.dash is None and value.anchor is None:
            self.dash = max(value.column - name.column, 0)


def _neighbours(items: Sequence[Item], around: int | None) -> Sequence[Item]:
    """Return the items nearest to the one of that index, without an index the last ones."""
    over = len(items) - NEIGHBOURS
    if over <= 0:
        return items
    begin = over if around is None else min(max(around - NEIGHBOURS // 2, 0), over)
    return items[begin : begin + NEIGHBOURS]


def _quote_of(node: Node) -> str:
    return node.style if node.style in ("'", '"') else ""


def _common(quotes: set[str]) -> str:
    return next(iter(quotes)) if len(quotes) == 1 else ""


def survey(tree: Tree, near: Node | None, around: int | None = None) -> Style:
    """Return how entries of ``near`` are written, above all those beside the item of the index ``around``.

    What they do not show is taken from the whole file.
    """
    seen, whole = _Survey(), _Survey()
    if near is not None:
        seen.visit(near, around=around)
    if tree.root is not None and not (seen.step and seen.dash is not None and seen.strings and seen.inner):
        whole.visit(tree.root)
    step = seen.step or whole.step or 2
    dash = seen.dash if seen.dash is not None else whole.dash if whole.dash is not None else step
    forms, flow_lists = dict(seen.forms), seen.empty
    if whole.dash is None and seen.dash is None and (whole.flow_lists or seen.flow_lists):
        flowing = {label for label, form in whole.forms.items() if form != "block"}
        flow_lists = flow_lists | whole.empty | flowing | {"tags", "percentiles"}
    if (seen.braces or whole.braces) == {"spread"}:
        forms[""] = "spread"
    entries = next(iter(seen.entries)) if len(seen.entries) == 1 else None
    key_quote = _common(seen.keys or whole.keys | whole.inner)
    inner_quote = _common(seen.inner) if seen.inner else _common(whole.keys | whole.inner) or key_quote
    strings = seen.strings or whole.strings
    json_like = near is not None and near.flow and not strings
    quotes = {**seen.quotes, "": inner_quote if json_like else _common(strings)}
    return Style(step, dash, quotes, forms, frozenset(flow_lists), entries, key_quote, inner_quote)


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
