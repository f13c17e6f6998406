"""References in place of keys: ``${NAME}`` and ``${file:PATH}``, looked up when they are used.

A name is searched in the process environment, then in ``secrets.env`` beside the configuration, which must be
readable by its owner only (mode 0600) and is read again when it changes: a rotated key works at the next call.
May import pydantic, ``config.lock`` and ``errors``.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from pydantic import SecretStr

from voicegw_mcp.config.lock import LOCK_TIMEOUT_S, Held, Patience, held
from voicegw_mcp.config.values import is_list, is_map
from voicegw_mcp.errors import InvalidInput, ReadOnly, StoreUnavailable, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

REFERENCE: Final = re.compile(
    r"\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]{0,127})|file:(?P<file>[^}\n\r\0]{1,1024}))\}"
)
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
SECRET_KEYS: Final = re.compile(r"(?i)(^|_)(api_?key|token|secret|password|credentials?)$|^(speech_key|jwt)$")
"""Option names whose values are secrets and therefore must be references."""

MAX_SECRET_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Lookup:
    """The outcome of one reference: a value, or the reason why there is none (safe to show)."""

    value: SecretStr | None
    reason: str = ""
    command: str = ""


class Secrets:
    """Looks references up; holds no key longer than a call.

    Args:
        path: ``secrets.env``; need not exist.
        environment: the process environment.
    """

    def __init__(self, path: Path, environment: Mapping[str, str] | None = None) -> None:
        self.path = path
        self._environment = os.environ if environment is None else environment

    def look_up(self, reference: str) -> Lookup:
        """Return what ``reference`` (the whole string must be one) stands for, or why it stands for nothing."""
        match = REFERENCE.fullmatch(reference.strip())
        if match is None:
            return Lookup(SecretStr(reference)) if reference.strip() else Lookup(None, "no key is set")
        if match["file"]:
            return self._read_file(match["file"])
        name = match["name"]
        value = self._environment.get(name, "")
        if value:
            return Lookup(SecretStr(value))
        command = f"voicegw secrets set {name}"
        try:
            value = self.read().get(name, "")
        except ReadOnly as error:
            return Lookup(None, error.message, error.hint)
        if value:
            return Lookup(SecretStr(value))
        return Lookup(None, f"{name} is not set in the environment nor in {self.path.name}", command)

    def expand(self, value: Any, missing: Callable[[tuple[str | int, ...], Lookup], None]) -> Any:
        """Return ``value`` with references replaced in every string but keys and tokens, at any depth.

        Args:
            value: data from the file.
            missing: called with the path of each reference that stands for nothing, and the reason.
        """
        return self._expand(value, (), missing)

    def _expand(
        self,
        value: Any,
        path: tuple[str | int, ...],
        missing: Callable[[tuple[str | int, ...], Lookup], None],
    ) -> Any:
        if isinstance(value, str):
            return self._expand_text(value, path, missing) if "${" in value else value
        if is_map(value):
            return {
                # Most of a file are values without a reference: a call for each is most of the time.
                key: item
                if (item.__class__ is str and "${" not in item) or _is_secret_key(key)
                else self._expand(item, (*path, key), missing)
                for key, item in value.items()
            }
        if is_list(value):
            return [self._expand(item, (*path, index), missing) for index, item in enumerate(value)]
        return value

    def _expand_text(
        self,
        value: str,
        path: tuple[str | int, ...],
        missing: Callable[[tuple[str | int, ...], Lookup], None],
    ) -> str:
        def replace(match: re.Match[str]) -> str:
            found = self.look_up(match[0])
            if found.value is None:
                missing(path, found)
                return ""
            return found.value.get_secret_value()

        return REFERENCE.sub(replace, value)

    def read(self) -> dict[str, str]:
        """Return the names and values of ``secrets.env``; empty when there is no such file.

        Raises:
            ReadOnly: others may read the file (POSIX), or it cannot be read.
        """
        try:
            # By descriptor: this is asked for every provider at every get_health, mostly of a file that is not there.
            with _open(self.path) as file:
                mode = os.fstat(file.fileno()).st_mode
                if sys.platform != "win32" and stat.S_IMODE(mode) & 0o077:
                    raise ReadOnly(
                        f"{self.path.name} is readable by others (mode {stat.S_IMODE(mode):04o}); it is not used",
                        hint=f"chmod 600 {self.path}",
                    )
                raw = file.read(MAX_SECRET_BYTES * 16)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ReadOnly(
                f"{self.path.name} cannot be read ({error.strerror})", hint=f"ls -l {self.path}"
            ) from error
        return dict(
            _parse_line(line) for line in raw.decode("utf-8", "replace").splitlines() if _is_entry(line)
        )

    def set(self, name: str, value: str) -> None:
        """Write one name into ``secrets.env`` (made with mode 0600 when missing).

        Raises:
            InvalidInput: the name is no variable name, or the value is empty, too long or of several lines.
        """
        if VARIABLE.fullmatch(name) is None:
            raise InvalidInput(
                f"{quote(name)} is not a variable name.",
                field="name",
                hint=f"Use {VARIABLE.pattern}, for example OPENAI_API_KEY",
            )
        if not value or len(value) > MAX_SECRET_BYTES or not value.isprintable():
            raise InvalidInput(
                "The value is empty, too long, or holds a line break or control character.",
                field="value",
                hint="Give the key on one line, at the prompt or on standard input.",
            )
        with self._locked():
            self._write({**self.read(), name: value})

    def unset(self, name: str) -> bool:
        """Remove one name; False when it was not there."""
        with self._locked():
            values = self.read()
            if name not in values:
                return False
            del values[name]
            self._write(values)
            return True

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with held(self.path.with_name(f".{self.path.name}.lock"), Patience.of(LOCK_TIMEOUT_S)):
                yield
        except Held as error:
            raise StoreUnavailable(
                f"{self.path.name} is locked by another process.", hint="Try again in a moment."
            ) from error

    def _write(self, values: Mapping[str, str]) -> None:
        # Comments of a hand-made file stay: only the lines of changed names are touched.
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            lines = ["# Keys that voicegw.yaml refers to as ${NAME}. Keep this file out of version control."]
        left = dict(values)
        kept: list[str] = []
        for line in lines:
            if not _is_entry(line):
                kept.append(line)
                continue
            name, _ = _parse_line(line)
            if name in left:
                kept.append(f"{name}={_quoted(left.pop(name))}")
        kept += [f"{name}={_quoted(value)}" for name, value in left.items()]
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
                file.write("\n".join(kept) + "\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _read_file(self, name: str) -> Lookup:
        try:
            path = self.path.parent / Path(name).expanduser()
        except RuntimeError:
            return Lookup(None, f"the file {quote(name)} is in a home that does not exist")
        try:
            with _open(path) as file:
                raw = file.read(MAX_SECRET_BYTES)
        except OSError as error:
            return Lookup(None, f"the file {quote(name)} cannot be read ({error.strerror})", f"ls -l {path}")
        value = raw.decode("utf-8", "replace").strip()
        return Lookup(SecretStr(value)) if value else Lookup(None, f"the file {quote(name)} is empty")


@functools.lru_cache(maxsize=4096)
def _is_secret_key(name: str) -> bool:
    return SECRET_KEYS.search(name) is not None


def is_reference(value: str) -> bool:
    """Say whether the whole string is one reference."""
    return REFERENCE.fullmatch(value.strip()) is not None


def _open(path: Path) -> BinaryIO:
    """Open a file to read; what is no regular file is refused: a pipe would keep its reader waiting for ever."""
    file = os.fdopen(
        os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb"
    )
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return file


def _is_entry(line: str) -> bool:
    stripped = line.strip()
    return bool(stripped) and not stripped.startswith("#") and "=" in stripped


def _parse_line(line: str) -> tuple[str, str]:
    name, _, value = line.strip().removeprefix("export ").partition("=")
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    return name.strip(), value


def _quoted(value: str) -> str:
    # Plain where a shell and we read the same; else in the quotes that the value does not hold.
    if re.fullmatch(r"[A-Za-z0-9_./:@%+=,-]+", value):
        return value
    return f"'{value}'" if "'" not in value else f'"{value}"'
