"""What a tool may say to its caller while it runs: report what it has, and ask the person. Imports nothing of ours.

The doors supply both where their client can take them; tools and core know no protocol.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Report: TypeAlias = Callable[[float, str], Awaitable[None]]
"""Tells how far a call is (a number that grows) and what it found (a text)."""

Reply = Literal["accept", "decline", "cancel", "unanswered"]
"""What a person answers. ``cancel`` is also what a client says that has nobody to ask; then it may say nothing at all."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and the ``config_version`` that it is about."""

    text: str
    version: str


Ask: TypeAlias = Callable[[Question], Awaitable[Reply]]
"""Asks the person. Raises Conflict when what it was about has changed before the answer came, Forbidden when what the
caller may do has."""
