"""What of a file may be shown: keys that someone wrote into it are hidden where they stand, and nothing else is.

Names decide (``api_key``, ``X-Auth-Token``), then the place in a URL or beside a name inside a text, then the shape of
well-known keys; comments are searched like the text. May import ``config.layout``, ``config.parse``,
``config.secret_*``, ``config.values``.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voicegw_mcp.config.emit import refuse
from voicegw_mcp.config.layout import after_properties
from voicegw_mcp.config.nodes import TAG
from voicegw_mcp.config.parse import ParsedFile, dotted, parse
from voicegw_mcp.config.secret_comments import hidden_comments
from voicegw_mcp.config.secret_names import ID_LEVELS, inherited, is_secret_name, mentions_secret
from voicegw_mcp.config.secret_text import (
    HIDDEN,
    has_shape,
    hide_in_text,
    is_literal_secret,
    marked_lines,
    telling,
)
from voicegw_mcp.config.values import is_list, is_map
from voicegw_mcp.errors import ConfigInvalid, Conflict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from voicegw_mcp.config.nodes import Node

__all__ = [
    "HIDDEN",
    "ShownFile",
    "count_hidden",
    "hide_in_text",
    "hide_secrets",
    "is_literal_secret",
    "is_secret_name",
    "revealed",
    "secret_places",
    "shown",
    "shown_part",
]


def hide_secrets(data: Any, name: str = "", *, ids: int = 0) -> Any:
    """Return data as it may be shown; what is not JSON (dates) becomes text. The keys of ``ids`` levels are ids."""
    if is_map(data):
        shown_data: dict[str, Any] = {}
        for key, value in data.items():
            inner, left = _step(name, str(key), value, ids)
            shown_data[str(key)] = hide_secrets(value, inner, ids=left)
        return shown_data
    if is_list(data):
        return [hide_secrets(value, name) for value in data]
    if is_literal_secret(name, data):
        return HIDDEN
    if isinstance(data, str):
        return hide_in_text(data)
    return data if isinstance(data, int | float | None) else str(data)


def secret_places(
    data: Any, path: tuple[str | int, ...] = (), name: str = "", *, ids: int = 0
) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every secret that is written out in ``data``."""
    if is_map(data):
        for key, value in data.items():
            inner, left = _step(name, str(key), value, ids)
            yield from secret_places(value, (*path, str(key)), inner, ids=left)
    elif is_list(data):
        for index, value in enumerate(data):
            yield from secret_places(value, (*path, index), name)
    elif is_literal_secret(name, data) or (isinstance(data, str) and hide_in_text(data) != data):
        yield path


def _step(name: str, key: str, value: object, ids: int) -> tuple[str, int]:
    """Return the name that a value in a mapping goes by, and how many levels of ids are below its key."""
    if ids and is_map(value):
        return "", ids - 1
    return inherited(name, key), ID_LEVELS.get(key, 0) if is_map(value) else 0


@dataclass(frozen=True, slots=True, eq=False)
class ShownFile(ParsedFile):
    """A file as it may be shown; ``holes`` are the places in ``text`` that stand for a secret."""

    holes: tuple[int, ...] = ()
    cuts: tuple[tuple[int, int, str], ...] = ()
    """What was replaced: start and end in the file itself, and the text that stands there instead."""


@functools.lru_cache(
    maxsize=4
)  # a change shows the file before and after; the next one begins where it ended
def shown(parsed: ParsedFile) -> ParsedFile:
    """Return the file as it may be shown: the same object when nothing in it has to be hidden, else a ``ShownFile``.

    Raises:
        ConfigInvalid: a secret is written in a form that cannot be hidden.
    """
    text = parsed.text
    # One look at the whole text spares most entries a look of their own: this is done at every change.
    marks = telling(text)
    if not marks:
        return parsed
    cuts = _chosen([*_cuts(parsed.tree.root, "", text, marks, 0), *hidden_comments(parsed, marks)], text)
    visible, holes = _hidden(text, cuts)
    # What is left is an anchor, or a key only as it is written.
    if any(map(has_shape, marked_lines(visible, telling(visible) if cuts else marks))):
        raise refuse("it holds a key in a form that cannot be hidden from the journal")
    if not cuts:
        return parsed
    try:
        found = parse(visible)
    except ConfigInvalid:
        raise refuse("it holds a key in a form that cannot be hidden from the journal") from None
    return ShownFile(found.text, found.data, found.tree, tuple(holes), tuple(cuts))


def shown_part(parsed: ParsedFile, start: int, end: int) -> str:
    """Return a part of the file's text as it may be shown; what is cut in the middle of a secret is hidden whole."""
    visible = shown(parsed)
    cuts = visible.cuts if isinstance(visible, ShownFile) else ()
    parts: list[str] = []
    for first, last, piece in cuts:
        if first < end and last > start:
            parts += [parsed.text[start:first], piece]
            start = last
    return "".join([*parts, parsed.text[start:end]])


def revealed(
    restored: ParsedFile, source: ParsedFile, path: tuple[str | int, ...], hidden: int
) -> ParsedFile:
    """Return ``restored`` with the secrets of an entry as ``source`` has them.

    Args:
        restored: a file like ``source`` but for the entry at ``path``, whose text was made by ``shown``.
        source: the file that may still hold the secrets.
        path: the entry.
        hidden: how many secrets its text stands for.

    Raises:
        Conflict: one of them is nowhere in the entry any more.
    """
    if not hidden:
        return restored
    text, lost = restored.text, ""
    visible = shown(source)
    places = _scalars(_node_at(restored.tree.root, path), path)
    for node, place in sorted(places, key=lambda found: found[0].start, reverse=True):
        written = _written(restored, node)
        if HIDDEN not in written:
            continue
        now, was = (_written(file, _node_at(file.tree.root, place)) for file in (source, visible))
        if was != written:
            lost = dotted(place)
        elif now != was:
            hidden -= count_hidden(now, was)
            start = after_properties(restored.text, node)
            text = text[:start] + now + text[start + len(written) :]
    found = parse(text)
    if hidden or shown(found).text != shown(restored).text:
        raise Conflict(
            f"{lost or dotted(path)} held a key that stood in the file itself. The journal keeps no keys, and the file "
            "has this one no more.",
            hint="Nothing was written. Run `voicegw secrets set NAME`, then add the entry again with ${NAME}.",
            details={"field": lost or dotted(path)},
        )
    return found


def _chosen(cuts: Iterable[tuple[int, int, str]], text: str) -> list[tuple[int, int, str]]:
    """Return the cuts in order, without those that change nothing or begin inside another."""
    found: list[tuple[int, int, str]] = []
    done = 0
    # An anchored text may be a key by the name of its alias: there it is hidden as a whole, which counts.
    for start, end, piece in sorted(set(cuts), key=lambda cut: (cut[0], f'"{HIDDEN}"' not in cut[2])):
        if start >= done and text[start:end] != piece:
            found.append((start, end, piece))
            done = end
    return found


def _hidden(text: str, cuts: Iterable[tuple[int, int, str]]) -> tuple[str, list[int]]:
    """Return the text with pieces of it replaced, and where in it something is hidden now."""
    parts: list[str] = []
    holes: list[int] = []
    done = length = 0
    for start, end, piece in cuts:
        length += start - done
        holes += [length] * count_hidden(text[start:end], piece)
        length += len(piece)
        parts += [text[done:start], piece]
        done = end
    return "".join([*parts, text[done:]]), holes


def count_hidden(secret: str, piece: str) -> int:
    """Return how many secrets of a text are hidden in what is shown of it."""
    return max(1, piece.count(HIDDEN) - secret.count(HIDDEN))


def _written(parsed: ParsedFile, node: Node | None) -> str:
    """Return a scalar as it is written, "" for anything else."""
    if node is None or node.kind != "scalar":
        return ""
    return parsed.text[after_properties(parsed.text, node) : node.end].rstrip()


def _scalars(node: Node | None, path: tuple[str | int, ...]) -> Iterator[tuple[Node, tuple[str | int, ...]]]:
    if node is None or node.kind == "alias":
        return
    for index, (key, value) in enumerate(node.items):
        yield from _scalars(value, (*path, key.name if node.kind == "map" else index))
    if node.kind == "scalar":
        yield node, path


def _node_at(node: Node | None, path: tuple[str | int, ...]) -> Node | None:
    for step in path:
        index = None
        if node is not None and node.kind in ("map", "seq"):
            index = node.find(str(step)) if node.kind == "map" else int(step)
        if node is None or index is None or index >= len(node.items):
            return None
        node = node.items[index][1]
    return node


def _cuts(
    node: Node | None, name: str, text: str, marks: Sequence[int], ids: int
) -> Iterator[tuple[int, int, str]]:
    """Yield what to cut out of the values; without a mark in it only its name can make a scalar a secret."""
    if node is not None and node.kind == "alias":
        node = node.target if is_secret_name(name) or mentions_secret(name) else None
    if node is None:
        return
    everything = is_secret_name(name) or mentions_secret(name)
    if node.kind == "scalar":
        yield from _scalar_cut(node, name, text, marks)
        return
    for key, value in node.items:
        if not everything and not _is_marked(marks, key.start, value.end):
            continue
        inner, left = name, 0
        if node.kind == "map":
            if has_shape(key.name):
                raise refuse("it holds a key in a form that cannot be hidden from the journal")
            is_entry = (value.target or value).kind == "map"
            inner = "" if ids and is_entry else inherited(name, key.name)
            left = (ids - 1 if ids else ID_LEVELS.get(key.name, 0)) if is_entry else 0
        yield from _cuts(value, inner, text, marks, left)


def _scalar_cut(node: Node, name: str, text: str, marks: Sequence[int]) -> Iterator[tuple[int, int, str]]:
    if node.tag in {f"{TAG}null", f"{TAG}bool"}:
        return
    start = after_properties(text, node)
    written = text[start : node.end].rstrip()  # blank lines below a block text belong to nobody
    if is_literal_secret(name, node.name):
        yield start, start + len(written), f'"{HIDDEN}"'
    elif _is_marked(marks, start, node.end):
        yield start, start + len(written), _visible(written, node)


def _visible(written: str, node: Node) -> str:
    """Return a scalar that holds no secret by its name as it may be shown, as it is written."""
    value = hide_in_text(node.name)
    if value == node.name:
        return f'"{HIDDEN}"' if has_shape(written) else written
    inner = written[1:-1] if node.style in ("'", '"') else written
    if inner == node.name and not value.startswith(HIDDEN):
        return written.replace(inner, value)
    if inner == node.name and node.style in ("'", '"'):
        return f"{written[0]}{value}{written[-1]}"
    piece = hide_in_text(written)
    if node.style in ("|", ">") and piece.count(HIDDEN) == value.count(HIDDEN):
        return piece
    return f'"{HIDDEN}"'


def _is_marked(marks: Sequence[int], start: int, end: int) -> bool:
    at = bisect_left(marks, start)
    return at < len(marks) and marks[at] < end
