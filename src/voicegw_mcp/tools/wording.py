"""Takes out of a text what names tools that are not offered. Standard library only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

_SENTENCE: Final = re.compile(r"(\s*)((?:[^.]|\.(?!\s|$))+)(\.|$)")
"""The space before a sentence, the sentence, its full stop; that of a file's name is none."""

_CLAUSES: Final = re.compile(r"(?=[,;])")


def without(text: str, missing: Collection[str]) -> str:
    """Return a text without the clauses, between commas and semicolons, that name one of ``missing``.

    A sentence whose first clause does goes as a whole. What stays has the line breaks it had.
    """
    if not missing:
        return text
    named = re.compile(rf"\b(?:{'|'.join(missing)})\b")
    kept, space = "", ""
    for before, sentence, stop in _SENTENCE.findall(text):
        first, *others = _CLAUSES.split(sentence)
        space = before if "\n" in before or "\n" not in space else space
        if not named.search(first):
            kept += space + first + "".join(part for part in others if not named.search(part)) + stop
            space = ""
    return kept
