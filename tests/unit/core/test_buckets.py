"""The newest local hours and days of any window are found, however long it is and however little it holds."""

from datetime import UTC, datetime
from functools import partial

import pytest
from tests.factories import DAY, request_record

from voicegw_mcp.core import buckets
from voicegw_mcp.core.costs import costs
from voicegw_mcp.core.latency import latency
from voicegw_mcp.core.periods import iso, newest_spans
from voicegw_mcp.domain import Window
from voicegw_mcp.store import part_reading
from voicegw_mcp.store.requests import insert_requests

HOUR = 3_600_000
FROM = int(datetime(2016, 1, 1, tzinfo=UTC).timestamp() * 1000)
CENTURIES = Window("custom", 900_000, 7_258_000_000_000 // 900_000 * 900_000, "Asia/Kathmandu")


@pytest.fixture
async def store(gateway):
    return await gateway.store()


async def put(store, moments):
    await store.write(
        partial(
            insert_requests,
            records=[
                request_record(id=f"r{moment}", timestamp_ms=moment, cost_nanousd=moment % 1000, ttfb_ms=5.0)
                for moment in moments
            ],
        )
    )


@pytest.fixture
def asked(monkeypatch):
    """How many parts were asked for each time."""
    asked = []
    reading = buckets.read_parts

    def read_parts(reads, parts):
        asked.append(len(parts))
        return reading(reads, parts)

    monkeypatch.setattr(buckets, "read_parts", read_parts)
    return asked


@pytest.mark.parametrize("unit", ["hour", "day"])
async def test_a_row_a_month_for_ten_years_is_found_in_two_centuries(store, unit):
    moments = [FROM + month * 30 * DAY + 7 * HOUR + 50 * 60_000 for month in range(120)]
    await put(store, moments)
    report = await store.ask(costs, CENTURIES, group_by=unit)
    assert [(group.cost, group.requests) for group in report.groups] == [
        (moment % 1000 / 1e9, 1) for moment in moments
    ]
    assert report.truncated is None
    assert report.groups[0].key == (
        "2016-01-01T13:00:00+05:45" if unit == "hour" else "2016-01-01T00:00:00+05:45"
    )
    report = await store.ask(latency, CENTURIES, group_by=unit)
    assert sum(group.request_count for group in report.groups) == len(report.groups) == 120


@pytest.mark.parametrize(("unit", "step"), [("hour", HOUR), ("day", DAY)])
async def test_only_the_newest_are_read_when_there_are_more_than_fit(store, asked, unit, step):
    count = 1500
    await put(store, [FROM + number * step for number in range(count)])
    report = await store.ask(costs, Window("custom", FROM, FROM + count * step, "UTC"), group_by=unit)
    assert report.truncated is True
    starts = [iso(FROM + number * step, "UTC") for number in range(count)]
    assert [group.key for group in report.groups] == starts[-len(report.groups) :]
    assert len(asked) == 1
    assert asked[0] < 75


async def test_an_empty_store_has_no_hours(store):
    assert (await store.ask(costs, CENTURIES, group_by="hour")).groups == []
    assert (await store.ask(latency, CENTURIES, group_by="day")).groups == []


async def test_an_hour_that_is_cut_where_the_last_one_of_utc_begins_is_one(store, monkeypatch):
    await put(store, [FROM + HOUR + minute * 60_000 for minute in range(0, 60, 10)])
    # 02:00 UTC is 07:45 in Kathmandu, and a quarter of an hour must have passed since.
    monkeypatch.setattr(part_reading.time, "time_ns", lambda: (FROM + HOUR + 20 * 60_000) * 1_000_000)
    window = Window("custom", FROM, FROM + 3 * HOUR, "Asia/Kathmandu")
    for unit, counts in (("hour", {"06:00": 2, "07:00": 4}), ("day", {"00:00": 6})):
        for report in (
            await store.ask(costs, window, group_by=unit),
            await store.ask(latency, window, group_by=unit),
        ):
            counted = [getattr(group, "requests", None) or group.request_count for group in report.groups]
            assert dict(zip([group.key[11:16] for group in report.groups], counted, strict=True)) == counts


@pytest.mark.parametrize(
    ("zone", "days", "whole", "count", "complete"),
    [
        ("UTC", 3, 1, 3, False),
        ("UTC", 30, 1, 11, True),
        ("UTC", 3, 8, 2, False),
        ("UTC", 11, 8, 3, True),
        ("Pacific/Apia", 30, 1, 11, True),
    ],
)
def test_the_newest_spans_of_a_window_are_whole_local_days(zone, days, whole, count, complete):
    start = int(datetime(2011, 12, 26, 3, tzinfo=UTC).timestamp() * 1000)
    spans, all_of_it = newest_spans(Window("", start, start + 10 * DAY, zone), days, whole=whole)
    assert (len(spans), all_of_it) == (count, complete)
    assert all(a < b for a, b in spans)
    assert [b for _, b in spans[:-1]] == [a for a, _ in spans[1:]]
    assert spans[-1][1] == start + 10 * DAY
    assert (spans[0][0] == start) == complete
    assert all(iso(a, zone)[11:16] == "00:00" for a, _ in spans[1:])
