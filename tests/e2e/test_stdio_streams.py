"""voicegw-mcp whose standard streams are not what it expects: closed, full, without a reader, or not waiting for one."""

import fcntl
import json
import os
import signal
import struct
import sys
import termios
import time
from pathlib import Path

import pytest
from tests.e2e.conftest import BIN, COMMAND, WAIT_S
from tests.e2e.test_stdio import LOUD

MCP = (BIN / "voicegw", "mcp")
BOTH = pytest.mark.parametrize("command", [(COMMAND,), MCP])
NON_BLOCKING = """
import os, sys
os.set_blocking(1, False)
os.execv(sys.argv[1], sys.argv[1:])
"""


def redirected(how, *command):
    """Return a command of the same process id whose streams a shell redirects first."""
    return ("/bin/sh", "-c", f'exec "$@" {how}', "sh", *command)


def wait_until_full(pipe):
    """Return when a pipe of one page holds that page."""
    size = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
    until = time.monotonic() + WAIT_S
    held = 0
    while held < size:
        assert time.monotonic() < until, f"{held} of {size} bytes within {WAIT_S} s"
        (held,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))


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


@pytest.mark.skipif(sys.platform != "linux", reason="only there a pipe can be made small and looked into")
def test_a_client_that_reads_late_gets_all_answers_in_order_though_its_pipe_does_not_wait(spawn):
    server = spawn(command=(sys.executable, "-c", NON_BLOCKING, COMMAND))
    pipe = server.process.stdout.fileno()
    server.initialize()
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1)  # the least there is, a page
    asked = [server.ask("tools/list") for _ in range(5)]
    wait_until_full(pipe)
    answers = [server.answer(one)["result"]["tools"] for one in asked]
    assert all(answer == answers[0] for answer in answers)
    assert server.health()["status"] == "ok"
    assert server.close() == 0
    assert server.errors.read_bytes() == b""


@pytest.mark.cover_processes
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_standard_output_ends_it_with_1_and_one_line_that_says_so(spawn):
    server = spawn(command=redirected(">/dev/full", COMMAND))
    server.ask("ping")  # its input stays open
    assert server.process.wait(WAIT_S) == 1
    (line,) = server.errors.read_text().splitlines()
    assert line.startswith("voicegw-mcp: READ_ONLY_RESOURCE: Standard output cannot be written (No space")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_standard_output_ends_it_also_where_standard_error_is_full(spawn):
    server = spawn(command=redirected(">/dev/full 2>&1", COMMAND))
    server.ask("ping")
    assert server.process.wait(WAIT_S) == 1


@BOTH
@pytest.mark.cover_processes
def test_a_client_that_reads_no_more_ends_it_in_silence_though_its_input_stays_open(spawn, command):
    server = spawn(command=command)
    server.initialize()
    server.process.stdout.close()
    server.ask("tools/list")
    assert server.process.wait(WAIT_S) == 1
    assert server.errors.read_bytes() == b""
