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
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE_S: Final = 0.5
"""How long to wait for a program that has the displaced file open for writing."""

_BINARY: Final[int] = getattr(os, "O_BINARY", 0)
"""Windows would otherwise change line ends."""

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


def read_if_present(path: Path) -> bytes | None:
    """Return the bytes of a file, None when there is none. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _BINARY)
    except FileNotFoundError:
        return None
    try:
        return _read(descriptor)
    finally:
        os.close(descriptor)


def replace_file(target: Path, temporary: Path, expected: bytes, new: bytes) -> None:
    """Put ``new`` into ``target`` when it holds ``expected`` (nothing: it is empty or absent).

    Args:
        target: no symlink.
        temporary: a name beside it that nobody else uses. It is gone afterwards unless the displaced file could neither
            be checked nor put back: ``recover`` deals with it.
        expected: the bytes the change was planned on.
        new: the bytes to write.

    Raises:
        Superseded: the file holds something else, or is being written.
        Unconfirmed: see there; ``recover`` finishes it.
        OSError: nothing was changed.
    """
    try:
        _write_like(target, temporary, new)
        kept = _put(temporary, target, expected)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    try:
        if kept and _displaced(temporary) != expected:
            _put_back(temporary, target, new)
            raise Superseded
        with contextlib.suppress(OSError):  # what is left of it is found and removed later
            temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)
    except OSError as error:
        raise Unconfirmed(error.strerror) from error


def recover(
    target: Path, temporary: Path, is_old: Callable[[bytes], bool], is_new: Callable[[bytes], bool]
) -> None:
    """Finish what a crash left of ``replace_file``: put a file back that an editor saved, remove the temporary one.

    Args:
        target: as it was given to ``replace_file``.
        temporary: as well.
        is_old: tells the bytes that were expected.
        is_new: tells the bytes that were to be written.

    Raises:
        OSError: it cannot be finished now.
    """
    left = read_if_present(temporary)
    if left is None:
        return
    # Only with the new bytes in place did the two change places; else the temporary file is our own, maybe half written.
    if is_new(read_if_present(target) or b"") and not is_old(left) and not is_new(left):
        os.replace(temporary, target)  # noqa: PTH105 - as atomic as it can be, and shorter
    else:
        temporary.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        _sync_folder(target.parent)


def _put(temporary: Path, target: Path, expected: bytes) -> bool:
    """Move the new file into place; return whether the old one is kept under the temporary name."""
    found = read_if_present(target)
    if (found or b"") != expected:
        raise Superseded
    try:
        if _renameat2(temporary, target, _NOREPLACE if found is None else _EXCHANGE):
            return found is not None
    except (FileExistsError, FileNotFoundError):  # it was absent, or there, a moment ago
        raise Superseded from None
    temporary.replace(target)
    return False


def _put_back(displaced: Path, target: Path, new: bytes) -> None:
    """Put what an editor saved back into place, unless he has saved anew since."""
    if read_if_present(target) == new:
        with contextlib.suppress(FileNotFoundError):  # he deletes it while we look
            _renameat2(displaced, target, _EXCHANGE)
        if read_if_present(displaced) != new:
            # He saved between the two: what came out is newer than what went in.
            with contextlib.suppress(FileNotFoundError):
                _renameat2(displaced, target, _EXCHANGE)
    displaced.unlink(missing_ok=True)


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
                with contextlib.suppress(PermissionError):  # only root may give a file away
                    os.fchown(descriptor, known.st_uid, known.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(known.st_mode))
        rest = memoryview(new)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> bytes:
    """Return all bytes of an open file."""
    parts: list[bytes] = []
    while part := os.read(descriptor, _CHUNK):
        parts.append(part)
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
