# Seeded generators make the same rows in every run.
# ruff: noqa: S311

import math
import random
from collections import defaultdict
from datetime import datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import anyio
import pytest
from hypothesis import given, settings, strategies as st
from tests.factories import DAY, NOW, request_record

from voicegw_mcp.core.costs import NO_SESSION, costs, spend
from voicegw_mcp.core.latency import latency
from voicegw_mcp.core.periods import LocalBuckets, iso
from voicegw_mcp.domain import UNCOUNTED, UNTIMED, Modality, RequestStatus, Usage, Window
from voicegw_mcp.store import part_reading
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.sqlite import Store

HOUR = 3_600_000
SPREAD = 20 * DAY
# Over the clock changes of autumn 2026, where days of 25 and 24.5 hours are.
START = 1_791_000_000_000 // 900_000 * 900_000
ZONES = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Chatham"]
FILTERS = ("project", "modality", "provider_id", "model_id")


def some_records(count=700, seed=3):
    rng = random.Random(seed)
    for n in range(count):
        model = rng.randrange(5)
        ttfb = rng.choice([None, rng.lognormvariate(5, 1)])
        yield request_record(
            id=f"r{n}",
            timestamp_ms=START + rng.randrange(SPREAD),
            project=f"p{rng.randrange(3)}",
            modality=list(Modality)[model % 3],
            provider=f"v{model % 2}",
            model_id=f"m{model}",
            status=rng.choice([*RequestStatus, *[RequestStatus.SUCCESS] * 6]),
            usage=Usage(*(rng.choice([0, rng.randrange(5000)]) for _ in range(5))),
            cost_nanousd=rng.choice([None, 0, rng.randrange(10**10), rng.randrange(1000)]),
            ttfb_ms=ttfb,
            total_ms=None if ttfb is None else rng.choice([None, ttfb * 3]),
            session_id=rng.choice([None, "s1", "s2"]),
            estimated=rng.random() < 0.1,
        )


RECORDS = list(some_records())


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "voicegw.db"

    async def fill():
        store = await Store.open(path)
        for start in range(0, len(RECORDS), 90):
            await store.write(
                lambda connection, rows=RECORDS[start : start + 90]: insert_requests(connection, rows)
            )
        await store.close()

    anyio.run(fill)
    return path


def ask(path, report, *args, clock=None, **options):
    """Return the report on the store, at ``clock`` (UTC epoch ms) by the clock that tells what is settled."""

    async def run():
        store = await Store.open(path)
        try:
            return await store.ask(report, *args, **options)
        finally:
            await store.close()

    with pytest.MonkeyPatch.context() as patch:
        if clock is not None:
            patch.setattr(part_reading.time, "time_ns", lambda: clock * 1_000_000)
        return anyio.run(run)


def attribute(record, name):
    return getattr(record, {"provider_id": "provider", "model": "model_id"}.get(name, name))


def chosen(window, only):
    return [
        record
        for record in RECORDS
        if window.start_ms <= record.timestamp_ms < window.end_ms
        and all(attribute(record, name) == value for name, value in only.items() if value is not None)
    ]


def usd(records):
    return float(Fraction(sum(record.cost_nanousd or 0 for record in records), 10**9))


def counted(records):
    return sum(record.status not in UNCOUNTED for record in records)


def grouped(records, key):
    groups = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return groups


def group_key(name, timezone):
    if name in {"hour", "day"}:
        buckets = LocalBuckets(timezone, name)
        return lambda record: iso(buckets.start_of(record.timestamp_ms), timezone)
    if name == "session":
        return lambda record: record.session_id or NO_SESSION
    return lambda record: str(attribute(record, name))


def windows():
    def window(start, length, zone):
        return Window("custom", START + start * 900_000, START + (start + length) * 900_000, zone)

    return st.builds(window, st.integers(-96, 20 * 96), st.integers(1, 15 * 96), st.sampled_from(ZONES))


filters = st.fixed_dictionaries(
    {},
    optional={
        "project": st.sampled_from(["p0", "p1", "none"]),
        "modality": st.sampled_from(["stt", "llm"]),
        "provider_id": st.sampled_from(["v0", "v1"]),
        "model_id": st.sampled_from(["m0", "m4"]),
    },
)
COST_GROUPS = ["provider", "model", "project", "modality", "day", "hour", "session", "status"]
LATENCY_GROUPS = ["model", "provider", "project", "modality", "hour", "day"]


@settings(max_examples=80)
@given(
    window=windows(),
    only=filters,
    group_by=st.sampled_from([None, *COST_GROUPS]),
    clock=st.integers(START, START + 22 * DAY),
)
def test_costs_equal_a_sum_over_the_rows(path, window, only, group_by, clock):
    report = ask(path, costs, window, clock=clock, group_by=group_by, **only)
    rows = chosen(window, only)
    assert report.total_usd == usd(rows)
    assert report.unpriced_requests == sum(row.cost_nanousd is None for row in rows)
    assert report.estimated_requests == sum(row.estimated for row in rows)
    for name in ("provider", "model", "project", "modality"):
        expected = grouped(rows, group_key(name, window.timezone))
        split = getattr(report, f"by_{name}")
        assert {key: (entry.cost, entry.requests) for key, entry in split.items()} == {
            key: (usd(own), counted(own)) for key, own in expected.items()
        }
        for key, own in expected.items():
            units = split[key].units
            assert (units.audio_seconds or 0) == sum(row.usage.audio_ms for row in own) / 1000
            for unit in ("input_tokens", "output_tokens", "cached_tokens", "characters"):
                assert getattr(units, unit) == (sum(getattr(row.usage, unit) for row in own) or None)
    if group_by is None:
        assert report.groups is None
        return
    expected = grouped(rows, group_key(group_by, window.timezone))
    found = {group.key: (group.cost, group.requests) for group in report.groups}
    assert len(found) == len(report.groups)
    assert found.items() <= {key: (usd(own), counted(own)) for key, own in expected.items()}.items()
    assert report.truncated is (True if len(found) < len(expected) else None)
    if group_by in {"hour", "day"}:
        moments = [datetime.fromisoformat(group.key) for group in report.groups]
        assert moments == sorted(moments)
        newest = sorted(map(datetime.fromisoformat, expected))[len(expected) - len(found) :]
        assert moments == newest
    else:
        assert [group.cost for group in report.groups] == sorted(
            (cost for cost, _ in found.values()), reverse=True
        )


def exact_percentile(values, percent):
    ordered = sorted(values)
    rank = percent / 100 * (len(ordered) - 1)
    low, high = ordered[math.floor(rank)], ordered[math.ceil(rank)]
    return low + (high - low) * (rank - math.floor(rank))


def check_stats(stats, rows):
    assert stats.request_count == counted(rows)
    assert stats.error_count == sum(row.status == "error" for row in rows)
    for field, average, percentiles in (
        ("ttfb_ms", stats.avg_ttfb_ms, stats.ttfb_percentiles),
        ("total_ms", stats.avg_latency_ms, stats.latency_percentiles),
    ):
        values = [
            getattr(row, field)
            for row in rows
            if row.status not in UNTIMED and getattr(row, field) is not None
        ]
        if not values:
            assert average is None
            assert percentiles is None
            continue
        assert average == pytest.approx(sum(values) / len(values), abs=0.0061)
        for percent in (50, 95, 99):
            truth = exact_percentile(values, percent)
            assert abs(percentiles[f"p{percent}"] - truth) <= truth * 0.02 + 0.0051


@settings(max_examples=80)
@given(
    window=windows(),
    only=filters,
    group_by=st.sampled_from([None, *LATENCY_GROUPS]),
    clock=st.integers(START, START + 22 * DAY),
)
def test_latencies_equal_those_of_the_rows_within_the_stated_error(path, window, only, group_by, clock):
    report = ask(path, latency, window, clock=clock, group_by=group_by, **only)
    rows = chosen(window, only)
    check_stats(report.overall, rows)
    models = grouped(rows, lambda row: row.model_id)
    assert report.by_model.keys() == models.keys()
    for name, own in models.items():
        check_stats(report.by_model[name], own)
    assert sum(stats.request_count for stats in report.by_model.values()) == report.overall.request_count
    assert report.relative_error == 0.02
    if group_by is None:
        assert report.groups is None
        return
    expected = grouped(rows, group_key(group_by, window.timezone))
    assert report.truncated is (True if len(report.groups) < len(expected) else None)
    for group in report.groups:
        check_stats(group, expected[group.key])


@settings(max_examples=20)
@given(window=windows())
def test_spend_is_the_cost_of_each_project(path, window):
    found = ask(path, spend, window)
    expected = grouped(chosen(window, {}), lambda row: row.project)
    assert found == {
        name: (sum(r.cost_nanousd or 0 for r in own), counted(own)) for name, own in expected.items()
    }
    one = ask(path, spend, window, project="p1")
    assert one == {name: total for name, total in found.items() if name == "p1"}


def test_the_previous_window_is_compared_in_percent(path):
    window = Window("custom", START + 10 * DAY + HOUR, START + 20 * DAY + HOUR, "UTC")
    report = ask(path, costs, window, compare_previous=True, project="p1")
    now, before = (
        chosen(window, {"project": "p1"}),
        chosen(Window("x", window.start_ms - 10 * DAY, window.start_ms, "UTC"), {"project": "p1"}),
    )
    assert report.previous.total_usd == usd(before)
    assert report.previous.change_pct == round((usd(now) / usd(before) - 1) * 100, 2)
    first = Window("custom", START - DAY, START + 10 * DAY, "UTC")
    assert ask(path, costs, first, compare_previous=True).previous.as_json() == {"total_usd": 0.0}


def test_an_empty_window_answers_with_nothing_but_its_keys(path):
    window = Window("custom", START - 5 * DAY, START - 4 * DAY, "Asia/Kathmandu")
    assert ask(path, costs, window, group_by="day").as_json() == {
        "period": "custom",
        "start": iso(window.start_ms, "Asia/Kathmandu"),
        "end": iso(window.end_ms, "Asia/Kathmandu"),
        "timezone": "Asia/Kathmandu",
        "total_usd": 0.0,
        "by_provider": {},
        "by_model": {},
        "by_project": {},
        "by_modality": {},
        "groups": [],
        "unpriced_requests": 0,
        "family_priced_requests": 0,
        "estimated_requests": 0,
    }
    report = ask(path, latency, window, group_by="hour", project="p1", modality="stt").as_json()
    assert report["overall"] == {"request_count": 0, "error_count": 0}
    assert (report["by_model"], report["groups"], report["project"], report["modality"]) == (
        {},
        [],
        "p1",
        "stt",
    )
    nothing = Window("custom", START, START, "UTC")
    assert ask(path, costs, nothing, group_by="hour").total_usd == 0
    assert ask(path, latency, nothing, group_by="day").groups == []


def test_other_percentiles_can_be_asked_for(path):
    window = Window("custom", START, START + SPREAD, "UTC")
    report = ask(path, latency, window, percentiles=(90, 99.9))
    assert list(report.overall.latency_percentiles) == ["p90", "p99.9"]


@pytest.fixture(scope="module")
def wide_path(tmp_path_factory):
    """A store with more projects, models, sessions and hours than an answer holds, and names that hide things."""
    path = tmp_path_factory.mktemp("wide") / "voicegw.db"
    records = [
        request_record(
            id=f"r{n}",
            timestamp_ms=START + n * HOUR,
            project=f"project-{n}-{'x' * 100}",
            provider=f"provider-{n}-{'y' * 100}",
            model_id=f"model-{n}-{'z' * 250}",
            cost_nanousd=n,
            ttfb_ms=float(n + 1),
            total_ms=float(n + 2),
            session_id=f"s{n}",
        )
        for n in range(1100)
    ]
    names = ("a\u202e", "a\\u202e")
    records += [
        request_record(id=name, timestamp_ms=START, project=name, cost_nanousd=10**9) for name in names
    ]

    async def fill():
        store = await Store.open(path)
        await store.write(lambda connection: insert_requests(connection, records))
        await store.close()

    anyio.run(fill)
    return path


WIDE = Window("custom", START, START + 60 * DAY, "UTC")


@pytest.mark.parametrize("group_by", [None, *LATENCY_GROUPS])
def test_whatever_the_groups_all_requests_are_counted(path, group_by):
    window = Window("custom", START, START + SPREAD, "Europe/Berlin")
    assert ask(path, latency, window, group_by=group_by).overall.request_count == counted(RECORDS)


@pytest.mark.unmeasured
@pytest.mark.parametrize("group_by", [None, *COST_GROUPS])
def test_a_cost_report_of_any_size_stays_small_and_its_splits_still_add_up(wide_path, group_by):
    report = ask(wide_path, costs, WIDE, group_by=group_by)
    assert len(report.model_dump_json(exclude_none=True).encode()) <= 32_000
    assert report.truncated is True
    for split in (report.by_project, report.by_model, report.by_provider):
        assert "(other)" in split
        assert sum(entry.requests for entry in split.values()) == 1102
        assert sum(round(entry.cost * 10**9) for entry in split.values()) == round(report.total_usd * 10**9)
    assert report.by_project["a\\u202e"].requests == 2


@pytest.mark.parametrize("group_by", [None, *LATENCY_GROUPS])
def test_a_latency_report_of_any_size_stays_small_and_its_counts_still_add_up(wide_path, group_by):
    report = ask(wide_path, latency, WIDE, group_by=group_by)
    assert len(report.model_dump_json(exclude_none=True).encode()) <= 32_000
    assert report.truncated is True
    assert (
        sum(stats.request_count for stats in report.by_model.values()) == report.overall.request_count == 1102
    )
    if group_by == "hour":
        assert report.groups[-1].key == iso(START // HOUR * HOUR + 1099 * HOUR, "UTC")


def test_local_days_are_those_of_the_wall_clock():
    zone = ZoneInfo("Asia/Kathmandu")
    midnight = datetime(2026, 11, 22, tzinfo=zone)
    start = LocalBuckets("Asia/Kathmandu", "day").start_of(NOW)
    assert datetime.fromtimestamp(start / 1000, zone).time() == midnight.time()
    assert timedelta(0) <= datetime.fromtimestamp(NOW / 1000, zone) - datetime.fromtimestamp(
        start / 1000, zone
    )
