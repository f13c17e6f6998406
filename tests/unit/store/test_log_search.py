"""Pages of the log against a plain filter in Python: any rows, any filters, any page sizes, both orders."""

# Seeded generators make the same rows in every run.
# ruff: noqa: S311

import random
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.factories import DAY, NOW, request_record

from voicegw_mcp.domain import Modality, RequestStatus
from voicegw_mcp.store.log_rows import LogFilter, LogLine
from voicegw_mcp.store.requests import insert_requests, read_lines, read_log
from voicegw_mcp.store.retention import prune_batch
from voicegw_mcp.store.schema import prepare
from voicegw_mcp.store.sqlite import Store

MINUTE = 60_000
PROJECTS = ["p0", "p1", "p2"]
MODELS = ["m0", "m1", "m'%"]
LETTERS = "aAbB%_\\\"'*é É😀\n"


@dataclass(frozen=True)
class Log:
    """Rows in the order they come in, in batches; what is older than ``pruned_before`` is pruned afterwards."""

    batches: list[list]
    pruned_before: int | None

    def rows(self):
        """Return the rows that are left, in the order they came in; the last one always is."""
        rows = [row for batch in self.batches for row in batch]
        before = self.pruned_before or 0
        return [row for row in rows if row.timestamp_ms >= before or row is rows[-1]]


texts = st.text(LETTERS, max_size=8)
spans = st.sampled_from([1, 3 * MINUTE, 90 * MINUTE, DAY, 9 * DAY, 40 * DAY])
moments = st.builds(lambda span, part: NOW - int(span * part), spans, st.floats(0, 1))


def mostly(values):
    return st.sampled_from([*values[:1] * 5, *values])


@st.composite
def logs(draw):
    fields = st.fixed_dictionaries(
        {
            "timestamp_ms": moments,
            # Mostly alike, or hardly two rows would share a cell.
            "project": mostly(PROJECTS),
            "modality": mostly(list(Modality)),
            "provider": mostly(["v0", "v1"]),
            "model_id": mostly(MODELS),
            "status": st.sampled_from([*RequestStatus, *[RequestStatus.SUCCESS] * 3]),
            "session_id": st.sampled_from([None, "s0", "s1", "S0"]),
            "total_ms": st.sampled_from([None, 0.0, 3.0, 3.5, 500.0, 5_000.25]),
            "cost_nanousd": st.sampled_from([None, 0, 5, 1_000, 1_400, 10**9]),
            "error_message": st.one_of(st.none(), texts, texts),
        }
    )
    found = draw(st.lists(fields, min_size=1, max_size=60))
    rows = [request_record(id=f"r{number}", **row) for number, row in enumerate(found)]
    size = draw(st.integers(1, 60))
    days = draw(st.one_of(st.none(), st.integers(0, 40)))
    return Log(
        [rows[start : start + size] for start in range(0, len(rows), size)],
        None if days is None else (NOW - days * DAY) // DAY * DAY,
    )


def some(values):
    return st.one_of(
        st.none(), st.none(), values if isinstance(values, st.SearchStrategy) else st.sampled_from(values)
    )


filters = st.builds(
    LogFilter,
    project=some([*PROJECTS, "none"]),
    modality=some(list(map(str, Modality))),
    provider=some(["v0", "v1"]),
    model_id=some(MODELS),
    status=some(list(map(str, RequestStatus))),
    session_id=some(["s0", "s1", "S0", "none"]),
    min_latency_ms=some([0.0, 2.999, 3.0, 3.2, 400.0, 5_000.25, 10.0**12]),
    min_cost_nanousd=some([0, 1, 1_000, 1_200, 10**9, 2**63 - 1]),
    start_ms=some(moments),
    end_ms=some(moments),
    search=some(texts),
    order=st.sampled_from(["newest", "oldest"]),
)


searches = st.builds(
    LogFilter,
    project=some(PROJECTS),
    status=some(list(map(str, RequestStatus))),
    min_latency_ms=some([0.0, 3.2, 400.0]),
    min_cost_nanousd=some([0, 1_000, 10**9]),
    end_ms=some(moments),
    search=st.one_of(st.text(LETTERS, max_size=2), texts),
    order=st.sampled_from(["newest", "oldest"]),
)


def matches(row, query, projects):
    names = ("project", "modality", "provider", "model_id", "status", "session_id")
    least = (
        (query.min_latency_ms, row.total_ms),
        (query.min_cost_nanousd, row.cost_nanousd),
        (query.start_ms, row.timestamp_ms),
    )
    return (
        all(getattr(query, name) in {None, getattr(row, name)} for name in names)
        and (projects is None or row.project in projects)
        and all(bound is None or (value is not None and value >= bound) for bound, value in least)
        and (query.end_ms is None or row.timestamp_ms < query.end_ms)
        and (query.search is None or (row.error_message is not None and folded(query.search) in folded(row.error_message)))
    )  # fmt: skip


def folded(text):
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def expected(log, query, projects):
    # Rows of one millisecond come in the order they were written: sorting is stable.
    rows = sorted(
        (row for row in log.rows() if matches(row, query, projects)), key=lambda row: row.timestamp_ms
    )
    ids = [row.id for row in rows]
    return ids if query.order == "oldest" else ids[::-1]


async def pages(reads, query, size):
    found, after = [], None
    while page := await reads.ask(read_log, query, limit=size, after=after):
        assert len(found) % size == 0, "a page is full, or the last one"
        lines = await reads.ask(read_lines, query, limit=size, after=after)
        assert lines == [tuple(getattr(row, name) for name in LogLine._fields) for row in page]
        found += [row.id for row in page]
        after = (page[-1].timestamp_ms, page[-1].seq)
    return found


async def put(store, log):
    for batch in log.batches:
        await store.write(partial(insert_requests, records=batch))
    while log.pruned_before and await store.write(
        lambda connection: prune_batch(connection, log.pruned_before, most=7)
    ):
        pass  # fmt: skip


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    path = tmp_path_factory.mktemp("empty") / "voicegw.db"
    prepare(path, deadline=time.monotonic() + 10)
    return path


@pytest.fixture(params=[(64, 200, 32, 100), (0, 1, 1, 1)])
def _few_looks_before_the_indexes(request, monkeypatch):
    series, terms, merged, cells = request.param
    monkeypatch.setattr("voicegw_mcp.store.error_search._MOST_SERIES_TERMS", series)
    monkeypatch.setattr("voicegw_mcp.store.error_search._MOST_TERMS", terms)
    monkeypatch.setattr("voicegw_mcp.store.log_search._WALKED", 2)
    monkeypatch.setattr("voicegw_mcp.store.log_search._WALKED_BY_INDEX", 3)
    monkeypatch.setattr("voicegw_mcp.store.log_series._FEW_SERIES", merged)
    monkeypatch.setattr("voicegw_mcp.store.log_search._MOST_REACHED", cells)
    monkeypatch.setattr("voicegw_mcp.store.log_search._FEW_REACHED", min(cells, 7))
    monkeypatch.setattr("voicegw_mcp.store.log_search._SPARE_CELLS", (0, 1))
    monkeypatch.setattr("voicegw_mcp.store.log_search._MANY_CELLS", 3)
    monkeypatch.setattr("voicegw_mcp.store.error_search._SCANNED", 2)
    monkeypatch.setattr("voicegw_mcp.store.error_search._FEW_TERMS", 1)


@pytest.mark.unmeasured
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    log=logs(),
    queries=st.lists(st.one_of(filters, searches), min_size=12, max_size=25),
    size=st.integers(1, 9),
    projects=st.one_of(st.none(), st.frozensets(st.sampled_from(PROJECTS))),
)
@pytest.mark.usefixtures("_few_looks_before_the_indexes")
def test_pages_hold_each_matching_row_once_in_order(empty, log, queries, size, projects):
    async def compare(path):
        store = await Store.open(path)
        try:
            await put(store, log)
            reads = store if projects is None else await store.narrowed(projects)
            for query in queries:
                assert await pages(reads, query, size) == expected(log, query, projects), query
        finally:
            await store.close()

    with tempfile.TemporaryDirectory() as folder:
        anyio.run(compare, Path(shutil.copy(empty, folder)))


@pytest.mark.usefixtures("_few_looks_before_the_indexes")
@pytest.mark.parametrize("projects", [None, frozenset({"p0"})])
async def test_pages_hold_each_row_of_a_crowded_log_once_in_order(store, projects):
    rng = random.Random(5)
    spread = [1, MINUTE, 90 * MINUTE, 3 * DAY]
    rows = [
        request_record(
            id=f"r{number}",
            timestamp_ms=NOW - rng.randrange(rng.choice(spread)),
            project=rng.choice(PROJECTS[:2]),
            model_id=rng.choice(MODELS[:2]),
            status=rng.choice(list(RequestStatus)),
            session_id=rng.choice([None, "s0", "s1"]),
            total_ms=rng.choice([None, 3.0, 500.0]),
            cost_nanousd=rng.choice([None, 0, 1_000]),
            error_message=rng.choice([None, "disk full", "Disk 100 %", "d"]),
        )
        for number in range(500)
    ]
    log = Log([rows[start : start + 90] for start in range(0, len(rows), 90)], None)
    await put(store, log)
    reads = store if projects is None else await store.narrowed(projects)
    for _ in range(150):
        query = LogFilter(
            project=rng.choice([None, None, *PROJECTS[:2]]),
            model_id=rng.choice([None, None, *MODELS[:2]]),
            status=rng.choice([None, None, None, *map(str, RequestStatus)]),
            session_id=rng.choice([None, None, None, "s0", "s1"]),
            min_latency_ms=rng.choice([None, None, 0.0, 400.0]),
            min_cost_nanousd=rng.choice([None, None, 0, 900]),
            start_ms=rng.choice([None, None, None, NOW - rng.randrange(DAY)]),
            end_ms=rng.choice([None, None, None, NOW - rng.randrange(DAY)]),
            search=rng.choice([None, None, "disk", "%", "K f"]),
            order=rng.choice(["newest", "oldest"]),
        )
        assert await pages(reads, query, rng.choice([1, 7, 40])) == expected(log, query, projects), query


@pytest.mark.parametrize("projects", [None, frozenset({"p0"})])
async def test_pages_of_few_series_hold_each_row_once_in_order(store, projects):
    """One series has most of the rows, one a few, and one a single one; many share a millisecond."""
    rng = random.Random(6)
    rows = [
        request_record(
            id=f"r{number}",
            timestamp_ms=NOW - rng.randrange(60),
            project="p1" if number % 40 == 3 else "p0",
            model_id="m2" if number == 50 else "m1" if number % 10 == 0 else "m0",
        )
        for number in range(120)
    ]
    log = Log([rows], None)
    await put(store, log)
    reads = store if projects is None else await store.narrowed(projects)
    for fields in (
        {"model_id": "m0"},
        {"model_id": "m1"},
        {"model_id": "m2"},
        {"project": "p0"},
        {"project": "p1"},
    ):
        for start_ms, end_ms in ((None, None), (NOW - 30, None), (None, NOW - 20), (NOW - 45, NOW - 5)):
            for order in ("newest", "oldest"):
                query = LogFilter(**fields, start_ms=start_ms, end_ms=end_ms, order=order)
                for size in (1, 2, 7, 200):
                    assert await pages(reads, query, size) == expected(log, query, projects), query


def test_rows_of_one_millisecond_that_are_pruned_apart_stay_found(empty, tmp_path):
    path = Path(shutil.copy(empty, tmp_path))
    rows = [request_record(id=f"{n}", timestamp_ms=NOW - DAY, error_message=f"same {n}") for n in range(5)]
    rows.append(request_record(id="last"))

    async def found():
        store = await Store.open(path)
        try:
            await store.write(partial(insert_requests, records=rows))
            await store.write(lambda connection: prune_batch(connection, NOW // DAY * DAY, most=2))
            return [
                await pages(store, LogFilter(search=text), 9) for text in ("same", "same 4", "same 1", "4")
            ]
        finally:
            await store.close()

    assert anyio.run(found) == [["4", "3", "2"], ["4"], [], ["4"]]


def test_an_older_store_is_brought_up_to_date_with_its_rows(tmp_path, monkeypatch):
    """Its peaks are not known, and sought where they may be."""
    from voicegw_mcp.store import schema

    scripts = schema.migration_scripts()
    path = tmp_path / "voicegw.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for number, script in enumerate(scripts[:4], 1):
            schema._migrate(connection, number, script)
        connection.execute("INSERT INTO series VALUES (1, 'p0', 'stt', 'v0', 'm0')")
        connection.execute("INSERT INTO price VALUES (1, '', '')")
        for number in range(40):
            values = (
                number,
                f"{number}",
                NOW - number * DAY,
                f"s{number % 2}",
                number,
                f"Text {number}\u00c4",
            )
            connection.execute(
                "INSERT INTO requests VALUES (?1, ?2, ?3, 1, 'error', ?4, 0, 0, 0, 0, 0, ?5, 1, NULL, ?5 * 1000, NULL, ?6, NULL, 0)",
                values,
            )
            for grain in (900, 3600, 86_400, 691_200):
                connection.execute(
                    "INSERT INTO rollup VALUES (?1, ?2 / ?1 / 1000 * ?1 * 1000, 1, 'error', 1, 0, 0, ?3, ?3, 0, 0, 0, 0, 0, 0, 0, 0, 0, ?3 * 1000) "
                    "ON CONFLICT DO UPDATE SET requests = requests + 1, cost_nanousd = cost_nanousd + ?3, "
                    "cost_max_nanousd = MAX(cost_max_nanousd, ?3), total_max_us = MAX(total_max_us, ?3 * 1000)",
                    (grain, NOW - number * DAY, number),
                )
    monkeypatch.setattr("voicegw_mcp.store.log_search._WALKED", 2)

    async def found():
        store = await Store.open(path)
        try:
            await store.write(
                partial(insert_requests, records=[request_record(id="new", total_ms=1.0, cost_nanousd=1)])
            )
            queries = (
                {"session_id": "s1"},
                {"search": "tEXT 3"},
                {"search": "39\u00c4"},
                {"search": "39\u00e4"},
                {"status": "error"},
                {"min_latency_ms": 38.0, "min_cost_nanousd": 38},
            )
            return [await pages(store, LogFilter(**fields), 9) for fields in queries]
        finally:
            await store.close()

    numbers = list(map(str, range(40)))
    assert anyio.run(found) == [
        numbers[1::2],
        ["3", *numbers[30:]],
        ["39"],
        [],
        numbers,
        ["38", "39"],
    ]  # fmt: skip
