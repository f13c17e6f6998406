"""What undo needs to put an entry back byte for byte: its text, its place, and its section where that was reshaped.

May import the modules of ``config`` below it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from voicegw_mcp.config import values
from voicegw_mcp.config.document import DELETE, Edit, apply_edits, entry_text, verified, whole_lines
from voicegw_mcp.config.emit import refuse
from voicegw_mcp.config.layout import entry_place
from voicegw_mcp.config.parse import ParsedFile, parse
from voicegw_mcp.config.splice import Splicer
from voicegw_mcp.errors import ConfigInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Excerpt:
    """One entry as it was before an edit. JSON-able through ``as_dict`` and ``from_dict``."""

    path: tuple[str, ...]
    present: bool
    """Whether it was written there itself; what only comes through a merge key is not."""
    value: Any = None
    merged: bool = False
    """Whether ``value`` came only through a merge key."""
    text: str = ""
    """Its lines, with the blank lines that go with it."""
    blank: int = 0
    """How many characters of ``text`` are blank lines above the entry."""
    trail: int = 0
    """How many characters of ``text`` are blank lines below the entry."""
    gap: str = ""
    """What stood between the entry before (or the section's key) and ``text``."""
    previous: str | None = None
    """The key before it; None when it was the first."""
    section: Excerpt | None = None
    """The entry around it, when the edit reshaped that (first or only entry, ``{}``)."""
    section_left: str | None = None
    """The text of that section right after the edit; another text now means someone else was there."""

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-able mapping."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Excerpt:
        """Make an excerpt from what ``as_dict`` gave, also after a trip through JSON."""
        section = data["section"]
        inner = cls.from_dict(section) if section is not None else None
        fields: dict[str, Any] = {**data, "path": tuple(data["path"]), "section": inner}
        return cls(**fields)


def record_edits(steps: Sequence[ParsedFile], edits: Sequence[Edit]) -> list[Excerpt]:
    """Return for each edit what ``restore_entry`` needs; restore them in reverse order.

    ``steps`` is what ``document.stages`` returned for ``edits``.
    """
    return [_capture(steps[n], edit.path, steps[n + 1]) for n, edit in enumerate(edits)]


def _capture(parsed: ParsedFile, path: tuple[str, ...], after: ParsedFile | None) -> Excerpt:
    if not path:
        return Excerpt((), present=True, text=parsed.text)
    place = entry_place(parsed.tree, path)
    try:
        value, known = values.copied(values.at(parsed.data, path)), True
    except (KeyError, TypeError):
        value, known = None, False
    present = place is not None
    merged = known and not present
    found = Excerpt(path, present, value, merged)
    if place is not None and not place[0].flow:
        node, owner, index = place
        work = whole_lines(parsed)[0]
        lines = Splicer(work).lines_of(node, owner, index)
        previous = node.items[index - 1][0].name if index else None
        own, gap = work.text[lines.cut : lines.upto], work.text[lines.floor : lines.cut]
        above, below = lines.lead - lines.cut, lines.upto - lines.end
        found = Excerpt(path, present, value, merged, own, above, below, gap, previous)
        if len(node.items) > 1:
            return found
    elif place is None:
        around = entry_place(parsed.tree, path[:-1]) if len(path) > 1 else None
        child = around[0].items[around[2]][1] if around else parsed.tree.root if len(path) == 1 else None
        if child is not None and child.items and not child.flow:
            return found
    if after is None:
        return found
    section = _capture(parsed, path[:-1], after)
    left = entry_text(after, path[:-1])
    fields = {
        name: getattr(found, name)
        for name in ("present", "value", "merged", "text", "blank", "trail", "gap", "previous")
    }
    return Excerpt(path, **fields, section=section, section_left=left)


def restore_entry(text: str, was: Excerpt) -> str:
    """Return the text with the entry as it was: the same bytes in the same place where nothing else changed there.

    Whether the entry itself was changed since is the caller's question (compare ``entry_text``). Raises ConfigInvalid
    when it cannot be put back.
    """
    if not was.path:
        return was.text
    parsed = parse(text)
    if was.section is not None and entry_text(parsed, was.path[:-1]) == was.section_left:
        return restore_entry(text, was.section)
    if was.merged:
        work, ending = whole_lines(parsed)
        splicer = Splicer(work)
        splicer.remove(was.path, uncover=True)
        wanted = values.with_value(parsed.data, was.path, was.value)
        return verified(splicer.result().removesuffix(ending), wanted).text
    if not was.present:
        return apply_edits(text, [Edit(was.path, DELETE)])
    wanted = values.with_value(parsed.data, was.path, was.value)
    if was.text:
        try:
            return verified(_put_back(parsed, was), wanted).text
        except ConfigInvalid:
            pass
    return apply_edits(text, [Edit(was.path, was.value)])


def _put_back(parsed: ParsedFile, was: Excerpt) -> str:
    work, ending = whole_lines(parsed)
    splicer = Splicer(work)
    place = entry_place(work.tree, was.path)
    if place is not None:
        lines = splicer.lines_of(*place)
        start, end, new = lines.lead, lines.end, was.text[was.blank : len(was.text) - was.trail]
    else:
        start = end = _spot(work, splicer, was)
        new = was.text
    return (work.text[:start] + new + work.text[end:]).removesuffix(ending)


def _spot(work: ParsedFile, splicer: Splicer, was: Excerpt) -> int:
    beside = entry_place(work.tree, (*was.path[:-1], was.previous)) if was.previous is not None else None
    if beside is not None:
        node, owner, index = beside
        floor = splicer.after_item(node, owner, index + 1)
    elif len(was.path) == 1:
        floor = splicer.top()
    else:
        around = entry_place(work.tree, was.path[:-1])
        if around is None:
            raise refuse("its section is gone")
        node, owner, index = around
        floor = splicer.inside(node, index)
    return floor + len(was.gap) if work.text.startswith(was.gap, floor) else floor
