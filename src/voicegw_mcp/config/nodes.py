"""The tree of a YAML text with the place of every part, made in one guarded pass over PyYAML's events.

PyYAML's own composer loses where an alias stands, recurses without a bound and lets the later of two equal keys
win. This one keeps the places (the editor cuts text at them), bounds nesting and alias expansion, and collects
every duplicate key, non-string key and foreign tag instead of stopping at the first. May import yaml only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import yaml
from yaml import events

MAX_DEPTH = 64
MAX_ALIASED = 100_000
"""Nodes that aliases and merge keys may add to the written ones."""

TAG = "tag:yaml.org,2002:"
SAFE_TAGS = frozenset(
    TAG + name for name in ("null", "bool", "int", "float", "str", "seq", "map", "timestamp")
)
MERGE = TAG + "merge"

Kind = Literal["scalar", "map", "seq", "alias"]
Item = tuple["Node", "Node"]
"""Key and value of a mapping; in a list the item twice."""


class Fault(Exception):
    """The text cannot be composed; ``line`` and ``column`` are 1-based."""

    def __init__(self, message: str, line: int, column: int, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column
        self.hint = hint


@dataclass(slots=True, eq=False)
class Node:
    """One written node; ``start`` and ``end`` are indexes into the text, anchor and tag included."""

    kind: Kind
    start: int
    end: int
    line: int
    column: int
    composed: Any
    """The PyYAML node the value is constructed from; of an alias, its target's."""
    anchor: str | None = None
    tagged: bool = False
    style: str | None = None
    flow: bool = False
    items: list[Item] = field(default_factory=list[Item])
    target: Node | None = None
    """What an alias stands for."""
    aliases: list[Node] = field(default_factory=list["Node"])
    """The aliases that stand for this node."""
    size: int = 1
    height: int = 1

    @property
    def name(self) -> str:
        """The scalar as text; keys are looked up by it."""
        return str(self.composed.value)

    @property
    def is_null(self) -> bool:
        """Whether it is a scalar that means null."""
        return self.kind == "scalar" and self.composed.tag == TAG + "null"

    @property
    def is_merge(self) -> bool:
        """Whether it is the key ``<<``."""
        return self.kind == "scalar" and self.composed.tag == MERGE

    def find(self, key: str) -> int | None:
        """Return the index of the item written under ``key``; merged keys are not written here."""
        for index, (node, _) in enumerate(self.items):
            if not node.is_merge and node.name == key:
                return index
        return None

    def merges(self, key: str) -> bool:
        """Whether merge keys of this mapping bring ``key``, written here or not."""
        for name, value in self.items:
            for part in (
                [item for item, _ in value.items] if value.kind == "seq" else [value]
            ) * name.is_merge:
                source = part.target or part
                if source.find(key) is not None or source.merges(key):
                    return True
        return False


@dataclass(slots=True)
class Tree:
    """A composed document: its root (None when it has no content) and where its end marker ``...`` stands."""

    root: Node | None = None
    start: int = 0
    """Just past ``---``, or 0."""
    stop: int | None = None
    anchored: list[Node] = field(default_factory=list[Node])
    faults: list[tuple[tuple[str | int, ...], Fault]] = field(
        default_factory=list[tuple[tuple[str | int, ...], Fault]]
    )


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been read."""

    node: Node
    key: Node | None = None
    seen: dict[tuple[str, str], Node] = field(default_factory=dict[tuple[str, str], Node])


class Composer:
    """Builds one Tree from a loader's events; ``shift`` is what precedes the loader's text (a BOM)."""

    def __init__(self, loader: Any, shift: int) -> None:
        self._loader = loader
        self._shift = shift
        self._tree = Tree()
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._aliased = 0
        self._begun = False

    def compose(self) -> Tree:
        """Return the tree. Raises Fault at what ends the reading, yaml.YAMLError at a syntax error."""
        while True:
            event: Any = self._loader.get_event()
            kind: Any = event.__class__
            if kind is events.ScalarEvent:
                self._close_value(self._scalar(event))
            elif kind in (events.MappingStartEvent, events.SequenceStartEvent):
                self._start(event)
            elif kind in (events.MappingEndEvent, events.SequenceEndEvent):
                done = self._open.pop().node
                done.end = event.end_mark.index + self._shift
                self._close_value(done)
            elif kind is events.AliasEvent:
                self._close_value(self._alias(event))
            elif kind is events.DocumentStartEvent:
                self._document(event)
            elif kind is events.DocumentEndEvent:
                self._tree.stop = event.start_mark.index + self._shift if event.explicit else None
            elif kind is events.StreamEndEvent:
                return self._tree

    def _document(self, event: Any) -> None:
        if self._begun:
            raise self._fault(event, "the file holds more than one YAML document", "Keep one document only.")
        self._begun = True
        if event.explicit:
            self._tree.start = event.end_mark.index + self._shift

    @staticmethod
    def _fault(event: Any, message: str, hint: str = "") -> Fault:
        mark = event.start_mark
        return Fault(message, mark.line + 1, mark.column + 1, hint)

    def _node(self, kind: Kind, event: Any, composed: Any) -> Node:
        mark = event.start_mark
        start, end = mark.index + self._shift, event.end_mark.index + self._shift
        return Node(kind, start, end, mark.line, mark.column, composed, event.anchor)

    def _scalar(self, event: Any) -> Node:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        composed = yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark, style=event.style)
        node = self._node("scalar", event, composed)
        node.style = event.style
        self._register(node, event)
        return node

    def _start(self, event: Any) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise self._fault(event, f"the file is nested deeper than {MAX_DEPTH} levels")
        mapping = type(event) is events.MappingStartEvent
        make: Any = yaml.MappingNode if mapping else yaml.SequenceNode
        tag = event.tag
        if tag is None or tag == "!":
            tag = TAG + ("map" if mapping else "seq")
        composed = make(tag, [], event.start_mark, event.end_mark, flow_style=event.flow_style)
        node = self._node("map" if mapping else "seq", event, composed)
        node.flow = bool(event.flow_style)
        self._register(node, event)
        self._open.append(_Open(node))

    def _register(self, node: Node, event: Any) -> None:
        node.tagged = event.tag is not None
        tag: str = node.composed.tag
        if tag not in SAFE_TAGS and not (tag == MERGE and self._at_key()):
            shown = "!!" + tag.removeprefix(TAG) if tag.startswith(TAG) else tag
            self._complain(
                node.line,
                node.column,
                f"the tag {shown} is not accepted here",
                "Write the value as plain YAML, or quote it.",
            )
        if node.anchor is not None:
            self._anchors[node.anchor] = node
            self._tree.anchored.append(node)

    def _at_key(self) -> bool:
        return bool(self._open) and self._open[-1].node.kind == "map" and self._open[-1].key is None

    def _alias(self, event: Any) -> Node:
        target = self._anchors.get(event.anchor)
        if target is None:
            raise self._fault(event, f"the alias *{event.anchor} has no anchor &{event.anchor} before it")
        if any(level.node is target for level in self._open):
            raise self._fault(event, f"the alias *{event.anchor} stands inside the entry it repeats")
        self._aliased += target.size
        if self._aliased > MAX_ALIASED:
            raise self._fault(event, f"the aliases of this file expand to more than {MAX_ALIASED:,} entries")
        if len(self._open) + target.height > MAX_DEPTH:
            raise self._fault(
                event, f"the file is nested deeper than {MAX_DEPTH} levels through *{event.anchor}"
            )
        node = self._node("alias", event, target.composed)
        node.target, node.anchor = target, None
        node.size, node.height = target.size, target.height
        target.aliases.append(node)
        return node

    def _close_value(self, node: Node) -> None:
        if not self._open:
            self._tree.root = node
            return
        level = self._open[-1]
        parent = level.node
        parent.size += node.size
        parent.height = max(parent.height, node.height + 1)
        if parent.kind == "seq":
            parent.items.append((node, node))
            parent.composed.value.append(node.composed)
        elif level.key is None:
            level.key = node
        else:
            parent.items.append((level.key, node))
            parent.composed.value.append((level.key.composed, node.composed))
            self._check_key(level, level.key)
            level.key = None

    def _check_key(self, level: _Open, key: Node) -> None:
        composed = key.composed
        if not isinstance(composed, yaml.ScalarNode) or composed.tag not in (TAG + "str", MERGE):
            shown = f" {composed.value}" if isinstance(composed, yaml.ScalarNode) else ""
            self._complain(key.line, key.column, f"the key{shown} is not a string", "Put the key in quotes.")
            return
        first = level.seen.setdefault((composed.tag, key.name), key)
        if first is not key:
            message = f"the key {key.name!r} is there twice; the first is in line {first.line + 1}"
            self._complain(key.line, key.column, message, "Remove or rename one of the two.")

    def _complain(self, line: int, column: int, message: str, hint: str) -> None:
        path: list[str | int] = []
        for level in self._open:
            if level.node.kind == "seq":
                path.append(len(level.node.items))
            elif level.key is not None:
                path.append(str(level.key.composed.value) if level.key.kind == "scalar" else "?")
        self._tree.faults.append((tuple(path), Fault(message, line + 1, column + 1, hint)))
