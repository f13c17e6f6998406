"""Prometheus' own linter, where it is installed."""

import subprocess

from tests.programs import program_of


def promtool(*arguments, text=None, folder=None):
    """Run promtool; return its exit code and what it wrote."""
    done = subprocess.run(
        [program_of("prometheus", "promtool"), *arguments],
        input=text,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode()
