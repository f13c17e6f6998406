"""What a report reads is compared with the finer sums inside; what it does not read is not its business."""

import contextlib
import itertools
from functools import partial

import pytest
from tests.factories import request_record

from voicegw_mcp.core.periods import LocalBuckets
from voicegw_mcp.domain import DAY_MS, QUARTER_MS
from voicegw_mcp.errors import StoreUnavailable
from voicegw_mcp.store import agreement
from voicegw_mcp.store.part_reading import read_parts
from voicegw_mcp.store.parts import SeriesCosts, TimedCosts
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.rollups import EIGHT_DAYS_MS, HOUR_MS, recorded_requests, recorded_span
from voicegw_mcp.store.schema import connect
from voicegw_mcp.store.sqlite import Store

HANGS_S = 30
START = 2_000 * EIGHT_DAYS_MS
PLACES = [START + 3 * QUARTER_MS, START + 5 * DAY_MS, START + EIGHT_DAYS_MS + DAY_MS + 7 * HOUR_MS]


@pytest.fixture
async def path(tmp_path):
    """A store with rows in three places of two spans of eight days."""
    store = await Store.open(tmp_path / "voicegw.db")
    records = [
        request_record(id=f"r{place}{n}", timestamp_ms=place + n, cost_nanousd=10, project=f"p{n}")
        for place in PLACES
        for n in range(3)
    ]
    await store.write(partial(insert_requests, records=records))
    await store.close()
    return store.path


@contextlib.asynccontextmanager
async def damaged(path, statement):
    with contextlib.closing(connect(path, timeout_s=5)) as connection:
        assert connection.execute(statement).rowcount > 0
    store = await Store.open(path)
    try:
        yield store
    finally:
        await store.close()


async def is_refused(store, part):
    try:
        await store.ask(read_parts, [part])
    except StoreUnavailable as error:
        return error.details["reason"] == "damaged" and "contradict" in error.message
    return False


WHOLE = SeriesCosts(START, START + 2 * EIGHT_DAYS_MS)
FIRST_DAY = SeriesCosts(START, START + DAY_MS)
FIRST_HOUR = SeriesCosts(START, START + HOUR_MS)
FIRST_QUARTERS = SeriesCosts(START + QUARTER_MS, START + HOUR_MS)
SECOND_HALF = SeriesCosts(START + EIGHT_DAYS_MS, START + 2 * EIGHT_DAYS_MS)
SOUND = "UPDATE rollup SET cost_nanousd = cost_nanousd"
ALL = [WHOLE, FIRST_DAY, FIRST_HOUR, FIRST_QUARTERS, SECOND_HALF]


@pytest.mark.parametrize(
    ("grain_s", "refused"),
    [
        (691_200, [WHOLE]),
        (86_400, [WHOLE, FIRST_DAY]),
        (3_600, [FIRST_DAY, FIRST_HOUR, FIRST_QUARTERS]),
        (900, [FIRST_HOUR, FIRST_QUARTERS]),
    ],
)
@pytest.mark.parametrize(
    "damage",
    [
        "SET cost_nanousd = cost_nanousd + 1",
        "SET characters = 2",
        "SET total_sum_us = 1",
        "SET status = 'error'",
        "SET series_id = series_id + 10",
        "SET bucket_ms = bucket_ms + 8",
        "SET requests = 'x'",
        "SET grain_s = grain_s + 1",
    ],
)
async def test_a_report_is_refused_whose_cells_are_not_the_sums_of_finer_ones(path, grain_s, refused, damage):
    cells = f"WHERE grain_s = {grain_s} AND bucket_ms < {START + HOUR_MS} AND series_id = 1"
    async with damaged(path, f"UPDATE rollup {damage} {cells}") as store:
        assert [part for part in ALL if await is_refused(store, part)] == refused
        # It stays so: what was refused is not remembered as compared.
        assert [part for part in ALL if await is_refused(store, part)] == refused


async def test_hours_and_days_of_a_report_by_time_are_compared(path):
    hours = LocalBuckets("UTC", "hour")
    part = TimedCosts(START, START + 2 * DAY_MS, hours, HOUR_MS)
    async with damaged(path, SOUND) as store:
        assert not await is_refused(store, part)
    async with damaged(path, "UPDATE rollup SET cost_nanousd = 3 WHERE grain_s = 900") as store:
        assert await is_refused(store, part)


async def test_what_was_compared_is_not_compared_again(path):
    async with damaged(path, SOUND) as store:
        assert not await is_refused(store, WHOLE)
        await store.write(
            lambda connection: connection.execute("UPDATE rollup SET cost_nanousd = 1 WHERE grain_s = 86400")
        )
        values = await store.ask(read_parts, [WHOLE])
        assert [row.cost_nanousd for row in values.of(WHOLE)] == [30] * 3


async def test_many_places_are_compared_in_several_statements(path, monkeypatch):
    monkeypatch.setattr(agreement, "_MOST_RUNS", 2)
    parts = [
        SeriesCosts(place // HOUR_MS * HOUR_MS, place // HOUR_MS * HOUR_MS + HOUR_MS) for place in PLACES
    ]
    async with damaged(path, SOUND) as store:
        await store.ask(read_parts, parts)
    last = f"grain_s = 900 AND bucket_ms >= {PLACES[2]}"
    async with damaged(path, f"UPDATE rollup SET cost_nanousd = 1 WHERE {last}") as store:
        with pytest.raises(StoreUnavailable, match="contradict"):
            await store.ask(read_parts, parts)


@pytest.mark.parametrize(
    "damage",
    [
        f"DELETE FROM rollup WHERE grain_s = 691200 AND bucket_ms = {START}",
        f"UPDATE rollup SET bucket_ms = bucket_ms + 1 WHERE grain_s = 691200 AND bucket_ms = {START}",
        f"DELETE FROM rollup WHERE grain_s = 86400 AND bucket_ms = {START}",
        f"DELETE FROM rollup WHERE grain_s = 3600 AND bucket_ms = {START}",
        f"UPDATE rollup SET bucket_ms = bucket_ms + 900000 WHERE grain_s = 900 AND bucket_ms < {START + DAY_MS}",
        f"UPDATE rollup SET bucket_ms = bucket_ms + 64 WHERE grain_s = 900 AND bucket_ms > {START + DAY_MS}",
    ],
)
async def test_the_recorded_span_is_refused_when_a_cell_at_its_edge_is_lost(path, damage):
    async with damaged(path, damage) as store:
        with pytest.raises(StoreUnavailable, match="contradict"):
            await store.ask(recorded_span)


async def test_the_number_of_requests_is_refused_when_days_count_others(path):
    async with damaged(path, "UPDATE rollup SET requests = 7 WHERE grain_s = 86400") as store:
        with pytest.raises(StoreUnavailable, match="contradict"):
            await store.ask(recorded_requests)


async def test_a_reader_of_some_projects_finds_its_own_span(path):
    store = await Store.open(path)
    await store.write(
        partial(
            insert_requests,
            records=[request_record(id="own", timestamp_ms=PLACES[1] + HOUR_MS, project="q")],
        )
    )
    bound = await store.narrowed(frozenset({"q"}))
    assert await bound.ask(recorded_span) == (PLACES[1] + HOUR_MS, PLACES[1] + HOUR_MS + QUARTER_MS)
    assert await store.ask(recorded_span) == (PLACES[0], PLACES[2] + QUARTER_MS)
    assert (await bound.ask(recorded_requests), await store.ask(recorded_requests)) == (1, 10)
    assert await (await store.narrowed(frozenset({"none"}))).ask(recorded_span) is None
    await store.close()


@pytest.mark.parametrize("grain_s", [900, 3_600, 86_400, 691_200])
@pytest.mark.parametrize(
    "damage", ["SET cost_nanousd = cost_nanousd + 1", "SET bucket_ms = bucket_ms + 8", "SET grain_s = 7"]
)
async def test_what_no_report_reads_is_compared_in_time(path, grain_s, damage):
    async with damaged(path, f"UPDATE rollup {damage} WHERE grain_s = {grain_s} AND series_id = 2") as store:
        with pytest.raises(StoreUnavailable, match="contradict"):
            await store.ask(store.shared.agreed.require_more, HANGS_S)


async def test_comparing_goes_on_where_it_stopped_and_ends(path, monkeypatch):
    asked = []
    compare = agreement._compare

    def counting(reads, runs):
        asked.append(runs)
        compare(reads, runs)

    monkeypatch.setattr(agreement, "_compare", counting)
    # Each call has time for one day.
    clock = itertools.count()
    monkeypatch.setattr(agreement, "monotonic", lambda: next(clock))
    async with damaged(path, SOUND) as store:
        for days in (1, 2, 3, 4, 4, 4):
            await store.ask(store.shared.agreed.require_more, 1.5)
            assert len(asked) == days
        assert not await is_refused(store, WHOLE)
    hours = [run.start_ms for runs in asked[:4] for run in runs if run.grain_ms == HOUR_MS]
    assert hours == [START + number * DAY_MS for number in (9, 8, 5, 0)]
