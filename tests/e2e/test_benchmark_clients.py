"""Many clients at once are measured over every transport, an error is never counted as a fast call, and no server stays."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
COMMAND = [sys.executable, BENCHMARKS / "run.py", "--only", "clients", "--short", "--sizes", "2000"]
WAIT_S = 180
ANSWERS_AN_ERROR = """
import sys
for line in sys.stdin:
    print('{"jsonrpc":"2.0","id":"at-once","result":{"content":[{"text":"no store"}],"isError":true}}', flush=True)
"""
GOES_AWAY = "import sys; sys.stdin.readline()"


@pytest.fixture
def parts(monkeypatch):
    """Let the modules of the benchmark be imported by name."""
    monkeypatch.syspath_prepend(BENCHMARKS)


def processes_that_know(text):
    """Return the ids of the processes with ``text`` in their environment."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            if text.encode() in file.read_bytes():
                found.append(file.parent.name)
        except OSError:
            continue  # it ended meanwhile, or is not ours to look at
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks read /proc")
def test_clients_are_measured_over_every_transport_and_leave_no_server_behind(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        [*COMMAND, "--stores", tmp_path / "kept", "--json", "-"],
        env={**os.environ, "HOME": str(tmp_path), "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cells = {}
    for figure in json.loads(done.stdout)["clients"]["figures"]:
        assert figure["median"] > 0
        cells.setdefault((figure["table"], figure["name"]), set()).add(figure["column"])
    calls = {"no-op, bare", "get_health", "get_costs month", "get_logs(50)"}
    for transport in ("stdio", "/mcp 2025", "/mcp 2026", "/sse"):
        for crowd in (f"1 client, {transport}", f"2 clients, {transport}"):
            assert cells["Calls per second of all clients", crowd] == {*calls, "get_health / no-op"}
            assert cells["p50 of a call", crowd] == cells["p95 of a call", crowd] == calls
    assert processes_that_know(str(scratch)) == []
    assert list(scratch.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks read /proc")
@pytest.mark.parametrize("stage", ["clients over stdio", "clients over HTTP"])
def test_a_run_that_is_ended_leaves_nothing_behind(tmp_path, stage):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with subprocess.Popen(
        [*COMMAND, "--stores", tmp_path / "kept"],
        env={**os.environ, "HOME": str(tmp_path), "TMPDIR": str(scratch)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert any(stage in line for line in process.stderr)
            process.terminate()
            assert process.wait(WAIT_S) == 128 + signal.SIGTERM
        finally:
            process.kill()
    assert processes_that_know(str(scratch)) == []
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("program", "told"), [(ANSWERS_AN_ERROR, "no store"), (GOES_AWAY, "get_health: b''")]
)
@pytest.mark.usefixtures("parts")
def test_a_call_that_fails_ends_the_measurement(tmp_path, program, told):
    import stdio_load
    from at_once import HEALTH
    from client import LineClient

    with (
        LineClient([sys.executable, "-c", program], {}, tmp_path / "stderr.log") as client,
        pytest.raises(RuntimeError, match=told),
    ):
        stdio_load.call_at_once([client], HEALTH, 5)
