"""What of a file may be shown: keys that someone wrote into it are hidden where they stand, and nothing else is.

Names decide (``api_key``, ``X-Auth-Token``), then the place in a URL (user and password, secret parameters), then the
shape of well-known keys. May import ``config.layout``, ``config.parse``, ``config.secrets``, ``config.values``.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.config.emit import refuse
from voicegw_mcp.config.layout import after_properties
from voicegw_mcp.config.nodes import TAG
from voicegw_mcp.config.parse import ParsedFile, dotted, parse
from voicegw_mcp.config.secrets import REFERENCE, SECRET_KEYS
from voicegw_mcp.config.values import is_list, is_map
from voicegw_mcp.errors import ConfigInvalid, Conflict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from voicegw_mcp.config.nodes import Node

HIDDEN: Final = "***"

SECRET_NAMES: Final = re.compile(
    r"(^|_)(key|keys|token|secrets?|passw(or)?ds?|passphrase|pass|pwd|credentials?|authorization|auth|bearer|cookies?"
    r"|jwt|(api|access|auth|bearer|refresh)_tokens)$|^tokens$|(api|access|private|secret|subscription|speech)keys?$"
)
"""Names, in snake case, whose values nobody shows: what providers, HTTP headers and plugins call their keys."""

NOT_SECRET: Final = frozenset(
    {"sort_key", "primary_key", "cache_key", "foreign_key", "public_key", "partition_key"}
)
OWN_SECTIONS: Final = frozenset({"auth", "api_keys"})
"""Our own sections that hold secrets among other things: what is inside is judged by its own name."""

URL_USER: Final = re.compile(r"(?<=://)[^/\s?#@]+(?=@)")
URL_PARAMETER: Final = re.compile(r"(?<=[?&])([^=&#\s]{1,64})=([^&#\s]+)")
KEY_SHAPE: Final = re.compile(r"\b(?:sk|rk|pk|gsk|xai)[-_][A-Za-z0-9_-]{12,}|(?<=\bBearer )[^\s${}]{8,}")
KEY_MARKS: Final = ("sk-", "sk_", "rk-", "rk_", "pk-", "pk_", "xai-", "xai_", "Bearer ")
"""What every text that ``KEY_SHAPE`` finds something in has: looked for first, because it is a hundred times faster."""

HEADER_REFERENCE: Final = re.compile(rf"(?:[A-Za-z][A-Za-z0-9_-]{{0,31}} )?{REFERENCE.pattern}")


@functools.lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Say whether what goes by this name is a secret, in any spelling: ``auth_token``, ``X-Api-Key``, ``accessToken``."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[-. ]", "_", name).lower()
    return SECRET_NAMES.search(snake) is not None and snake not in NOT_SECRET


def is_literal_secret(name: str, value: object) -> bool:
    """Say whether ``value`` is a secret by its name or shape and no reference; ``Bearer ${NAME}`` is one in a header."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    if not isinstance(value, str):
        return is_secret_name(name)
    if not is_secret_name(name):
        return KEY_SHAPE.fullmatch(value.strip()) is not None
    reference = REFERENCE if SECRET_KEYS.search(name) else HEADER_REFERENCE
    return bool(value.strip()) and reference.fullmatch(value.strip()) is None


def hide_in_text(text: str) -> str:
    """Return a text as it may be shown: without user, password and secret parameters of a URL, and well-known keys."""
    text = URL_USER.sub(lambda match: match[0] if REFERENCE.fullmatch(match[0]) else HIDDEN, text)
    text = URL_PARAMETER.sub(
        lambda match: f"{match[1]}={HIDDEN}" if is_literal_secret(match[1], match[2]) else match[0], text
    )
    return KEY_SHAPE.sub(HIDDEN, text) if any(mark in text for mark in KEY_MARKS) else text


def hide_secrets(data: Any, name: str = "") -> Any:
    """Return data as it may be shown; what is not JSON (dates) becomes text."""
    if is_map(data):
        return {str(key): hide_secrets(value, _inherited(name, str(key))) for key, value in data.items()}
    if is_list(data):
        return [hide_secrets(value, name) for value in data]
    if is_literal_secret(name, data):
        return HIDDEN
    if isinstance(data, str):
        return hide_in_text(data)
    return data if isinstance(data, int | float | None) else str(data)


def secret_places(
    data: Any, path: tuple[str | int, ...] = (), name: str = ""
) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every secret that is written out in ``data``."""
    if is_map(data):
        for key, value in data.items():
            yield from secret_places(value, (*path, str(key)), _inherited(name, str(key)))
    elif is_list(data):
        for index, value in enumerate(data):
            yield from secret_places(value, (*path, index), name)
    elif is_literal_secret(name, data) or (isinstance(data, str) and hide_in_text(data) != data):
        yield path


@dataclass(frozen=True, slots=True, eq=False)
class ShownFile(ParsedFile):
    """A file as it may be shown; ``holes`` are the places in ``text`` that stand for a secret."""

    holes: tuple[int, ...] = ()


@functools.lru_cache(
    maxsize=4
)  # a change shows the file before and after; the next one begins where it ended
def shown(parsed: ParsedFile) -> ParsedFile:
    """Return the file as it may be shown: the same object when nothing in it has to be hidden, else a ``ShownFile``.

    Raises:
        ConfigInvalid: a secret is written in a form that cannot be hidden.
    """
    text = parsed.text
    # One look at the whole text spares most files a look at each scalar: this is done at every change.
    telling = any(mark in text for mark in KEY_MARKS) or ("://" in text and ("@" in text or "=" in text))
    text, holes = _hidden(text, _cuts(parsed.tree.root, "", text, telling=telling), [])
    if telling:  # what is left stands in comments
        marks = [(match.start(), match.end(), HIDDEN) for match in KEY_SHAPE.finditer(text)]
        text, holes = _hidden(text, marks, holes)
    if text == parsed.text:
        return parsed
    try:
        found = parse(text)
    except ConfigInvalid:
        raise refuse("it holds a key in a form that cannot be hidden from the journal") from None
    return ShownFile(found.text, found.data, found.tree, tuple(holes))


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
            hidden -= _count(now, was)
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


def _hidden(text: str, cuts: Iterable[tuple[int, int, str]], holes: Iterable[int]) -> tuple[str, list[int]]:
    """Return the text with pieces of it replaced, and where in it something is hidden now."""
    parts: list[str] = []
    old, new = sorted(holes), list[int]()
    done = length = 0
    # An anchored text may be a key by the name of its alias: there it is hidden as a whole, which counts.
    for start, end, piece in sorted(set(cuts), key=lambda cut: (cut[0], f'"{HIDDEN}"' not in cut[2])):
        if start < done or text[start:end] == piece:
            continue
        new += [hole + length - done for hole in old if done <= hole < start]
        length += start - done
        new += [length] * _count(text[start:end], piece)
        length += len(piece)
        parts += [text[done:start], piece]
        done = end
    new += [hole + length - done for hole in old if hole >= done]
    return "".join([*parts, text[done:]]), new


def _count(secret: str, piece: str) -> int:
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


def _inherited(outer: str, inner: str) -> str:
    """Return the name a value inside a mapping goes by: inside ``credentials`` everything is a secret."""
    return (
        outer if outer not in OWN_SECTIONS and is_secret_name(outer) and not is_secret_name(inner) else inner
    )


def _cuts(node: Node | None, name: str, text: str, *, telling: bool) -> Iterator[tuple[int, int, str]]:
    """Yield what to cut out of the text; without ``telling`` only names can make a scalar a secret."""
    if node is not None and node.kind == "alias":
        node = node.target if is_secret_name(name) else None
    if node is None:
        return
    if node.kind == "map":
        for key, value in node.items:
            yield from _cuts(value, _inherited(name, key.name), text, telling=telling)
    elif node.kind == "seq":
        for _, value in node.items:
            yield from _cuts(value, name, text, telling=telling)
    elif (telling or is_secret_name(name)) and node.tag not in {f"{TAG}null", f"{TAG}bool"}:
        start = after_properties(text, node)
        written = text[start : node.end]
        if is_literal_secret(name, node.name):
            bare = written.rstrip()
            yield start, node.end, f'"{HIDDEN}"{written[len(bare) :]}'
        elif hide_in_text(written) != written:
            yield start, node.end, hide_in_text(written)
