"""How many requests go to a provider in any 60 s."""

from hypothesis import example, given, strategies as st

from voicegw_mcp.core.rate_limits import WINDOW_S, RateLimits


@given(
    st.lists(st.tuples(st.floats(0, 40, allow_nan=False), st.sampled_from(["a", "b"])), max_size=80),
    st.integers(1, 6),
)
@example(gaps=[(4.511489025646391, "a"), (0.0, "a")], limit=1)  # sums of floats are rounded
def test_no_minute_has_more_than_the_limit_and_nothing_is_refused_without_need(gaps, limit):
    now = [0.0]
    limits, sent = RateLimits(lambda: now[0]), {"a": [], "b": []}
    for gap, provider in gaps:
        now[0] += gap
        lately = [moment for moment in sent[provider] if now[0] - moment < WINDOW_S]
        wait_s = limits.take(provider, limit)
        assert (wait_s == 0) == (len(lately) < limit)
        if wait_s:
            assert 0 < wait_s <= WINDOW_S
        else:
            sent[provider].append(now[0])


def test_what_is_told_to_wait_is_enough_also_after_the_limit_was_lowered():
    now = [0.0]
    limits = RateLimits(lambda: now[0])
    for moment in (0, 10, 20, 30):
        now[0] = moment
        assert limits.take("a", 4) == 0
    now[0] = 31
    assert limits.take("a", 4) == 29
    assert limits.take("a", 2) == 49  # until only the one of second 30 is left
    now[0] = 80
    assert limits.take("a", 2) == 0
