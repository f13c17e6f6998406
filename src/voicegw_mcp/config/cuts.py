"""Where the entries of one parsed text stand, and the cuts of one edit: the half that finds and takes away.

``config.splice`` adds the half that writes. What cannot be taken out by a local change is refused with the reason.
May import ``config.nodes``, ``config.layout``, ``config.flow``, ``config.emit`` and ``config.parse``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from voicegw_mcp.config import flow, layout
from voicegw_mcp.config.emit import refuse
from voicegw_mcp.config.layout import line_end
from voicegw_mcp.config.nodes import Node

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voicegw_mcp.config.flow import Cut
    from voicegw_mcp.config.parse import ParsedFile

Owner = tuple[Node, int]
"""A mapping and the index of its item that holds the collection in question."""


class Cutter:
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

    def _unshared(self, node: Node) -> None:
        if node.aliases:
            raise refuse(f"line {node.aliases[0].line + 1} repeats the entry by its anchor &{node.anchor}")

    # -- removing ------------------------------------------------------------------------------------------------

    def _drop_entry(self, node: Node, owner: Owner | None, index: int) -> None:
        if len(node.items) > 1:
            self._drop(node, owner, {index})
        elif node.flow:
            start = layout.after_properties(self._text, node)
            only = flow.segments(self._text, node)[0]
            around = self._text[start : only.lead] + self._text[only.tail : node.end]
            self._cuts.append((only.lead, only.tail, "") if "#" in around else (start, node.end, "{}"))
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

    def _add_lines(self, place: int, lines: list[str]) -> None:
        nl = layout.newline_at(self._text, place)
        self._cuts.append((place, place, "".join(line + nl for line in lines)))


def _covered(cuts: Sequence[Cut], index: int) -> bool:
    return any(start <= index < end for start, end, _ in cuts)
