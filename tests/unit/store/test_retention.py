# Seeded generators make the same rows in every run.
# ruff: noqa: S311

import random
from functools import partial

import pytest
from hypothesis import given, settings, strategies as st
from tests.factories import DAY, NOW, request_record
from tests.held_state import held

from voicegw_mcp.core.costs import costs
from voicegw_mcp.core.latency import latency
from voicegw_mcp.core.periods import resolve_window
from voicegw_mcp.domain import Modality, RequestStatus, Usage
from voicegw_mcp.store.log_tail import LogTails
from voicegw_mcp.store.requests import LogFilter, insert_requests, read_log
from voicegw_mcp.store.retention import (
    BATCH_ROWS,
    count_old,
    horizon_for,
    insert_imported,
    prune_batch,
    pruned_before,
)
from voicegw_mcp.store.sqlite import Store

TODAY = NOW // DAY * DAY


def some_rows(rng, count=200):
    return [
        request_record(
            id=f"r{number}",
            timestamp_ms=NOW - rng.randrange(12 * DAY),
            project=f"p{rng.randrange(3)}",
            modality=rng.choice(list(Modality)),
            provider=f"v{rng.randrange(3)}",
            model_id=f"m{rng.randrange(4)}",
            status=rng.choice(list(RequestStatus)),
            usage=Usage(*(rng.randrange(1000) for _ in range(5))),
            cost_nanousd=rng.choice([None, rng.randrange(10**9)]),
            ttfb_ms=rng.choice([None, rng.uniform(1, 3000)]),
            total_ms=rng.uniform(1, 9000),
            session_id=rng.choice([None, f"s{rng.randrange(9)}"]),
        )
        for number in range(count)
    ]


async def reports(store):
    """Every report there is that does not need rows."""
    found = []
    for period, zone in (("all", "UTC"), ("last_7d", "Asia/Kathmandu"), ("month", "America/New_York")):
        window = resolve_window(
            period=period, start=None, end=None, timezone=zone, now_ms=NOW, earliest_ms=NOW - 13 * DAY
        )
        groups = (None, "provider", "model", "project", "modality", "day", "hour", "status")
        found += [await store.ask(costs, window, group_by=group, compare_previous=True) for group in groups]
        found += [await store.ask(latency, window, group_by=group) for group in groups[:4]]
    return found


async def prune_all(store, before_ms):
    done = 0
    while count := await store.write(partial(prune_batch, before_ms=before_ms)):
        done += count
    return done


@pytest.mark.unmeasured
@given(seed=st.integers(0, 2**32), days=st.integers(1, 12))
@settings(max_examples=8)
def test_every_report_is_the_same_before_and_after_pruning(tmp_path_factory, seed, days):
    import anyio

    async def work():
        store = await Store.open(tmp_path_factory.mktemp("store") / "voicegw.db")
        try:
            rows = some_rows(random.Random(seed))
            await store.write(partial(insert_requests, records=rows))
            before = await reports(store)
            horizon = horizon_for(days, NOW)
            old = sum(row.timestamp_ms < horizon for row in rows)
            assert await prune_all(store, horizon) in {old, old - 1}
            assert await reports(store) == before
            left = await store.ask(read_log, LogFilter(), limit=500)
            assert len([row for row in left if row.timestamp_ms < horizon]) <= 1
        finally:
            await store.close()

    anyio.run(work)


def test_the_horizon_is_the_start_of_a_day_at_least_so_many_days_ago():
    assert horizon_for(1, NOW) == TODAY - DAY
    assert horizon_for(1, TODAY) == TODAY - DAY
    assert horizon_for(10**6, NOW) == 0


async def test_a_batch_takes_the_oldest_rows_and_no_more_than_it_may(store):
    rows = [request_record(id=f"{n}", timestamp_ms=NOW - 5 * DAY - n) for n in reversed(range(30))]
    await store.write(partial(insert_requests, records=rows))
    assert await store.write(partial(prune_batch, before_ms=TODAY, most=10)) == 10
    left = await store.ask(read_log, LogFilter(order="oldest"), limit=50)
    assert {row.id for row in left} == {f"{n}" for n in range(20)}
    assert await store.write(partial(count_old, before_ms=TODAY)) == 19


async def test_the_horizon_is_remembered_and_never_moves_back(store):
    assert await store.write(pruned_before) == 0
    rows = [request_record(id=f"{n}", timestamp_ms=NOW - 5 * DAY) for n in range(5)]
    await store.write(partial(insert_requests, records=rows))
    await store.write(partial(prune_batch, before_ms=TODAY - DAY, most=1))
    await store.write(partial(prune_batch, before_ms=TODAY - 2 * DAY, most=1))
    assert await store.write(pruned_before) == TODAY - DAY


async def test_pruning_nothing_leaves_the_horizon_alone(store):
    assert await store.write(partial(prune_batch, before_ms=TODAY)) == 0
    assert await store.write(pruned_before) == 0


async def test_a_row_that_was_pruned_is_not_counted_again_when_it_is_imported_again(store):
    rows = [request_record(id=f"{n}", timestamp_ms=NOW - n * DAY, cost_nanousd=10) for n in range(10)]
    rows.append(request_record(id="last", cost_nanousd=1))
    assert await store.write(partial(insert_imported, records=rows)) == (11, 0)
    before = await reports(store)
    await prune_all(store, TODAY - 3 * DAY)
    added, too_old = await store.write(partial(insert_imported, records=rows))
    assert (added, too_old) == (0, sum(row.timestamp_ms < TODAY - 3 * DAY for row in rows))
    assert await reports(store) == before


async def test_a_row_recorded_with_an_old_time_is_counted_and_pruned_like_any_other(store):
    await store.write(partial(insert_requests, records=[request_record(id="a", timestamp_ms=NOW - 9 * DAY)]))
    await store.write(partial(insert_requests, records=[request_record(id="b")]))
    assert await prune_all(store, TODAY) == 1
    late = request_record(id="c", timestamp_ms=NOW - 9 * DAY)
    assert await store.write(partial(insert_requests, records=[late, request_record(id="d")])) == 2
    assert await prune_all(store, TODAY) == 1
    window = resolve_window(
        period="all", start=None, end=None, timezone="UTC", now_ms=NOW, earliest_ms=NOW - 13 * DAY
    )
    report = await store.ask(costs, window, group_by="status")
    assert report.groups[0].requests == 4


async def test_numbers_go_on_after_everything_was_pruned(store):
    rows = [request_record(id=f"{n}", timestamp_ms=NOW - 9 * DAY) for n in range(5)]
    await store.write(partial(insert_requests, records=rows))
    assert await prune_all(store, TODAY) == 4
    await store.write(partial(insert_requests, records=[request_record(id="new")]))
    await LogTails().wait(store, store, 5)  # returns: the new row has a higher number
    assert [row.seq for row in await store.ask(read_log, LogFilter(), limit=5)] == [6, 5]


async def test_sessions_of_pruned_rows_are_missing_and_the_answer_says_so(store):
    rows = [
        request_record(id=f"{n}", timestamp_ms=NOW - n * DAY, cost_nanousd=5, session_id=f"s{n}")
        for n in range(6)
    ]
    await store.write(partial(insert_requests, records=rows[::-1]))
    window = resolve_window(
        period="all", start=None, end=None, timezone="UTC", now_ms=NOW, earliest_ms=NOW - 13 * DAY
    )
    whole = await store.ask(costs, window, group_by="session")
    assert (len(whole.groups), whole.truncated) == (6, None)
    await prune_all(store, TODAY - 2 * DAY)
    part = await store.ask(costs, window, group_by="session")
    assert (len(part.groups), part.truncated, part.total_usd) == (3, True, whole.total_usd)


async def test_a_query_in_progress_sees_the_rows_another_process_prunes_meanwhile(tmp_path):
    reading = await Store.open(tmp_path / "voicegw.db")
    pruning = await Store.open(tmp_path / "voicegw.db")
    try:
        rows = [request_record(id=f"{n}", timestamp_ms=NOW - 5 * DAY - n, cost_nanousd=3) for n in range(900)]
        await reading.write(partial(insert_requests, records=rows))
        async with held(reading) as reads:
            first = await reads.ask(read_log, LogFilter(), limit=10)
            assert await prune_all(pruning, TODAY) == 899
            rest = await reads.ask(
                read_log, LogFilter(), limit=1000, after=(first[-1].timestamp_ms, first[-1].seq)
            )
        assert len(first) + len(rest) == 900
        assert len(await reading.ask(read_log, LogFilter(), limit=1000)) == 1
    finally:
        await reading.close()
        await pruning.close()


@pytest.mark.parametrize("closing", [False, True])
async def test_rounds_in_the_writer_thread_let_other_writes_in_between_and_end_with_the_store(store, closing):
    import threading

    begun, go_on = threading.Event(), threading.Event()
    order = []

    def step(transact):
        order.append("round")
        begun.set()
        assert go_on.wait(10)
        transact(lambda connection: connection.execute("SELECT 1"))
        return len(order) < 6

    store.keep_running(step)
    import anyio

    await anyio.to_thread.run_sync(begun.wait)
    async with anyio.create_task_group() as tasks:
        if closing:
            tasks.start_soon(store.close)
        else:
            tasks.start_soon(store.write, lambda _: order.append("write"))
        await anyio.wait_all_tasks_blocked()
        go_on.set()
    if not closing:
        await store.write(lambda _: None)
        assert order[:2] == ["round", "write"]
        await store.close()
    else:
        assert order == ["round"]
    store.keep_running(step)
    assert BATCH_ROWS <= 1000
