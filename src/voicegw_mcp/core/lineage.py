"""Which changes are in force: what took what back, and who else was at an entry since.

A change, its undo, the undo of that (a redo) and so on are one family. The newest of them has the last word: each was
made only because the entries were as the one before had left them. May import ``config``, ``store``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.config.overlay import BASE_KEY
from voicegw_mcp.store import changes as journal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voicegw_mcp.store.changes import ChangeRecord
    from voicegw_mcp.store.reader import Reads

Path = tuple[str, ...]

_MOST_TEXTS: Final = 16
"""For how many entries the journal is searched at once; for more it is searched for their sections."""


def find_undoing(reads: Reads, changes: Sequence[ChangeRecord]) -> dict[str, str]:
    """Return for the changes that are taken back the id of the change that did it."""
    words = last_words(reads, [change.id for change in changes if change.state == "applied"])
    return {change_id: last for change_id, (last, takes_back) in words.items() if takes_back}


def last_words(reads: Reads, change_ids: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """Return for changes that were ever undone the newest of their family, and whether it takes them back."""
    words: dict[str, tuple[str, bool]] = {}
    # Ids sort by time: what took a change back is behind it.
    for change_id, undone in sorted(journal.undos_of(reads, change_ids), reverse=True):
        last, takes_back = words.get(change_id, (change_id, False))
        if undone not in words or words[undone][0] < last:
            words[undone] = last, not takes_back
    return {change_id: words[change_id] for change_id in change_ids if change_id in words}


def newest_there(reads: Reads, file: str, paths: Sequence[Path], *, after: str) -> ChangeRecord | None:
    """Return the newest change behind ``after`` that was at one of these entries, or inside or around it."""
    lines = _lines(reads, file, paths, after)
    return _newest_of(reads, [change_id for change_id in lines if change_id > after], paths)


def newest_left(reads: Reads, file: str, paths: Sequence[Path], *, after: str) -> ChangeRecord | None:
    """Return what ``newest_there`` does, of those whose family is not in the same state as at ``after`` again."""
    families: dict[str, list[str]] = {}
    heads: dict[str, str] = {}
    in_force: dict[str, bool] = {}
    for change_id, undone in sorted((_lines(reads, file, paths, after)).items()):
        head = heads[change_id] = change_id if undone is None else heads.get(undone, change_id)
        in_force[change_id] = undone is None or not in_force.get(undone, True)
        families.setdefault(head, []).append(change_id)
    found: list[str] = []
    for family in families.values():
        before = [change_id for change_id in family if change_id <= after]
        was = bool(before) and in_force[before[-1]]
        if in_force[family[-1]] != was:
            found += family[len(before) :]
    return _newest_of(reads, found, paths)


def _lines(reads: Reads, file: str, paths: Sequence[Path], after: str) -> Mapping[str, str | None]:
    if len(paths) > _MOST_TEXTS:
        paths = sorted({path[:-1] or path for path in paths})
    texts: dict[str, None] = {}
    for path in paths:
        for length in range(1, len(path)):
            texts[f'{{"before": {{"path": {json.dumps(path[:length], ensure_ascii=False)}'] = None
        texts[f'"path": {json.dumps(path, ensure_ascii=False)[:-1]}'] = None
    return dict(journal.later_lines(reads, file, after=after, texts=list(texts)))


def _newest_of(reads: Reads, change_ids: Sequence[str], paths: Sequence[Path]) -> ChangeRecord | None:
    """Return the newest of these changes that made a difference there: the texts looked for may stand elsewhere."""
    for change_id in sorted(change_ids, reverse=True):
        change = journal.get_change(reads, change_id)
        if change is not None and (set(left_by(change)) & _around(paths) or _inside(change, paths)):
            return change
    return None


def left_by(change: ChangeRecord) -> dict[Path, str | None]:
    """Return the entries in which a change made a difference, and the text it left there."""
    edits: list[dict[str, Any]] = json.loads(change.edits)
    left = {tuple(edit["before"]["path"]): edit["after"] for edit in edits if not _is_idle(edit)}
    return {path: text for path, text in left.items() if path != (BASE_KEY,)}


def meet(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same entry, or one to a part of the other."""
    return one[: len(other)] == other[: len(one)]


def _around(paths: Sequence[Path]) -> set[Path]:
    return {path[:length] for path in paths for length in range(1, len(path) + 1)}


def _inside(change: ChangeRecord, paths: Sequence[Path]) -> bool:
    own = set(paths)
    return any(at[:length] in own for at in left_by(change) for length in range(1, len(at) + 1))


def _is_idle(edit: Mapping[str, Any]) -> bool:
    before = edit["before"]
    own = before["text"][before["blank"] : len(before["text"]) - before["trail"]].rstrip("\r\n")
    return before["present"] and own == (edit["after"] or "").rstrip("\r\n")
