"""The tree of a YAML text with the place of every part, and its data, made in one guarded pass over PyYAML's events.

PyYAML's own composer loses where an alias stands, recurses without a bound and lets the later of two equal keys
win. This one keeps the places (the editor cuts text at them), bounds nesting and alias expansion, and collects
every duplicate key, non-string key and foreign tag instead of stopping at the first. What a scalar means is PyYAML's
to say; tags and values that do not fit are ``odd`` and left to its constructor. May import yaml only.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import yaml
from yaml import events
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_DEPTH = 64
MAX_ALIASED = 100_000
"""Nodes that aliases and merge keys may add to the written ones."""

MANY = 16
"""In a mapping of more entries keys are found by an index, which is made when one is first asked for."""

TAG = "tag:yaml.org,2002:"
SAFE_TAGS = frozenset(
    TAG + name for name in ("null", "bool", "int", "float", "str", "seq", "map", "timestamp")
)
STR = TAG + "str"
NULL = TAG + "null"
MERGE = TAG + "merge"

UNREADABLE: Final = (ValueError, KeyError, OverflowError, IndexError, AttributeError)
"""What PyYAML's constructors raise for a scalar that does not fit its tag."""

_ODD: Final = object()
"""In place of the data of a scalar that only PyYAML's constructor can judge."""

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


class Node:
    """One written node; ``start`` and ``end`` are indexes into the text, anchor and tag included.

    ``tag`` and ``name`` of an alias are its target's, ``name`` is the text of a scalar ("" of a collection); keys are
    looked up by it. ``target`` is what an alias stands for, ``aliases`` are those that stand for this node.
    """

    # Thousands are made at each change of a large file: slots, no dataclass defaults, nothing made that stays empty.
    __slots__ = (
        "_found", "aliases", "anchor", "column", "end", "flow", "items", "kind", "line", "name", "start", "style",
        "tag", "tagged", "target",
    )  # fmt: skip

    def __init__(self, kind: Kind, event: Any, shift: int, tag: str, name: str) -> None:
        begin = event.start_mark
        self.kind: Kind = kind
        self.start: int = begin.index + shift
        self.end: int = event.end_mark.index + shift
        self.line: int = begin.line
        self.column: int = begin.column
        self.tag = tag
        self.name = name
        self.anchor: str | None = event.anchor
        self.tagged = False
        self.style: str | None = None
        self.flow = False
        self.items: Sequence[Item] = ()
        self.target: Node | None = None
        self.aliases: Sequence[Node] = ()

    # Made by ``_index``, of a tree that is complete.
    _found: dict[str, int]

    @property
    def is_null(self) -> bool:
        """Whether it is a scalar that means null."""
        return self.kind == "scalar" and self.tag == NULL

    @property
    def is_merge(self) -> bool:
        """Whether it is the key ``<<``."""
        return self.kind == "scalar" and self.tag == MERGE

    def find(self, key: str) -> int | None:
        """Return the index of the item written under ``key``; merged keys are not written here."""
        if len(self.items) > MANY:
            return self._index().get(key)
        for index, (node, _) in enumerate(self.items):
            if node.name == key and not node.is_merge:
                return index
        return None

    def _index(self) -> dict[str, int]:
        try:
            return self._found
        except AttributeError:
            found: dict[str, int] = {}
            for index, (node, _) in enumerate(self.items):
                if not node.is_merge:
                    found.setdefault(node.name, index)
            self._found = found
            return found

    def merges(self, key: str) -> bool:
        """Whether merge keys of this mapping bring ``key``, written here or not."""
        for name, value in self.items:
            if not name.is_merge:
                continue
            for part in [item for item, _ in value.items] if value.kind == "seq" else [value]:
                source = part.target or part
                if source.find(key) is not None or source.merges(key):
                    return True
        return False


@dataclass(slots=True)
class Tree:
    """A composed document: its root (None when it has no content) and where its end marker ``...`` stands."""

    root: Node | None = None
    data: Any = None
    """What the document means, unless it is ``odd``."""
    odd: bool = False
    """Whether it has what only PyYAML's constructor can judge."""
    start: int = 0
    """Just past ``---``, or 0."""
    stop: int | None = None
    anchored: list[Node] = field(default_factory=list[Node])
    faults: list[tuple[tuple[str | int, ...], Fault]] = field(
        default_factory=list[tuple[tuple[str | int, ...], Fault]]
    )


class _Scalars(SafeConstructor, Resolver):
    """PyYAML's rules for scalars, without a text: one object serves all threads, its scalar methods keep nothing."""


_SCALARS: Final[Any] = _Scalars()


def _plain(value: str) -> tuple[str, Any]:
    """Return tag and data of a scalar without quotes and tag."""
    if value[:1] not in Resolver.yaml_implicit_resolvers:  # begins like no number and none of YAML's words
        return STR, value
    # Kept are the short ones, up to a number: words and numbers are not longer, keys to a provider's API are.
    return _plain_kept(value) if len(value) <= 24 else _plain_read(value)


def _plain_read(value: str) -> tuple[str, Any]:
    tag: str = _SCALARS.resolve(yaml.ScalarNode, value, (True, False))
    if tag == STR:
        return tag, value
    if tag not in SAFE_TAGS:
        return tag, _ODD
    try:
        return tag, _SCALARS.yaml_constructors[tag](_SCALARS, yaml.ScalarNode(tag, value))
    except UNREADABLE:
        return tag, _ODD


_plain_kept = functools.lru_cache(maxsize=2048)(_plain_read)


class _Open:
    """A collection whose end has not been read, with its items and its data so far."""

    __slots__ = ("data", "doubtful", "items", "key", "node")

    def __init__(self, node: Node, data: Any) -> None:
        self.node = node
        self.data = data
        self.items: list[Item] = []
        node.items = self.items
        self.key: Node | None = None
        self.doubtful = False
        """Whether a key is no string, is ``<<``, or is there twice."""


class Composer:
    """Builds one Tree from a loader's events; ``shift`` is what precedes the loader's text (a BOM)."""

    def __init__(self, loader: Any, shift: int) -> None:
        self._loader = loader
        self._shift = shift
        self._tree = Tree()
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Node, Any, list[Node]]] = {}
        """Of each name the node that has it now, its data, and its aliases."""
        self._extents: dict[Node, tuple[int, int]] = {}
        self._aliased = 0
        self._begun = False

    def compose(self) -> Tree:
        """Return the tree. Raises Fault at what ends the reading, yaml.YAMLError at a syntax error."""
        next_event = self._loader.get_event
        take: dict[Any, Any] = {
            events.ScalarEvent: self._scalar,
            events.MappingStartEvent: self._mapping,
            events.MappingEndEvent: self._end,
            events.SequenceStartEvent: self._sequence,
            events.SequenceEndEvent: self._end,
            events.AliasEvent: self._alias,
            events.DocumentStartEvent: self._document,
            events.DocumentEndEvent: self._document_end,
        }
        next_event()  # the stream's start
        while (event := next_event()).__class__ is not events.StreamEndEvent:
            take[event.__class__](event)
        return self._tree

    def _document(self, event: Any) -> None:
        if self._begun:
            raise self._fault(event, "the file holds more than one YAML document", "Keep one document only.")
        self._begun = True
        if event.explicit:
            self._tree.start = event.end_mark.index + self._shift

    def _document_end(self, event: Any) -> None:
        self._tree.stop = event.start_mark.index + self._shift if event.explicit else None

    @staticmethod
    def _fault(event: Any, message: str, hint: str = "") -> Fault:
        mark = event.start_mark
        return Fault(message, mark.line + 1, mark.column + 1, hint)

    def _scalar(self, event: Any) -> None:
        tag: str | None = event.tag
        data = value = event.value
        if tag is None or tag == "!":
            tag, data = _plain(value) if event.implicit[0] else (STR, value)
        elif tag != STR:
            data = _ODD
        node = Node("scalar", event, self._shift, tag, value)
        node.style = event.style
        node.tagged = event.tag is not None
        if data is _ODD:
            self._judge(node)
        if node.anchor is not None:
            self._anchor(node, data)
        self._add(node, data)

    def _mapping(self, event: Any) -> None:
        self._start("map", event, {})

    def _sequence(self, event: Any) -> None:
        self._start("seq", event, [])

    def _start(self, kind: Literal["map", "seq"], event: Any, data: Any) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise self._fault(event, f"the file is nested deeper than {MAX_DEPTH} levels")
        natural = TAG + kind
        tag = natural if event.tag in {None, "!"} else str(event.tag)
        node = Node(kind, event, self._shift, tag, "")
        node.tagged = event.tag is not None
        node.flow = bool(event.flow_style)
        if tag != natural:
            self._judge(node)
        if node.anchor is not None:
            self._anchor(node, data)
        self._open.append(_Open(node, data))

    def _end(self, event: Any) -> None:
        done = self._open[-1]
        if done.doubtful:
            self._check_keys(done)
            self._merge(done)
        self._open.pop()
        done.node.end = event.end_mark.index + self._shift
        self._add(done.node, done.data)

    def _judge(self, node: Node) -> None:
        """Leave the document's data to PyYAML's constructor, and complain about a tag it may not meet."""
        tag = node.tag
        merges = tag == MERGE and self._at_key()
        if merges and not node.tagged:
            return  # ``_merge`` knows this one
        self._tree.odd = True
        if tag not in SAFE_TAGS and not merges:
            shown = "!!" + tag.removeprefix(TAG) if tag.startswith(TAG) else tag
            self._complain(
                node, f"the tag {shown} is not accepted here", "Write the value as plain YAML, or quote it."
            )

    def _at_key(self) -> bool:
        return bool(self._open) and self._open[-1].node.kind == "map" and self._open[-1].key is None

    def _anchor(self, node: Node, data: Any) -> None:
        aliases: list[Node] = []
        self._anchors[str(node.anchor)] = node, data, aliases
        self._tree.anchored.append(node)
        node.aliases = aliases

    def _alias(self, event: Any) -> None:
        known = self._anchors.get(event.anchor)
        if known is None:
            raise self._fault(event, f"the alias *{event.anchor} has no anchor &{event.anchor} before it")
        target, data, aliases = known
        if any(level.node is target for level in self._open):
            raise self._fault(event, f"the alias *{event.anchor} stands inside the entry it repeats")
        size, height = self._extent(target)
        self._aliased += size
        if self._aliased > MAX_ALIASED:
            raise self._fault(event, f"the aliases of this file expand to more than {MAX_ALIASED:,} entries")
        if len(self._open) + height > MAX_DEPTH:
            raise self._fault(
                event, f"the file is nested deeper than {MAX_DEPTH} levels through *{event.anchor}"
            )
        node = Node("alias", event, self._shift, target.tag, target.name)
        node.target, node.anchor = target, None
        self._tree.odd |= data is _ODD
        aliases.append(node)
        self._add(node, data)

    def _extent(self, node: Node) -> tuple[int, int]:
        """Return to how many nodes, and over how many levels, one that is closed expands."""
        node = node.target or node
        known = self._extents.get(node)
        if known is None:
            parts = {part for item in node.items for part in item}
            inside = [self._extent(part) for part in parts]
            known = 1 + sum(size for size, _ in inside), 1 + max((height for _, height in inside), default=0)
            self._extents[node] = known
        return known

    def _add(self, node: Node, data: Any) -> None:
        if not self._open:
            self._tree.root, self._tree.data = node, data
            return
        level = self._open[-1]
        key = level.key
        if level.node.kind == "seq":
            level.items.append((node, node))
            level.data.append(data)
        elif key is None:
            level.key = node
        else:
            level.items.append((key, node))
            if key.tag != STR or key.kind != "scalar" or key.name in level.data:
                level.doubtful = True
            level.data[key.name] = data
            level.key = None

    def _check_keys(self, level: _Open) -> None:
        first: dict[tuple[str, str], Node] = {}
        for key, _ in level.items:
            level.key = key  # the complaint names it
            written = key.target or key
            if written.kind != "scalar" or key.tag not in (STR, MERGE):
                shown = f" {key.name}" if written.kind == "scalar" else ""
                self._complain(key, f"the key{shown} is not a string", "Put the key in quotes.")
            elif (other := first.setdefault((key.tag, key.name), key)) is not key:
                message = f"the key {key.name!r} is there twice; the first is in line {other.line + 1}"
                self._complain(key, message, "Remove or rename one of the two.")

    def _merge(self, level: _Open) -> None:
        """Bring in what ``<<`` names: what is written in the mapping counts more, and what is named first."""
        if self._tree.odd or not any(key.is_merge for key, _ in level.items):
            return
        named = level.data.pop("<<")
        parts = cast("list[Any]", named) if isinstance(named, list) else [named]
        if any(key.name == "<<" and not key.is_merge for key, _ in level.items) or not all(
            isinstance(part, dict) for part in parts
        ):
            self._tree.odd = True
            return
        own = level.data.copy()
        level.data.clear()  # not made anew: aliases of this mapping share the object
        for part in (*reversed(parts), own):
            level.data.update(part)

    def _complain(self, node: Node, message: str, hint: str) -> None:
        path: list[str | int] = []
        for level in self._open:
            if level.node.kind == "seq":
                path.append(len(level.items))
            elif level.key is not None:
                path.append(level.key.name if level.key.kind == "scalar" else "?")
        self._tree.faults.append((tuple(path), Fault(message, node.line + 1, node.column + 1, hint)))
