"""Prometheus' own linter, where it is installed."""

import os
import shutil
import subprocess

import pytest


def promtool(*arguments, text=None, folder=None):
    """Run promtool; return its exit code and what it wrote. Without it a test is skipped, and fails in CI."""
    found = shutil.which("promtool")
    if found is None:
        reason = "promtool is missing; install it by: apt-get install prometheus"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run(
        [found, *arguments],
        input=text,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode()
