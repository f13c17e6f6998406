"""voicegw-mcp whose standard streams are not what it expects: closed before it starts."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from tests.e2e.conftest import BIN, COMMAND, WAIT_S
from tests.e2e.test_stdio import LOUD

MCP = (BIN / "voicegw", "mcp")
BOTH = pytest.mark.parametrize("command", [(COMMAND,), MCP])


def redirected(how, *command):
    """Return a command of the same process id whose streams a shell redirects first."""
    return ("/bin/sh", "-c", f'exec "$@" {how}', "sh", *command)


@pytest.mark.cover_processes
@BOTH
def test_a_signal_ends_it_though_standard_error_is_closed(spawn, command):
    server = spawn(command=redirected("2>&-", *command))
    server.initialize()
    assert server.health()["status"] == "ok"
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(WAIT_S) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_closed_standard_error_is_the_null_device_and_nothing_else_lands_there(spawn):
    server = spawn(command=redirected("2>&-", COMMAND))
    server.initialize()
    held = Path(f"/proc/{server.process.pid}/fd")
    # 0 and 1 are put aside while it serves.
    assert [str((held / name).readlink()) for name in "012"] == [os.devnull] * 3
    assert server.close() == 0


def test_stdout_holds_only_json_rpc_though_standard_error_is_closed(spawn, tmp_path):
    script = tmp_path / "loud.py"
    script.write_text(LOUD)
    server = spawn(command=redirected("2>&-", sys.executable, script))
    server.initialize()
    assert server.health()["status"] == "ok"
    assert server.close() == 0
    while server.line():
        pass
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in server.seen.splitlines())


@pytest.mark.cover_processes
def test_a_start_that_cannot_be_exits_with_2_though_standard_error_is_closed(spawn):
    server = spawn(command=redirected("2>&-", COMMAND, "--config", "/nowhere/voicegw.yaml"))
    assert server.process.wait(WAIT_S) == 2
    assert server.line() == b""


@BOTH
@pytest.mark.cover_processes
def test_it_does_not_start_without_a_standard_output_and_says_so(spawn, command):
    server = spawn(command=redirected(">&-", *command))
    assert server.process.wait(WAIT_S) == 2
    told = server.errors.read_text()
    assert told.startswith(f"{command[0].name}: VALIDATION_ERROR: Standard output is closed")
    assert "Traceback" not in told


@BOTH
@pytest.mark.cover_processes
def test_a_closed_standard_input_is_the_end_of_input(spawn, command):
    server = spawn(command=redirected("<&-", *command))
    assert server.process.wait(WAIT_S) == 0
    assert server.line() == b""
    assert server.errors.read_bytes() == b""


def test_without_any_standard_stream_it_ends(spawn):
    server = spawn(command=redirected("<&- >&- 2>&-", COMMAND))
    assert server.process.wait(WAIT_S) == 2
