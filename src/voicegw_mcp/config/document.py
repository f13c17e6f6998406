"""Edits of voicegw.yaml as text: every byte outside the edited entry stays, or the edit is refused with the reason.

The new text is parsed again and must mean exactly "the old data with these edits applied"; otherwise nothing is
returned. A file without a final newline stays without one, an empty file gets one, CRLF and BOM stay.
May import the modules of ``config`` below it and ``errors``.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Literal

from voicegw_mcp.config import values
from voicegw_mcp.config.emit import refuse
from voicegw_mcp.config.flow import segments
from voicegw_mcp.config.layout import entry_place, is_literal
from voicegw_mcp.config.parse import BOM, ParsedFile, dotted, parse
from voicegw_mcp.config.splice import Splicer
from voicegw_mcp.errors import ConfigInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_DIFF = 20_000
CONTEXT = 3
"""Unchanged lines of a diff around what changed."""
_UNENDED = ": the file ends inside a block text without a line end, where one more or less changes the text"
_UNFINISHED = "\n\\ No newline at end of file"
_LONE_CR = re.compile(r"\r(?!\n)")


class Delete(Enum):
    """The type of ``DELETE``."""

    DELETE = "delete"


DELETE: Final[Literal[Delete.DELETE]] = Delete.DELETE
"""As an Edit's value: take the entry out."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Add or replace the entry at ``path`` (keys from the root) with a JSON-like value, or ``DELETE`` it.

    A mapping replaces the whole entry: keys it does not name go. What is equal keeps its bytes.
    """

    path: tuple[str, ...]
    value: Any


def apply_to_data(data: dict[str, Any], edits: Sequence[Edit]) -> dict[str, Any]:
    """Return what ``data`` means after the edits; ``data`` itself is not changed.

    Raises ConfigInvalid when an edit deletes what is absent, or leads through something that is no mapping.
    """
    result: Any = data
    for edit in edits:
        try:
            if not edit.path:
                raise KeyError  # noqa: TRY301 - the same answer as for an absent entry
            if edit.value is DELETE:
                result = values.without(result, edit.path)
            else:
                result = values.with_value(result, edit.path, edit.value)
        except KeyError:
            raise refuse(f"there is no entry {dotted(edit.path)!r} to delete") from None
        except TypeError:
            raise refuse(f"{dotted(edit.path)!r} leads through an entry that is not a mapping") from None
    return result


def apply_edits(text: str, edits: Sequence[Edit]) -> str:
    """Return the text with the edits applied in order. Raises ConfigInvalid, saying why, when that is not safe."""
    return edited(parse(text), edits).text


def edited(old: ParsedFile, edits: Sequence[Edit]) -> ParsedFile:
    """Do what ``apply_edits`` does for a caller who has the file parsed and wants the new one parsed: half the time."""
    if _LONE_CR.search(old.text):
        raise refuse("it has line ends of a lone carriage return")
    try:
        for edit in edits:
            old = _edited(old, edit)
    except RecursionError:
        raise refuse("the new value is nested too deep") from None
    return old


def _edited(old: ParsedFile, edit: Edit) -> ParsedFile:
    wanted = apply_to_data(old.data, [edit])
    if values.same(wanted, old.data):
        return old
    return verified(_applied(old, edit), wanted, _UNENDED if _is_unended(old) else "")


def _is_unended(parsed: ParsedFile) -> bool:
    """Whether the text ends inside a block text without a line end: one more line end would be part of its meaning."""
    root = parsed.tree.root
    return root is not None and is_literal(root) and not parsed.text.endswith("\n")


def verified(text: str, wanted: dict[str, Any], why: str = "") -> ParsedFile:
    """Parse an edited text and compare its meaning. Raises ConfigInvalid when it is not ``wanted``."""
    try:
        new = parse(text)
    except ConfigInvalid as error:
        raise refuse(f"the edited text would not parse ({error.message.rstrip('.')})") from error
    if not values.same(new.data, wanted):
        why = why or (_UNENDED if _is_unended(new) else "")
        raise refuse(f"the edited text would mean something else than the change asked for{why}")
    return new


def _applied(old: ParsedFile, edit: Edit) -> str:
    work, ending = whole_lines(old)
    splicer = Splicer(work)
    if edit.value is DELETE:
        splicer.remove(edit.path)
    else:
        splicer.put(edit.path, edit.value)
    return splicer.result().removesuffix(ending)


def whole_lines(parsed: ParsedFile) -> tuple[ParsedFile, str]:
    """Return the file with a line end at its end, and the line end that was added ("" when there was one)."""
    text = parsed.text
    if text in ("", BOM) or text.endswith("\n"):
        return parsed, ""
    ending = "\r\n" if "\r\n" in text else "\n"
    return ParsedFile(text + ending, parsed.data, parsed.tree), ending


def entry_text(parsed: ParsedFile, path: Sequence[str]) -> str | None:
    """Return the bytes of an entry with its own comments; None when it is not written there.

    A root path gives the whole text; an entry inside ``{}`` gives its ``key: value``. Raises ConfigInvalid when
    the entry shares its lines with others.
    """
    text = parsed.text
    if not path:
        return text
    place = entry_place(parsed.tree, path)
    if place is None:
        return None
    node, owner, index = place
    if node.flow:
        part = segments(text, node)[index]
        return text[part.start : part.stop]
    work, ending = whole_lines(parsed)
    lines = Splicer(work).lines_of(node, owner, index)
    found = work.text[lines.lead : lines.end]
    return found.removesuffix(ending) if lines.end == len(work.text) else found


def unified_diff(old: str, new: str, filename: str) -> str:
    r"""Return a unified diff with ``\n`` line ends; past 20,000 characters it is cut and says so. "" when equal."""
    before, after = _lines(old), _lines(new)
    # A change touches a few lines of a file that may have thousands.
    first = max(0, _same_lines(before, after) - CONTEXT)
    before, after = before[first:], after[first:]
    last = max(0, _same_lines(before[::-1], after[::-1]) - CONTEXT)
    before, after = before[: len(before) - last], after[: len(after) - last]
    lines = [f"--- a/{filename}", f"+++ b/{filename}"]
    for group in difflib.SequenceMatcher(None, before, after).get_grouped_opcodes(CONTEXT):
        (_, i1, _, j1, _), (_, _, i2, _, j2) = group[0], group[-1]
        lines.append(f"@@ -{_range(first + i1, i2 - i1)} +{_range(first + j1, j2 - j1)} @@")
        for tag, i1, i2, j1, j2 in group:
            lines += [(" " if tag == "equal" else "-") + line for line in before[i1:i2]]
            lines += ["+" + line for line in after[j1:j2] if tag != "equal"]
    if len(lines) == 2:
        return ""
    text = "".join(part.rstrip("\r") + "\n" for line in lines for part in line.split("\n"))
    if len(text) <= MAX_DIFF:
        return text
    cut = text.rfind("\n", 0, MAX_DIFF) + 1
    return f"{text[:cut]}... {text[cut:].count(chr(10))} more lines of diff left out\n"


def _same_lines(left: Sequence[str], right: Sequence[str]) -> int:
    """Return how many lines both begin with alike."""
    return next(
        (n for n, (one, other) in enumerate(zip(left, right, strict=False)) if one != other),
        min(len(left), len(right)),
    )


def _range(start: int, count: int) -> str:
    """Return lines as a hunk's head names them: none at all are after line ``start``."""
    return f"{start + 1}" if count == 1 else f"{start + (count > 0)},{count}"


def _lines(text: str) -> list[str]:
    *lines, rest = text.split("\n")
    return [*lines, rest + _UNFINISHED] if rest else lines
