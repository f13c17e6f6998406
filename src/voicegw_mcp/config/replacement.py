"""Puts new bytes in place of a file's old ones: in one step, for good, and never over what someone saved meanwhile.

An editor takes no lock. On Linux the old and the new file therefore change places (renameat2 with RENAME_EXCHANGE):
what was displaced can be looked at, and put back when it is not what the change was planned on. Elsewhere, and on file
systems that cannot do this, the file is compared right before the rename. Imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import stat
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SAVED: Final = ".saved-"
"""Between the file's name and the change's id, in the name of a file that keeps somebody's save."""

PATIENCE_S: Final = 0.5
"""How long to wait for a program that has the displaced file open for writing."""

_BINARY: Final[int] = getattr(os, "O_BINARY", 0)
"""Windows would otherwise change line ends."""

_NOT_WAITING: Final[int] = getattr(os, "O_NONBLOCK", 0)
"""Opening a pipe waits for its other end otherwise. It means nothing for files."""

_CHUNK: Final = 1 << 16

_AT_FDCWD: Final = -100
_NOREPLACE: Final = 1
_EXCHANGE: Final = 2
"""Flags of renameat2 (Linux man-pages, rename(2))."""

_NO_SUCH_CALL: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM})
"""What a kernel, a file system or a sandbox without renameat2, or without the flag, answers."""

_UNSYNCED: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.ENOSYS})
"""What a file system answers that cannot sync a folder, or lets nobody open it for that."""


class Superseded(Exception):
    """Someone saved the file meanwhile, or is about to. It is as he left it."""


class Unconfirmed(Exception):
    """The new bytes came into place, and then the disk failed: what it came to is to be read off the file."""


def read_if_present(path: Path, at_most: int | None = None) -> bytes | None:
    """Return the bytes of a file (the first ``at_most`` of them), None when there is none.

    Raises:
        OSError: it cannot be read, or is no file: a pipe would keep its reader waiting for ever.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _BINARY | _NOT_WAITING)
    except FileNotFoundError:
        return None
    try:
        kind = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(kind):
            number = errno.EISDIR if stat.S_ISDIR(kind) else errno.EINVAL
            raise OSError(
                number, os.strerror(number) if stat.S_ISDIR(kind) else "Not a regular file", str(path)
            )
        return _read(descriptor, at_most)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Names:
    """The files that one replacement of ``target`` makes beside it, named by the change.

    ``draft`` is the new file while it is written; whole, it becomes ``swap``, and after the exchange ``swap`` is what was
    displaced. ``saved`` keeps what somebody saved and somebody else replaced before it could be put back.
    """

    target: Path
    draft: Path
    swap: Path
    saved: Path

    @classmethod
    def of(cls, target: Path, change_id: str) -> Names:
        """Return the names for one change of ``target``, which is no symlink."""
        hidden = f".{target.name}.{change_id}"
        return cls(
            target,
            target.with_name(f"{hidden}.draft.tmp"),
            target.with_name(f"{hidden}.tmp"),
            target.with_name(f"{target.name}{SAVED}{change_id}"),
        )


def replace_file(names: Names, expected: bytes, new: bytes) -> None:
    """Put ``new`` into the target when it holds ``expected`` (nothing: it is empty or absent).

    Args:
        names: the target, and names that nobody else uses. Nothing is left of them unless the displaced file could neither
            be checked nor put back: ``recover`` deals with that.
        expected: the bytes the change was planned on.
        new: the bytes to write.

    Raises:
        Superseded: the file holds something else, or is being written.
        Unconfirmed: see there; ``recover`` finishes it.
        OSError: nothing was changed.
    """
    try:
        _write_like(names.target, names.draft, new)
        names.draft.replace(names.swap)
        kept = _put(names.swap, names.target, expected)
    except BaseException:
        for own in (names.draft, names.swap):
            with contextlib.suppress(OSError):
                own.unlink(missing_ok=True)
        raise
    try:
        if kept and _displaced(names.swap) != expected:
            _put_back(names, new)
            raise Superseded
        with contextlib.suppress(OSError):  # what is left of it is found and removed later
            names.swap.unlink(missing_ok=True)
        _sync_folder(names.target.parent)
    except OSError as error:
        raise Unconfirmed(error.strerror) from error


def recover(names: Names, is_old: Callable[[bytes], bool], is_new: Callable[[bytes], bool]) -> None:
    """Finish what a crash left of ``replace_file``; what an editor saved is put back, or kept when he saved anew since.

    Args:
        names: as they were given to ``replace_file``.
        is_old: tells the bytes that were expected.
        is_new: tells the bytes that were to be written.

    Raises:
        OSError: it cannot be finished now.
    """
    names.draft.unlink(missing_ok=True)
    left = read_if_present(names.swap)
    if left is None:
        return
    if is_old(left) or is_new(left):
        names.swap.unlink(missing_ok=True)
    elif is_new(read_if_present(names.target) or b""):
        names.swap.replace(names.target)
    else:
        names.swap.replace(names.saved)
    with contextlib.suppress(OSError):
        _sync_folder(names.target.parent)


def _put(swap: Path, target: Path, expected: bytes) -> bool:
    """Move the new file into place; return whether the old one is kept under the name of ``swap``."""
    found = read_if_present(target)
    if (found or b"") != expected:
        raise Superseded
    try:
        if _renameat2(swap, target, _NOREPLACE if found is None else _EXCHANGE):
            return found is not None
    except (FileExistsError, FileNotFoundError):  # it was absent, or there, a moment ago
        raise Superseded from None
    swap.replace(target)
    return False


def _put_back(names: Names, new: bytes) -> None:
    """Put what an editor saved back into place; keep it beside the file when somebody saved anew since."""
    if read_if_present(names.target) == new:
        with contextlib.suppress(FileNotFoundError):  # he deletes it while we look
            _renameat2(names.swap, names.target, _EXCHANGE)
        if read_if_present(names.swap) == new:
            names.swap.unlink(missing_ok=True)
            return
        # Somebody saved between the two: what came out is newer than what went in.
        with contextlib.suppress(FileNotFoundError):
            _renameat2(names.swap, names.target, _EXCHANGE)
    names.swap.replace(names.saved)


def _displaced(path: Path) -> bytes | None:
    """Return what a file holds that only we can open now; None while someone still has it open for writing."""
    descriptor = os.open(path, os.O_RDONLY | _BINARY)
    try:
        return _read(descriptor) if _nobody_writes(descriptor) else None
    finally:
        os.close(descriptor)


def _nobody_writes(descriptor: int) -> bool:
    """Wait until no program has the file open for writing; False when one has it for longer than ``PATIENCE_S``."""
    if sys.platform != "linux":
        return True
    import fcntl  # noqa: PLC0415 - there is none on Windows

    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            # A read lease is given only while nobody has the file open for writing (fcntl(2), F_SETLEASE). Nobody
            # can open it under this name; should someone all the same, the notice must not be a deadly SIGIO.
            fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            if error.errno != errno.EAGAIN:  # not ours, or a file system without leases
                return True
        else:
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.005)


def _write_like(target: Path, temporary: Path, new: bytes) -> None:
    """Write ``new`` durably into ``temporary`` with the mode and owner of ``target``."""
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
    try:
        with contextlib.suppress(FileNotFoundError):
            known = os.stat(target)  # noqa: PTH116 - as everything here, without objects in between
            if sys.platform != "win32":
                _give(descriptor, known.st_uid, known.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(known.st_mode))
                _copy_attributes(target, descriptor)
        rest = memoryview(new)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _give(descriptor: int, user: int, group: int) -> None:
    """Make a file his; only root may give one away, but a member of the group may keep that."""
    try:
        os.fchown(descriptor, user, group)
    except PermissionError:
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, -1, group)


def _copy_attributes(target: Path, descriptor: int) -> None:
    """Copy access lists and other extended attributes, as far as this user and the file system let them be copied."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            for name in os.listxattr(target):
                with contextlib.suppress(OSError):
                    os.setxattr(descriptor, name, os.getxattr(target, name))


def _read(descriptor: int, at_most: int | None = None) -> bytes:
    """Return all bytes of an open file, or no more than that many."""
    parts: list[bytes] = []
    left = at_most
    while part := os.read(descriptor, _CHUNK if left is None else min(left, _CHUNK)):
        parts.append(part)
        left = None if left is None else left - len(part)
    return b"".join(parts)


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":  # Windows has no fsync of a folder; NTFS journals the rename
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _UNSYNCED:
            raise


def _renameat2(old: Path, new: Path, flags: int) -> bool:
    """Rename with flags; return False where that is not possible. Raises OSError."""
    call = _library_call()
    if call is None:
        return False
    problem = call(os.fsencode(old), os.fsencode(new), flags)
    if problem in _NO_SUCH_CALL:
        return False
    if problem:
        raise OSError(problem, os.strerror(problem), str(new))
    return True


@functools.cache
def _library_call() -> Callable[[bytes, bytes, int], int] | None:
    """Return renameat2 of the C library (glibc since 2.28), as a function that returns the error number or 0."""
    if sys.platform != "linux":
        return None
    import ctypes  # noqa: PLC0415 - needed only for a change

    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]

    def call(old: bytes, new: bytes, flags: int) -> int:
        return ctypes.get_errno() if function(_AT_FDCWD, old, _AT_FDCWD, new, flags) else 0

    return call
