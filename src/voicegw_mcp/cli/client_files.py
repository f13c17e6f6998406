"""One entry put into a client's JSON, JSONC or TOML file; every byte outside it stays. May import ``errors``.

The text is edited, not written anew: comments, order, indentation and line ends are the owner's. What came out is
parsed again and must mean the old data with the entry, nothing else.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from voicegw_mcp.errors import ConfigInvalid

ABSENT: Final = object()
"""What ``get`` returns for an entry that is not there; null may be one."""

MAX_DEPTH: Final = 200

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_SPACE_AND_COMMENTS: Final = re.compile(r"(?:[ \t\r\n]|//[^\r\n]*|/\*[\s\S]*?\*/)*+")
_SCALAR: Final = re.compile(
    r'"(?:[^"\\\x00-\x1f]|\\.)*+"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null'
)
_HEADER: Final = re.compile(r"^[ \t]*\[[^\r\n]*", re.MULTILINE)


class Unparsable(ConfigInvalid):
    """A client's file is not what it has to be, or cannot be edited without harm; it is left as it is."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(
            f"{where}: {reason}", hint="The file is left as it is: repair it, or paste the snippet by hand."
        )


@dataclass(slots=True)
class _Node:
    """A value and where it stands; ``head`` is where its key begins, or the value itself."""

    head: int
    start: int
    end: int = 0
    value: Any = None
    children: list[_Node] = field(default_factory=list["_Node"])
    keys: list[str] = field(default_factory=list[str])
    comma_end: int = 0
    """Where the comma after the last child ends; 0 when there is none."""


class JsonFile:
    """The text of a JSON file; with ``comments`` also JSONC, where trailing commas are allowed as well."""

    def __init__(self, text: str, where: str, *, comments: bool) -> None:
        self.text = text
        self._where = where
        self._gap = _SPACE_AND_COMMENTS if comments else _SPACE
        self._comments = comments

    def get(self, key: str, name: str) -> Any:
        """Return the entry ``name`` of the object under ``key``, or ABSENT."""
        table = self._table(self._root(), key)
        found = self._child(table, name) if table else None
        return found.value if found else ABSENT

    def put(self, key: str, name: str, entry: dict[str, Any]) -> None:
        """Insert the entry, or put it in the place of the one of that name."""
        root = self._root()
        table = self._table(root, key)
        others: dict[str, Any] = table.value if table else {}
        expected: dict[str, Any] = {**root.value, key: {**others, name: entry}}
        if table is None:
            self._insert(root, root, key, {name: entry})
        elif (old := self._child(table, name)) is not None:
            self._replace(table, old, entry)
        else:
            self._insert(root, table, name, entry)
        self._verify(expected)

    def include(self, key: str, wanted: dict[str, Any]) -> None:
        """Append an object to the list under ``key``, unless one with its ``id`` is in it."""
        root = self._root()
        found = self._child(root, key)
        if found is None:
            self._insert(root, root, key, [wanted])
            self._verify({**root.value, key: [wanted]})
            return
        if not isinstance(found.value, list):
            raise Unparsable(self._where, f"{key} is not a list.")
        if any(self._value_of(item, "id") == wanted["id"] for item in found.children):
            return
        self._insert(root, found, None, wanted)
        self._verify({**root.value, key: [*(item.value for item in found.children), wanted]})

    def _child(self, node: _Node, key: str) -> _Node | None:
        if node.keys.count(key) > 1:  # which one counts?
            raise Unparsable(self._where, f"The key {key} is there twice.")
        return node.children[node.keys.index(key)] if key in node.keys else None

    def _value_of(self, node: _Node, key: str) -> Any:
        found = self._child(node, key)
        return found.value if found else None

    def _table(self, root: _Node, key: str) -> _Node | None:
        found = self._child(root, key)
        if found is not None and not isinstance(found.value, dict):
            raise Unparsable(self._where, f"{key} is not an object.")
        return found

    def _verify(self, expected: dict[str, Any]) -> None:
        if self._root().value != expected:
            raise Unparsable(self._where, "The entry cannot be inserted here without harm.")

    # Reading

    def _root(self) -> _Node:
        begin = self._pass(1 if self.text.startswith("\ufeff") else 0)
        if begin == len(self.text):
            raise Unparsable(self._where, "There is no JSON in it.")
        root = self._value(begin, begin, 0)
        end = self._pass(root.end)
        if end != len(self.text):
            raise self._broken(end)
        if not isinstance(root.value, dict):
            raise Unparsable(self._where, "It is not a JSON object.")
        return root

    def _pass(self, at: int) -> int:
        match = self._gap.match(self.text, at)
        return match.end() if match else at

    def _value(self, head: int, at: int, depth: int) -> _Node:
        if self.text.startswith(("{", "["), at):
            return self._container(head, at, depth)
        match = _SCALAR.match(self.text, at)
        if match is None:
            raise self._broken(at)
        try:
            return _Node(head, at, match.end(), json.loads(match[0]))
        except ValueError:  # an unknown escape
            raise self._broken(at) from None

    def _container(self, head: int, at: int, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            raise self._broken(at)
        node = _Node(head, at)
        named = self.text[at] == "{"
        closing = "}" if named else "]"
        at = self._pass(at + 1)
        while not self.text.startswith(closing, at):
            if node.children and not node.comma_end:
                raise self._broken(at)
            begin = at
            if named:
                if not self.text.startswith('"', at):
                    raise self._broken(at)
                label = self._value(at, at, depth)
                node.keys.append(label.value)
                at = self._expect(":", self._pass(label.end))
            child = self._value(begin, at, depth + 1)
            node.children.append(child)
            at = self._pass(child.end)
            node.comma_end = 0
            if self.text.startswith(",", at):
                node.comma_end = at + 1
                at = self._pass(at + 1)
        if node.comma_end and not self._comments:
            raise self._broken(at)
        values = [child.value for child in node.children]
        node.value = dict(zip(node.keys, values, strict=True)) if named else values
        node.end = at + 1
        return node

    def _expect(self, mark: str, at: int) -> int:
        if not self.text.startswith(mark, at):
            raise self._broken(at)
        return self._pass(at + 1)

    def _broken(self, at: int) -> Unparsable:
        line = self.text.count("\n", 0, at) + 1
        column = at - (self.text.rfind("\n", 0, at) + 1) + 1
        kind = "JSON with comments" if self._comments else "JSON"
        return Unparsable(self._where, f"It is not {kind} (line {line}, column {column}).")

    # Editing

    def _insert(self, root: _Node, into: _Node, key: str | None, value: Any) -> None:
        """Add a last child in the layout of its siblings."""
        label = "" if key is None else f"{json.dumps(key, ensure_ascii=False)}: "
        last = into.children[-1].end if into.children else into.start + 1
        comma = "," if into.children and not into.comma_end else ""
        if self._is_flat(root, into):
            at = into.comma_end or last
            gap = " " if into.children else ""
            self._splice(at, at, f"{comma}{gap}{label}{json.dumps(value, ensure_ascii=False)}")
            return
        outer = self._indent(into.start)
        inner = self._indent(into.children[0].head) if into.children else outer + self._unit(root)
        newline = self._newline()
        tail = self.text[last : into.end - 1]
        place = last + len(tail.rstrip(" \t\r\n"))
        end = "" if "\n" in self.text[place : into.end] else newline + outer
        body = self._rendered(value, inner, root)
        self._splice(
            place, place, f"{newline}{inner}{label}{body}{',' if into.comma_end else ''}{end}"
        )  # the later place first: the other one does not move
        self._splice(last, last, comma)

    def _replace(self, table: _Node, old: _Node, value: Any) -> None:
        try:
            json.loads(self.text[old.start : old.end])
        except ValueError:
            raise Unparsable(
                self._where, "The entry of that name holds comments that would be lost."
            ) from None
        root = self._root()
        flat = self._is_flat(root, table)
        indent = self._indent(old.head)
        body = json.dumps(value, ensure_ascii=False) if flat else self._rendered(value, indent, root)
        self._splice(old.start, old.end, body)

    def _splice(self, start: int, end: int, new: str) -> None:
        self.text = self.text[:start] + new + self.text[end:]

    def _rendered(self, value: Any, indent: str, root: _Node) -> str:
        lines = json.dumps(value, ensure_ascii=False, indent=self._unit(root)).split("\n")
        return f"{self._newline()}{indent}".join(lines)

    def _is_flat(self, root: _Node, node: _Node) -> bool:
        """Say whether the children of a container stand on its line; an empty one is as the root is."""
        shown = node if node.children else root
        return bool(shown.children) and "\n" not in self.text[shown.start : shown.children[0].head]

    def _indent(self, at: int) -> str:
        begin = self.text.rfind("\n", 0, at) + 1
        line = self.text[begin:at].removeprefix("\ufeff")
        return line[: len(line) - len(line.lstrip(" \t"))]

    def _unit(self, root: _Node) -> str:
        return (self._indent(root.children[0].head) if root.children else "") or "  "

    def _newline(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"


class TomlFile:
    """The text of a TOML file, in which an entry is a table of its own, ``[key.name]``."""

    def __init__(self, text: str, where: str) -> None:
        self.text = text
        self._where = where

    def get(self, key: str, name: str) -> Any:
        """Return the table ``key.name``, or ABSENT."""
        return self._table(key).get(name, ABSENT)

    def put(self, key: str, name: str, entry: dict[str, Any]) -> None:
        """Append the table, or put it in the place of the one of that name and its subtables."""
        expected = {**self._data(), key: {**self._table(key), name: entry}}
        newline = "\r\n" if "\r\n" in self.text else "\n"
        new = newline.join(toml_lines(key, name, entry)) + newline
        places = self._places([key, name])
        if any("#" in self.text[start:end] for start, end in places):
            raise Unparsable(self._where, "The table of that name holds comments that would be lost.")
        if name in self._table(key) and not places:
            raise Unparsable(self._where, f"{key}.{name} is not written as a table of its own.")
        if places:
            for start, end in reversed(places[1:]):
                self.text = self.text[:start] + self.text[end:].lstrip("\r\n")
            start, end = places[0]
            self.text = self.text[:start] + new + self.text[end:]
        else:
            gap = "" if not self.text or self.text.endswith("\n") else newline
            gap += newline if self.text.strip() else ""
            self.text += gap + new
        try:
            same = self._data() == expected
        except Unparsable:
            same = False
        if not same:
            raise Unparsable(self._where, f"{key}.{name} cannot be inserted here without harm.")

    def _data(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self.text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise Unparsable(self._where, f"It is not TOML: {error}.") from None

    def _table(self, key: str) -> dict[str, Any]:
        found = self._data().get(key, {})
        if not isinstance(found, dict):
            raise Unparsable(self._where, f"{key} is not a table.")
        return cast("dict[str, Any]", found)

    def _places(self, path: Sequence[str]) -> list[tuple[int, int]]:
        """Return where a table and those below it stand, each without the comments and blank lines after it."""
        headers = [match for match in _HEADER.finditer(self.text) if self._is_header(match.start())]
        ends = [match.start() for match in headers[1:]] + [len(self.text)]
        found: list[tuple[int, int]] = []
        for match, end in zip(headers, ends, strict=False):  # no header has one end too many
            if _header_path(match[0])[: len(path)] == list(path):
                lines = self.text[match.start() : end].splitlines(keepends=True)
                while lines[-1].strip() == "" or lines[-1].lstrip().startswith("#"):
                    lines.pop()
                found.append((match.start(), match.start() + len("".join(lines))))
        return found

    def _is_header(self, at: int) -> bool:
        """Say whether a line that begins with a bracket is a header: inside a list or a string, what is before does not parse."""
        try:
            tomllib.loads(self.text[:at])
        except tomllib.TOMLDecodeError:
            return False
        return True


def toml_lines(key: str, name: str, entry: dict[str, Any]) -> list[str]:
    """Return a table as lines; its values are text, booleans, lists of text and tables of text."""
    return [f"[{key}.{name}]", *(f"{field} = {_toml(value)}" for field, value in entry.items())]


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return f"{{ {', '.join(f'{name} = {_toml(part)}' for name, part in pairs)} }}"
    return json.dumps(value, ensure_ascii=False)


def _header_path(line: str) -> list[str]:
    """Return the keys of ``[a.b]`` or ``[[a.b]]``."""
    try:
        node: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return []
    path: list[str] = []
    while isinstance(node, (dict, list)) and node:
        if isinstance(node, list):
            node = cast("list[Any]", node)[0]
            continue
        key, node = next(iter(cast("dict[str, Any]", node).items()))
        path.append(key)
    return path
