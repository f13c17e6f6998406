"""Text that others wrote (providers' error messages, names in the log) made harmless to show. Imports nothing of ours.

A person or a model reading an answer must see what is there: characters that hide, reorder or carry text unseen are
written as escapes.
"""

from __future__ import annotations

import unicodedata
from typing import Final

# Printable to Python but drawn as nothing: joiners, fillers, blanks, and the selectors used to smuggle bytes.
# U+FE0F stays: it follows every second emoji, and one selector alone carries nothing.
_UNSEEN: Final = frozenset(
    map(
        chr,
        (
            0x034F,
            0x115F,
            0x1160,
            0x17B4,
            0x17B5,
            0x2800,
            0x3164,
            0xFFA0,
            *range(0xFE00, 0xFE0F),
            *range(0xE0100, 0xE01F0),
        ),
    )
)


def escape_untrusted(text: str, limit: int) -> str:
    r"""Return ``text`` in at most ``limit`` characters, with control, BiDi, zero-width and tag characters escaped.

    Escapes look like Python's (``\\\\n``, ``\\\\u202e``, ``\\\\U000e0041``); spaces of any width stay. Text that was cut ends
    in ``…``.

    Args:
        text: anything.
        limit: characters of the result, at least 1.
    """
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    parts: list[str] = []
    length = 0
    # No escape is shorter than its character, so the first ``limit`` characters and one more decide everything.
    for character in text[: limit + 1]:
        part = _visible(character)
        parts.append(part)
        length += len(part)
        if length > limit:
            break
    if length <= limit:
        return "".join(parts)
    while length > limit - 1:
        length -= len(parts.pop())
    return "".join(parts) + "…"


def _visible(character: str) -> str:
    shown = character.isprintable() or unicodedata.category(character) == "Zs"
    if shown and character not in _UNSEEN:
        return character
    return ascii(character)[1:-1]
