import os
import sys
import threading

import pytest
from hypothesis import settings

# Chance finds new cases on a developer's machine; in CI the same commit gives the same answer.
# How long an example takes depends on what else the machine does: no test judges by it.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("by chance", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "by chance")

MEASURED_BY = "COVERAGE_PROCESS_CONFIG"
"""What coverage tells a process by to measure itself."""


def pytest_xdist_auto_num_workers():
    """Return how many processes ``-n auto`` starts: tests wait for programs, disks and ports half of their time."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Measure coverage where it may say something new: tracing costs half as much again as what it traces.

    The processes of a test are measured when it is marked ``cover_processes``; the test itself is not when it is
    marked ``unmeasured``. (The mark ``no_cover`` of pytest-cov has no effect in the processes of xdist.)
    """
    told = os.environ.get(MEASURED_BY)
    tracing, tracing_threads = sys.gettrace(), threading.gettrace()
    if told and not item.get_closest_marker("cover_processes"):
        del os.environ[MEASURED_BY]
    unmeasured = item.get_closest_marker("unmeasured")
    if unmeasured:
        sys.settrace(None)
        threading.settrace(None)
    try:
        return (yield)
    finally:
        if unmeasured:
            sys.settrace(tracing)
            threading.settrace(tracing_threads)
        if told:
            os.environ[MEASURED_BY] = told


@pytest.fixture
def anyio_backend():
    return "asyncio"
