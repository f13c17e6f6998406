import os

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
    """Measure the processes of a test when it is marked ``cover_processes``: a start costs half as much again with it."""
    told = os.environ.get(MEASURED_BY)
    if told and not item.get_closest_marker("cover_processes"):
        del os.environ[MEASURED_BY]
    try:
        return (yield)
    finally:
        if told:
            os.environ[MEASURED_BY] = told


@pytest.fixture
def anyio_backend():
    return "asyncio"
