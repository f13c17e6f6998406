"""The overlay: a second file that holds the entries which a read-only ``voicegw.yaml`` cannot take.

Entries of the base stay in force and cannot be changed here; an entry of the overlay that the base has as well is not
in force. May import ``config.parse`` and ``config.values``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.config.parse import Mark, ParsedFile, Path, Problem, dotted
from voicegw_mcp.config.values import at, is_map

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Sequence

FILE_NAME: Final = "voicegw.overlay.yaml"
BASE_KEY: Final = "overlay_of"
"""The key by which an overlay names its base, so that another gateway with the same store folder leaves it alone."""

_DEPTHS: Final = {
    "providers": 2,
    "models": 3,
    "stacks": 2,
    "fallbacks": 2,
    "projects": 2,
    "rate_limits": 2,
    "pricing": 2,
}
"""How many steps lead to an entry; every other key of the root is an entry itself."""


def entry_path(path: Sequence[str]) -> tuple[str, ...]:
    """Return the path of the entry that ``path`` is in."""
    return tuple(path[: _DEPTHS.get(path[0], 1)])


def has_entry(parsed: ParsedFile | None, path: Sequence[str]) -> bool:
    """Say whether a file has the entry that ``path`` is in."""
    try:
        at(parsed.data if parsed else {}, entry_path(path))
    except (KeyError, TypeError):
        return False
    return True


@dataclass(frozen=True)
class Layered:
    """A base and its overlay read as one file: what ``ParsedFile`` offers to those who only read."""

    base: ParsedFile
    overlay: ParsedFile
    overlay_file: pathlib.Path

    @cached_property
    def data(self) -> dict[str, Any]:
        """What both say together."""
        over = {key: value for key, value in self.overlay.data.items() if key != BASE_KEY}
        return _merged(self.base.data, over, 0, ())

    def mark(self, path: Path) -> Mark:
        """Return where ``path`` stands; the mark names the file when that is the overlay."""
        steps = [str(step) for step in path]
        if not steps or has_entry(self.base, steps) or not has_entry(self.overlay, steps):
            return self.base.mark(path)
        found = self.overlay.mark(path)
        return Mark(found.line, found.column, str(self.overlay_file))

    def shadowed(self) -> list[Problem]:
        """Return a note for each entry of the overlay that is not in force."""
        found: list[Problem] = []
        for path in _entries(self.overlay.data):
            if path != (BASE_KEY,) and has_entry(self.base, path):
                mark = self.overlay.mark(path)
                found.append(
                    Problem(
                        dotted(path),
                        mark.line,
                        mark.column,
                        "is in the read-only file as well, which counts",
                        "Remove it here.",
                        str(self.overlay_file),
                    )
                )
        return found


def _entries(data: dict[str, Any]) -> list[tuple[str, ...]]:
    paths: list[tuple[str, ...]] = [(key,) for key in data]
    for _ in range(max(_DEPTHS.values()) - 1):
        longer: list[tuple[str, ...]] = []
        for path in paths:
            value = at(data, path)
            if len(path) < _DEPTHS.get(path[0], 1):
                longer += [(*path, key) for key in value] if is_map(value) else []
            else:
                longer.append(path)
        paths = longer
    return paths


def _merged(base: Any, over: Any, depth: int, path: tuple[str, ...]) -> Any:
    out = dict(base)
    for key, value in over.items():
        below = (*path, str(key))
        if out.get(key) is None:
            out[key] = value
        elif depth + 1 < _DEPTHS.get(below[0], 1) and is_map(out[key]) and is_map(value):
            out[key] = _merged(out[key], value, depth + 1, below)
    return out
