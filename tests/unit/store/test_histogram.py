import math

import pytest
from hypothesis import given, strategies as st

from voicegw_mcp.store.histogram import (
    LANES,
    RELATIVE_ERROR,
    Histogram,
    counts_up_to,
    grown_blob,
    lane_of,
    merged,
    percentiles_of,
)

latencies = st.floats(0.1, 1e7)


def exact(values, percent):
    ordered = sorted(values)
    rank = percent / 100 * (len(ordered) - 1)
    low, high = ordered[math.floor(rank)], ordered[math.ceil(rank)]
    return low + (high - low) * (rank - math.floor(rank))


def histogram(values):
    counts = {}
    for value in values:
        counts[lane_of(value)] = counts.get(lane_of(value), 0) + 1
    return Histogram.of_lanes(counts)


@given(st.lists(latencies, min_size=1, max_size=60), st.floats(0, 100))
def test_percentiles_are_within_the_stated_error(values, percent):
    (estimate,) = percentiles_of(histogram(values).lanes, (percent,))
    truth = exact(values, percent)
    assert abs(estimate - truth) <= truth * (RELATIVE_ERROR + 1e-9)


@given(st.lists(st.lists(latencies, max_size=20), max_size=6), st.booleans())
def test_merging_stored_histograms_counts_every_value_once(parts, wide):
    lanes = merged(histogram(part).to_blob(wide=wide) for part in parts)
    assert lanes == histogram([value for part in parts for value in part]).lanes


@pytest.mark.parametrize("count", [1, 255, 256, 65_535, 65_536, 2**32 - 1])
def test_counts_of_any_width_survive_storing(count):
    before = Histogram.of_lanes({0: 1, 7: count, LANES - 1: 2})
    after = Histogram()
    after.add_blob(before.to_blob())
    assert after.counts() == before.counts()


def test_values_outside_the_range_go_to_the_outer_lanes():
    assert [lane_of(ms) for ms in (-5, 0, 0.05)] == [0] * 3
    assert [lane_of(ms) for ms in (1.1e7, 1e9)] == [LANES - 1] * 2
    assert 0 < lane_of(0.11) < lane_of(9e6) < LANES


def test_an_empty_histogram_has_no_percentiles():
    assert percentiles_of(0, (50,)) == ()
    empty = Histogram()
    empty.add_blob(Histogram().to_blob())
    assert sum(empty.counts()) == 0


@pytest.mark.parametrize(
    "blob", [b"", b"\x01\x00", b"\x03\x00\x00abc", b"\x02\x00\x00abc", b"\x01\xff\xff\x01"]
)
def test_a_damaged_blob_is_refused(blob):
    with pytest.raises(ValueError, match="histogram"):
        Histogram().add_blob(blob)


@given(
    st.lists(
        st.dictionaries(st.integers(0, 30), st.sampled_from([1, 2, 200, 255, 256, 70_000]), max_size=6),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)
def test_a_stored_histogram_grows_into_what_the_sum_would_be_stored_as(parts, wide):
    blob = None
    for part in parts:
        blob = grown_blob(blob, part, wide=wide)
    assert blob == Histogram(sum(Histogram.of_lanes(part).lanes for part in parts)).to_blob(wide=wide)


@pytest.mark.parametrize("blob", [b"", b"\1", b"\3\0\0", b"\2\0\0\1", b"\1\xff\xff\1"])
def test_a_damaged_histogram_does_not_grow(blob):
    with pytest.raises(ValueError, match="histogram"):
        grown_blob(blob, {5: 1})


BOUNDS_MS = (50.0, 100.0, 750.0, 1000.0, 10_000.0)


@given(
    st.lists(latencies | st.sampled_from([b * f for b in BOUNDS_MS for f in (0.97, 1, 1.03)]), max_size=40)
)
def test_only_values_within_the_stated_error_of_a_bound_are_counted_on_its_other_side(values):
    *found, total = counts_up_to(histogram(values).lanes, BOUNDS_MS)
    assert total == len(values)
    for bound, count in zip(BOUNDS_MS, found, strict=True):
        least = sum(value * 1.0205 < bound for value in values)
        assert least <= count <= sum(value <= bound * 1.0205 for value in values)
