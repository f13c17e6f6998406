"""Queries do not wait for each other, and leave nothing behind however they end."""

import sys
import threading
from functools import partial
from pathlib import Path

import anyio
import pytest
from tests.factories import DAY, NOW, request_record
from tests.held_state import held

from voicegw_mcp.errors import StoreUnavailable
from voicegw_mcp.store import reader, sqlite
from voicegw_mcp.store.reader import Reads
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.retention import prune_batch
from voicegw_mcp.store.sqlite import Store

COUNT = "SELECT COUNT(*) FROM series"
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
HANGS_S = 30
linux = pytest.mark.skipif(sys.platform != "linux", reason="open files are counted in /proc")


def open_files(store):
    """Return how often this process has the store's main file open."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found += descriptor.readlink() == store.path.resolve()
        except FileNotFoundError:  # the one of the listing itself
            continue
    return found


def ask(store, slow):
    return store.ask_slowly if slow else store.ask


async def give_up_soon(work):
    with anyio.move_on_after(0.02):
        await work


@pytest.mark.parametrize("slow", [True, False])
async def test_a_read_is_answered_while_others_never_end(store, slow):
    async with anyio.create_task_group() as tasks:
        # More than there are turns for quick ones; what turns out to be slow makes room.
        for _ in range(reader._MOST_QUICK + 2):
            tasks.start_soon(partial(ask(store, slow), Reads.read, ENDLESS))
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(HANGS_S):
            assert await store.read(COUNT) == [(0,)]
        tasks.cancel_scope.cancel()


async def test_known_slow_reads_wait_for_each_other(store):
    async with anyio.create_task_group() as tasks:
        for _ in range(reader._MOST_SLOW + 3):
            tasks.start_soon(store.ask_slowly, Reads.read, ENDLESS)
        await anyio.wait_all_tasks_blocked()
        assert len(store._busy) == reader._MOST_SLOW
        tasks.cancel_scope.cancel()


async def test_no_more_than_so_many_slow_reads_make_room(store, monkeypatch):
    monkeypatch.setattr(reader, "SLOW_AFTER_S", 0)
    monkeypatch.setattr(reader, "_MOST_ASIDE", 1)
    async with anyio.create_task_group() as tasks:
        for _ in range(reader._MOST_QUICK + 3):
            tasks.start_soon(store.read, ENDLESS)
        for _ in range(3):  # a turn begins, ends early, and makes room for one
            await anyio.wait_all_tasks_blocked()
        assert len(store._busy) == reader._MOST_QUICK + 1
        tasks.cancel_scope.cancel()
    # Every turn was given back.
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(store.read, COUNT)


@linux
async def test_a_hundred_cancelled_reads_leave_no_connection_and_no_thread(store):
    await store.read(COUNT)
    threads = threading.active_count()
    for number in range(100):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(partial(give_up_soon, ask(store, number % 2 == 0)(Reads.read, ENDLESS)))
    assert await store.read(COUNT) == [(0,)]
    assert not store._busy
    assert len(store._idle) <= reader._MOST_IDLE
    assert open_files(store) == len(store._idle)
    assert threading.active_count() - threads < reader._MOST_IDLE
    await store.close()
    assert open_files(store) == 0


@linux
async def test_closing_ends_the_reads_in_progress_and_those_that_wait(store):
    failures = []

    async def fail(slow):
        with pytest.raises(StoreUnavailable) as caught:
            await ask(store, slow)(Reads.read, ENDLESS)
        failures.append(caught.value.details["reason"])

    with anyio.fail_after(HANGS_S):
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(fail, number % 2 == 0)
            await anyio.wait_all_tasks_blocked()
            await store.close()
            assert open_files(store) == 0
    assert failures == ["closed"] * 10


@linux
async def test_a_retired_store_answers_to_the_end_and_stays_open_for_nobody(store):
    bound = await store.narrowed(frozenset({"p"}))
    async with held(store) as state, held(bound) as own:
        await store.retire()
        assert await state.read(COUNT) == await own.read(COUNT) == [(0,)]
    assert open_files(store) == 0
    assert await store.read(COUNT) == [(0,)]
    assert await (await store.narrowed(frozenset({"q"}))).read(COUNT) == [(0,)]
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.write(lambda connection: connection.execute("DELETE FROM series"))
    store.keep_running(lambda _transact: pytest.fail("a retired store writes nothing"))
    assert open_files(store) == 0


async def test_a_reader_of_some_projects_that_makes_room_for_others_goes_on(store, monkeypatch):
    monkeypatch.setattr(sqlite, "_MOST_NARROWED", 1)
    first = await store.narrowed(frozenset({"p"}))
    async with held(first) as state:
        second = await store.narrowed(frozenset({"q"}))
        assert await state.read(COUNT) == await second.read(COUNT) == [(0,)]
    assert await first.read(COUNT) == [(0,)]


async def test_a_reader_whose_connection_cannot_end_its_transaction_opens_another(store, monkeypatch):
    def fail(_connection):
        monkeypatch.undo()
        raise OSError

    monkeypatch.setattr(reader.Connection, "end", fail)
    with pytest.raises(StoreUnavailable):
        await store.read(COUNT)
    assert await store.read(COUNT) == [(0,)]
    assert not store._busy


async def test_rows_that_another_process_prunes_stay_to_the_end_of_a_snapshot(tmp_path):
    store, other = [await Store.open(tmp_path / "voicegw.db") for _ in range(2)]
    records = [request_record(id=f"r{n}", timestamp_ms=NOW - 9 * DAY) for n in range(20)]
    await store.write(partial(insert_requests, records=records))
    rows = "SELECT COUNT(*) FROM requests"
    async with held(store) as state:
        assert await state.read(rows) == [(20,)]
        assert await other.write(partial(prune_batch, before_ms=NOW)) == 19
        assert await state.read(rows) == [(20,)]
    assert await store.read(rows) == [(1,)]
    await store.close()
    await other.close()
