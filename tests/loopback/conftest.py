"""Nothing may be left open."""

import gc

import pytest


@pytest.fixture(autouse=True, scope="module")
def _no_leaks():
    """What is left open shows as a warning, an error here, while the module is still running."""
    yield
    gc.collect()
