"""What undo needs to put an entry back byte for byte: its text, its place, and its section where that was reshaped.

May import the modules of ``config`` below it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.config import values
from voicegw_mcp.config.document import (
    DELETE,
    Edit,
    apply_edits,
    edited,
    entry_text,
    verified,
    whole_lines,
)
from voicegw_mcp.config.emit import refuse
from voicegw_mcp.config.flow import segments
from voicegw_mcp.config.layout import entry_place, is_blank, line_end
from voicegw_mcp.config.parse import ParsedFile, parse
from voicegw_mcp.config.redaction import HIDDEN, ShownFile, count_hidden, revealed, shown, shown_part
from voicegw_mcp.config.secret_comments import comments
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
    """Its lines, with the blank lines that go with it; in ``{...}`` its key and value."""
    blank: int = 0
    """How many characters of ``text`` are blank lines above the entry."""
    trail: int = 0
    """How many characters of ``text`` are blank lines below the entry."""
    gap: str = ""
    """What stood between the entry before (or the section's key) and ``text``."""
    previous: str | None = None
    """The key before it; None when it was the first."""
    between: bool = False
    """Whether it is absent and ``gap`` tells what stood between its neighbours."""
    flow: bool = False
    """Whether it stood inside ``{...}``."""
    hidden: int = 0
    """For how many secrets ``***`` stands in it."""
    section: Excerpt | None = None
    """The entry around it, when the edit reshaped that (first or only entry, ``{}``)."""
    below: str = ""
    """The blank lines below it, which may have been inside before the edit."""
    below_left: str = ""
    """The same right after the edit."""
    section_left: str | None = None
    """The text of that section right after the edit; another text now means someone else was there."""

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-able mapping; it shares ``value``."""
        section = None if self.section is None else self.section.as_dict()
        return {name: getattr(self, name) for name in _FIELDS} | {"section": section}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Excerpt:
        """Make an excerpt from what ``as_dict`` gave, also after a trip through JSON."""
        section = data["section"]
        inner = cls.from_dict(section) if section is not None else None
        fields: dict[str, Any] = {**data, "path": tuple(data["path"]), "section": inner}
        return cls(**fields)


_FIELDS: Final = tuple(field.name for field in fields(Excerpt))


def apply_steps(old: ParsedFile, edits: Sequence[Edit | Excerpt]) -> list[ParsedFile]:
    """Return the file before and after each edit; an excerpt puts its entry back.

    It comes back as the same bytes in the same place where nothing else changed there. Whether the entry itself was
    changed since is the caller's question (compare ``entry_text``).

    Raises:
        ConfigInvalid: an edit is not safe.
        Conflict: an entry held a key that the journal does not keep and the file has no more.
    """
    found = [old]
    for edit in edits:
        found.append(_restored(found[-1], edit) if isinstance(edit, Excerpt) else edited(found[-1], [edit]))
    return found


def record_steps(steps: Sequence[ParsedFile], paths: Sequence[tuple[str, ...]]) -> list[Excerpt]:
    """Return for the entry that each step changed what puts it back; restore them in reverse order.

    ``steps`` is what ``apply_steps`` returned, without anything that must not be kept.
    """
    return [_capture(steps[n], path, steps[n + 1]) for n, path in enumerate(paths)]


def _capture(parsed: ParsedFile, path: tuple[str, ...], after: ParsedFile | None) -> Excerpt:
    text = parsed.text
    if not path:
        return Excerpt((), present=True, text=text, hidden=_hidden_in(parsed, 0, len(text)))
    place = entry_place(parsed.tree, path)
    try:
        value, known = values.copied(values.at(parsed.data, path)), True
    except (KeyError, TypeError):
        value, known = None, False
    found = Excerpt(path, place is not None, value, merged=known and place is None)
    if place is None:
        around = entry_place(parsed.tree, path[:-1]) if len(path) > 1 else None
        child = around[0].items[around[2]][1] if around else parsed.tree.root if len(path) == 1 else None
        if child is not None and child.items and not child.flow:
            return found if known or after is None else _with_neighbours(found, parsed, after)
    elif place[0].flow:
        part = segments(text, place[0])[place[2]]
        own = text[part.start : part.stop]
        found = replace(found, text=own, flow=True, hidden=_hidden_in(parsed, part.start, part.stop))
    else:
        node, owner, index = place
        work = whole_lines(parsed)[0]
        lines = Splicer(work).lines_of(node, owner, index)
        found = replace(
            found,
            text=work.text[lines.cut : lines.upto],
            blank=lines.lead - lines.cut,
            trail=lines.upto - lines.end,
            gap=work.text[lines.floor : lines.cut],
            previous=node.items[index - 1][0].name if index else None,
            hidden=_hidden_in(parsed, lines.cut, lines.upto),
        )
        if after is not None:
            below = parsed.text[slice(*_blanks_below(parsed, path))]
            found = replace(found, below=below, below_left=after.text[slice(*_blanks_below(after, path))])
        if len(node.items) > 1:
            return found
    if after is None:
        return found
    around = path[:-1]
    return replace(found, section=_capture(parsed, around, after), section_left=entry_text(after, around))


def _with_neighbours(was: Excerpt, parsed: ParsedFile, after: ParsedFile) -> Excerpt:
    """Return the excerpt of an absent entry with what stood between those that are beside it ``after`` it was made."""
    place = entry_place(after.tree, was.path)
    if place is None or place[0].flow:
        return was
    previous = place[0].items[place[2] - 1][0].name if place[2] else None
    found = _before_next(parsed, was.path[:-1], previous)
    return replace(was, previous=previous, gap=parsed.text[slice(*found)], between=True) if found else was


def _before_next(
    parsed: ParsedFile, section: tuple[str, ...], previous: str | None
) -> tuple[int, int] | None:
    """Return where the text between an entry (or its section's key) and the next one stands; None when none is next."""
    splicer = Splicer(whole_lines(parsed)[0])
    if previous is not None:
        place = entry_place(parsed.tree, (*section, previous))
        if place is None or place[0].flow or place[2] + 1 >= len(place[0].items):
            return None
        node, owner, index = place
        return splicer.lines_of(node, owner, index).end, splicer.lines_of(node, owner, index + 1).lead
    place = entry_place(parsed.tree, section) if section else None
    node = place[0].items[place[2]][1] if place else None
    if place is None or node is None or node.kind != "map" or node.flow or not node.items:
        return None
    start = splicer.inside(place[0], place[2])
    return start, splicer.lines_of(node, (place[0], place[2]), 0).lead


def _blanks_below(parsed: ParsedFile, path: tuple[str, ...]) -> tuple[int, int]:
    """Return where the blank lines right below a block entry stand."""
    place = entry_place(parsed.tree, path) if path else None
    if place is None or place[0].flow:
        return 0, 0
    work = whole_lines(parsed)[0]
    start = end = Splicer(work).lines_of(*place).end
    while is_blank(parsed.text, end):
        end = line_end(parsed.text, end)
    return start, end


def _hidden_in(parsed: ParsedFile, start: int, end: int) -> int:
    return sum(start <= hole < end for hole in parsed.holes) if isinstance(parsed, ShownFile) else 0


def _restored(parsed: ParsedFile, was: Excerpt) -> ParsedFile:
    chosen = _widest(shown(parsed), was)
    restored = parse(_put(parsed, chosen))
    if not chosen.hidden:
        return restored
    restored, hidden = _with_comments(restored, parsed, chosen)
    return revealed(restored, parsed, chosen.path, hidden)


def _widest(parsed: ParsedFile, was: Excerpt) -> Excerpt:
    """Return the excerpt of the section around the entry as long as nobody else was there, else the entry's own."""
    while was.section is not None:
        now, left = entry_text(parsed, was.path[:-1]), was.section_left
        # The last line of a file may have no end, and has one as soon as more follows.
        if (now or "").rstrip("\r\n") != (left or "").rstrip("\r\n") or (now is None) != (left is None):
            break
        was = was.section
    return was


def _with_comments(restored: ParsedFile, parsed: ParsedFile, was: Excerpt) -> tuple[ParsedFile, int]:
    """Return the file with the keys in the comments of an entry, and how many of its keys are still hidden.

    A comment comes back where the entry in the file has the very comments that it had, one for one.
    """
    visible = shown(parsed)
    own, seen, kept = (_comments(file, was.path) for file in (restored, visible, parsed))
    if len(seen) != len(kept):
        return restored, was.hidden
    places: dict[str, list[tuple[int, int]]] = {}
    for start, end in own:
        places.setdefault(restored.text[start:end], []).append((start, end))
    known: dict[str, list[str]] = {}
    for (start, end), (first, last) in zip(seen, kept, strict=True):
        known.setdefault(visible.text[start:end], []).append(parsed.text[first:last])
    found: list[tuple[int, int, str]] = []
    hidden = was.hidden
    for text, secrets in known.items():
        if HIDDEN in text and len(secrets) == len(places.get(text, ())):
            found += [(*place, secret) for place, secret in zip(places[text], secrets, strict=True)]
            hidden -= sum(count_hidden(secret, text) for secret in secrets if secret != text)
    text, done = "", 0
    for start, end, secret in sorted(found):
        text += restored.text[done:start] + secret
        done = end
    return parse(text + restored.text[done:]) if found else restored, hidden


def _comments(parsed: ParsedFile, path: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return where the comments of an entry stand."""
    start, end = 0, len(parsed.text)
    if path:
        place = entry_place(parsed.tree, path)
        if place is None:
            return []
        if place[0].flow:
            part = segments(parsed.text, place[0])[place[2]]
            start, end = part.start, part.stop
        else:
            lines = Splicer(whole_lines(parsed)[0]).lines_of(*place)
            start, end = lines.lead, min(lines.end, end)
    return [(comment.start, comment.end) for comment in comments(parsed, start, end)]


def _put(parsed: ParsedFile, was: Excerpt) -> str:
    text = parsed.text
    if not was.path:
        return was.text
    if was.merged:
        work, ending = whole_lines(parsed)
        splicer = Splicer(work)
        splicer.remove(was.path, uncover=True)
        wanted = values.with_value(parsed.data, was.path, was.value)
        return verified(splicer.result().removesuffix(ending), wanted).text
    if not was.present:
        return _without(parsed, was)
    wanted = values.with_value(parsed.data, was.path, was.value)
    if was.text:
        try:
            return verified(_put_part(parsed, was) if was.flow else _put_lines(parsed, was), wanted).text
        except ConfigInvalid:
            pass
    return apply_edits(text, [Edit(was.path, was.value)])


def _without(parsed: ParsedFile, was: Excerpt) -> str:
    """Take an entry out again; as many blank lines are left between its neighbours as there were."""
    left = edited(parsed, [Edit(was.path, DELETE)])
    found = _before_next(left, was.path[:-1], was.previous) if was.between else None
    if found is not None:
        start, end = found
        # A key in a comment between the entries is hidden in what was kept: the comments are those of the file.
        now, before = left.text[start:end].splitlines(keepends=True), was.gap.splitlines(keepends=True)
        visible = shown_part(left, start, end).splitlines(keepends=True)
        if list(filter(str.strip, visible)) == list(filter(str.strip, before)):
            kept = iter(list(filter(str.strip, now)))
            gap = "".join(next(kept) if line.strip() else line for line in before)
            with contextlib.suppress(ConfigInvalid):
                return verified(left.text[:start] + gap + left.text[end:], left.data).text
    return left.text


def _put_part(parsed: ParsedFile, was: Excerpt) -> str:
    """Put an entry back that stood inside ``{...}``."""
    here = parse(apply_edits(parsed.text, [Edit(was.path, was.value)]))
    place = entry_place(here.tree, was.path)
    if place is None or not place[0].flow:
        return here.text
    part = segments(here.text, place[0])[place[2]]
    return here.text[: part.start] + was.text + here.text[part.stop :]


def _put_lines(parsed: ParsedFile, was: Excerpt) -> str:
    work, ending = whole_lines(parsed)
    splicer = Splicer(work)
    place = entry_place(work.tree, was.path)
    if place is not None:
        lines = splicer.lines_of(*place)
        start, end, new = lines.lead, lines.end, was.text[was.blank : len(was.text) - was.trail]
        below = _blanks_below(parsed, was.path)
        if was.below != was.below_left == parsed.text[slice(*below)]:
            end, new = below[1], new + was.below
    else:
        start = end = _spot(work, parsed, splicer, was)
        new = was.text
    return (work.text[:start] + new + work.text[end:]).removesuffix(ending)


def _spot(work: ParsedFile, parsed: ParsedFile, splicer: Splicer, was: Excerpt) -> int:
    beside = entry_place(work.tree, (*was.path[:-1], was.previous)) if was.previous is not None else None
    if beside is not None:
        node, owner, index = beside
        floor = other = splicer.after_item(node, owner, index + 1)
    elif len(was.path) == 1:
        root, stop = work.tree.root, work.tree.stop
        floor, other = splicer.top(), len(work.text) if stop is None else stop
        if root is not None and root.items and not root.flow:
            other = splicer.lines_of(root, None, 0).lead
    else:
        around = entry_place(work.tree, was.path[:-1])
        if around is None:
            raise refuse("its section is gone")
        node, owner, index = around
        floor = other = splicer.inside(node, index)
    if work.text.startswith(was.gap, floor):
        return floor + len(was.gap)
    end = floor  # a key in a comment between the entries
    for _ in range(was.gap.count("\n")):
        end = line_end(work.text, end)
    return end if shown_part(parsed, floor, end) == was.gap else other
