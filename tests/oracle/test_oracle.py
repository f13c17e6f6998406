import pytest
from tests.oracle.comparison import compare


@pytest.mark.unmeasured
def test_reports_on_many_calls_equal_an_independent_sum_to_the_nano_dollar_whatever_the_clocks_do(tmp_path):
    """The short form; a million calls: python -m tests.oracle."""
    comparison = compare(tmp_path, 15_000)
    assert comparison.differences == []
    assert comparison.nights >= 4
    assert comparison.compared > 2_000
    assert comparison.percentiles > 2_000
    assert comparison.worst_percentile <= 0.02
