import sqlite3
from contextlib import closing

from hypothesis import given, strategies as st

from voicegw_mcp.store.peaks import cost_step, latency_step, merge_peaks, peaks_of, reach_test

latencies = st.one_of(st.none(), st.integers(0, 10**10), st.integers(0, 300))
costs = st.one_of(st.none(), st.integers(0, 10**13), st.integers(0, 10))
requests = st.lists(st.tuples(latencies, costs), max_size=30)


def reaches(peaks, latency_us, cost):
    test = reach_test("?1", "?2", "?3")
    with closing(sqlite3.connect(":memory:")) as connection:
        values = (peaks, latency_step(latency_us), bytes((cost_step(cost),)))
        return bool(connection.execute(f"SELECT {test}", values).fetchone()[0])


@given(st.integers(0, 2**63), st.integers(0, 2**63))
def test_a_larger_number_never_has_a_lower_step(one, other):
    small, large = sorted((one, other))
    for step in (latency_step, cost_step):
        assert 1 <= step(small) <= step(large)
    assert latency_step(10**10) < 128
    assert cost_step(large) <= 255


@given(requests, st.integers(1, 5))
def test_peaks_are_the_same_whatever_way_they_are_put_together(rows, size):
    parts = [peaks_of(rows[start : start + size]) for start in range(0, len(rows), size)]
    assert (
        merge_peaks(parts)
        == peaks_of(rows)
        == merge_peaks([merge_peaks(parts[::2]), merge_peaks(parts[1::2])])
    )
    assert merge_peaks([]) == b""


@given(requests, st.integers(0, 10**11), st.integers(0, 10**14))
def test_a_request_that_is_there_is_never_out_of_reach(rows, latency_us, cost):
    known = [(us, amount) for us, amount in rows if us is not None and amount is not None]
    peaks = peaks_of(rows)
    # Within a step it may be said of a request that there is none.
    near = any(
        latency_step(us) >= latency_step(latency_us) and cost_step(amount) >= cost_step(cost)
        for us, amount in known
    )
    assert reaches(peaks, latency_us, cost) is near
    for us, amount in known:
        assert reaches(peaks, us, amount)


def test_what_is_not_known_may_reach_anything():
    assert reaches(None, 10**10, 10**13)
    assert not reaches(b"", 0, 0)
