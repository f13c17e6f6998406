"""What projects spent on their calendar day, held in memory: what the store says, and what this process spent since.

Who asks never waits for the disk. One thread does what takes long: it prices this process's rows as soon as they are there,
whether or not the store can be written, and reads the store at most every ``REFRESH_S``. No row is counted twice, because
one state of the store tells both its sum and which of this process's rows are in it. May import ``core.periods``,
``store.spend``, ``domain`` and ``errors``.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from voicegw_mcp.core.periods import day_window
from voicegw_mcp.domain import DAY_MS, QUARTER_MS
from voicegw_mcp.errors import GatewayError
from voicegw_mcp.store.spend import SpendState, Spent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from voicegw_mcp.domain import RequestRecord, Window

logger = logging.getLogger(__name__)

REFRESH_S: Final = 30.0
"""What other processes spent is seen after so long at the latest; VoiceGateway's figure."""

FIRST_WAIT_S: Final = 0.01
"""How long the first request of a project waits for the store to be read; then it goes by what this process spent."""

NOTHING: Final = Spent()

_KEPT_MS: Final = 2 * DAY_MS

Make: TypeAlias = "Callable[[], RequestRecord]"


class _Own(NamedTuple):
    """What a row of this process cost, that was not yet seen in the store."""

    at_ms: int
    cost_nanousd: int
    unpriced: int


@dataclass(slots=True)
class _Day:
    """A project's day. ``total`` is replaced as a whole, so that it is read without a lock."""

    window: Window
    stored: Spent = NOTHING
    own: Spent = NOTHING
    total: Spent = NOTHING
    waited: bool = False
    """Whether nobody need wait for ``known`` any more; nor for a day that follows the day before without a gap: it costs
    nothing yet."""
    known: threading.Event = field(default_factory=threading.Event)

    def holds(self, moment_ms: int) -> bool:
        return self.window.start_ms <= moment_ms < self.window.end_ms

    def add_up(self) -> None:
        self.total = Spent(*map(sum, zip(self.stored, self.own, strict=True)))


class _Draft:
    """A row that is made once, by whichever thread needs it first: its id tells it from others."""

    __slots__ = ("_lock", "_row")

    def __init__(self, make: Make) -> None:
        self._lock = threading.Lock()
        self._row: RequestRecord | Make = make

    def __call__(self) -> RequestRecord:
        with self._lock:
            if callable(self._row):
                self._row = self._row()
            return self._row


class Spending:
    """What projects with a budget spent today.

    Args:
        state: opens one state of the store.
        now_ms: the clock, UTC epoch ms.
        seconds: a clock that is never put back.
        start: starts the thread, which works until it is told to end; in tests they do its work themselves.
    """

    def __init__(
        self,
        state: Callable[[], AbstractContextManager[SpendState]],
        now_ms: Callable[[], int],
        *,
        seconds: Callable[[], float] = time.monotonic,
        start: Callable[[Callable[[], object]], object] | None = None,
    ) -> None:
        self._state = state
        self._now_ms = now_ms
        self._seconds = seconds
        self._start = start or _start_thread
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._drafts: SimpleQueue[tuple[_Draft, bool]] = SimpleQueue()
        self._bell: SimpleQueue[bool] = SimpleQueue()
        self._started = False
        self._asked_at = seconds()
        self._due = False
        self._troubled = False
        self.followed: Mapping[str, str] = {}
        """The projects that are followed, and the zones of their days."""
        self._days: dict[str, _Day] = {}
        self._rows: dict[str, dict[str, _Own]] = {}

    def follow(self, timezones: Mapping[str, str]) -> None:
        """Follow these projects (id -> zone of their days) and no others from now on; reads the store soon."""
        self.followed = dict(timezones)
        self._ask()

    def note(self, project: str, make: Make, *, recorded: bool) -> Make:
        """Count a row of this process, which ``make`` makes; return what makes it for the recorder, too.

        To be called before the row goes to the recorder: what is in the store must be known here.

        Args:
            project: whose it is.
            make: makes it; is called once.
            recorded: whether it goes to the recorder.
        """
        if project not in self.followed:
            return make
        draft = _Draft(make)
        self._drafts.put((draft, recorded))
        self._ring()
        return draft

    def today(self, project: str, timezone: str, now_ms: int) -> Spent:
        """Return what a project spent on the day of its zone that holds ``now_ms``; see that it is read again in time.

        A day that was not read yet is waited for, once and for ``FIRST_WAIT_S``; one that has just begun is not.
        """
        day = self._days.get(project)
        if day is None or day.window.timezone != timezone or not day.holds(now_ms):
            day = self._begin_day(project, timezone, now_ms)
            self._ask()
        age = self._seconds() - self._asked_at
        if age >= REFRESH_S:
            if age >= 2 * REFRESH_S:  # the thread would have seen to it: this process stood still
                day.known.clear()
                day.waited = False
            self._ask()
        if not day.waited:
            day.known.wait(FIRST_WAIT_S)
            day.waited = True
        return day.total

    def work_off(self) -> None:
        """Do what is to be done: price rows, and read the store when that is due. Never raises."""
        try:
            self._take_drafts()
            if self._due:
                self._due = False
                self._refresh()
        except Exception:
            logger.exception("What projects spend is not counted.")

    def before_fork(self) -> None:
        """Wait until the store is closed: SQLite must not be open across a fork."""
        self._reading.acquire()

    def after_fork(self) -> None:
        """Go on, in the parent; the child begins anew with nothing."""
        self._reading.release()

    def close(self) -> None:
        """End the thread; what it did not do yet is left."""
        self._bell.put(False)

    def _begin_day(self, project: str, timezone: str, now_ms: int) -> _Day:
        """Return the day that holds ``now_ms``, a new one where need be: the store was not asked about that yet."""
        with self._lock:
            before = self._days.get(project)
            if before is not None and before.window.timezone == timezone and before.holds(now_ms):
                return before
            window = day_window(timezone, now_ms)
            day = _Day(window)
            day.waited = before is not None and before.window.end_ms == window.start_ms
            self._count_own(project, day)
            self._days[project] = day
            return day

    def _ask(self) -> None:
        self._asked_at = self._seconds()
        self._due = True
        self._ring()

    def _ring(self) -> None:
        self._bell.put(True)
        if not self._started:
            with self._lock:
                first, self._started = not self._started, True
            if first:
                self._start(self._work)

    def _work(self) -> None:
        going = True
        while going:
            try:
                going = self._bell.get(timeout=REFRESH_S)
            except Empty:
                self._asked_at = self._seconds()
                self._due = bool(self.followed)
            if going:
                self.work_off()

    def _take_drafts(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                draft, recorded = self._drafts.get_nowait()
                try:
                    row = draft()
                except Exception as error:  # noqa: BLE001 - the recorder tells of a row that cannot be made
                    logger.debug("A row cannot be made: %s", error)
                    continue
                self._add(row, recorded=recorded)

    def _add(self, row: RequestRecord, *, recorded: bool) -> None:
        own = _Own(row.timestamp_ms, row.cost_nanousd or 0, int(row.cost_nanousd is None))
        with self._lock:
            rows = self._rows.setdefault(row.project, {})
            # Rows that nobody records are in no store: one sum for each quarter hour is enough.
            key = row.id if recorded else f"at {row.timestamp_ms // QUARTER_MS}"
            if not recorded and key in rows:
                known = rows[key]
                own = _Own(known.at_ms, known.cost_nanousd + own.cost_nanousd, known.unpriced + own.unpriced)
            rows[key] = own
            day = self._days.get(row.project)
            if day is not None and day.holds(row.timestamp_ms):
                self._count_own(row.project, day, added=None if not recorded else own)

    def _count_own(self, project: str, day: _Day, added: _Own | None = None) -> None:
        """Add up the day's own rows; only ``added`` is new when it is given."""
        rows = (
            [own for own in self._rows.get(project, {}).values() if day.holds(own.at_ms)]
            if added is None
            else [added]
        )
        base = NOTHING if added is None else day.own
        day.own = Spent(
            base.cost_nanousd + sum(own.cost_nanousd for own in rows),
            base.unpriced + sum(own.unpriced for own in rows),
        )
        day.add_up()

    def _refresh(self) -> None:
        now_ms = self._now_ms()
        days = {project: self._begin_day(project, zone, now_ms) for project, zone in self.followed.items()}
        try:
            with self._reading, self._state() as state:
                stored = {
                    project: state.spent(project, day.window.start_ms, day.window.end_ms)
                    for project, day in days.items()
                }
                # Whatever is in this state was noted before it was written.
                self._take_drafts()
                found = state.present(self._unseen())
        except GatewayError as error:
            self._tell(error)
            with self._lock:
                for project, day in days.items():
                    self._forget(project, set(), day.window.start_ms - _KEPT_MS)
            return
        self._troubled = False
        with self._lock:
            for project, day in days.items():
                # Of another day what is in the store is not known yet, so its rows stay counted.
                if self._days.get(project) is day:
                    self._forget(project, found, day.window.start_ms - _KEPT_MS)
                    day.stored = stored[project]
                    self._count_own(project, day)
                    day.known.set()
            for project in self._rows.keys() - self.followed.keys():
                del self._rows[project]
            for project in self._days.keys() - self.followed.keys():
                del self._days[project]

    def _unseen(self) -> list[str]:
        with self._lock:
            return [row_id for rows in self._rows.values() for row_id in rows]

    def _forget(self, project: str, found: set[str], since_ms: int) -> None:
        """Forget rows that are in the store, and those of days long gone, which it never took."""
        rows = self._rows.get(project, {})
        self._rows[project] = {
            row_id: own for row_id, own in rows.items() if row_id not in found and own.at_ms >= since_ms
        }

    def _tell(self, error: GatewayError) -> None:
        if not self._troubled:
            self._troubled = True
            logger.warning(
                "Budgets go by what this process knows until the store can be read. %s", error.message
            )


def _start_thread(work: Callable[[], object]) -> None:
    # When the interpreter is ending there is no thread to be had, and nobody to ask.
    with contextlib.suppress(RuntimeError):
        threading.Thread(target=work, name="voicegw-budgets", daemon=True).start()
