# Seeded generators make the same rows in every run.
# ruff: noqa: S311

import random
from itertools import pairwise

import pytest
from tests.factories import DAY, NOW, request_record

from voicegw_mcp.domain import Modality, RequestStatus, Usage
from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.store.histogram import Histogram
from voicegw_mcp.store.part_reading import read_parts
from voicegw_mcp.store.parts import SeriesCosts, SeriesHistograms, SeriesLatencies
from voicegw_mcp.store.requests import LogFilter, insert_requests, read_log
from voicegw_mcp.store.rollups import GRAINS_MS, cover, recorded_requests, recorded_span


async def put(store, *records):
    return await store.write(lambda connection: insert_requests(connection, records))


async def read_series(store, kind):
    part = kind(0, NOW // DAY * DAY + 2 * DAY)
    return (await store.ask(read_parts, [part])).of(part)


async def test_a_row_comes_back_as_it_was_written(store):
    record = request_record(
        id="x",
        usage=Usage(1, 2, 3, 4, 5),
        cost_nanousd=7,
        price_source="override",
        price_date="2026-11-01",
        ttfb_ms=1.25,
        total_ms=2.5,
        session_id="s",
        status=RequestStatus.ERROR,
        error_kind="timeout",
        error_message="boom",
        fallback_from="a/b",
        estimated=True,
    )
    assert await put(store, record) == 1
    (row,) = await store.ask(read_log, LogFilter(), limit=5)
    assert row.usage() == record.usage
    assert (row.id, row.timestamp_ms, row.project, row.modality) == ("x", record.timestamp_ms, "p0", "stt")
    assert (row.provider, row.model_id, row.status, row.session_id) == ("v0", "v0/m", "error", "s")
    assert (row.cost_nanousd, row.price_source, row.price_date) == (7, "override", "2026-11-01")
    assert (row.ttfb_us, row.total_us, row.error_kind, row.error_message) == (1250, 2500, "timeout", "boom")
    assert (row.fallback_from, row.estimated) == ("a/b", 1)


async def test_ids_that_are_there_are_skipped_and_counted_nowhere(store):
    records = [request_record(id=f"r{n}", cost_nanousd=10, ttfb_ms=5) for n in range(1100)]
    assert await put(store, *records, records[0]) == 1100
    assert await put(store, *records[:3], request_record(id="new", cost_nanousd=1, ttfb_ms=5)) == 1
    assert await put(store) == 0
    assert await put(store, records[0]) == 0
    (spent,) = await read_series(store, SeriesCosts)
    assert (spent.requests, spent.cost_nanousd) == (1101, 11_001)
    (timed,) = await read_series(store, SeriesLatencies)
    assert timed.ttfb_count == 1101
    (spread,) = await read_series(store, SeriesHistograms)
    assert sum(Histogram(spread.ttfb).counts()) == 1101
    assert await store.ask(recorded_requests) == 1101
    assert len(await store.ask(read_log, LogFilter(), limit=2000)) == 1101


async def test_latencies_that_were_not_measured_are_absent(store):
    odd = (float("nan"), float("inf"), -1.0, 2e9, None)
    await put(store, *(request_record(id=f"{n}", ttfb_ms=ms, total_ms=0.0) for n, ms in enumerate(odd)))
    (sums,) = await read_series(store, SeriesLatencies)
    assert (sums.ttfb_count, sums.total_count, sums.total_sum_us) == (0, 5, 0)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("cost_nanousd", {"cost_nanousd": -1}),
        ("cost_nanousd", {"cost_nanousd": 10**30}),
        ("input_tokens", {"usage": Usage(input_tokens=-3)}),
        ("timestamp_ms", {"timestamp_ms": 10**18}),
    ],
)
async def test_absurd_numbers_are_refused_and_nothing_of_the_batch_is_kept(store, field, fields):
    with pytest.raises(InvalidInput) as caught:
        await put(store, request_record(id="good"), request_record(id="bad", **fields))
    assert caught.value.details["field"] == field
    assert await store.ask(read_log, LogFilter(), limit=5) == []
    assert await store.ask(recorded_span) is None


async def test_text_that_sqlite_does_not_take_is_kept_as_escapes(store):
    await put(
        store, request_record(id="a\ud800", project="p\0", session_id="é\udfff", error_message="x" * 5000)
    )
    (row,) = await store.ask(read_log, LogFilter(project="p\0", session_id="é\udfff"), limit=5)
    assert (row.id, row.project, row.session_id) == ("a\\ud800", "p\\x00", "é\\udfff")
    assert len(row.error_message) == 2000
    assert await put(store, request_record(id="a\ud800")) == 0


async def test_the_recorded_span_is_whole_quarter_hours(store):
    await put(store, request_record(id="a", timestamp_ms=NOW), request_record(id="b", timestamp_ms=NOW + DAY))
    start, end = await store.ask(recorded_span)
    assert start <= NOW < start + 900_000
    assert end - 900_000 <= NOW + DAY < end


def rows_of(rng, count):
    for n in range(count):
        status = rng.choice([*RequestStatus, *[RequestStatus.SUCCESS] * 5])
        yield request_record(
            id=f"id{n}",
            timestamp_ms=NOW + rng.randrange(40) * 1000,
            project=f"p{rng.randrange(3)}",
            modality=rng.choice(list(Modality)),
            provider=f"v{rng.randrange(2)}",
            model_id=f"m{rng.randrange(3)}",
            status=status,
            session_id=rng.choice([None, "s1", "s2"]),
            total_ms=rng.choice([None, 10.0, 500.0]),
            cost_nanousd=rng.choice([None, 1, 1000]),
            error_message="Rate LIMIT 100%_\\" if status is RequestStatus.ERROR else None,
        )


async def test_paging_has_no_gap_and_no_repeat_while_rows_come_in(store):
    rng = random.Random(1)
    records = list(rows_of(rng, 200))
    await put(store, *records)
    seen, after = [], None
    # The late rows stop after a while, or a page behind them would never be the last.
    for late in range(100):
        page = await store.ask(read_log, LogFilter(), limit=9, after=after)
        if not page:
            break
        seen += [row.id for row in page]
        after = (page[-1].timestamp_ms, page[-1].seq)
        await put(store, request_record(id=f"late{late}", timestamp_ms=NOW + rng.randrange(40) * 1000))
    assert len(seen) == len(set(seen))
    assert {record.id for record in records} <= set(seen)


def test_a_cover_tiles_its_window_with_whole_cells():
    rng = random.Random(2)
    for _ in range(500):
        start = rng.randrange(10**12)
        end = start + rng.randrange(1, rng.choice([10**5, 10**7, 10**9, 10**11]))
        largest = rng.choice(GRAINS_MS)
        spans = sorted(cover(start, end, largest_ms=largest), key=lambda span: span.start_ms)
        assert all(span.start_ms % span.grain_ms == span.end_ms % span.grain_ms == 0 for span in spans)
        assert all(span.grain_ms <= largest for span in spans)
        assert all(a.end_ms == b.start_ms for a, b in pairwise(spans))
        assert spans[0].start_ms == start // 900_000 * 900_000
        assert spans[-1].end_ms == -(-end // 900_000) * 900_000
    assert cover(900_000, 900_000) == []
