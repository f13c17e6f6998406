"""Runs a section in a process of its own for the tests, with few rounds, and reads its figures.

A worker of the test runner has threads and may not fork; and what coverage adds to a process would be traced too.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from tests.proof import CANNOT_RUN, ROOT

BOUND_S = 240


def run_short(name: str, *, rounds: int, seed: int, proof: str = "chaos") -> dict[str, Any]:
    """Return the figures of a section by name; skip the test where ptrace is not permitted.

    Fails when there were violations: they are printed with the command that repeats each.
    """
    options = ["--only", name, "--seed", str(seed), "--rounds", str(rounds), "--json"]
    command = [sys.executable, "-m", f"tests.{proof}", *options]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=BOUND_S, check=False
    )
    if done.returncode == CANNOT_RUN:
        pytest.skip(done.stdout.strip())
    if done.returncode not in {0, 1}:
        pytest.fail(done.stdout + done.stderr)
    found = json.loads(done.stdout)
    if found["violations"]:
        pytest.fail("\n".join(found["violations"]))
    return dict(found["figures"])
