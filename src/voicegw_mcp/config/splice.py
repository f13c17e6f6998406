"""Turns one edit of one entry into cuts at the marks of the tree: the smallest change of text that says the new value.

Nothing is dumped again; what an edit does not touch keeps its bytes. What cannot be said by a local change (an anchor
used elsewhere, a value that comes through a merge key, an entry that shares its line) is refused with the reason.
May import ``config.cuts`` and the modules of ``config`` below it.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from voicegw_mcp.config import emit, flow, layout
from voicegw_mcp.config.cuts import Cutter, Owner
from voicegw_mcp.config.emit import refuse
from voicegw_mcp.config.layout import line_end
from voicegw_mcp.config.parse import dotted
from voicegw_mcp.config.values import at, is_list, is_map, nested, same, with_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voicegw_mcp.config.nodes import Node

Data = dict[str, Any]


class Splicer(Cutter):
    """Does one edit on one parsed text. The text ends with a line end, or is empty."""

    # -- the two edits -------------------------------------------------------------------------------------------

    def put(self, path: Sequence[str], value: object) -> None:
        """Add the entry or give it a new value. Missing sections on the way are made."""
        node, owner = self._tree.root, None
        if node is None:
            self._fill_empty(nested(path, value))
            return
        for depth, name in enumerate(path):
            self._unshared(node)
            index = node.find(name)
            here = at(self._data, path[:depth])
            if index is None:
                rest = path[depth + 1 :]
                full = with_value(here[name], rest, value) if name in here else nested(rest, value)
                self._insert(node, owner, len(node.items) - 1, [(name, full)])
                return
            key, child = node.items[index]
            if depth == len(path) - 1:
                self._change(node, index, here[name], value)
                return
            if child.is_null:
                self._change(node, index, None, nested(path[depth + 1 :], value))
                return
            if child.kind != "map":
                what = "an alias of another entry" if child.kind == "alias" else "not a mapping"
                raise refuse(f"{dotted(path[: depth + 1])} (line {key.line + 1}) is {what}")
            node, owner = child, (node, index)

    def remove(self, path: Sequence[str], *, uncover: bool = False) -> None:
        """Take the entry out; a section that loses its last entry becomes ``{}``.

        ``uncover``: a value that a merge key brings may come to light below it.
        """
        node, owner = self._tree.root, None
        for depth, name in enumerate(path):
            index = None if node is None else node.find(name)
            if node is None or index is None:
                raise refuse(f"{dotted(path[: depth + 1])} comes from a merge key")
            self._unshared(node)
            child = node.items[index][1]
            if depth == len(path) - 1:
                if node.merges(name) and not uncover:
                    raise refuse(f"{dotted(path)} would come back through a merge key")
                self._drop_entry(node, owner, index)
            elif child.kind == "map":
                node, owner = child, (node, index)
            else:
                raise refuse(f"{dotted(path[: depth + 1])} is an alias of another entry")

    # -- changing ------------------------------------------------------------------------------------------------

    def _change(self, parent: Node, index: int, old: object, new: object) -> None:
        value = parent.items[index][1]
        if same(old, new):
            return
        self._unshared(value)
        owner = (parent, index)
        if value.kind == "map" and is_map(new) and self._change_map(value, owner, cast("Data", old), new):
            return
        if value.kind == "seq" and is_list(new) and self._change_list(owner, cast("Sequence[Any]", old), new):
            return
        if parent.flow or (value.flow and emit.fits_line(new, emit.Style()) and not new):
            self._replace_in_flow(parent, index, new)
        else:
            self._replace_in_block(parent, index, new)

    def _change_map(self, node: Node, owner: Owner, old: Data, new: Mapping[str, Any]) -> bool:
        written = {key.name: index for index, (key, _) in enumerate(node.items) if not key.is_merge}
        kept = [i for i, (key, _) in enumerate(node.items) if key.is_merge or key.name in new]
        if not new or not kept:
            return False
        for name in old:
            if name not in new and name not in written:
                raise refuse(f"{name} comes through a merge key")
        gone = {index for name, index in written.items() if name not in new}
        if any(node.merges(node.items[index][0].name) for index in gone):
            raise refuse("a key would come back through a merge key")
        for name, index in written.items():
            if name in new:
                self._change(node, index, old[name], new[name])
        fresh = [(k, v) for k, v in new.items() if k not in written and not (k in old and same(old[k], v))]
        if gone:
            self._drop(node, owner, gone, more=bool(fresh))
        if fresh:
            self._insert(node, owner, kept[-1], fresh)
        return True

    def _change_list(self, owner: Owner, old: Sequence[Any], new: Any) -> bool:
        node = owner[0].items[owner[1]][1]
        before, after = ([json.dumps(v, sort_keys=True, default=repr) for v in side] for side in (old, new))
        steps = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        if not any(step[0] == "equal" for step in steps):
            return False
        gone: set[int] = set()
        inserts: list[tuple[int, list[Any]]] = []
        for name, i1, i2, j1, j2 in steps:
            if name == "equal":
                continue
            gone |= set(range(i1, i2))
            if j2 > j1:
                inserts.append((i1, list(new[j1:j2])))
        kept = [index for index in range(len(before)) if index not in gone]
        if gone:
            self._drop(node, owner, gone, more=any(place > kept[-1] for place, _ in inserts))
        for place, values in inserts:
            earlier = [index for index in kept if index < place]
            self._insert_items(node, owner, earlier[-1] if earlier else None, kept, values)
        return True

    def _insert_items(
        self, node: Node, owner: Owner, after: int | None, kept: list[int], values: list[Any]
    ) -> None:
        text = self._text
        name = owner[0].items[owner[1]][0].name
        style = layout.survey(self._tree, *owner)
        if node.flow:
            parts = flow.segments(text, node)
            written = [self._in_flow(value, style, name, parts[kept[0]].start) for value in values]
            if after is None:
                first = parts[kept[0]]
                gap = text[first.lead : first.start].rsplit("\n", 1)[-1]
                comma = "," + layout.newline_at(text, first.start) + gap if first.own_line else ", "
                self._cuts.append((first.start, first.start, "".join(item + comma for item in written)))
            else:
                nl = layout.newline_at(text, parts[after].start)
                self._cuts += flow.with_items(text, parts, after, written, last=after == kept[-1], nl=nl)
            return
        slot = self.slot(node, owner, after if after is not None else kept[0])
        lines = [line for value in values for line in emit.dashed(value, slot.indent, style, name)]
        self._add_lines(slot.end if after is not None else slot.lead, lines)

    def _replace_in_flow(self, parent: Node, index: int, new: object) -> None:
        key, value = parent.items[index]
        style = layout.survey(self._tree, parent, index)
        written = self._in_flow(new, style, key.name, key.start)
        if value.start == value.end:
            if self._text[key.end : value.start].strip() != ":":
                raise refuse(f"line {key.line + 1} has a key without a value")
            place = self._colon(key)
            self._cuts.append((place, place, " " + written))
            return
        self._cuts.append((layout.kept_properties(self._text, value, new), value.end, written))

    def _replace_in_block(self, parent: Node, index: int, new: object) -> None:
        text = self._text
        key, value = parent.items[index]
        name = key.name
        style = layout.survey(self._tree, parent, index).beside_others(name, new)
        block = bool(value.items) and not value.flow
        if not block and emit.fits_line(new, style, name):
            like = value.style if value.style in ("'", '"') else ""
            if isinstance(new, str):
                written = emit.scalar(new, like=like)
            else:
                written = self._in_flow(new, style, name, key.start)
            gap = " " if value.start == value.end else ""
            end = layout.content_end(text, value)
            start = self._colon(key) if gap else layout.kept_properties(text, value, new)
            self._cuts.append((start, end, gap + written))
            return
        slot = layout.slot(text, parent, index, len(text))
        if slot.explicit:
            raise refuse(f"line {key.line + 1} writes its key in the long form")
        colon = self._colon(key)
        if block:
            below = line_end(text, colon)
            if value.anchor is not None or value.tagged:
                self._cuts.append(
                    (colon, len(text[: layout.after_properties(text, value)].rstrip(" \t")), "")
                )
            self._cuts.append((below, slot.end, ""))
        else:
            end = layout.content_end(text, value)
            if value.start > colon or end > colon:
                self._cuts.append((colon, end, ""))
            below = line_end(text, end)
        if emit.fits_line(new, style, name):
            self._cuts.append((colon, colon, " " + self._in_flow(new, style, name, key.start)))
            return
        indent = slot.indent
        lines = emit.children(new, indent, self._fitted(style, below, indent, new), name)
        self._add_lines(below, lines)

    def _fitted(self, style: emit.Style, below: int, indent: int, new: object) -> emit.Style:
        """Indent like the comment under an empty section, so that it does not become the new entry's."""
        depth = layout.comment_indent(self._text, below)
        if depth is None or depth <= indent or not is_map(new):
            return style
        return replace(style, step=depth - indent)

    # -- adding --------------------------------------------------------------------------------------------------

    def _insert(
        self, node: Node, owner: Owner | None, after: int, entries: Sequence[tuple[str, Any]]
    ) -> None:
        text = self._text
        style = layout.survey(self._tree, node, after)
        if not node.items:
            self._fill_braces(node, owner, dict(entries))
        elif node.flow:
            parts = flow.segments(text, node)
            deep = self._depth(parts[after].start)
            written = [
                emit.pair(name, value, style.beside_others(name, value), deep, like=style.key_quote)
                for name, value in entries
            ]
            nl = layout.newline_at(text, parts[after].start)
            rest = [
                part
                for part in parts[after + 1 :]
                if not any(cut[0] <= part.start < cut[1] for cut in self._cuts)
            ]
            written = [item.replace("\n", nl) for item in written]
            self._cuts += flow.with_items(text, parts, after, written, last=not rest, nl=nl)
        else:
            slot = self.slot(node, owner, after)
            lines: list[str] = []
            blanks = [""] * self._blanks(node, owner, slot.end)
            for name, value in entries:
                fitting = style if owner is None else style.beside_others(name, value)
                lines += [*blanks, *emit.entry(name, value, slot.indent, fitting, like=style.key_quote)]
            self._add_lines(slot.end, lines)

    def _blanks(self, node: Node, owner: Owner | None, end: int) -> int:
        """How many blank lines stand above a new entry: as many as above the last one, when nothing follows closely."""
        text = self._text
        if not (end >= len(text) or end == self._tree.stop or layout.is_blank(text, end)):
            return 0
        if layout.keeps_blanks(text, node):
            return 0
        if len(node.items) < 2:
            return int(owner is None and bool(node.items[0][1].items))
        last = self.slot(node, owner, len(node.items) - 1).lead
        return text.count("\n", layout.blank_above(text, last, 0), last)

    def _fill_braces(self, node: Node, owner: Owner | None, value: Data) -> None:
        start = layout.after_properties(self._text, node)
        inside = self._text[start + 1 : node.end - 1]
        if owner is not None and not owner[0].flow and not inside.strip() and start == node.start:
            self._replace_in_block(owner[0], owner[1], value)
            return
        if owner is not None and not inside.strip():
            parent, index = owner
            name = parent.items[index][0].name
            style = layout.survey(self._tree, parent, index).beside_others(name, value)
            self._cuts.append((start, node.end, self._in_flow(value, style, name, node.start)))
            return
        style = layout.survey(self._tree, None)
        items = ", ".join(emit.pair(k, v, style, like=style.key_quote) for k, v in value.items())
        stop = start + 1 if inside.strip() else node.end - 1
        self._cuts.append((start + 1, stop, items))

    def _fill_empty(self, value: object) -> None:
        """Write into a file without content: behind its comments, before ``...``."""
        text = self._text
        place = self._tree.stop if self._tree.stop is not None else len(text)
        style = layout.survey(self._tree, None)
        lines = [
            line
            for k, v in cast("Data", value).items()
            for line in emit.entry(k, v, 0, style, like=style.key_quote)
        ]
        before = layout.line_start(text, place - 1) if place > 0 else 0
        if layout.comment_indent(text, before) is not None and before < place:
            lines.insert(0, "")
        self._add_lines(place, lines)

    def _in_flow(self, value: object, style: emit.Style, name: str, beside: int) -> str:
        """Write a value for a line of the text that is there already."""
        written = emit.inline(value, style, name, self._depth(beside))
        return written.replace("\n", layout.newline_at(self._text, beside))

    def _depth(self, index: int) -> int:
        """How far the line of ``index`` is indented."""
        line = self._text[layout.line_start(self._text, index) : index]
        return len(line) - len(line.lstrip(" "))
