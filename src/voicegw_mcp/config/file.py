"""What is configured: ``voicegw.yaml`` with its overlay, read when they change, the last good version kept.

May import ``config.alerts``, ``config.disk``, ``config.overlay``, ``config.parse``, ``config.schema``, ``config.secrets``,
``domain``, ``errors``.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from voicegw_mcp.config import parse, schema
from voicegw_mcp.config.alerts import check_alerts
from voicegw_mcp.config.disk import DiskFile, Stamp, stamp_of, version_of
from voicegw_mcp.config.overlay import BASE_KEY, Layered
from voicegw_mcp.config.parse import Problem
from voicegw_mcp.config.values import is_map
from voicegw_mcp.domain import DEFAULT_PROJECT
from voicegw_mcp.errors import ConfigInvalid, GatewayError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from voicegw_mcp.config.parse import ParsedFile
    from voicegw_mcp.config.schema import Settings
    from voicegw_mcp.config.secrets import Lookup, Secrets

SETTLED_NS: Final = 100_000_000
"""A file changed this recently is read again at the next call even when ``stat`` shows no difference: an edit in
place that keeps the size, made within one tick of the file system's clock, leaves the same stat behind."""


OBSTACLE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Configuration:
    """What one version of the file, and of its overlay, says.

    ``version`` is the short SHA-256 of the file's bytes, with an overlay of both. ``parsed`` is the file alone,
    ``source`` what was read: it gives data and places of both. ``secrets`` is the stamp of the file that references were
    expanded with, ``notes`` are things kept but ignored.
    """

    path: Path
    version: str
    parsed: ParsedFile
    overlay: ParsedFile | None
    source: ParsedFile | Layered
    settings: Settings
    secrets: Stamp
    notes: tuple[Problem, ...] = ()

    @property
    def data(self) -> dict[str, Any]:
        """What is written, references unexpanded."""
        return self.source.data


@dataclass(frozen=True, slots=True)
class _Content:
    """The bytes of one look at the disk. ``overlay`` is None when there is none in force."""

    base: bytes
    overlay: bytes | None
    secrets: Stamp


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


class ConfigFile:
    """Reads file and overlay when they changed, and keeps the last good version when they broke.

    Args:
        path: the file; need not exist (an empty configuration, made by the first change).
        secrets: looks up references in values that are not keys.
        choose_overlay: gives the path of the overlay for the expanded data of the file, and whether it was named by
            hand: one that was not is in force only when it names this file as its base. Without it there is none.
    """

    def __init__(
        self,
        path: Path,
        secrets: Secrets,
        choose_overlay: Callable[[Mapping[str, Any]], tuple[Path, bool]] | None = None,
    ) -> None:
        self.path = path
        self.base = DiskFile(path)
        self.overlay: DiskFile | None = None
        """Where the overlay is, or would be made; known after a file was read."""
        self.error: ConfigInvalid | None = None
        self._secrets = secrets
        self._choose_overlay = choose_overlay
        self._named = False
        self._obstacle: tuple[float, str] | None = None
        self._saves: list[str] = []
        self._good: Configuration | None = None
        self._stamps_read: tuple[Stamp, ...] | None = None
        self._content: _Content | None = None
        self._loading = threading.Lock()

    def load(self, *, anew: bool = False) -> Configuration:
        """Return the newest good configuration; ``error`` then says whether a file on disk is broken.

        Costs one ``stat`` per file when nothing changed; ``anew`` reads the bytes whatever that says.

        Raises:
            ConfigInvalid: a file is broken and no good version was ever read.
        """
        # Calls load on the event loop, changes in worker threads.
        with self._loading:
            stamps, settled = self._stamps()
            # A broken file is looked at again: a reference in it may have come to stand for something meanwhile.
            if anew or not (settled and stamps == self._stamps_read and self.error is None):
                self._reload(stamps[1])
                # The first look finds out where the overlay is; before, its stamp was not asked for.
                self._stamps_read = stamps if len(stamps) == 2 + (self.overlay is not None) else None
            if self._good is None:
                raise self.error or self.base.invalid("the file cannot be read", "Check its permissions.")
            return self._good

    def load_unbroken(self) -> Configuration:
        """Return the configuration on disk, for a change to be planned on.

        Raises:
            ConfigInvalid: a file on disk is broken, even when an older good version is known.
        """
        configuration = self.load(anew=True)
        if self.error is not None:
            raise self.error
        return configuration

    @property
    def exists(self) -> bool:
        """Whether there was a file at the last ``load``."""
        return bool(self._stamps_read and self._stamps_read[0]) or stamp_of(self.path) is not None

    def obstacle(self) -> str:
        """Return why the file takes no changes, "" when it does; looked at anew at most once a second."""
        now = time.monotonic()
        if self._obstacle is None or now - self._obstacle[0] > OBSTACLE_S:
            try:
                self._obstacle = (now, self.base.obstacle())
            except GatewayError as error:
                self._obstacle = (now, error.message.rstrip("."))
            self._saves = [name for disk in self.disks() for name in disk.saves()]
        return self._obstacle[1]

    def saves(self) -> list[str]:
        """Return the files that keep what somebody saved and somebody else replaced; as old as ``obstacle``."""
        self.obstacle()
        return self._saves

    def stamps_read(self) -> tuple[Stamp, ...] | None:
        """Return what the last ``load`` saw of the files: another value tells that they may have changed."""
        return self._stamps_read

    def disks(self) -> list[DiskFile]:
        """Return the file and, once it is known, its overlay: the order in which they are locked."""
        return [self.base] if self.overlay is None else [self.base, self.overlay]

    def read_bytes(self) -> bytes:
        """Return the file's bytes, none when it does not exist yet.

        Raises:
            ConfigInvalid: it exists and cannot be read, vanished after it was read once, or is too large.
        """
        raw = self.base.read()
        if raw is None and self._good is not None and self._good.parsed.text:
            hint = "Restore it, or restart the server to begin with an empty one."
            raise self.base.invalid("the file is gone", hint)
        return raw or b""

    def interpret(self, parsed: ParsedFile, overlay: ParsedFile | None = None) -> Configuration:
        """Validate parsed texts as if they were on disk.

        Raises:
            ConfigInvalid: ``details.problems`` lists every problem with path, line and column.
        """
        source = parsed
        shadowed: list[Problem] = []
        if overlay is not None and self.overlay is not None:
            source = Layered(parsed, overlay, self.overlay.path)
            shadowed = source.shadowed()
        problems: list[Problem] = []
        secrets = stamp_of(self._secrets.path)

        def missing(path: tuple[str | int, ...], found: Lookup) -> None:
            mark = source.mark(path)
            hint = f"Run: {found.command}; or write the value into the file."
            problems.append(
                Problem(parse.dotted(path), mark.line, mark.column, found.reason, hint, mark.file)
            )

        data = self._secrets.expand(source.data, missing)
        unresolved = {problem.path for problem in problems}
        settings, notes = None, list[Problem]()
        try:
            settings, notes = schema.validate(data, source)
        except ValidationError as error:
            problems += [item for item in schema.problems_of(error, source) if item.path not in unresolved]
        problems += _duplicate_models(source)
        if settings is not None:
            problems += check_alerts(
                settings.alerts,
                projects={*settings.projects, DEFAULT_PROJECT},
                private_hosts=settings.security.allow_private_hosts,
                source=source,
            )
        if problems or settings is None:
            raise parse.invalid(problems, file=self.path)
        version = version_of(parsed.text.encode() + (b"\0" + overlay.text.encode() if overlay else b""))
        return Configuration(
            self.path, version, parsed, overlay, source, settings, secrets, (*notes, *shadowed)
        )

    def accept(self, configuration: Configuration) -> None:
        """Serve what was just written, without reading it again."""
        with self._loading:
            self._good, self.error = configuration, None
            overlay = configuration.overlay
            self._content = _Content(
                configuration.parsed.text.encode(),
                None if overlay is None else overlay.text.encode(),
                configuration.secrets,
            )

    def _reload(self, secrets_stamp: Stamp) -> None:
        """Read the files; interpret them again unless their bytes, and the secrets they were expanded with, are the same."""
        try:
            base = self.read_bytes()
            known = None if self.error is not None else self._content
            parsed = None
            if known is None or (base, secrets_stamp) != (known.base, known.secrets):
                parsed = self._parsed(base, self.path)
                self._find_overlay(parsed)
            raw = self.overlay.read() if self.overlay is not None else None
            content = _Content(base, raw, secrets_stamp)
            if content == known:
                return
            self._content = content
            parsed = parsed or self._parsed(base, self.path)
            self._good, self.error = self.interpret(parsed, self._overlay_in(raw)), None
        except ConfigInvalid as error:
            self.error = error

    def _find_overlay(self, parsed: ParsedFile) -> None:
        if self._choose_overlay is not None:
            data = self._secrets.expand(parsed.data, lambda _path, _found: None)
            path, self._named = self._choose_overlay(data)
            if path == self.path:  # a file cannot lie over itself
                self.overlay = None
            elif self.overlay is None or self.overlay.path != path:
                self.overlay = DiskFile(path)

    def _overlay_in(self, raw: bytes | None) -> ParsedFile | None:
        """Return the overlay when it is one of this file."""
        if self.overlay is None or raw is None:
            return None
        parsed = self._parsed(raw, self.overlay.path)
        return parsed if self._named or parsed.data.get(BASE_KEY) == str(self.path) else None

    @staticmethod
    def _parsed(raw: bytes, path: Path) -> ParsedFile:
        try:
            return parse.parse(parse.decode(raw))
        except ConfigInvalid as error:
            raise parse.invalid(parse.problems_in(error), file=path) from None

    def _stamps(self) -> tuple[tuple[Stamp, ...], bool]:
        """Return the stamps of file, secrets and overlay, and whether they can be trusted to tell the content."""
        paths = [self.path, self._secrets.path]
        if self.overlay is not None:
            paths.append(self.overlay.path)
        stamps = tuple(map(stamp_of, paths))
        newest = max((stamp[0] for stamp in stamps if stamp), default=0)
        return stamps, time.time_ns() - newest > SETTLED_NS


def _duplicate_models(source: ParsedFile | Layered) -> Iterator[Problem]:
    """A model id is unique over all modalities: a reference must mean one thing."""
    first: dict[str, str] = {}
    models = source.data.get("models")
    for modality, entries in models.items() if is_map(models) else ():
        for model_id in entries if is_map(entries) else ():
            if model_id in first:
                mark = source.mark(("models", modality, model_id))
                yield Problem(
                    f"models.{modality}.{model_id}",
                    mark.line,
                    mark.column,
                    f"is a model of {first[model_id]} already",
                    "Give one of them another id.",
                    mark.file,
                )
            first.setdefault(model_id, modality)
