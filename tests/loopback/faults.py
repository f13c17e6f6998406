"""What goes wrong at a loopback provider, said beforehand: no chance is in it, so a run can be repeated.

Imports nothing of the servers.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Fault:
    """One way for a request to go wrong; several fields together happen together, as far as they can.

    Args:
        status: answer this HTTP status with the provider's own error body. A synthesis on a socket that is open
            already gets the provider's error message instead.
        retry_after: the ``Retry-After`` header of that answer, seconds.
        delay: seconds before the first byte.
        hang: say nothing until the client goes away or the server is closed.
        drop: close the connection without an answer. aiohttp's client asks once more for a GET whose connection
            was dropped, as a handshake is: two drops are one failure there.
        cut_after: close the connection in the middle of the answer, after so many pieces or messages. JSON and
            audio have two pieces at least.
        stall_after: fall silent there instead, with the connection open.
    """

    status: int | None = None
    retry_after: float | None = None
    delay: float = 0.0
    hang: bool = False
    drop: bool = False
    cut_after: int | None = None
    stall_after: int | None = None


@dataclass(slots=True)
class Call:
    """A request that came, as the log of a server keeps it. It never holds a key.

    Args:
        door: what was asked for, such as "chat"; a synthesis on an open socket is "speak-ws/turn".
        number: which request of this door it was, from 1.
        model: the provider's name of the model, "" where the request does not say.
        accepted: whether the key was right.
        fault: what was made to go wrong.
        input_tokens: what the answer said was used, cached ones included.
        cached_tokens: read from a prompt cache.
        written_tokens: written to a prompt cache.
        output_tokens: said to have been made.
        audio_ms: audio that came, or that went.
        characters: length of the text to speak, as it came.
        finished: whether the answer went out whole.
    """

    door: str
    number: int
    model: str = ""
    accepted: bool = False
    fault: Fault | None = None
    input_tokens: int = 0
    cached_tokens: int = 0
    written_tokens: int = 0
    output_tokens: int = 0
    audio_ms: int = 0
    characters: int = 0
    finished: bool = False


class Faults:
    """A server's script of faults: first what is up next, then what the plan says, else none."""

    def __init__(self) -> None:
        self._next: deque[tuple[Fault, str | None]] = deque()
        self._plan: Callable[[Call], Fault | None] | None = None

    def next(self, fault: Fault, *, times: int = 1, door: str | None = None) -> None:
        """Let the next ``times`` requests (of one door) go wrong so; those of earlier calls come first."""
        self._next.extend([(fault, door)] * times)

    def plan(self, choose: Callable[[Call], Fault | None] | None) -> None:
        """Let a function of the request (its ``door`` and ``number``) choose; None ends that."""
        self._plan = choose

    def take(self, call: Call) -> Fault | None:
        """Return what happens to a request, and cross it off."""
        for index, (fault, door) in enumerate(self._next):
            if door in (None, call.door):
                del self._next[index]
                return fault
        return self._plan(call) if self._plan else None
