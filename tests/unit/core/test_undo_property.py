"""Random changes, undos and redos on random files end with the bytes a model remembers; chance alone picks the sequence."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.chaos.sequences import run_sequence


@pytest.mark.unmeasured
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_sequences_of_changes_undos_and_redos_end_with_the_bytes_a_model_remembers(seed):
    with tempfile.TemporaryDirectory() as folder:
        assert run_sequence(seed, Path(folder)) == []
