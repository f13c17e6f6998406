"""Recording from the process that makes the calls: a queue, and one thread that writes it into the store.

The one who records never waits and never fails: a voice agent must not stutter because a disk is slow, or stop because
it is full. So a row is put into a queue in memory and is in the store ``WINDOW_S`` later, or as soon as the store takes
it again. What does not fit is counted, in the store itself as soon as it can be written, so that ``get_health`` of
another process tells of it.

Needs neither an event loop nor a server. May import ``domain``, ``errors`` and ``store``.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import secrets
import socket
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Self

from voicegw_mcp.errors import StoreUnavailable
from voicegw_mcp.store.batches import BatchWriter, make_rows
from voicegw_mcp.store.losses import Source
from voicegw_mcp.store.process_hooks import AtSigterm, at_exit_of_child, call_weakly

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from voicegw_mcp.domain import RequestRecord
    from voicegw_mcp.store.batches import Row

logger = logging.getLogger(__name__)

WINDOW_S: Final = 0.25
"""A row waits at most so long for others before its batch is written: what a SIGKILL loses, with the batch being written."""

MOST_WAITING: Final = 100_000
"""Rows that wait while the store cannot be written: about 60 MB, 120 MB of those that are still to be made."""

_FULL_BATCH: Final = 500
_LARGEST_BATCH: Final = 2_000
_LOOKS: Final = 40
"""Windows without a row, 10 s, after which the thread sleeps until there is one."""
_FIRST_RETRY_S: Final = 0.05
_LAST_RETRY_S: Final = 2.0
_END_S: Final = 5.0
_GRACE_S: Final = 2.0
"""How much longer than its deadline the thread is waited for: one attempt may be under way."""
_TOLD_AFTER_S: Final = 1.0
"""Several processes that write at once keep each other waiting; that is nothing to tell of."""
_TOLD_EVERY_S: Final = 60.0

_QUEUE_FULL: Final = "the queue was full because the store could not be written"
_AFTER_END: Final = "they came after the recorder was closed"
_UNWRITTEN: Final = "the store could not be written until the end"


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows of one recorder since it was made: in the store, still waiting, lost by reason.

    Rows whose id was in the store already are neither written nor lost.
    """

    written: int
    waiting: int
    lost: dict[str, int]


class _Mark:
    """Stands in the queue behind the rows that someone waits for."""

    def __init__(self, *, last: bool = False) -> None:
        self.last = last
        self.reached = threading.Event()


class Recorder:
    """Records requests into the store at ``path`` without ever blocking or failing the caller.

    The thread begins with the first row. ``close`` writes what is left; it is called at the exit of the program, also of
    a ``multiprocessing`` child, which skips ``atexit``. When made in the main thread, a SIGTERM first writes what is left
    and then does what it did before; a program that ignores SIGTERM, or sets a handler of its own later, is left alone.
    After a fork the child has an empty queue and a thread and connection of its own; the fork waits for the batch that is
    being written, because SQLite must not be open across one. ``before_end`` may record more when a SIGTERM ends the process at once.

    When the queue is full the new row is dropped, not the oldest: the log then has one gap with a beginning and an end
    instead of holes, and the caller has nothing to do but count.

    Args:
        path: the store as it is configured; one that VoiceGateway made is left alone (``choose_path``).
        most_waiting: rows that may wait, beside the batch that is being written.
        on_sigterm: whether to take part in SIGTERM.
        now_ms: the clock (UTC epoch ms) for the times of losses.
    """

    def __init__(
        self,
        path: Path,
        *,
        most_waiting: int = MOST_WAITING,
        on_sigterm: bool = True,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._path = path
        self._most_waiting = most_waiting
        self._now_ms = now_ms
        self._closed = False
        self.before_end: Callable[[], object] = lambda: None
        self._begin()
        self._at_sigterm: AtSigterm | None = None
        atexit.register(self.close)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=call_weakly(self._before_fork),
                after_in_parent=call_weakly(self._after_fork),
                after_in_child=call_weakly(self._begin),
            )
        if on_sigterm and threading.current_thread() is threading.main_thread():
            self._at_sigterm = AtSigterm(
                self.flush,
                lambda: self.before_end(),  # noqa: PLW0108 - whatever it is by then
                self.close,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def record(self, row: Row) -> None:
        """Put a row into the queue; from any thread, a signal handler included. Never raises."""
        queue = self._queue
        waiting = queue.qsize()
        if self._closed:
            self._lose(_AFTER_END)
        elif waiting >= self._most_waiting:
            self._lose(_QUEUE_FULL)
        else:
            queue.put(row)
            if waiting == _FULL_BATCH - 1:
                self._bell.put(None)
            if self._thread is None:
                self._start()
            if self._ended:  # closed since the question above, so nobody looks into the queue any more
                self._lose(_AFTER_END, self._drain())

    def flush(self, timeout_s: float = _END_S) -> bool:
        """Wait until every row recorded before is in the store or counted as lost.

        Returns:
            Whether that was so before nothing was written for ``timeout_s``; the rows stay in the queue otherwise.
        """
        if self._thread is None and self._queue.qsize() == 0:
            return True
        mark = _Mark()
        self._put(mark)
        self._start()
        if self._ended:
            self._lose(_AFTER_END, self._drain())
        return self._wait_for(mark.reached.wait, timeout_s)

    def close(self, timeout_s: float = _END_S) -> bool:
        """Write what is left and end the thread; closing twice is fine.

        Returns:
            Whether everything was written. While the store cannot be, it is tried for ``timeout_s``; then the rows are
            counted as lost, and the log says how many. A store that is only slow is waited for.
        """
        if self._ended:
            return not self._lost[_UNWRITTEN]
        self._deadline = time.monotonic() + timeout_s
        with self._lock:
            first, self._closed = not self._closed, True
            thread = self._thread
        mark = _Mark(last=True)
        self._put(mark)
        if thread is not None:
            self._wait_for(lambda s: thread.join(s) or not thread.is_alive(), timeout_s + _GRACE_S)
        elif first:  # nothing was recorded, or no thread could be started any more
            self._work(self._source())
        else:
            mark.reached.wait(timeout_s + _GRACE_S)
        self._ended = True
        self._lose(_UNWRITTEN, self._drain())
        if self._at_sigterm is not None:
            self._at_sigterm.leave()
        atexit.unregister(self.close)
        if self._lost[_UNWRITTEN]:
            logger.error("%d requests were not recorded: %s", self._lost[_UNWRITTEN], self._trouble)
        return not self._lost[_UNWRITTEN]

    def _wait_for(self, wait: Callable[[float], bool], patience_s: float) -> bool:
        """Return whether what is waited for came, before nothing was written for ``patience_s``."""
        before = self._batches
        while not (came := wait(patience_s)) and self._batches != before:
            before = self._batches
        return came

    def counts(self) -> Counts:
        """Return what became of the rows until now."""
        with self._lock:
            return Counts(self._written, self._waiting(), dict(self._lost))

    def _waiting(self) -> int:
        """Return how many rows are neither written nor lost; what a mark was just put in for is counted a moment later."""
        return max(0, self._queue.qsize() - self._marks) + self._in_hand

    def _begin(self) -> None:
        """Start with nothing: when made, and in the child of a fork, where the parent's rows are the parent's."""
        # put() of a SimpleQueue may interrupt itself (signal handlers, the garbage collector); that of others deadlocks.
        self._queue: SimpleQueue[Row | _Mark] = SimpleQueue()
        self._marks = 0
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._ended = self._closed
        self._deadline: float | None = None
        self._told_at = -_TOLD_EVERY_S
        self._trouble = "the store did not answer in time."
        self._writer: BatchWriter | None = None
        self._writing = threading.Lock()
        self._written = 0
        self._batches = 0
        self._in_hand = 0
        self._lost: Counter[str] = Counter()
        self._unreported: Counter[str] = Counter()

    def _before_fork(self) -> None:
        # What SQLite knows of its locks is inherited, the locks are not: a connection that the child opens on the same
        # file would rely on locks of the parent (sqlite.org, howtocorrupt 2.6). So there is none at that moment.
        self._writing.acquire()
        if self._writer is not None:
            self._writer.close()

    def _after_fork(self) -> None:
        self._writing.release()

    def _source(self) -> Source:
        return Source(secrets.token_hex(8), socket.gethostname(), os.getpid())

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None or self._closed:
                return
            thread = threading.Thread(
                target=self._work, args=(self._source(),), name="voicegw-recorder", daemon=True
            )
            # Not when the interpreter is ending, or the system has no thread left: then at the next row, or at the end.
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._thread = thread
                at_exit_of_child(self.close)

    def _put(self, mark: _Mark) -> None:
        with self._lock:
            self._marks += 1
        self._queue.put(mark)
        self._bell.put(None)

    def _work(self, source: Source) -> None:
        with closing(BatchWriter(self._path, source)) as writer:
            self._writer = writer
            while True:
                given, mark = self._next_batch()
                rows = make_rows(given, self._lose)
                self._in_hand = len(rows)
                written = not rows or self._write(writer, rows)
                if mark is not None:
                    mark.reached.set()
                if not written or (mark is not None and mark.last):
                    return

    def _next_batch(self) -> tuple[list[Row], _Mark | None]:
        """Wait for rows, and up to ``WINDOW_S`` for a batch of them; return those up to a mark, and the mark.

        Who records does not wake this thread, but for the first row in a while: threads that want the interpreter's lock at once
        cost the caller some tenths of a millisecond.
        """
        rows: list[Row] = []
        for _ in range(_LOOKS):
            self._wait_for_more()
            if self._queue.qsize():
                item = self._queue.get()
                break
        else:
            item = self._queue.get()
            if not isinstance(item, _Mark):
                self._wait_for_more()
        with contextlib.suppress(Empty):
            while not isinstance(item, _Mark):
                rows.append(item)
                if len(rows) == _LARGEST_BATCH:
                    break
                item = self._queue.get_nowait()
        self._in_hand = len(rows)
        return rows, self._met(item) if isinstance(item, _Mark) else None

    def _met(self, mark: _Mark) -> _Mark:
        with self._lock:
            self._marks -= 1
        return mark

    def _wait_for_more(self) -> None:
        """Wait for a window, unless there are enough rows or somebody waits: his ring may have been taken for another one."""
        if self._queue.qsize() < _FULL_BATCH and not self._marks:
            self._wait(WINDOW_S)

    def _wait(self, timeout_s: float) -> None:
        with contextlib.suppress(Empty):
            self._bell.get(timeout=max(0.0, timeout_s))

    def _write(self, writer: BatchWriter, rows: list[RequestRecord]) -> bool:
        """Write a batch, again and again until the store takes it; return False when the recorder's time is up."""
        pause, began = _FIRST_RETRY_S, time.monotonic()
        while True:
            with self._lock:
                losses, self._unreported = self._unreported, Counter()
            try:
                with self._writing:
                    added, refused = writer.write(rows, losses, self._now_ms())
            except Exception as error:  # noqa: BLE001 - a thread's outermost frame: rows wait whatever went wrong
                with self._lock:
                    self._unreported += losses
                    left = None if self._deadline is None else self._deadline - time.monotonic()
                self._tell(error, began)
                if left is not None and left <= 0:
                    self._lose(_UNWRITTEN, self._in_hand)
                    self._in_hand = 0
                    return False
                self._wait(pause if left is None else min(pause, left))
                pause = min(2 * pause, _LAST_RETRY_S)
            else:
                with self._lock:
                    self._written += added
                    self._batches += 1
                    self._in_hand = 0
                    self._lost += refused
                return True

    def _lose(self, reason: str, count: int = 1) -> None:
        if count:
            with self._lock:
                self._lost[reason] += count
                self._unreported[reason] += count

    def _drain(self) -> int:
        """Take out what nobody will write any more and return how many rows that was."""
        count = 0
        with contextlib.suppress(Empty):
            while True:
                item = self._queue.get_nowait()
                if isinstance(item, _Mark):
                    self._met(item).reached.set()
                else:
                    count += 1
        return count

    def _tell(self, error: Exception, began: float) -> None:
        self._trouble = _explain(error)
        now = time.monotonic()
        if now - began >= _TOLD_AFTER_S and now - self._told_at >= _TOLD_EVERY_S:
            self._told_at = now
            logger.warning("%s %d requests wait to be recorded.", self._trouble, self._waiting())


def _explain(error: Exception) -> str:
    return (
        error.message
        if isinstance(error, StoreUnavailable)
        else f"Recording failed ({type(error).__name__})."
    )
