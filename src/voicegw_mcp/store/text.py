"""What text SQLite takes: applied to values on their way in and to what they are searched by. Imports nothing."""

from __future__ import annotations


def storable(text: str) -> str:
    """Return text that SQLite takes: lone surrogates and NUL become visible escapes."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
