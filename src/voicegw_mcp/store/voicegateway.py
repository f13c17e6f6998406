"""Reads a store that VoiceGateway made (0.0.x to 0.27): its request rows as our records, its managed entries as they are.

It exists so that a history can move here. The source is never written to, and none of its keys is read: of an encrypted
key only its presence is. What is kept of a row is in ``store.voicegateway_rows``. Everything here blocks; callers on an
event loop use a worker thread. May import ``domain``, ``errors``, ``store.failures`` and ``store.voicegateway_rows``.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.store.failures import translated
from voicegw_mcp.store.voicegateway_rows import (
    SourceRow,
    UnusableError,
    decoded,
    number_of,
    text_of,
    to_record,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from voicegw_mcp.domain import RequestRecord

BATCH_ROWS: Final = 2_000

_OWN_TABLE: Final = "voicegw_mcp_migrations"
_NEEDED: Final = frozenset({"id", "timestamp", "modality", "model_id", "provider"})
_NUMBERS: Final = frozenset(
    {"timestamp", "input_units", "output_units", "cached_input_units", "cost_usd", "ttfb_ms"}
    | {"total_latency_ms", "daily_budget", "enabled"}
)
_MOST_TEXT: Final = 65_536
"""Characters of a cell that are read, so that none can fill the memory."""

_FIRST_ROWID: Final = -(2**63)
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_USUAL_NAME: Final = "Name the store's file; VoiceGateway's is ~/.config/voicegateway/voicegw.db by default."


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of the source, in the order VoiceGateway wrote them.

    ``rows`` were looked at; ``skipped`` counts those that are no records, by reason; ``last`` is where the next begins.
    """

    rows: int
    records: list[RequestRecord]
    skipped: Counter[str]
    last: int


class ManagedProvider(NamedTuple):
    """A row of managed_providers; ``has_key`` says that an encrypted key is stored, ``extra_config`` is JSON text."""

    provider_id: str
    provider_type: str
    has_key: bool
    base_url: str
    extra_config: str
    project: str


class ManagedModel(NamedTuple):
    """A row of managed_models; ``extra_config`` is JSON text."""

    model_id: str
    modality: str
    provider_id: str
    model_name: str
    display_name: str
    default_language: str
    default_voice: str
    extra_config: str
    enabled: bool


class ManagedProject(NamedTuple):
    """A row of managed_projects; ``tags`` is JSON text, ``daily_budget`` USD, None when it is no such number."""

    project_id: str
    name: str
    description: str
    budget_action: str
    default_stack: str
    stt_model: str
    llm_model: str
    tts_model: str
    tags: str
    daily_budget: float | None


class VoiceGatewayStore:
    """An open VoiceGateway store, made with ``VoiceGatewayStore.open``; closes at the end of a ``with`` block."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        with _explained(path):
            self._tables = {
                name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
            columns = self._columns("requests")
        if _OWN_TABLE in self._tables:
            raise _refused(path, "is a store of voicegw-mcp itself, not one of VoiceGateway.", _USUAL_NAME)
        if not columns >= _NEEDED:
            raise _refused(path, "is a SQLite file, but no VoiceGateway store.", _USUAL_NAME)
        cells = ", ".join(
            _cell(name, columns, default) for name, default in SourceRow._field_defaults.items()
        )
        self._page = f"SELECT rowid, {cells} FROM requests WHERE rowid > ? ORDER BY rowid LIMIT ?"

    @classmethod
    def open(cls, path: Path, *, busy_timeout_ms: int = 4000) -> Self:
        """Open a file for reading.

        Args:
            path: the file, with ``~`` expanded.
            busy_timeout_ms: how long a query waits for another program's lock.

        Raises:
            InvalidInput: ``file``: missing, no SQLite file, damaged, one of our own stores, no VoiceGateway store.
            StoreUnavailable: locked, not permitted, or the disk fails.
        """
        with translated(path):
            connection = _connect(path, busy_timeout_ms)
        try:
            return cls(path, connection)
        except BaseException:
            connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; closing twice is fine."""
        self._connection.close()

    def count_requests(self) -> int:
        """Return how many request rows there are now. Raises like ``open``."""
        with _explained(self.path):
            return int(self._connection.execute("SELECT COUNT(*) FROM requests").fetchone()[0])

    def read_requests(
        self, after: int | None, is_free: Callable[[str, str], bool], *, limit: int = BATCH_ROWS
    ) -> Batch:
        """Return the next rows as records; ``rows`` 0 means that there are no more. Raises like ``open``.

        The place is the row's number, not its time: rows that VoiceGateway adds meanwhile come at the end whatever
        their time, and a time that makes no sense cannot hold the reading up. Each batch is a query of its own, so that
        a VoiceGateway at work is never kept from writing for long.

        Args:
            after: ``last`` of the batch before, None at the beginning.
            is_free: says of provider and model id whether a cost of 0 is right.
            limit: rows to look at.
        """
        start = _FIRST_ROWID if after is None else after
        with _explained(self.path):
            rows = self._connection.execute(self._page, (start, limit)).fetchall()
        records: list[RequestRecord] = []
        skipped: Counter[str] = Counter()
        for cells in rows:
            try:
                records.append(to_record(SourceRow(*cells), is_free))
            except UnusableError as error:
                skipped[error.reason] += 1
        return Batch(len(rows), records, skipped, rows[-1][0] if rows else start)

    def managed_providers(self) -> list[ManagedProvider]:
        """Return the managed providers by id. Raises like ``open``."""
        names = (
            "provider_id",
            "provider_type",
            "base_url",
            "extra_config",
            "project",
            "api_key_encrypted <> ''",
        )
        return [
            ManagedProvider(text_of(id_), text_of(type_), bool(key), *map(text_of, rest))
            for id_, type_, *rest, key in self._managed("managed_providers", names)
        ]

    def managed_models(self) -> list[ManagedModel]:
        """Return the managed models by id. Raises like ``open``."""
        rows = self._managed("managed_models", ManagedModel._fields)
        return [ManagedModel(*map(text_of, texts), enabled=enabled != 0) for *texts, enabled in rows]

    def managed_projects(self) -> list[ManagedProject]:
        """Return the managed projects by id. Raises like ``open``."""
        rows = self._managed("managed_projects", ManagedProject._fields)
        return [
            ManagedProject(*map(text_of, texts), daily_budget=number_of(budget)) for *texts, budget in rows
        ]

    def _managed(self, table: str, names: tuple[str, ...]) -> list[tuple[Any, ...]]:
        """Return the rows of a table by its first column, the key; none when there is no such table."""
        with _explained(self.path):
            columns = self._columns(table)
            if names[0] not in columns:
                return []
            cells = ", ".join(_cell(name, columns, None) for name in names)
            return self._connection.execute(f"SELECT {cells} FROM {table} ORDER BY {names[0]}").fetchall()

    def _columns(self, table: str) -> set[str]:
        """Return the columns of a table; none of a view by that name, which could compute anything."""
        if table not in self._tables:
            return set()
        return {row[1] for row in self._connection.execute(f"PRAGMA table_info({table})")}


def _connect(path: Path, busy_timeout_ms: int) -> sqlite3.Connection:
    if not path.exists():
        raise _refused(path, "does not exist.", _USUAL_NAME)
    if not path.is_file():
        raise _refused(path, "is not a file.", _USUAL_NAME)
    with path.open("rb") as file:
        header = file.read(20)
    if not header.startswith(b"SQLite format 3\0"):
        raise _refused(path, "is not a SQLite file.", _USUAL_NAME)
    # SQLite makes a -wal and a -shm file beside a store in WAL mode even to read it. "immutable" keeps it from that, at
    # the price of seeing neither locks nor a log; without a log beside the file nobody has it open and nothing is lost.
    asleep = header[18:20] == b"\2\2" and not path.with_name(f"{path.name}-wal").exists()
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if asleep else ''}",
        uri=True,
        timeout=busy_timeout_ms / 1000,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.text_factory = decoded
    return connection


@contextmanager
def _explained(path: Path) -> Generator[None]:
    """Turn errors of SQLite into ours: what is wrong with the file itself is about the argument that named it."""
    with translated(path):
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0)
            if code & 0xFF in _DAMAGED or code == sqlite3.SQLITE_IOERR_SHORT_READ:
                hint = "Restore it from a backup, or rescue its rows with `sqlite3 FILE .recover`."
                raise _refused(path, "is damaged or cut off.", hint) from error
            if (
                code == sqlite3.SQLITE_ERROR
            ):  # The statements are fixed, so the tables are not what they should be.
                raise _refused(path, "is a SQLite file, but no VoiceGateway store.", _USUAL_NAME) from error
            raise


def _refused(path: Path, what: str, hint: str) -> InvalidInput:
    return InvalidInput(f"{path} {what}", field="file", hint=hint)


def _cell(name: str, columns: set[str], default: object) -> str:
    """Return what to select for a column; for one that an older version did not have, its default."""
    if name.partition(" ")[0] not in columns:
        return "NULL" if default is None else f"'{default}'" if isinstance(default, str) else f"{default}"
    return name if name in _NUMBERS or " " in name else f"substr({name}, 1, {_MOST_TEXT})"
