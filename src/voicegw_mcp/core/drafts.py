"""A change worked out and verified on the files as they are now, with nothing written yet.

Also decides which file takes it: an edit goes to the file that has the entry, a new entry to ``voicegw.yaml`` or, when
that cannot be replaced, to the overlay. May import ``config``, ``errors`` and ``core.catalog``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.config.document import DELETE, Edit, entry_text, unified_diff
from voicegw_mcp.config.excerpt import apply_steps, record_steps
from voicegw_mcp.config.overlay import BASE_KEY, has_entry
from voicegw_mcp.config.parse import dotted, parse
from voicegw_mcp.config.redaction import shown
from voicegw_mcp.core.catalog import Catalog
from voicegw_mcp.errors import ConfigInvalid, Conflict, GatewayError, InvalidInput, ReadOnly, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from voicegw_mcp.config.disk import DiskFile
    from voicegw_mcp.config.excerpt import Excerpt
    from voicegw_mcp.config.file import ConfigFile, Configuration
    from voicegw_mcp.config.parse import ParsedFile


_EMPTY: Final = parse("")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a change means to do.

    ``summary`` is a sentence for the journal, ``edits`` sets or deletes entries or puts them back as they were,
    ``updates`` tells that the entry exists already, ``impact`` what a delete takes along, as the keys of its answer.
    ``file`` is the only one that may take it, ``undoes`` the id of the change it takes back, ``accept``
    looks at the planned outcome and raises when it must not be.
    """

    summary: str
    edits: Sequence[Edit | Excerpt]
    updates: bool = False
    impact: Mapping[str, Any] = field(default_factory=dict[str, Any])
    file: DiskFile | None = None
    undoes: str | None = None
    accept: Callable[[Catalog], None] | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A planned and verified change of one file: bytes before and after, and what the journal keeps of it.

    ``was`` is the configuration it was planned on, ``configuration`` the one it leads to; ``edits`` is JSON text.
    """

    plan: Plan
    disk: DiskFile
    was: Configuration
    configuration: Configuration
    before: bytes
    after: bytes
    diff: str
    edits: str


def make_draft(
    files: ConfigFile,
    plan: Callable[[Catalog], Plan],
    if_version: str | None,
    obstacle: str | None = None,
) -> Draft:
    """Plan a change on what is on disk now.

    Args:
        files: the file and its overlay.
        plan: makes the edits from the catalog; its errors are the caller's answers.
        if_version: the version the caller planned on; any other refuses.
        obstacle: why ``voicegw.yaml`` cannot be replaced, when that was just looked at.

    Raises:
        Conflict: ``if_version`` does not match.
        ConfigInvalid: a file is broken, or cannot be edited without harm.
        InvalidInput: with this change the file would be broken.
        ReadOnly: an entry is in a file that takes no changes.
    """
    current = files.load_unbroken()
    if if_version and if_version != current.version:
        raise Conflict(
            f"The configuration is at version {current.version}, not {quote(if_version)}.",
            hint="Read it again, check that the change still fits, and pass the new version.",
            details={"field": "if_version", "config_version": current.version},
        )
    planned = plan(Catalog(current))
    disk, parsed = _choose_file(files, current, planned, obstacle)
    edits = list(planned.edits)
    if disk is not files.base and edits and BASE_KEY not in parsed.data:
        edits.insert(0, Edit((BASE_KEY,), str(files.path)))
    steps = apply_steps(parsed, edits)
    before, after = parsed.text.encode(), steps[-1].text.encode()
    if after == before:
        return Draft(planned, disk, current, current, before, before, "", "[]")
    try:
        over = steps[-1] if disk is files.overlay else current.overlay
        changed = files.interpret(steps[-1] if disk is files.base else current.parsed, over)
    except ConfigInvalid as error:
        raise InvalidInput(
            f"With this change {error.message.rstrip('.')}; nothing was written.",
            hint=error.hint,
            details=error.details,
        ) from None
    if planned.accept is not None:
        planned.accept(Catalog(changed))
    visible = [shown(step) for step in steps]
    kept = [
        {"before": excerpt.as_dict(), "after": entry_text(visible[-1], excerpt.path)}
        for excerpt in record_steps(visible, [edit.path for edit in edits])
    ]
    diff = unified_diff(visible[0].text, visible[-1].text, disk.path.name)
    return Draft(planned, disk, current, changed, before, after, diff, json.dumps(kept, ensure_ascii=False))


def require_untouched(draft: Draft, files: ConfigFile) -> None:
    """Refuse when someone else changed an entry that ``draft`` changes, after it was made.

    Raises:
        Conflict: naming the entry.
        ConfigInvalid: what he left does not parse.
    """
    now = files.load_unbroken()
    for edit in draft.plan.edits:
        if _written(draft.was, edit.path) != _written(now, edit.path):
            raise Conflict(
                f"{dotted(edit.path)} was changed by someone else while this change was written.",
                hint="Nothing of it was written. Read the entry again, then repeat the call if it still fits.",
                details={"field": dotted(edit.path), "config_version": now.version},
            )


def holds(parsed: ParsedFile, edits: str) -> bool:
    """Say whether a file's entries are the ones a journaled change would have left."""
    try:
        visible = shown(parsed)
        wanted: list[dict[str, Any]] = json.loads(edits)
        return all(is_as_left(visible, edit["before"]["path"], edit["after"]) for edit in wanted)
    except (GatewayError, ValueError, KeyError, TypeError):
        return False


def is_as_left(visible: ParsedFile, path: Sequence[str], left: str | None) -> bool:
    """Say whether an entry has the text a change left; a last line without an end has one as soon as more follows."""
    now = entry_text(visible, path)
    return now == left if now is None or left is None else now.rstrip("\r\n") == left.rstrip("\r\n")


def entries_diff(edits: str, filename: str) -> str:
    """Return a unified diff of the projects in a journaled change alone: other entries may stand on the same lines."""
    diffs: list[str] = []
    for edit in json.loads(edits):
        before = edit["before"]
        if before["path"][0] == "projects":
            old = before["text"][before["blank"] : len(before["text"]) - before["trail"]]
            whole = unified_diff(_ended(old), _ended(edit["after"] or ""), filename)
            diffs.append(whole if not diffs else "".join(whole.splitlines(keepends=True)[2:]))
    return "".join(diffs)


def _ended(text: str) -> str:
    return f"{text}\n" if text and not text.endswith("\n") else text


def _written(configuration: Configuration, path: Sequence[str]) -> list[str | None]:
    files = (configuration.parsed, configuration.overlay)
    return [None if parsed is None else entry_text(parsed, path) for parsed in files]


def _choose_file(
    files: ConfigFile, current: Configuration, plan: Plan, obstacle: str | None
) -> tuple[DiskFile, ParsedFile]:
    if files.overlay is None:
        return files.base, current.parsed
    overlay = current.overlay or _EMPTY
    if plan.file is not None:
        return plan.file, current.parsed if plan.file is files.base else overlay
    in_base = [edit.path for edit in plan.edits if has_entry(current.parsed, edit.path)]
    in_overlay = [
        edit.path for edit in plan.edits if edit.path not in in_base and has_entry(current.overlay, edit.path)
    ]
    if obstacle is None:
        obstacle = files.base.obstacle()
    if in_base and (obstacle or in_overlay):
        why = (
            obstacle
            or f"{dotted(in_overlay[0])} is in {files.overlay.path.name}, and one change has one file"
        )
        raise ReadOnly(
            f"{dotted(in_base[0])} is in {files.base.path.name}, which cannot be changed here: {why}.",
            hint=f"Change it in {files.base.path} where that comes from (a ConfigMap, an image, its owner).",
            details={"file": str(files.base.path), "field": dotted(in_base[0])},
        )
    _refuse_shadowed(files.overlay, current, plan)
    if current.overlay is None and obstacle and files.overlay.read() is not None:
        raise ReadOnly(
            f"{files.base.path.name} cannot be changed here ({obstacle}), and {files.overlay.path} is of another file.",
            hint=f"Name an overlay of its own with VOICEGW_OVERLAY, or write `{BASE_KEY}: {files.path}` into that one.",
            details={"file": str(files.overlay.path)},
        )
    if in_overlay or obstacle:
        return files.overlay, overlay
    return files.base, current.parsed


def _refuse_shadowed(overlay: DiskFile, current: Configuration, plan: Plan) -> None:
    """Refuse to delete an entry under which another one of the overlay would come to light."""
    for edit in plan.edits:
        both = has_entry(current.parsed, edit.path) and has_entry(current.overlay, edit.path)
        if both and isinstance(edit, Edit) and edit.value is DELETE:
            raise Conflict(
                f"{dotted(edit.path)} is in {overlay.path.name} as well and would come into force there.",
                hint=f"Delete it in {overlay.path} first.",
                details={"field": dotted(edit.path), "file": str(overlay.path)},
            )
