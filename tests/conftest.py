import os

import pytest
from hypothesis import settings

# Chance finds new cases on a developer's machine; in CI the same commit gives the same answer.
# How long an example takes depends on what else the machine does: no test judges by it.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("by chance", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "by chance")


def pytest_xdist_auto_num_workers():
    """Return how many processes ``-n auto`` starts: tests wait for programs, disks and ports half of their time."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture
def anyio_backend():
    return "asyncio"
