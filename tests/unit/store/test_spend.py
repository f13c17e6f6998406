"""What projects have spent, as the store's sums tell it to a process without an event loop."""

import contextlib

import pytest
from hypothesis import given, strategies as st
from tests.factories import NOW, request_record

from voicegw_mcp.domain import QUARTER_MS, RequestStatus
from voicegw_mcp.errors import StoreUnavailable
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.schema import connect, prepare
from voicegw_mcp.store.spend import Spent, spend_state

FIRST = NOW // QUARTER_MS * QUARTER_MS


def fill(path, rows):
    prepare(path, deadline=float("inf"))
    with contextlib.closing(connect(path, timeout_s=5)) as connection:
        connection.execute("BEGIN")
        insert_requests(connection, rows)
        connection.execute("COMMIT")


@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 400 * QUARTER_MS),
            st.sampled_from(["p0", "p1", "p\0"]),
            st.sampled_from(list(RequestStatus)),
            st.one_of(st.none(), st.integers(0, 10**12)),
        ),
        max_size=30,
    ),
    span=st.tuples(st.integers(0, 300), st.integers(1, 200)),
)
def test_it_is_what_the_rows_of_the_span_cost(rows, span, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "voicegw.db"
    records = [
        request_record(id=f"r{n}", timestamp_ms=FIRST + at, project=project, status=status, cost_nanousd=cost)
        for n, (at, project, status, cost) in enumerate(rows)
    ]
    fill(path, records)
    start, end = FIRST + span[0] * QUARTER_MS, FIRST + (span[0] + span[1]) * QUARTER_MS
    with spend_state(path) as state:
        for project in ("p0", "p1", "p\0"):
            own = [each for each in records if each.project == project and start <= each.timestamp_ms < end]
            assert state.spent(project, start, end) == Spent(
                sum(each.cost_nanousd or 0 for each in own), sum(each.cost_nanousd is None for each in own)
            )
        assert state.present([f"r{n}" for n in range(1000)]) == {each.id for each in records}


def test_sum_and_rows_are_of_one_moment_whatever_is_written_meanwhile(tmp_path):
    path = tmp_path / "voicegw.db"
    fill(path, [request_record(id="before", timestamp_ms=FIRST, cost_nanousd=5)])
    with spend_state(path) as state:
        assert state.spent("p0", FIRST, FIRST + QUARTER_MS) == (5, 0)
        fill(path, [request_record(id="meanwhile", timestamp_ms=FIRST, cost_nanousd=7)])
        assert state.present(["before", "meanwhile"]) == {"before"}
        assert state.spent("p0", FIRST, FIRST + QUARTER_MS) == (5, 0)
    with spend_state(path) as state:
        assert state.spent("p0", FIRST, FIRST + QUARTER_MS) == (12, 0)


def test_of_a_store_that_nobody_made_yet_nothing_was_spent_and_none_is_made(tmp_path):
    with spend_state(tmp_path / "voicegw.db") as state:
        assert state.spent("p0", FIRST, FIRST + QUARTER_MS) == (0, 0)
        assert state.present(["r"]) == set()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_store_is_told(tmp_path):
    path = tmp_path / "voicegw.db"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreUnavailable, match="damaged"), spend_state(path) as state:
        state.spent("p0", FIRST, FIRST + QUARTER_MS)
