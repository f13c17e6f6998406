"""Turns one edit of one entry into cuts at the marks of the tree: the smallest change of text that says the new value.

Nothing is dumped again; what an edit does not touch keeps its bytes. What cannot be said by a local change (an anchor
used elsewhere, a value that comes through a merge key, an entry that shares its line) is refused with the reason.
May import ``config.nodes``, ``config.layout``, ``config.flow``, ``config.emit`` and ``config.parse``.
"""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Any, cast

from voicegw_mcp.config import emit, flow, layout
from voicegw_mcp.config.emit import refuse
from voicegw_mcp.config.layout import line_end
from voicegw_mcp.config.nodes import Node
from voicegw_mcp.config.parse import ParsedFile, dotted
from voicegw_mcp.config.values import at, is_list, is_map, nested, same, with_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voicegw_mcp.config.flow import Cut

Data = dict[str, Any]
Owner = tuple[Node, int]
"""A mapping and the index of its item that holds the collection in question."""


class Splicer:
    """Collects the cuts of one edit on one parsed text. The text ends with a line end, or is empty."""

    def __init__(self, parsed: ParsedFile) -> None:
        self._text = parsed.text
        self._data = parsed.data
        self._tree = parsed.tree
        self._cuts: list[Cut] = []

    def result(self) -> str:
        """Return the new text. Raises ConfigInvalid when a removed anchor is still used."""
        cuts = sorted(self._cuts, key=lambda cut: cut[:2])
        for node in self._tree.anchored:
            users = [alias for alias in node.aliases if not _covered(cuts, alias.start)]
            if users and _covered(cuts, node.start):
                raise refuse(f"line {users[0].line + 1} uses its anchor &{node.anchor}")
        pieces: list[str] = []
        done = 0
        for start, end, new in cuts:
            if start < done:
                raise refuse("two parts of the change meet in the same line")
            pieces += (self._text[done:start], new)
            done = end
        return "".join(pieces) + self._text[done:]

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

    def _unshared(self, node: Node) -> None:
        if node.aliases:
            raise refuse(f"line {node.aliases[0].line + 1} repeats the entry by its anchor &{node.anchor}")

    # -- removing ------------------------------------------------------------------------------------------------

    def _drop_entry(self, node: Node, owner: Owner | None, index: int) -> None:
        if len(node.items) > 1:
            self._drop(node, owner, {index})
        elif node.flow:
            start = layout.after_properties(self._text, node)
            self._cuts.append((start, node.end, "{}"))
        else:
            self._drop(node, owner, {index})
            if owner is not None:
                self._cuts.append(self._behind_key(owner, node, " {}"))

    def _behind_key(self, owner: Owner, node: Node, new: str) -> Cut:
        key = owner[0].items[owner[1]][0]
        if node.anchor is not None or node.tagged:
            place = layout.after_properties(self._text, node)
            place = len(self._text[:place].rstrip(" \t"))
        else:
            place = self._colon(key)
        return (place, place, new)

    def _colon(self, key: Node) -> int:
        found = self._text.find(":", key.end, line_end(self._text, key.end))
        if found < 0 or self._text[key.end : found].strip():
            raise refuse(f"line {key.line + 1} writes its key in the long form")
        return found + 1

    def _opening(self, owner: Owner | None) -> int:
        """Where the lines above the first item of a block collection end."""
        if owner is None:
            start = self._tree.start
            return line_end(self._text, start) if start else int(self._text.startswith("\ufeff"))
        return line_end(self._text, owner[0].items[owner[1]][0].end)

    def slot(self, node: Node, owner: Owner | None, index: int) -> layout.Slot:
        """Return the lines of item ``index`` of the block collection ``node``."""
        floor = layout.floor_of(self._text, node, index, self._opening(owner))
        return layout.slot(self._text, node, index, floor, root=owner is None)

    def _drop(self, node: Node, owner: Owner | None, gone: set[int], *, more: bool = False) -> None:
        text = self._text
        if node.flow:
            self._cuts += flow.without(flow.segments(text, node), gone, more=more)
            return
        runs: list[tuple[int, int, int]] = []
        for index in sorted(gone):
            slot = self.slot(node, owner, index)
            floor = layout.floor_of(text, node, index, self._opening(owner))
            if runs and runs[-1][1] == slot.lead:
                runs[-1] = (runs[-1][0], slot.end, runs[-1][2])
            else:
                runs.append((slot.lead, slot.end, floor))
        for lead, end, floor in runs:
            cut = self._cut_from(node, lead, end, floor)
            self._cuts.append((cut, layout.cut_to(self._text, node, lead, end, floor), ""))

    def _cut_from(self, node: Node, lead: int, end: int, floor: int) -> int:
        """The blank lines above go too when others, or the end of the file, would follow, or nothing is left."""
        above = layout.blank_above(self._text, lead, floor)
        emptied = len(node.items) == 1 and above == floor
        closing = end >= len(self._text) or end == self._tree.stop or layout.is_blank(self._text, end)
        return above if emptied or closing else lead

    def lines_of(self, node: Node, owner: Owner | None, index: int) -> layout.Lines:
        """Return where a block entry, the gap before it and its removal begin and end. Raises ConfigInvalid."""
        slot, floor = (
            self.slot(node, owner, index),
            layout.floor_of(self._text, node, index, self._opening(owner)),
        )
        upto = layout.cut_to(self._text, node, slot.lead, slot.end, floor)
        return layout.Lines(
            floor, self._cut_from(node, slot.lead, slot.end, floor), slot.lead, slot.end, upto
        )

    def top(self) -> int:
        """Return where the first entry of the file may begin."""
        return self._opening(None)

    def inside(self, node: Node, index: int) -> int:
        """Return where the first line below the key of item ``index`` begins."""
        return line_end(self._text, node.items[index][0].end)

    def after_item(self, node: Node, owner: Owner | None, index: int) -> int:
        """Return where the lines before item ``index`` of a block collection end."""
        return layout.floor_of(self._text, node, index, self._opening(owner))

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
        name = str(owner[0].items[owner[1]][0].composed.value)
        style = layout.survey(self._tree, owner[0])
        if node.flow:
            parts = flow.segments(text, node)
            written = [emit.flow(value, style, name) for value in values]
            if after is None:
                first = parts[kept[0]].start
                self._cuts.append((first, first, "".join(f"{item}, " for item in written)))
            else:
                nl = layout.newline_at(text, parts[after].start)
                self._cuts += flow.with_items(text, parts, after, written, last=after == kept[-1], nl=nl)
            return
        slot = self.slot(node, owner, after if after is not None else kept[0])
        lines = [line for value in values for line in emit.dashed(value, slot.indent, style, name)]
        self._add_lines(slot.end if after is not None else slot.lead, lines)

    def _replace_in_flow(self, parent: Node, index: int, new: object) -> None:
        key, value = parent.items[index]
        style = layout.survey(self._tree, parent)
        written = emit.flow(new, style, str(key.composed.value))
        if value.start == value.end:
            if self._text[key.end : value.start].strip() != ":":
                raise refuse(f"line {key.line + 1} has a key without a value")
            place = self._colon(key)
            self._cuts.append((place, place, " " + written))
            return
        self._cuts.append((value.start, value.end, written))

    def _replace_in_block(self, parent: Node, index: int, new: object) -> None:
        text = self._text
        key, value = parent.items[index]
        name = str(key.composed.value)
        style = layout.survey(self._tree, parent)
        block = bool(value.items) and not value.flow
        if not block and emit.fits_line(new, style, name):
            like = value.style if value.style in ("'", '"') else ""
            written = emit.scalar(new, like=like) if isinstance(new, str) else emit.inline(new, style, name)
            gap = " " if value.start == value.end else ""
            end = layout.content_end(text, value)
            self._cuts.append((self._colon(key) if gap else value.start, end, gap + written))
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
            self._cuts.append((colon, colon, " " + emit.inline(new, style, name)))
            return
        indent = slot.indent
        lines = emit.children(new, indent, self._fitted(style, below, indent, new), name)
        self._add_lines(below, lines)

    def _fitted(self, style: emit.Style, below: int, indent: int, new: object) -> emit.Style:
        """Indent like the comment under an empty section, so that it does not become the new entry's."""
        depth = layout.comment_indent(self._text, below)
        if depth is None or depth <= indent or not is_map(new):
            return style
        return emit.Style(depth - indent, style.dash, style.quotes, style.flows, style.key_quote)

    # -- adding --------------------------------------------------------------------------------------------------

    def _insert(
        self, node: Node, owner: Owner | None, after: int, entries: Sequence[tuple[str, Any]]
    ) -> None:
        text = self._text
        style = layout.survey(self._tree, node)
        if not node.items:
            self._fill_braces(node, owner, dict(entries))
        elif node.flow:
            parts = flow.segments(text, node)
            written = [emit.pair(name, value, style) for name, value in entries]
            nl = layout.newline_at(text, parts[after].start)
            rest = [
                part
                for part in parts[after + 1 :]
                if not any(cut[0] <= part.start < cut[1] for cut in self._cuts)
            ]
            self._cuts += flow.with_items(text, parts, after, written, last=not rest, nl=nl)
        else:
            slot = self.slot(node, owner, after)
            lines: list[str] = []
            spaced = self._spaced(node, owner, slot.end)
            for name, value in entries:
                if spaced:
                    lines.append("")
                lines += emit.entry(name, value, slot.indent, style, like=style.key_quote)
            self._add_lines(slot.end, lines)

    def _spaced(self, node: Node, owner: Owner | None, end: int) -> bool:
        text = self._text
        if not (end >= len(text) or end == self._tree.stop or layout.is_blank(text, end)):
            return False
        if layout.keeps_blanks(text, node):
            return False
        if len(node.items) < 2:
            return owner is None and bool(node.items[0][1].items)
        last = self.slot(node, owner, len(node.items) - 1)
        return last.lead > 0 and layout.is_blank(text, layout.line_start(text, last.lead - 1))

    def _fill_braces(self, node: Node, owner: Owner | None, value: Data) -> None:
        start = layout.after_properties(self._text, node)
        inside = self._text[start + 1 : node.end - 1]
        if owner is not None and not owner[0].flow and not inside.strip() and start == node.start:
            self._replace_in_block(owner[0], owner[1], value)
            return
        style = layout.survey(self._tree, None)
        items = ", ".join(emit.pair(k, v, style) for k, v in value.items())
        stop = start + 1 if inside.strip() else node.end - 1
        self._cuts.append((start + 1, stop, items))

    def _fill_empty(self, value: object) -> None:
        """Write into a file without content: behind its comments, before ``...``."""
        text = self._text
        place = self._tree.stop if self._tree.stop is not None else len(text)
        style = layout.survey(self._tree, None)
        lines = [line for k, v in cast("Data", value).items() for line in emit.entry(k, v, 0, style)]
        before = layout.line_start(text, place - 1) if place > 0 else 0
        if layout.comment_indent(text, before) is not None and before < place:
            lines.insert(0, "")
        self._add_lines(place, lines)

    def _add_lines(self, place: int, lines: list[str]) -> None:
        nl = layout.newline_at(self._text, place)
        self._cuts.append((place, place, "".join(line + nl for line in lines)))


def _covered(cuts: Sequence[Cut], index: int) -> bool:
    return any(start <= index < end for start, end, _ in cuts)
