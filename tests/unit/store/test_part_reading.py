"""What is remembered of a store is what a reader that remembers nothing finds, whoever writes to it."""

# Seeded generators make the same rows in every run.
# ruff: noqa: S311

import contextlib
import random
import time
from functools import partial
from itertools import pairwise

import pytest
from tests.factories import request_record

from voicegw_mcp.core.periods import LocalBuckets
from voicegw_mcp.domain import DAY_MS, QUARTER_MS, Modality, RequestStatus, Window
from voicegw_mcp.errors import StoreUnavailable
from voicegw_mcp.store import part_reading
from voicegw_mcp.store.part_cache import MISSING, PartCache
from voicegw_mcp.store.part_reading import cut, read_parts, settled_until
from voicegw_mcp.store.parts import (
    SeriesCosts,
    SeriesHistograms,
    SeriesLatencies,
    StatusCosts,
    TimedCosts,
    TimedHistograms,
    TimedLatencies,
)
from voicegw_mcp.store.repair import repair_store
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.rollups import HOUR_MS, SeriesFilter
from voicegw_mcp.store.schema import TRIGGERS, connect, trigger_texts
from voicegw_mcp.store.sqlite import Store

NOW = time.time_ns() // 1_000_000
END = -(-NOW // QUARTER_MS) * QUARTER_MS
PROJECTS = ["p0", "p1"]


def record(rng, number, at_ms):
    ttfb = rng.choice([None, rng.lognormvariate(5, 1)])
    return request_record(
        id=f"r{number}",
        timestamp_ms=at_ms,
        project=rng.choice(PROJECTS),
        modality=rng.choice(list(Modality)),
        model_id=f"m{rng.randrange(3)}",
        status=rng.choice([*RequestStatus, RequestStatus.SUCCESS]),
        cost_nanousd=rng.choice([None, rng.randrange(10**9)]),
        ttfb_ms=ttfb,
        total_ms=ttfb,
    )


def all_parts():
    """Parts of every kind, of spans that begin and end inside of days, hours and spans of eight days."""
    parts = []
    for start in (END - 40 * DAY_MS, END - 20 * DAY_MS - 3 * QUARTER_MS, END - 5 * HOUR_MS):
        for span in (*cut(Window("", start, END, "UTC")), (start, END - 2 * HOUR_MS)):
            parts += [kind(*span) for kind in (SeriesCosts, StatusCosts, SeriesLatencies, SeriesHistograms)]
            hours, days = LocalBuckets("Asia/Kathmandu", "hour"), LocalBuckets("UTC", "day")
            only = SeriesFilter(project="p1")
            for kind in (TimedCosts, TimedLatencies, TimedHistograms):
                parts += [kind(*span, hours, QUARTER_MS), kind(*span, days, DAY_MS, only)]
    return parts


async def values_of(reader):
    parts = all_parts()
    values = await reader.ask(read_parts, parts)
    return [sorted(values.of(part)) for part in parts]


async def fresh_values(store, projects=None):
    """Return what a store finds that was opened just now."""
    other = await Store.open(store.path)
    try:
        return await values_of(other if projects is None else await other.narrowed(projects))
    finally:
        await other.close()


@pytest.fixture
def asked(monkeypatch):
    """The parts that were read, and not remembered."""
    asked = []
    for kind in (SeriesCosts, SeriesHistograms):
        statement = kind.statement

        def told(self, spans, statement=statement):
            asked.append(self)
            return statement(self, spans)

        monkeypatch.setattr(kind, "statement", told)
    return asked


def mend(connection, rng):
    """Change one cell as a repair does."""
    grain = rng.choice([3600, 691_200])
    cells = connection.execute("SELECT * FROM rollup WHERE grain_s = ?", (grain,)).fetchall()
    cell = rng.choice(cells)
    key = cell[:4]
    connection.execute(
        "DELETE FROM rollup WHERE grain_s = ? AND bucket_ms = ? AND series_id = ? AND status = ?", key
    )
    if rng.random() < 0.7:
        connection.execute(f"INSERT INTO rollup VALUES ({', '.join('?' for _ in cell)})", cell)


async def test_remembered_parts_are_what_a_new_reader_finds_whatever_is_written(store, monkeypatch):
    # What is damaged on purpose is not what is looked for here.
    monkeypatch.setattr("voicegw_mcp.store.agreement.Agreed.require", nothing)
    rng = random.Random(5)
    number = 0
    bound = await store.narrowed(frozenset({"p1"}))
    for turn in range(25):
        for _ in range(rng.randrange(4)):
            age = rng.choice([rng.randrange(HOUR_MS), rng.randrange(DAY_MS), rng.randrange(45 * DAY_MS)])
            await store.write(partial(insert_requests, records=[record(rng, number, NOW - age)]))
            number += 1
        if turn % 5 == 4:
            with contextlib.closing(connect(store.path, timeout_s=5)) as other:
                mend(other, rng)
        assert await values_of(store) == await fresh_values(store)
        assert await values_of(bound) == await fresh_values(store, frozenset({"p1"}))
    assert number > 20


def nothing(*_):
    pass


async def put(store, **fields):
    await store.write(partial(insert_requests, records=[request_record(**fields)]))


async def test_what_nobody_wrote_to_is_read_once(store, asked):
    await put(store, id="old", timestamp_ms=NOW - 30 * DAY_MS, cost_nanousd=5)
    parts = [SeriesCosts(*span) for span in cut(Window("", END - 40 * DAY_MS, END, "UTC"))]
    await store.ask(read_parts, parts)
    assert asked == parts
    await store.ask(read_parts, parts)
    assert asked == parts
    # Rows of the last hour leave all before it alone.
    await put(store, id="new", timestamp_ms=NOW - 1000, cost_nanousd=7)
    values = await store.ask(read_parts, parts)
    assert asked == [*parts, parts[-1]]
    assert [row.cost_nanousd for row in values.of_all(parts)] == [5, 7]


def test_a_window_is_cut_where_today_and_the_last_hour_begin(monkeypatch):
    noon = 1_795_435_200_000
    monkeypatch.setattr(part_reading.time, "time_ns", lambda: (noon + 20 * 60_000) * 1_000_000)

    def pieces(start, end):
        return cut(Window("", noon + start * HOUR_MS, noon + end * HOUR_MS, "UTC"))

    def spans(*edges):
        return [(noon + a * HOUR_MS, noon + b * HOUR_MS) for a, b in pairwise(edges)]

    assert settled_until(noon + 10 * HOUR_MS) == noon
    assert settled_until(noon - HOUR_MS) == noon - HOUR_MS
    assert pieces(-48, 1) == spans(-48, -12, 0, 1)
    assert pieces(-12, 1) == spans(-12, 0, 1)
    assert pieces(-48, -24) == spans(-48, -24)
    assert pieces(0, 1) == spans(0, 1)
    assert pieces(1, 1) == []


@pytest.mark.parametrize(
    "change",
    [
        "DROP TRIGGER rollup_updated",
        "CREATE TRIGGER more AFTER INSERT ON price BEGIN SELECT 1; END",
    ],
)
async def test_nothing_is_remembered_of_a_store_whose_triggers_are_not_ours(tmp_path, change):
    first = await Store.open(tmp_path / "voicegw.db")
    await put(first, id="a", timestamp_ms=NOW - 30 * DAY_MS, cost_nanousd=5)
    await first.write(lambda connection: connection.execute(change))
    await first.close()
    store = await Store.open(tmp_path / "voicegw.db")
    part = SeriesCosts(END - 40 * DAY_MS, END)
    assert [row.cost_nanousd for row in (await store.ask(read_parts, [part])).of(part)] == [5]
    await put(store, id="b", timestamp_ms=NOW - 30 * DAY_MS, cost_nanousd=7)
    assert [row.cost_nanousd for row in (await store.ask(read_parts, [part])).of(part)] == [12]
    await store.close()


async def test_readers_of_other_projects_do_not_get_what_is_remembered_for_all(store):
    await put(store, id="a", project="p0", timestamp_ms=NOW - DAY_MS)
    part = SeriesCosts(END - 2 * DAY_MS, END)
    for projects in (None, frozenset({"p1"}), frozenset({"p0"})):
        reader = store if projects is None else await store.narrowed(projects)
        names = {row.project for row in (await reader.ask(read_parts, [part])).of(part)}
        assert names == ({"p0"} if projects is None else {"p0"} & projects)


@pytest.mark.parametrize("kind", ["series", "hours"])
@pytest.mark.parametrize("blob", ["x'07'", "'text'", "7"])
async def test_a_damaged_histogram_is_reported_not_added_up(store, kind, blob):
    await put(store, id="a", timestamp_ms=NOW, ttfb_ms=3)
    await store.write(lambda connection: connection.execute(f"UPDATE histogram SET ttfb = {blob}"))
    part = (
        SeriesHistograms(END - DAY_MS, END)
        if kind == "series"
        else TimedHistograms(END - DAY_MS, END, LocalBuckets("UTC", "hour"), HOUR_MS)
    )
    with pytest.raises(StoreUnavailable, match="damaged"):
        await store.ask(read_parts, [part])


def test_what_was_not_used_for_longest_is_forgotten():
    cache = PartCache(most_weight=10)
    for name in "abc":
        cache.put(name, 1, name.upper(), 3)
    assert cache.get("a", 1) == "A"
    cache.put("d", 1, "D", 3)
    assert [cache.get(name, 1) for name in "abcd"] == ["A", MISSING, "C", "D"]
    cache.put("a", 2, "new", 3)
    assert (cache.get("a", 1), cache.get("a", 2)) == (MISSING, "new")
    # What alone takes more than half leaves the others where they are.
    cache.put("huge", 1, "X", 6)
    cache.put("c", 1, "Y", 6)
    assert [cache.get(name, 1) for name in ("c", "d", "huge")] == [MISSING, "D", MISSING]


@pytest.mark.parametrize(("grain_s", "span_ms"), [(3600, DAY_MS), (691_200, 60 * DAY_MS)])
@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM {0}",
        "UPDATE {0} SET {1} = {1}",
        "INSERT OR REPLACE INTO {0} SELECT * FROM {0}",
        "INSERT INTO {0} SELECT * FROM kept.{0}",
    ],
)
@pytest.mark.parametrize(("table", "column"), [("rollup", "audio_ms"), ("histogram", "total")])
async def test_every_way_to_change_a_cell_is_seen(store, table, column, change, grain_s, span_ms):
    await put(store, id="a", timestamp_ms=NOW - span_ms // 2, ttfb_ms=3.0)
    part = SeriesCosts(END - span_ms, END)
    with contextlib.closing(connect(store.path, timeout_s=5)) as other:
        where = f"WHERE grain_s = {grain_s}"
        if "kept." in change:
            other.execute("ATTACH ':memory:' AS kept")
            other.execute(f"CREATE TABLE kept.{table} AS SELECT * FROM {table}")
            other.execute(f"DELETE FROM {table} {where}")
        before = await store.ask(part_reading._signatures, [part])
        assert await store.ask(part_reading._signatures, [part]) == before
        other.execute(f"{change.format(table, column)} {where}")
        assert await store.ask(part_reading._signatures, [part]) != before


@pytest.mark.parametrize(
    "change",
    ["DROP TRIGGER rollup_deleted", 'CREATE TRIGGER "a""b" AFTER INSERT ON price BEGIN SELECT 1; END'],
)
async def test_repair_tells_of_triggers_that_are_not_ours_and_makes_them_anew(tmp_path, change):
    store = await Store.open(tmp_path / "voicegw.db")
    await put(store, id="a", timestamp_ms=NOW - 30 * DAY_MS)
    await store.write(lambda connection: connection.execute(change))
    into = tmp_path / "saved.db"
    for dry_run in (True, True, False):
        found = repair_store(store.path, into, dry_run=dry_run, progress=lambda *_: None)
        assert (found.is_clean(), found.structure, found.indexes) == (False, 1, True)
    assert repair_store(store.path, into, dry_run=True, progress=lambda *_: None).is_clean()
    assert dict(await store.read(TRIGGERS)) == trigger_texts()
    await store.close()


async def test_what_a_repair_mends_is_read_anew(store):
    await put(store, id="a", timestamp_ms=NOW - 30 * DAY_MS, cost_nanousd=5)
    part = SeriesCosts(END - 40 * DAY_MS, END)
    before = await store.ask(part_reading._signatures, [part])
    with contextlib.closing(connect(store.path, timeout_s=5)) as other:
        other.execute("UPDATE rollup SET cost_nanousd = 6 WHERE grain_s = 86400")
    assert await store.ask(part_reading._signatures, [part]) == before
    repair_store(store.path, store.path.with_name("saved.db"), dry_run=False, progress=lambda *_: None)
    assert await store.ask(part_reading._signatures, [part]) != before
