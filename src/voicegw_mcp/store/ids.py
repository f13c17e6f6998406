"""Ids that sort by the time they were made, so that rows arrive at the end of an index. Imports nothing of ours."""

from __future__ import annotations

import secrets
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_CHARACTERS: Final = 10
_RANDOM_CHARACTERS: Final = 10


def new_id(now_ms: int) -> str:
    """Return a new id of 20 characters: 50 bits of time, then 50 random bits, in Crockford's base 32.

    Shorter than a ULID because each id is stored twice per row. Half of a million ids of one millisecond would
    collide with a probability of about one in ten thousand.

    Args:
        now_ms: the current time in UTC epoch ms.
    """
    return _base32(now_ms, _TIME_CHARACTERS) + _base32(secrets.randbits(50), _RANDOM_CHARACTERS)


def time_of(made: str) -> int:
    """Return the time of an id that ``new_id`` made, in UTC epoch ms."""
    time = 0
    for character in made[:_TIME_CHARACTERS]:
        time = time << 5 | _ALPHABET.index(character)
    return time


def _base32(number: int, characters: int) -> str:
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(5 * (characters - 1), -1, -5))
