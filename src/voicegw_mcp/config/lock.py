"""A lock between processes and threads on a file of its own, freed by the kernel when its holder dies. Imports nothing of ours.

``flock`` where there is one, a locked byte on Windows: other programs' locks of these kinds count as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

LOCK_TIMEOUT_S: Final = 5.0
"""How long a change waits."""

POLL_S: Final = 0.01

_ATTEMPTS: Final = 3
_HELD: Final = frozenset({errno.EAGAIN, errno.EACCES, errno.EDEADLK})
"""What a lock says that somebody else holds; EDEADLK is Windows after its own waiting."""


class Held(Exception):
    """Somebody else held the lock for as long as the caller would wait."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a caller waits for locks, for all of them together.

    ``until`` is a ``time.monotonic()`` value; ``given_up`` tells that nobody waits for the answer any more.
    """

    until: float
    given_up: Callable[[], bool] = bool

    @classmethod
    def of(cls, seconds: float, given_up: Callable[[], bool] = bool) -> Patience:
        """Return the patience of a caller who asks now."""
        return cls(time.monotonic() + seconds, given_up)

    def is_over(self) -> bool:
        """Whether to wait no longer. One try is always made."""
        return time.monotonic() >= self.until or self.given_up()


@contextlib.contextmanager
def held(place: Path, patience: Patience) -> Generator[None]:
    """Hold the lock file ``place``, which is made when it is not there, and stays.

    Raises:
        Held: see there.
        OSError: the file cannot be opened (it is a folder, a symlink, another user's), or cannot be locked there.
    """
    while (descriptor := _try(place)) is None:
        if patience.is_over():
            raise Held
        time.sleep(POLL_S)
    try:
        yield
    finally:
        # What it guarded is done or refused by now: a lock that cannot be given back must not say otherwise.
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(OSError):
                _unlock(descriptor)
                break
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _try(place: Path) -> int | None:
    """Return an open descriptor that has the lock, None when somebody else has it."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(place, flags, 0o644)
    try:
        _lock(descriptor)
        # Whoever waits for a file that was deleted meanwhile would have a lock that nobody else sees.
        if _is_still(place, descriptor):
            return descriptor
    except OSError as error:
        os.close(descriptor)
        if error.errno not in _HELD:
            raise
        return None
    os.close(descriptor)
    return None


def _is_still(place: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(place), os.fstat(descriptor))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        # Closing is not enough: a child that was forked meanwhile has the same lock.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
