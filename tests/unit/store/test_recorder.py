import contextlib
import logging
import math
import os
import signal
import sqlite3
import threading
import time
from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st
from tests.factories import DAY, NOW, request_record

from voicegw_mcp.domain import Usage
from voicegw_mcp.store import batches, recorder as module
from voicegw_mcp.store.batches import BatchWriter
from voicegw_mcp.store.recorder import Counts, Recorder
from voicegw_mcp.store.schema import connect, prepare

BOUND_S = 30
"""After which something that should have happened did not."""


def row(number, **fields):
    return request_record(id=f"r{number}", cost_nanousd=number, **fields)


def stored(path):
    with contextlib.closing(connect(path, timeout_s=5)) as connection:
        return {identity for (identity,) in connection.execute("SELECT id FROM requests")}


def sums(path):
    with contextlib.closing(connect(path, timeout_s=5)) as connection:
        return connection.execute(
            "SELECT SUM(requests), SUM(cost_nanousd), SUM(ttfb_count), SUM(total_count) FROM rollup WHERE grain_s = 900"
        ).fetchone()


def told(path):
    with contextlib.closing(connect(path, timeout_s=5)) as connection:
        return dict(connection.execute("SELECT reason, SUM(requests) FROM lost GROUP BY reason"))


@contextlib.contextmanager
def locked(path):
    """Hold the store as another program would."""
    prepare(path, deadline=time.monotonic() + 5)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other
        if other.in_transaction:
            other.execute("ROLLBACK")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "voicegw.db"


@pytest.fixture
def recorder(path):
    with Recorder(path) as opened:
        yield opened


def test_rows_are_in_the_log_and_the_sums_after_a_flush(path, recorder):
    for number in range(1200):
        recorder.record(row(number, ttfb_ms=20.0, total_ms=100.0))
    assert recorder.flush(BOUND_S)
    assert len(stored(path)) == 1200
    assert sums(path) == (1200, sum(range(1200)), 1200, 1200)
    assert recorder.counts() == Counts(1200, 0, {})


def test_a_flush_waits_as_long_as_a_slow_store_gets_on(path, recorder, monkeypatch):
    write, pause = BatchWriter.write, threading.Event()

    def write_slowly(*arguments):
        pause.wait(0.6)
        return write(*arguments)

    monkeypatch.setattr(BatchWriter, "write", write_slowly)
    for number in range(4 * 2000):
        recorder.record(row(number))
    assert recorder.flush(timeout_s=1.5)
    assert len(stored(path)) == 8000


@pytest.mark.parametrize("silent", [False, True])
def test_rows_are_written_within_the_window_without_being_asked_for(path, recorder, monkeypatch, silent):
    if silent:  # for as long as the thread looks for rows by itself
        monkeypatch.setattr(module, "_LOOKS", 0)
    for number in range(1, 4):
        recorder.record(row(number))
        deadline = time.monotonic() + BOUND_S
        while recorder.counts().written < number and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        assert len(stored(path)) == number


def test_who_waits_for_rows_waits_for_no_window_after_the_store_was_locked(path, recorder, monkeypatch):
    monkeypatch.setattr(module, "WINDOW_S", 1_000)
    with locked(path):
        recorder.record(row(1))
        tries, write = threading.Semaphore(0), BatchWriter.write
        monkeypatch.setattr(BatchWriter, "write", lambda *given: tries.release() or write(*given))
        done = []
        waiting = [threading.Thread(target=lambda: done.append(recorder.flush(BOUND_S))) for _ in range(2)]
        for thread in waiting:  # the second one's ring is taken for one to try again
            thread.start()
            assert all(tries.acquire(timeout=BOUND_S) for _ in range(3))
    for thread in waiting:
        thread.join()
    assert done == [True, True]
    assert stored(path) == {"r1"}


def test_who_waits_is_not_counted_as_a_request(path, recorder, monkeypatch, caplog):
    monkeypatch.setattr(module, "_TOLD_AFTER_S", 0)
    caplog.set_level(logging.WARNING)
    with locked(path):
        recorder.record(row(1))
        waiting = [threading.Thread(target=recorder.flush) for _ in range(3)]
        for thread in waiting:
            thread.start()
        while not caplog.messages and any(thread.is_alive() for thread in waiting):
            waiting[0].join(0.01)
        assert recorder.counts().waiting == 1
    for thread in waiting:
        thread.join(BOUND_S)
    (message,) = caplog.messages
    assert message.endswith(" 1 requests wait to be recorded.")
    assert recorder.counts() == Counts(1, 0, {})


def test_making_rows_lets_others_go_on(path, recorder, monkeypatch):
    slept = []
    monkeypatch.setattr(batches.time, "sleep", slept.append)
    for number in range(50):
        recorder.record(lambda number=number: row(number))
    assert recorder.flush(BOUND_S)
    assert len(stored(path)) == 50
    assert 0 < len(slept) <= 10


def test_nothing_is_opened_before_the_first_row(path):
    before = threading.active_count()
    recorder = Recorder(path)
    assert recorder.flush()
    assert threading.active_count() == before
    assert recorder.close()
    assert not path.exists()


def test_many_threads_record_at_once(path, recorder):
    def record(thread):
        for number in range(1000):
            recorder.record(row(thread * 1000 + number))

    threads = [threading.Thread(target=record, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.flush(BOUND_S)
    assert len(stored(path)) == 8000


def test_an_id_that_is_known_is_left_out_and_not_lost(path, recorder):
    for _ in range(2):
        recorder.record(row(7))
        recorder.record(row(7))
        assert recorder.flush(BOUND_S)
    assert recorder.counts() == Counts(1, 0, {})
    assert sums(path)[:2] == (1, 7)


ODD = {
    "a negative count": (row(1, usage=Usage(audio_ms=-1)), "audio_ms out of range"),
    "an absurd cost": (request_record(cost_nanousd=10**13), "cost_nanousd out of range"),
    "a cost beyond any integer": (request_record(cost_nanousd=10**30), "cost_nanousd out of range"),
    "an infinite cost": (request_record(cost_nanousd=math.inf), "cost_nanousd out of range"),
    "a cost that is no number": (request_record(cost_nanousd=math.nan), "cost_nanousd out of range"),
    "a fraction of a token": (row(1, usage=Usage(input_tokens=1.5)), "input_tokens out of range"),
    "a time before 1970": (row(1, timestamp_ms=-1), "timestamp_ms out of range"),
    "a time of the year 2200": (row(1, timestamp_ms=7_258_118_400_000), "timestamp_ms out of range"),
    "a time in microseconds": (row(1, timestamp_ms=NOW * 1000), "timestamp_ms out of range"),
    "a time that is no number": (row(1, timestamp_ms=math.nan), "timestamp_ms out of range"),
    "no row at all": (None, "not a request (AttributeError)"),
    "a model without a name": (row(1, model_id=None), "not a request (AttributeError)"),
    "an unknown modality": (row(1, modality="smell"), "not a request (KeyError)"),
    "text for a count": (row(1, usage=Usage(characters="many")), "not a request (TypeError)"),
    "text for a latency": (row(1, ttfb_ms="fast"), "not a request (TypeError)"),
    "an object for a flag": (row(1, estimated="perhaps"), "not a request (ValueError)"),
}


@pytest.mark.parametrize("case", ODD)
def test_a_row_that_cannot_be_stored_is_dropped_alone_and_counted(path, recorder, case):
    odd, reason = ODD[case]
    for number in range(100, 120):
        recorder.record(row(number))
    recorder.record(odd)
    for number in range(120, 140):
        recorder.record(row(number))
    assert recorder.flush(BOUND_S)
    assert stored(path) == {f"r{number}" for number in range(100, 140)}
    assert sums(path)[:2] == (40, sum(range(100, 140)))
    assert recorder.counts() == Counts(40, 0, {reason: 1})
    assert told(path) == {reason: 1}


def test_every_second_row_being_bad_costs_the_others_nothing(path, recorder):
    for number in range(600):
        recorder.record(row(number, timestamp_ms=NOW if number % 2 else -NOW))
    assert recorder.flush(BOUND_S)
    assert recorder.counts() == Counts(300, 0, {"timestamp_ms out of range": 300})
    assert told(path) == {"timestamp_ms out of range": 300}


def test_latencies_that_are_none_are_stored_as_not_measured(path, recorder):
    for number, latency in enumerate((math.nan, math.inf, -1.0, -0.5, 1e7 + 1, None)):
        recorder.record(row(number, ttfb_ms=latency, total_ms=latency))
    recorder.record(row(6, ttfb_ms=1.0, total_ms=2.0))
    assert recorder.flush(BOUND_S)
    assert sums(path) == (7, sum(range(7)), 1, 1)


def test_a_clock_that_steps_back_a_day_or_ahead_loses_nothing(path):
    clock = iter([NOW, NOW - DAY, NOW + DAY, NOW, NOW, NOW])
    with Recorder(path, now_ms=lambda: next(clock, NOW)) as recorder:
        for number, offset in enumerate((0, -DAY, 10 * 365 * DAY, 1, -1)):
            recorder.record(row(number, timestamp_ms=NOW + offset))
            assert recorder.flush(BOUND_S)
    assert len(stored(path)) == 5
    assert sums(path)[:2] == (5, 10)


def test_a_locked_store_delays_rows_and_the_caller_never_notices(path, recorder, caplog, monkeypatch):
    monkeypatch.setattr(module, "_TOLD_AFTER_S", 0)
    with locked(path) as other:
        for number in range(1500):
            recorder.record(row(number))
        assert not recorder.flush(1.2)
        assert recorder.counts().waiting >= 1500
        other.execute("COMMIT")
        assert recorder.flush(BOUND_S)
    assert len(stored(path)) == 1500
    assert recorder.counts() == Counts(1500, 0, {})
    assert len([message for message in caplog.messages if "is locked by another program" in message]) == 1


def test_a_full_queue_drops_the_newest_rows_and_the_store_tells_of_them(path):
    with locked(path) as other, Recorder(path, most_waiting=100) as recorder:
        recorder.record(row(0))
        deadline = time.monotonic() + BOUND_S
        while recorder._in_hand == 0 and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        for number in range(1, 151):
            recorder.record(row(number))
        other.execute("ROLLBACK")
        assert recorder.flush(BOUND_S)
        assert stored(path) == {f"r{number}" for number in range(101)}
        assert recorder.counts() == Counts(101, 0, {module._QUEUE_FULL: 50})
        assert told(path) == {module._QUEUE_FULL: 50}


def test_closing_gives_up_on_a_store_that_stays_locked_and_counts_the_rows(path, caplog):
    recorder = Recorder(path)
    with locked(path):
        for number in range(3000):
            recorder.record(row(number))
        assert not recorder.close(0.3)
        assert not recorder.close()
    assert recorder.counts() == Counts(0, 0, {module._UNWRITTEN: 3000})
    assert stored(path) == set()
    [last] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert last.message.startswith("3000 requests were not recorded: The store ")
    assert "is locked by another program." in last.message


def test_a_thread_that_hangs_is_not_waited_for_forever(path, monkeypatch):
    monkeypatch.setattr(module, "_GRACE_S", 0.1)
    hanging, going_on = threading.Event(), threading.Event()

    def hang(*_arguments):
        hanging.set()
        going_on.wait(BOUND_S)
        raise OSError

    monkeypatch.setattr(module.BatchWriter, "write", hang)
    recorder = Recorder(path)
    recorder.record(row(1))
    assert hanging.wait(BOUND_S)
    recorder.record(row(2))
    thread = recorder._thread
    try:
        assert not recorder.close(0.1)
        assert recorder.counts().lost == {module._UNWRITTEN: 1}
    finally:
        going_on.set()
        thread.join(BOUND_S)
    assert recorder.counts() == Counts(0, 0, {module._UNWRITTEN: 2})


def test_closing_waits_for_a_slow_store_as_long_as_it_takes_rows(path, monkeypatch):
    write = module.BatchWriter.write

    def slowly(writer, *arguments):
        threading.Event().wait(0.25)
        return write(writer, *arguments)

    monkeypatch.setattr(module.BatchWriter, "write", slowly)
    monkeypatch.setattr(module, "_LARGEST_BATCH", 10)
    monkeypatch.setattr(module, "_GRACE_S", 1.0)
    recorder = Recorder(path)
    for number in range(100):
        recorder.record(row(number))
    assert recorder.close(0.01)
    assert recorder.counts() == Counts(100, 0, {})
    assert len(stored(path)) == 100


def test_rows_after_the_end_are_counted(path, recorder):
    recorder.record(row(1))
    assert recorder.close()
    recorder.record(row(2))
    assert recorder.flush()
    assert recorder.counts() == Counts(1, 0, {module._AFTER_END: 1})
    assert stored(path) == {"r1"}


def test_a_row_that_comes_in_the_moment_of_closing_is_counted(recorder):
    class Late:
        """Takes the row only after the recorder was closed."""

        qsize = recorder._queue.qsize

        def put(self, late, queue=recorder._queue):
            recorder._queue = queue
            assert recorder.close()
            queue.put(late)

    recorder._queue = Late()
    recorder.record(row(1))
    assert recorder.counts() == Counts(0, 0, {module._AFTER_END: 1})


def test_a_disk_that_is_full_is_tried_again(path, recorder, monkeypatch):
    recorder.record(row(0))
    assert recorder.flush(BOUND_S)
    insert = module.BatchWriter.write

    def on_a_full_disk(writer, *arguments):
        connection = writer._open()
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return insert(writer, *arguments)

    monkeypatch.setattr(module.BatchWriter, "write", on_a_full_disk)
    for number in range(1, 1000):
        recorder.record(row(number, error_message="x" * 500))
    assert not recorder.flush(0.5)
    assert "is full" in recorder._trouble
    monkeypatch.setattr(module.BatchWriter, "write", insert)
    assert recorder.flush(BOUND_S)
    assert recorder.counts() == Counts(1000, 0, {})
    assert len(stored(path)) == 1000


def test_a_store_that_was_deleted_is_made_anew_and_no_row_goes_into_the_old_one(path, recorder):
    recorder.record(row(1))
    assert recorder.flush(BOUND_S)
    for file in path.parent.iterdir():
        file.unlink()
    recorder.record(row(2))
    assert recorder.flush(BOUND_S)
    recorder.record(row(3))
    assert recorder.flush(BOUND_S)
    assert stored(path) == {"r2", "r3"}


def test_a_store_that_was_replaced_takes_the_rows_from_then_on(path, recorder):
    recorder.record(row(1))
    assert recorder.flush(BOUND_S)
    other = path.with_name("other.db")
    with Recorder(other) as aside:
        aside.record(row(100))
    for name in ("voicegw.db-wal", "voicegw.db-shm"):
        path.with_name(name).unlink()
    other.replace(path)
    recorder.record(row(2))
    assert recorder.flush(BOUND_S)
    assert stored(path) == {"r100", "r2"}


def test_a_file_that_is_no_store_leaves_the_rows_waiting_until_it_is_taken_away(
    path, recorder, caplog, monkeypatch
):
    monkeypatch.setattr(module, "_TOLD_AFTER_S", 0)
    path.write_bytes(b"no store" * 1000)
    recorder.record(row(1))
    assert not recorder.flush(0.5)
    path.unlink()
    assert recorder.flush(BOUND_S)
    assert stored(path) == {"r1"}
    assert "is damaged or is not a SQLite file" in caplog.text


def test_a_damaged_histogram_holds_rows_back_instead_of_dropping_them(path, recorder):
    recorder.record(row(1, ttfb_ms=5.0))
    assert recorder.flush(BOUND_S)
    with contextlib.closing(connect(path, timeout_s=5)) as connection:
        connection.execute("CREATE TABLE aside AS SELECT * FROM histogram")
        connection.execute("UPDATE histogram SET ttfb = x'09'")
        recorder.record(row(2, ttfb_ms=5.0))
        assert not recorder.flush(0.5)
        assert "damaged" in recorder._trouble
        connection.execute("DELETE FROM histogram")
        connection.execute("INSERT INTO histogram SELECT * FROM aside")
    assert recorder.flush(BOUND_S)
    assert sums(path) == (2, 3, 2, 0)


def test_a_store_of_voicegateway_is_left_alone(path):
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE requests (id TEXT, timestamp TEXT)")
        other.commit()
    before = path.read_bytes()
    with Recorder(path) as recorder:
        recorder.record(row(1))
    assert path.read_bytes() == before
    assert stored(path.with_name("voicegw-mcp.db")) == {"r1"}


def test_losses_of_last_month_are_forgotten(path):
    clock = [NOW]
    for _ in range(2):
        with Recorder(path, now_ms=lambda: clock[0]) as recorder:
            recorder.record(row(1, timestamp_ms=-1))
        clock[0] += 30 * DAY
    with contextlib.closing(connect(path, timeout_s=5)) as connection:
        assert connection.execute("SELECT requests, first_ms, last_ms FROM lost").fetchall() == [
            (1, NOW + 30 * DAY, NOW + 30 * DAY)
        ]


def test_without_a_thread_the_rows_are_written_at_the_end(path, monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    recorder = Recorder(path)
    recorder.record(row(1))
    recorder.record(row(2))
    assert not recorder.flush(0.01)
    assert recorder.close()
    assert stored(path) == {"r1", "r2"}


def test_a_thread_that_cannot_go_on_is_no_reason_for_an_error_in_the_caller(path, monkeypatch, caplog):
    def fail(*_arguments):
        raise MemoryError

    monkeypatch.setattr(module.BatchWriter, "write", fail)
    recorder = Recorder(path)
    recorder.record(row(1))
    assert not recorder.close(0.2)
    assert caplog.messages == ["1 requests were not recorded: Recording failed (MemoryError)."]


@pytest.fixture
def sigterm():
    """Calls of the program's own handler."""
    calls = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: calls.append(number))
    yield calls
    signal.signal(signal.SIGTERM, before)


def test_the_program_s_own_handler_is_called_after_the_rows_are_written(path, sigterm):
    own = signal.getsignal(signal.SIGTERM)
    with Recorder(path) as recorder:
        recorder.record(row(1))
        os.kill(os.getpid(), signal.SIGTERM)
        assert sigterm == [signal.SIGTERM]
        assert stored(path) == {"r1"}
        recorder.record(row(2))
    assert stored(path) == {"r1", "r2"}
    assert signal.getsignal(signal.SIGTERM) is own


def test_a_handler_that_came_later_stays(path, sigterm):
    with Recorder(path):
        later = signal.signal(signal.SIGTERM, lambda *_: None) and signal.getsignal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is later
    assert sigterm == []


@pytest.mark.parametrize("way", ["ignored", "other thread", "not asked for"])
def test_sigterm_is_left_alone(path, sigterm, way):
    if way == "ignored":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGTERM)
    made = []

    def make():
        made.append(Recorder(path, on_sigterm=way != "not asked for"))

    if way == "other thread":
        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
    else:
        make()
    assert signal.getsignal(signal.SIGTERM) == before
    made[0].close()
    assert sigterm == []


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.integers(1, 600)),
        st.tuples(st.just("flush"), st.just(0)),
        st.tuples(st.just("bad"), st.integers(1, 3)),
        st.tuples(st.just("again"), st.integers(1, 50)),
        st.tuples(st.just("close"), st.just(0)),
    ),
    max_size=5,
)


@settings(max_examples=25)
@given(threads=st.lists(ACTIONS, min_size=1, max_size=3))
def test_whatever_the_order_every_row_is_stored_once_or_counted_as_lost(threads, tmp_path_factory):
    path = tmp_path_factory.mktemp("recorder") / "voicegw.db"
    recorder = Recorder(path, on_sigterm=False)
    recorded = Counter()

    def act(who, actions):
        for step, (action, count) in enumerate(actions):
            if action == "flush":
                assert recorder.flush(BOUND_S)
            elif action == "close":
                recorder.close(BOUND_S)
            for number in range(count):
                name = f"{who}-again" if action == "again" else f"{who}-{step}-{number}"
                recorder.record(request_record(id=name, cost_nanousd=-1 if action == "bad" else 1))
                recorded[action] += 1

    workers = [threading.Thread(target=act, args=entry) for entry in enumerate(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(BOUND_S)
        assert not worker.is_alive()
    assert recorder.close(BOUND_S)
    counts = recorder.counts()
    found = stored(path) if path.exists() else set()
    assert (counts.written, counts.waiting) == (len(found), 0)
    once = sum(not name.endswith("again") for name in found)
    refused = counts.lost.get("cost_nanousd out of range", 0)
    late = counts.lost.get(module._AFTER_END, 0)
    assert counts.lost.keys() <= {"cost_nanousd out of range", module._AFTER_END}
    if not late:
        assert (once, refused) == (recorded["record"], recorded["bad"])
    if not recorded["again"]:
        assert once + refused + late == recorded.total()
    if path.exists():
        assert sums(path)[:2] == (len(found), len(found)) or not found
