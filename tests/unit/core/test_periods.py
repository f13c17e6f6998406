import math
from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st

from voicegw_mcp.core.periods import (
    PERIODS,
    LocalBuckets,
    cell_size,
    day_window,
    iso,
    next_midnight_ms,
    previous_window,
    resolve_window,
)
from voicegw_mcp.domain import Window
from voicegw_mcp.errors import InvalidInput

HOUR = 3_600_000
ZONES = [
    "UTC", "Asia/Kathmandu", "Australia/Lord_Howe", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Chatham",
    "America/Havana", "Pacific/Apia", "Asia/Kolkata",
]  # fmt: skip


def ms(text, timezone="UTC"):
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(timezone))).timestamp()) * 1000


def window(period="today", now="2026-11-22T10:07:00+00:00", timezone="UTC", **options):
    given = {"period": period, "start": None, "end": None, **options}
    return resolve_window(timezone=timezone, now_ms=ms(now), **given)


def shown(found):
    return iso(found.start_ms, found.timezone), iso(found.end_ms, found.timezone)


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("today", "2026-11-22T00:00:00+01:00", "2026-11-22T11:15:00+01:00"),
        ("yesterday", "2026-11-21T00:00:00+01:00", "2026-11-22T00:00:00+01:00"),
        ("week", "2026-11-16T00:00:00+01:00", "2026-11-22T11:15:00+01:00"),
        ("month", "2026-10-24T00:00:00+02:00", "2026-11-22T11:15:00+01:00"),
        ("this_month", "2026-11-01T00:00:00+01:00", "2026-11-22T11:15:00+01:00"),
        ("last_month", "2026-10-01T00:00:00+02:00", "2026-11-01T00:00:00+01:00"),
        ("last_24h", "2026-11-21T11:00:00+01:00", "2026-11-22T11:15:00+01:00"),
        ("last_7d", "2026-11-15T11:00:00+01:00", "2026-11-22T11:15:00+01:00"),
        ("last_30d", "2026-10-23T12:00:00+02:00", "2026-11-22T11:15:00+01:00"),
        ("all", "2026-11-22T11:00:00+01:00", "2026-11-22T11:15:00+01:00"),
        (None, "2026-11-22T00:00:00+01:00", "2026-11-22T11:15:00+01:00"),
    ],
)
def test_periods_are_calendar_days_of_the_zone_in_whole_quarter_hours(period, start, end):
    found = window(period, timezone="Europe/Berlin")
    assert shown(found) == (start, end)
    assert found.period == (period or "today")


def test_all_reaches_from_the_first_row_to_now_or_to_rows_of_a_clock_ahead():
    found = window("all", earliest_ms=ms("2026-01-01T00:20:00"), latest_ms=ms("2026-12-24T00:00:00"))
    assert shown(found) == ("2026-01-01T00:15:00+00:00", "2026-12-24T00:00:00+00:00")


def test_a_row_of_this_very_millisecond_at_midnight_is_in_today():
    found = window("today", now="2026-11-22T00:00:00+00:00")
    assert shown(found) == ("2026-11-22T00:00:00+00:00", "2026-11-22T00:15:00+00:00")


@pytest.mark.parametrize(
    ("timezone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),
        ("America/Sao_Paulo", "2018-11-04", 23),
        ("America/Sao_Paulo", "2018-02-17", 25),
        ("America/Havana", "2026-11-01", 25),
        ("Pacific/Chatham", "2026-09-27", 23),
        ("Asia/Kathmandu", "2026-06-01", 24),
    ],
)
def test_a_date_is_its_local_day_over_clock_changes(timezone, day, hours):
    found = window(start=day, end=day, timezone=timezone)
    assert found.end_ms - found.start_ms == hours * HOUR
    assert found.period == "custom"
    assert bucket_starts(found, "hour")[0] == found.start_ms
    # Chatham's clock jumps at 02:45: of two hours there is a part.
    assert len(bucket_starts(found, "hour")) == math.ceil(hours) + (timezone == "Pacific/Chatham")
    assert bucket_starts(found, "day") == [found.start_ms]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2026-11-20", None, ("2026-11-20T00:00:00+05:45", "2026-11-22T16:00:00+05:45")),
        (None, "2026-11-20", ("2026-11-01T05:45:00+05:45", "2026-11-21T00:00:00+05:45")),
        ("2026-11-20T10:01", "2026-11-20 10:02", ("2026-11-20T10:00:00+05:45", "2026-11-20T10:15:00+05:45")),
        ("2026-11-20T10:00:00.5Z", "2026-11-20T12:00:00+0100", ("2026-11-20T15:45:00+05:45", "2026-11-20T16:45:00+05:45")),
    ],
)  # fmt: skip
def test_start_and_end_override_the_period(start, end, expected):
    found = window(
        "nonsense", start=start, end=end, timezone="Asia/Kathmandu", earliest_ms=ms("2026-11-01T00:00:00")
    )
    assert shown(found) == expected


def test_an_end_without_rows_before_it_is_an_empty_window():
    found = window(end="2026-11-20")
    assert found.start_ms == found.end_ms


@pytest.mark.parametrize(
    "text",
    ["", "NaN", "tomorrow", "0001-01-01", "9999-12-31", "10000-01-01", "1969-12-31", "2026-02-30", "2026-01-01T25:00",
     "2026-01-01T00:00:00.123456789Z", "2026-W01-1", "20260101", "1.7e9", "²026-01-01", "2026-01-01T00:00+99:99", "2" * 500],
)  # fmt: skip
@pytest.mark.parametrize("name", ["start", "end"])
def test_what_is_no_sensible_date_is_refused_by_name(text, name):
    with pytest.raises(InvalidInput) as caught:
        window(**{name: text})
    assert caught.value.details["field"] == name
    assert name in caught.value.message


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"start": "2026-11-20", "end": "2026-11-19"}, "end"),
        ({"start": "2026-11-20T10:00", "end": "2026-11-20T10:00"}, "end"),
        ({"start": "2026-11-23"}, "start"),
        ({"period": "todya"}, "period"),
        ({"period": "xxxxxxxx"}, "period"),
        ({"timezone": "Europe/Berln"}, "timezone"),
        ({"timezone": "zz/zz/zz"}, "timezone"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
        ({"timezone": ""}, "timezone"),
        ({"timezone": "America"}, "timezone"),
    ],
)
def test_other_mistakes_name_the_argument(options, field):
    with pytest.raises(InvalidInput) as caught:
        window(**options)
    assert caught.value.details["field"] == field
    assert caught.value.hint


@pytest.mark.parametrize(
    ("period", "now", "expected"),
    [
        ("today", "2026-11-22T10:00:00", ("2026-11-21T00:00:00+01:00", "2026-11-21T10:15:00+01:00")),
        ("yesterday", "2026-11-22T10:00:00", ("2026-11-20T00:00:00+01:00", "2026-11-21T00:00:00+01:00")),
        ("yesterday", "2026-03-30T10:00:00", ("2026-03-28T00:00:00+01:00", "2026-03-29T00:00:00+01:00")),
        ("week", "2026-11-22T10:00:00", ("2026-11-09T00:00:00+01:00", "2026-11-15T10:15:00+01:00")),
        ("month", "2026-11-22T10:00:00", ("2026-09-24T00:00:00+02:00", "2026-10-23T11:15:00+02:00")),
        ("this_month", "2026-11-22T10:00:00", ("2026-10-01T00:00:00+02:00", "2026-10-22T10:15:00+02:00")),
        ("this_month", "2026-03-31T10:00:00", ("2026-02-01T00:00:00+01:00", "2026-03-01T00:00:00+01:00")),
        ("last_month", "2026-11-22T10:00:00", ("2026-09-01T00:00:00+02:00", "2026-10-01T00:00:00+02:00")),
        ("last_24h", "2026-11-22T10:00:00", ("2026-11-20T09:45:00+01:00", "2026-11-21T10:00:00+01:00")),
    ],
)
def test_the_previous_window_is_the_comparable_one(period, now, expected):
    found = window(period, now=datetime.fromisoformat(now).replace(tzinfo=ZoneInfo("Europe/Berlin")).isoformat(),
                   timezone="Europe/Berlin")  # fmt: skip
    assert shown(previous_window(found)) == expected


def test_the_previous_window_of_dates_is_as_many_days_and_of_times_as_much_time():
    dates = window(start="2026-03-28", end="2026-03-30", timezone="Europe/Berlin")
    assert shown(previous_window(dates)) == ("2026-03-25T00:00:00+01:00", "2026-03-28T00:00:00+01:00")
    times = window(start="2026-03-28T01:00Z", end="2026-03-28T03:00Z")
    assert shown(previous_window(times)) == ("2026-03-27T23:00:00+00:00", "2026-03-28T01:00:00+00:00")
    assert previous_window(Window("all", 900_000, 9_000_000, "UTC")).start_ms == 0


def test_a_day_ends_at_the_next_local_midnight():
    now = ms("2018-11-03T12:00:00", "America/Sao_Paulo")
    assert iso(next_midnight_ms("America/Sao_Paulo", now), "America/Sao_Paulo") == "2018-11-04T01:00:00-02:00"
    found = day_window("America/Sao_Paulo", now)
    assert found.end_ms == next_midnight_ms("America/Sao_Paulo", now)
    assert found.end_ms - found.start_ms == 24 * HOUR


def test_the_day_that_samoa_skipped_is_no_day():
    now = ms("2011-12-29T12:00:00", "Pacific/Apia")
    assert iso(next_midnight_ms("Pacific/Apia", now), "Pacific/Apia") == "2011-12-31T00:00:00+14:00"


def test_a_day_that_was_skipped_is_empty_and_is_compared_with_the_one_before_it():
    zone, now = "Pacific/Kwajalein", ms("1993-08-22T12:00:00", "Pacific/Kwajalein")
    today, yesterday = (
        resolve_window(period=period, start=None, end=None, timezone=zone, now_ms=now)
        for period in ("today", "yesterday")
    )
    assert shown(yesterday) == ("1993-08-22T00:00:00+12:00",) * 2
    assert shown(previous_window(today)) == shown(yesterday)
    assert shown(previous_window(yesterday)) == ("1993-08-20T00:00:00-12:00", "1993-08-22T00:00:00+12:00")


def test_a_week_that_begins_with_a_day_that_was_skipped_is_compared_with_seven_days():
    now = ms("1993-08-27T12:00:00", "Pacific/Kwajalein")
    found = resolve_window(period="week", start=None, end=None, timezone="Pacific/Kwajalein", now_ms=now)
    assert found.first_day == date(1993, 8, 21)
    assert shown(previous_window(found))[0] == "1993-08-14T00:00:00-12:00"


def bucket_starts(found, unit):
    buckets = LocalBuckets(found.timezone, unit)
    return sorted({buckets.start_of(moment) for moment in range(found.start_ms, found.end_ms, 900_000)})


def test_a_half_hour_clock_change_makes_a_short_hour():
    found = window(start="2026-10-04", end="2026-10-04", timezone="Australia/Lord_Howe")
    edges = [*bucket_starts(found, "hour"), found.end_ms]
    assert [edge for edge, after in pairwise(edges) if after - edge != HOUR] == [
        ms("2026-10-04T02:30:00+11:00")
    ]


@pytest.mark.parametrize(
    ("timezone", "day", "labels"),
    [
        ("America/Caracas", "2016-05-01", ["02:00:00-04:30", "03:00:00-04:00", "04:00:00-04:00"]),
        ("Asia/Colombo", "2006-04-15", ["00:00:00+06:00", "00:00:00+05:30", "01:00:00+05:30"]),
        ("Pacific/Chatham", "2026-04-05", ["03:00:00+13:45", "02:45:00+12:45", "03:00:00+12:45", "04:00:00+12:45"]),
        ("Europe/Berlin", "2026-10-25", ["02:00:00+02:00", "02:00:00+01:00", "03:00:00+01:00"]),
    ],
)  # fmt: skip
def test_no_hour_holds_moments_of_another_one_or_of_its_repetition(timezone, day, labels):
    found = window(start=day, end=day, timezone=timezone)
    names = [iso(start, timezone)[11:] for start in bucket_starts(found, "hour")]
    first = names.index(labels[0])
    assert names[first : first + len(labels)] == labels
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("timezone", "before", "day"),
    [
        # At 00:01 the clock was put back to 23:01; at 02:00 to 23:00 of the day before.
        ("America/St_Johns", "2006-10-28", "2006-10-29"),
        ("Antarctica/Casey", "2010-03-04", "2010-03-05"),
    ],
)
def test_a_day_goes_on_when_the_clock_falls_back_over_its_midnight(timezone, before, day):
    first, second = (window(start=date, end=date, timezone=timezone) for date in (before, day))
    assert first.end_ms == second.start_ms
    days = LocalBuckets(timezone, "day")
    for moment in range(first.start_ms, second.end_ms, 900_000):
        own = first if moment < second.start_ms else second
        assert days.start_of(moment) == own.start_ms
        assert day_window(timezone, moment) == Window("today", own.start_ms, own.end_ms, timezone)
        today = resolve_window(period="today", start=None, end=None, timezone=timezone, now_ms=moment)
        assert (today.start_ms, today.end_ms) == (own.start_ms, moment + 900_000)


@pytest.mark.parametrize(
    ("timezone", "unit", "size"),
    [
        ("UTC", "day", 24 * HOUR),
        ("UTC", "hour", HOUR),
        ("Europe/Berlin", "day", HOUR),
        ("Asia/Kathmandu", "day", HOUR // 4),
        ("Australia/Lord_Howe", "hour", HOUR // 4),
    ],
)
def test_cells_are_as_large_as_the_zone_allows(timezone, unit, size):
    assert cell_size(window("week", now="2026-06-22T10:07:00+00:00", timezone=timezone), unit) == size


def test_cells_of_two_centuries_are_as_small_as_one_day_of_them_needs():
    centuries = {"start": "1970-01-02", "end": "2199-12-30"}
    assert cell_size(window(timezone="UTC", **centuries), "day") == 24 * HOUR
    assert cell_size(window(timezone="Europe/Berlin", **centuries), "day") == HOUR
    # Whole hours off from 2016 on only.
    assert cell_size(window(timezone="America/Caracas", **centuries), "hour") == HOUR // 4
    assert cell_size(window(start="2016-05-03", end="2026-01-01", timezone="America/Caracas"), "hour") == HOUR


@settings(max_examples=150)
@given(
    st.sampled_from(ZONES),
    st.sampled_from(["hour", "day"]),
    st.integers(0, 2_000_000),
    st.integers(1, 300),
    st.integers(0, 10**6),
)
def test_buckets_tile_any_window_and_agree_with_the_local_clock(zone, unit, quarter, length, offset):
    start = quarter * 900_000
    found = Window("custom", start, start + length * 900_000, zone)
    starts = bucket_starts(found, unit)
    assert starts[0] <= found.start_ms
    moment = start + offset % (length * 900_000)
    own = LocalBuckets(zone, unit).start_of(moment)
    assert own == max(edge for edge in starts if edge <= moment)
    assert LocalBuckets(zone, unit).start_of(own) == own
    local = datetime.fromtimestamp(own / 1000, ZoneInfo(zone))
    now = datetime.fromtimestamp(moment / 1000, ZoneInfo(zone))
    # Offsets that were no multiple of 15 minutes (before 1986 in Kathmandu) are taken to the quarter hour below.
    if unit == "day" and local.utcoffset() % timedelta(minutes=15) == timedelta(0):
        assert local.date() == now.date()


@given(st.sampled_from(PERIODS), st.sampled_from(ZONES), st.integers(10**12, 2 * 10**12))
def test_every_window_is_whole_quarter_hours_and_follows_its_previous_one(period, timezone, now):
    found = resolve_window(period=period, start=None, end=None, timezone=timezone, now_ms=now)
    before = previous_window(found)
    for edge in (found.start_ms, found.end_ms, before.start_ms, before.end_ms):
        assert edge % 900_000 == 0
    assert before.start_ms <= before.end_ms <= found.start_ms < found.end_ms
