import os

import pytest
from hypothesis import settings

# Chance finds new cases on a developer's machine; in CI the same commit gives the same answer.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture
def anyio_backend():
    return "asyncio"
