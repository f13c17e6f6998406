"""One ``voicegw.yaml`` on disk: found, read, watched by ``stat``, locked, and replaced by compare-and-swap.

May import ``config.parse``, ``config.schema``, ``config.secrets``, ``errors``; filelock only when a change is written.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from voicegw_mcp.config import parse, schema
from voicegw_mcp.config.parse import Problem
from voicegw_mcp.config.values import is_map
from voicegw_mcp.errors import ConfigInvalid, Conflict, GatewayError, ReadOnly, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from voicegw_mcp.config.parse import ParsedFile
    from voicegw_mcp.config.schema import Settings
    from voicegw_mcp.config.secrets import Lookup, Secrets

LOCK_TIMEOUT_S: Final = 5.0

READ_ONLY_ERRORS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})
"""Errors of a place that takes no files: rights, a read-only mount, a file where a folder should be."""

Stamp = tuple[int, int, int] | None
"""Modification time (ns), size and inode of a file; None when there is none."""

SETTLED_NS: Final = 100_000_000
"""A file changed this recently is read again at the next call even when ``stat`` shows no difference: an edit in
place that keeps the size, made within one tick of the file system's clock, leaves the same stat behind."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What one version of the file says.

    ``version`` is the short SHA-256 of its bytes; ``notes`` are things kept but ignored.
    """

    path: Path
    version: str
    text: str
    parsed: ParsedFile
    settings: Settings
    notes: tuple[Problem, ...] = ()


def find_config(explicit: str | None, environment: Mapping[str, str]) -> Path:
    """Return the file to work on: explicit, ``VOICEGW_CONFIG``, then the places VoiceGateway searched.

    When none exists it is the place where the first change makes one: ``~/.config/voicegateway/voicegw.yaml``.
    """
    named = explicit or environment.get("VOICEGW_CONFIG")
    if named:
        return Path(named).expanduser().absolute()
    at_home = Path("~/.config/voicegateway/voicegw.yaml").expanduser()
    for candidate in (Path("voicegw.yaml"), at_home, Path("/etc/voicegateway/voicegw.yaml")):
        if candidate.is_file():
            return candidate.absolute()
    return at_home


def version_of(raw: bytes) -> str:
    """Return the version of a file's bytes: 12 hexadecimal digits."""
    return hashlib.sha256(raw).hexdigest()[:12]


class ConfigFile:
    """Reads the file when it changed, keeps the last good version when it broke, replaces it atomically.

    Args:
        path: the file; need not exist (an empty configuration, made by the first change).
        secrets: looks up references in values that are not keys.
    """

    def __init__(self, path: Path, secrets: Secrets) -> None:
        self.path = path
        self.error: ConfigInvalid | None = None
        self._secrets = secrets
        self._good: Configuration | None = None
        self._stamps_read: tuple[Stamp, Stamp] | None = None
        self._content: tuple[str, Stamp] | None = None
        self._loading = threading.Lock()

    def load(self) -> Configuration:
        """Return the newest good configuration; ``error`` then says whether the file on disk is broken.

        Costs one ``stat`` when nothing changed.

        Raises:
            ConfigInvalid: the file is broken and no good version was ever read.
        """
        # Calls load on the event loop, changes in worker threads.
        with self._loading:
            stamps, settled = self._stamps()
            # A broken file is looked at again: a reference in it may have come to stand for something meanwhile.
            if not (settled and stamps == self._stamps_read and self.error is None):
                self._reload(stamps[1])
                self._stamps_read = stamps
            if self._good is None:
                raise self.error or self._invalid("the file cannot be read", "Check its permissions.")
            return self._good

    def _reload(self, secrets_stamp: Stamp) -> None:
        """Read the file; interpret it again unless its bytes, and the secrets they were expanded with, are the same."""
        try:
            raw = self.read_bytes()
        except ConfigInvalid as error:
            self.error, self._content = error, None
            return
        content = (version_of(raw), secrets_stamp)
        if content == self._content and self.error is None:
            return
        self._content = content
        try:
            self._good, self.error = self._interpret_bytes(raw), None
        except ConfigInvalid as error:
            self.error = error

    @property
    def exists(self) -> bool:
        """Whether there was a file at the last ``load``."""
        return self._stamps_read is not None and self._stamps_read[0] is not None

    def load_unbroken(self) -> Configuration:
        """Return the configuration on disk, for a change to be planned on.

        Raises:
            ConfigInvalid: the file on disk is broken, even when an older good version is known.
        """
        configuration = self.load()
        if self.error is not None:
            raise self.error
        return configuration

    def read_bytes(self) -> bytes:
        """Return the file's bytes, none when it does not exist yet.

        Raises:
            ConfigInvalid: it exists and cannot be read, vanished after it was read once, or is too large.
        """
        try:
            with self.path.open("rb") as file:
                known = os.fstat(file.fileno())
                small = stat.S_ISREG(known.st_mode) and known.st_size <= parse.MAX_BYTES
                # Asked for a limit, Python makes room for all of it first: 4 MiB for every look at a small file.
                return file.read() if small else file.read(parse.MAX_BYTES + 1)
        except FileNotFoundError:
            if self._good is not None and self._good.text:
                raise self._invalid(
                    "the file is gone", "Restore it, or restart the server to begin with an empty one."
                ) from None
            return b""
        except OSError as error:
            raise self._invalid(
                f"the file cannot be read ({error.strerror})", f"Check its permissions: {self.path}"
            ) from error

    def interpret(self, parsed: ParsedFile) -> Configuration:
        """Validate a parsed text as if it were the file's.

        Raises:
            ConfigInvalid: ``details.problems`` lists every problem with path, line and column.
        """
        problems: list[Problem] = []

        def missing(path: tuple[str | int, ...], found: Lookup) -> None:
            mark = parsed.mark(path)
            hint = f"Run: {found.command}; or write the value into the file."
            problems.append(Problem(parse.dotted(path), mark.line, mark.column, found.reason, hint))

        data = self._secrets.expand(parsed.data, missing)
        unresolved = {problem.path for problem in problems}
        settings, notes = None, list[Problem]()
        try:
            settings, notes = schema.validate(data, parsed)
        except ValidationError as error:
            problems += [item for item in schema.problems_of(error, parsed) if item.path not in unresolved]
        problems += _duplicate_models(parsed)
        if problems or settings is None:
            raise parse.invalid(problems, file=self.path)
        version = version_of(parsed.text.encode())
        return Configuration(self.path, version, parsed.text, parsed, settings, tuple(notes))

    def _interpret_bytes(self, raw: bytes) -> Configuration:
        try:
            parsed = parse.parse(parse.decode(raw))
        except ConfigInvalid as error:
            raise parse.invalid(parse.problems_in(error), file=self.path) from None
        return self.interpret(parsed)

    @contextlib.contextmanager
    def locked(self) -> Generator[Path]:
        """Hold the lock that every writer of this file takes (an editor takes none); gives the file behind any symlink.

        Raises:
            StoreUnavailable: another process holds it for longer than ``LOCK_TIMEOUT_S``.
            ReadOnly: the folder takes no files.
        """
        import filelock  # noqa: PLC0415 - 60 ms to import, needed only for a change

        target = self.target()
        try:
            if not target.parent.exists():
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = filelock.FileLock(
                target.with_name(f".{target.name}.lock"), timeout=LOCK_TIMEOUT_S, thread_local=False
            )
            with lock:
                yield target
        except filelock.Timeout as error:
            raise StoreUnavailable(
                f"{self.path.name} is being changed by another process.", hint="Try again in a moment."
            ) from error
        except OSError as error:
            raise self._not_writable(error) from error

    def replace(self, target: Path, expected: bytes, new: bytes, configuration: Configuration) -> None:
        """Put ``new`` in place of ``expected``, atomically and durably. The caller holds the lock.

        Args:
            target: what ``locked`` gave.
            expected: the bytes the change was planned on.
            new: the bytes to write.
            configuration: what ``interpret`` made of ``new``; served from now on.

        Raises:
            Conflict: the file no longer holds ``expected`` (an editor saved meanwhile).
            ReadOnly: the file or its folder takes no changes.
            StoreUnavailable: the disk is full or failed; the file is as it was.
        """
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            if target.exists() and not os.access(target, os.W_OK):
                raise PermissionError(errno.EACCES, "Permission denied")
            try:
                self._write_like(target, temporary, new)
                if self.read_bytes() != expected:
                    raise Conflict(
                        f"{self.path.name} was changed by someone else while this change was written.",
                        hint="Read the configuration again and repeat the call.",
                        details={"config_version": version_of(self.read_bytes())},
                    )
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise self._not_writable(error) from error
        with contextlib.suppress(OSError):  # some network folders cannot be synced; the file is in place
            _sync_folder(target.parent)
        with self._loading:
            self._good, self.error = configuration, None
            self._content = (configuration.version, self._stamps()[0][1])

    def target(self) -> Path:
        """Return the file itself, behind any symlink."""
        return Path(os.path.realpath(self.path))

    def _write_like(self, target: Path, temporary: Path, new: bytes) -> None:
        """Write ``new`` durably into ``temporary`` with the mode and owner of ``target``."""
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            with contextlib.suppress(FileNotFoundError):
                known = target.stat()
                if sys.platform != "win32":
                    with contextlib.suppress(PermissionError):  # only root may give a file away
                        os.fchown(file.fileno(), known.st_uid, known.st_gid)
                    os.fchmod(file.fileno(), stat.S_IMODE(known.st_mode))
            file.write(new)
            file.flush()
            os.fsync(file.fileno())

    def _stamps(self) -> tuple[tuple[Stamp, Stamp], bool]:
        """Return the stamps of file and secrets, and whether they can be trusted to tell the content."""
        stamps = (_stamp(self.path), _stamp(self._secrets.path))
        newest = max((stamp[0] for stamp in stamps if stamp), default=0)
        return stamps, time.time_ns() - newest > SETTLED_NS

    def _invalid(self, message: str, hint: str) -> ConfigInvalid:
        return parse.invalid([Problem("", 1, 1, message, hint)], file=self.path)

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
        )


def _duplicate_models(parsed: ParsedFile) -> Iterator[Problem]:
    """A model id is unique over all modalities: a reference must mean one thing."""
    first: dict[str, str] = {}
    models = parsed.data.get("models")
    for modality, entries in models.items() if is_map(models) else ():
        for model_id in entries if is_map(entries) else ():
            if model_id in first:
                mark = parsed.mark(("models", modality, model_id))
                path = f"models.{modality}.{model_id}"
                yield Problem(
                    path,
                    mark.line,
                    mark.column,
                    f"is a model of {first[model_id]} already",
                    "Give one of them another id.",
                )
            first.setdefault(model_id, modality)


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _sync_folder(folder: Path) -> None:
    if sys.platform != "win32":  # Windows has no fsync of a folder; NTFS journals the rename
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
