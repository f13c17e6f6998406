"""One configuration file on disk: read, watched by ``stat``, locked against other writers, replaced, recovered.

May import ``config.parse``, ``config.replacement``, ``config.lock`` and ``errors``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from voicegw_mcp.config import parse, replacement
from voicegw_mcp.config.lock import LOCK_TIMEOUT_S, Held, Patience, held
from voicegw_mcp.config.parse import Problem
from voicegw_mcp.errors import ConfigInvalid, Conflict, GatewayError, ReadOnly, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Generator

RETRY_AFTER_MS: Final = 1000
"""What a caller is told to wait who met another change."""

READ_ONLY_ERRORS: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EBUSY}
)
"""Errors of a place that takes no files: rights, a read-only mount, a file where a folder should be, a mount point."""

MOUNTS: Final = Path("/proc/self/mountinfo")
MOUNTS_S: Final = 1.0

LOCK_ERRORS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP})
"""Errors of a lock file that is there and cannot be opened: another user's, a folder, a symlink."""

Stamp = tuple[int, int, int, int] | None
"""When a file or its metadata changed last (ns), its modification time (ns), size and inode; None when there is none.

The first one cannot be set back, as `touch -d` and some editors do with the second."""


def version_of(raw: bytes) -> str:
    """Return the version of a file's bytes: 12 hexadecimal digits."""
    return hashlib.sha256(raw).hexdigest()[:12]


def stamp_of(path: Path) -> Stamp:
    """Return what tells with one ``stat`` whether a file changed."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (max(found.st_mtime_ns, found.st_ctime_ns), found.st_mtime_ns, found.st_size, found.st_ino)


class DiskFile:
    """A file by its path, which may be a symlink and need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known_target: Path | None = None
        self._mount: tuple[float, Path, bool] | None = None

    def __repr__(self) -> str:
        return f"DiskFile({str(self.path)!r})"

    def target(self) -> Path:
        """Return the file itself, behind any symlink.

        Raises:
            ReadOnly, StoreUnavailable: a symlink on the way cannot be read.
        """
        try:
            return self._target()
        except OSError as error:
            raise self._not_writable(error) from error

    def _target(self) -> Path:
        known = self._known_target
        if known is None or not _is_same(self.path, known):
            try:
                known = Path(os.path.realpath(self.path, strict=True))
            except (FileNotFoundError, NotADirectoryError):
                return Path(os.path.realpath(self.path))
            self._known_target = known
        return known

    def read(self) -> bytes | None:
        """Return the file's bytes, one more than the limit at most; None when it does not exist.

        Raises:
            ConfigInvalid: it exists and cannot be read.
        """
        try:
            return replacement.read_if_present(self.path, parse.MAX_BYTES + 1)
        except OSError as error:
            hint = (
                f"Put a file there, or name another one: {self.path}"
                if error.errno in (errno.EISDIR, errno.EINVAL)
                else f"Check its permissions: {self.path}"
            )
            raise self.invalid(f"the file cannot be read ({error.strerror})", hint) from error

    def invalid(self, message: str, hint: str) -> ConfigInvalid:
        """Return the error of a file that is broken as a whole."""
        return parse.invalid([Problem("", 1, 1, message, hint)], file=self.path)

    def saves(self) -> list[str]:
        """Return the paths of the files beside it that keep somebody's save (see ``replacement.Names.saved``)."""
        try:
            target = self._target()
            with os.scandir(target.parent) as found:
                return sorted(
                    entry.path for entry in found if entry.name.startswith(target.name + replacement.SAVED)
                )
        except OSError:
            return []

    def obstacle(self) -> str:
        """Return why the file cannot be replaced, "" when nothing stands in the way.

        Told in advance as far as it can be: what comes up later is a ReadOnly of ``replace``.

        Raises:
            ReadOnly, StoreUnavailable: it cannot be told.
        """
        try:
            return self._obstacle()
        except OSError as error:
            if error.errno == errno.ELOOP:
                return "its symlink leads in a circle"
            raise self._not_writable(error) from error

    def _obstacle(self) -> str:
        target = self._target()
        if target.exists() and not _may(target, os.W_OK):
            return "the file is read-only"
        folder = next(place for place in target.parents if place.exists() or place == place.parent)
        if not folder.is_dir():
            return f"{folder} is no folder"
        if not _may(folder, os.W_OK | os.X_OK):
            return "its folder is read-only"
        if self._is_mount_point(target):
            return "it is mounted by itself, and a mounted file cannot be replaced in one step"
        return ""

    def _is_mount_point(self, target: Path) -> bool:
        """Say whether the file was mounted by itself; asked of the kernel at most once a second.

        Should that change in between, the rename is refused (EBUSY) and the answer is ReadOnly.
        """
        now = time.monotonic()
        if self._mount is None or self._mount[1] != target or now - self._mount[0] > MOUNTS_S:
            self._mount = (now, target, _is_mount_point(target))
        return self._mount[2]

    @contextlib.contextmanager
    def locked(self, patience: Patience | None = None) -> Generator[Path]:
        """Hold the lock that every writer of this file takes (an editor takes none); gives the file behind any symlink.

        The kernel frees the lock of a process that dies.

        Raises:
            Conflict: another process holds it for longer than ``patience`` (``LOCK_TIMEOUT_S`` from now).
            ReadOnly: the folder takes no files, or the lock is somebody else's.
        """
        patience = patience or Patience.of(LOCK_TIMEOUT_S)
        target = self.target()
        place = target.with_name(f".{target.name}.lock")
        with ExitStack() as lock:
            try:
                if not target.parent.exists():
                    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                lock.enter_context(held(place, patience))
                _share_lock(place, target)
            except Held as error:
                raise Conflict(
                    f"{self.path.name} is being changed by another process.",
                    hint=f"Nothing was written. Repeat the call in {RETRY_AFTER_MS} ms.",
                    details={"file": str(self.path), "retry_after_ms": RETRY_AFTER_MS},
                ) from error
            except OSError as error:
                if error.errno in LOCK_ERRORS and os.path.lexists(place):
                    raise ReadOnly(
                        f"{self.path.name} cannot be changed: its lock {place} cannot be taken ({error.strerror}).",
                        hint="Another user made it. Delete it while no voicegw runs, or give it to this user.",
                        details={"file": str(self.path), "lock": str(place)},
                    ) from error
                raise self._not_writable(error) from error
            yield target

    def replace(self, target: Path, change_id: str, expected: bytes, new: bytes) -> bool:
        """Put ``new`` in place of ``expected``, atomically and durably. The caller holds the lock.

        Args:
            target: what ``locked`` gave.
            change_id: names the temporary file, for ``recover``.
            expected: the bytes the change was planned on.
            new: the bytes to write.

        Returns:
            Whether nothing is left for ``recover`` to clean up.

        Raises:
            replacement.Superseded: the file no longer holds ``expected``; it is as an editor saved it.
            replacement.Unconfirmed: the disk failed when the new bytes were in place already.
            ReadOnly: the file or its folder takes no changes.
            StoreUnavailable: the disk is full or failed.
        """
        names = replacement.Names.of(target, change_id)
        try:
            if self.target() != target:  # a symlink that leads elsewhere now
                raise replacement.Superseded
            if target.exists() and not _may(target, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            replacement.replace_file(names, expected, new)
        except OSError as error:
            raise self._not_writable(error) from error
        return not os.path.lexists(names.swap)  # unlike Path.exists it never raises

    def recover(self, target: Path, change_id: str, before: str, after: str) -> None:
        """Clean up what a crash left of ``replace``, given the versions before and after it.

        Raises:
            ConfigInvalid: the files cannot be read or renamed now.
        """
        try:
            replacement.recover(
                replacement.Names.of(target, change_id),
                lambda raw: version_of(raw) == before,
                lambda raw: version_of(raw) == after,
            )
        except OSError as error:
            raise self.invalid(
                f"what an interrupted change left cannot be cleaned up ({error.strerror})",
                f"Check the permissions of {target.parent}",
            ) from error

    def _not_writable(self, error: OSError) -> GatewayError:
        if error.errno in READ_ONLY_ERRORS:
            return ReadOnly(
                f"{self.path.name} cannot be changed here ({error.strerror}).",
                hint=f"Make {self.path} and its folder writable for this user, or point VOICEGW_CONFIG at a file that is.",
                details={"file": str(self.path)},
            )
        return StoreUnavailable(
            f"{self.path.name} could not be written ({error.strerror}); it is as it was.",
            hint="Free space or check the disk, then repeat the call.",
            details={"file": str(self.path)},
        )


def _may(path: Path, mode: int) -> bool:
    """Say whether this user may; a no is asked again: a call that was only disturbed must not send a change elsewhere."""
    return os.access(path, mode) or os.access(path, mode)


def _is_same(path: Path, target: Path) -> bool:
    """Say whether ``path`` still leads to ``target``, which is no symlink: two looks instead of one at every folder."""
    try:
        found, known = os.stat(path), os.lstat(target)  # noqa: PTH116 - several times in every change
    except OSError:
        return False
    return not stat.S_ISLNK(known.st_mode) and os.path.samestat(found, known)


def _share_lock(place: Path, target: Path) -> None:
    """Give a lock that root made to the file's owner, who could not take it otherwise."""
    if sys.platform != "win32" and os.geteuid() == 0:
        with contextlib.suppress(OSError):
            owner, made = target.stat(), place.stat()
            if (owner.st_uid, owner.st_gid) != (made.st_uid, made.st_gid):
                os.chown(place, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _is_mount_point(target: Path) -> bool:
    """Say whether a file was mounted by itself, as Docker and a Kubernetes subPath do.

    Its device does not tell (a bind mount may be of the same one); the kernel's list does (proc(5), mountinfo).
    """
    if sys.platform != "linux":
        return False
    try:
        mounts = MOUNTS.read_bytes()
    except OSError:
        return False
    wanted = re.sub(rb"[ \t\n\\]", lambda match: b"\\%03o" % match[0][0], os.fsencode(target))
    return any(fields[4:5] == [wanted] for fields in (line.split(b" ", 5) for line in mounts.splitlines()))
