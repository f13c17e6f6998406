"""Programs from Debian that tests run; `.ci/run` installs them."""

import os
import shutil

import pytest


def program_of(package, name):
    """Return where a program is. Without it a test is skipped, and fails in CI."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is missing; install it by: apt-get install {package}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return found
