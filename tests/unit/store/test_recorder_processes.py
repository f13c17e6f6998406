"""The recorder in processes that end in every way there is."""

import contextlib
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from voicegw_mcp.store.recorder import WINDOW_S
from voicegw_mcp.store.schema import connect, prepare

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and fork")

BOUND_S = 60
BEGINNING = """
import multiprocessing, os, signal, sys, threading, time
from pathlib import Path
from voicegw_mcp.domain import Modality, RequestRecord
from voicegw_mcp.store.recorder import Recorder

path = Path(sys.argv[1])

def row(name):
    return RequestRecord(f"{name}", 1_795_000_000_000, "p", Modality.LLM, "v", "m", cost_nanousd=1)

def record(recorder, name, count):
    for number in range(count):
        recorder.record(row(f"{name}-{number}"))

def ready():
    print("ready", flush=True)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "voicegw.db"


@contextlib.contextmanager
def running(program, path):
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", BEGINNING + program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process):
    out, errors = process.communicate(timeout=BOUND_S)
    return process.returncode, out, errors


def stored(path):
    with contextlib.closing(connect(path, timeout_s=5)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        names = [name for (name,) in connection.execute("SELECT id FROM requests")]
        counted = connection.execute(
            "SELECT COALESCE(SUM(requests), 0) FROM rollup WHERE grain_s = 86400"
        ).fetchone()[0]
        assert counted == len(names)
        return set(names)


def names(who, count):
    return {f"{who}-{number}" for number in range(count)}


def test_the_recorder_loads_no_server():
    program = "import voicegw_mcp.store.recorder, sys; print([name for name in sys.argv[1:] if name in sys.modules])"
    heavy = ["mcp", "anyio", "pydantic", "yaml", "starlette", "livekit"]
    out = subprocess.run(
        [sys.executable, "-c", program, *heavy], capture_output=True, text=True, check=True, timeout=BOUND_S
    )
    assert out.stdout.strip() == "[]"


def test_a_burst_and_then_sigterm_loses_nothing_and_ends_as_a_signal_ends(path):
    program = """
recorder = Recorder(path)
record(recorder, "r", 20_000)
ready()
signal.pause()
"""
    with running(program, path) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (-signal.SIGTERM, "", "")
    assert stored(path) == names("r", 20_000)


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("own", [True, False])
def test_a_recorder_that_came_after_another_one_has_the_rows_that_a_sigterm_brings(
    path, tmp_path, own, closed
):
    """As when another store is configured: the one before is closed in a thread, which may not touch signals."""
    program = f"""
if {own!r}:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
before = Recorder(path)
recorder = Recorder(path.with_name("other.db"))
record(before, "b", 10)
record(recorder, "r", 10)
before.before_end = recorder.before_end = lambda: record(recorder, "last", 10)
if {closed!r}:
    thread = threading.Thread(target=before.close)
    thread.start()
    thread.join()
ready()
signal.pause()
"""
    with running(program, path) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert ended(process) == ((3 if own else -signal.SIGTERM), "", "")
    assert stored(path) == names("b", 10)
    assert stored(tmp_path / "other.db") == names("r", 10) | (set() if own else names("last", 10))


@pytest.mark.parametrize("order", ["before", "after"])
def test_an_event_loop_with_its_own_handler_ends_by_itself_and_loses_nothing(path, order):
    program = f"""
import asyncio

async def main():
    stopping = asyncio.Event()
    if {order!r} == "after":
        recorder = Recorder(path)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    if {order!r} == "before":
        recorder = Recorder(path)
    record(recorder, "r", 5_000)
    ready()
    await stopping.wait()
    record(recorder, "last", 100)
    print("stopped", flush=True)

asyncio.run(main())
"""
    with running(program, path) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (0, "stopped\n", "")
    assert stored(path) == names("r", 5_000) | names("last", 100)


@pytest.mark.parametrize(
    "end", ["pass", "sys.exit(0)", "threading.Thread(target=record, args=(recorder, 't', 9)).start()"]
)
def test_at_the_end_of_the_program_nothing_is_lost(path, end):
    program = f"""
recorder = Recorder(path)
record(recorder, "r", 3_000)
{end}
"""
    with running(program, path) as process:
        assert ended(process) == (0, "", "")
    assert stored(path) == names("r", 3_000) | (names("t", 9) if "Thread" in end else set())


def test_sigkill_loses_no_more_than_the_window_and_the_batch_being_written(path):
    program = """
recorder = Recorder(path)
number = 0
while True:
    recorder.record(row(number))
    print(number, time.monotonic(), flush=True)
    number += 1
    threading.Event().wait(0.002)
"""
    acknowledged = {}
    with running(program, path) as process:
        began = time.monotonic()
        for line in process.stdout:
            number, at = line.split()
            acknowledged[number] = float(at)
            if time.monotonic() - began > 3:
                break
        killed = time.monotonic()
        process.kill()
    # One second for the batch: what is stated is a window, not how fast this machine's disk is.
    settled = {number for number, at in acknowledged.items() if at < killed - WINDOW_S - 1}
    assert settled
    assert settled <= stored(path)


def test_the_child_of_a_fork_records_for_itself_while_the_parent_goes_on(path):
    program = """
recorder = Recorder(path)
record(recorder, "before", 700)
children = []
for child in range(5):
    record(recorder, f"between{child}", 300)
    pid = os.fork()
    if pid == 0:
        record(recorder, f"child{child}", 1_000)
        sys.exit(0)
    children.append(pid)
    record(recorder, f"parent{child}", 1_000)
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
"""
    with running(program, path) as process:
        assert ended(process) == (0, "", "")
    expected = names("before", 700)
    for child in range(5):
        expected |= (
            names(f"between{child}", 300) | names(f"child{child}", 1000) | names(f"parent{child}", 1000)
        )
    assert stored(path) == expected


def test_a_child_goes_on_recording_after_its_parent_has_closed_the_store(path):
    program = """
recorder = Recorder(path)
record(recorder, "parent", 10)
assert recorder.flush()
read, write = os.pipe()
told, tell = os.pipe()
if os.fork() == 0:
    record(recorder, "first", 10)
    assert recorder.flush()
    os.write(tell, b".")
    os.read(read, 1)  # until the parent has closed, and opened anew
    record(recorder, "second", 10)
    assert recorder.close()
    os._exit(0)
record(recorder, "between", 10)
assert recorder.flush()
os.read(told, 1)  # until the child has its connection
recorder.close()
anew = Recorder(path)
record(anew, "anew", 10)
assert anew.flush()
os.write(write, b".")
assert os.wait()[1] == 0
record(anew, "last", 10)
anew.close()
"""
    with running(program, path) as process:
        assert ended(process) == (0, "", "")
    assert stored(path) == set().union(
        *(names(who, 10) for who in ("parent", "first", "between", "anew", "second", "last"))
    )


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_multiprocessing_child_that_skips_atexit_loses_nothing(tmp_path, method):
    path = tmp_path / "voicegw.db"
    module = tmp_path / "program.py"
    module.write_text(
        BEGINNING
        + f"""
def work(name):
    record(Recorder(path), name, 2_000)

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    jobs = [context.Process(target=work, args=(f"job{{number}}",)) for number in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
        assert job.exitcode == 0
""",
        encoding="utf-8",
    )
    subprocess.run([sys.executable, str(module), str(path)], check=True, timeout=BOUND_S)
    assert stored(path) == names("job0", 2000) | names("job1", 2000) | names("job2", 2000)


def test_several_processes_record_into_one_store_at_once(path):
    program = """
recorder = Recorder(path)
record(recorder, os.getpid(), 4_000)
print(os.getpid())
"""
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(running(program, path)) for _ in range(4)]
        ends = [ended(process) for process in processes]
    # What is written to stderr depends on how long they keep each other waiting.
    assert [code for code, _, _ in ends] == [0] * 4
    assert stored(path) == set().union(*(names(out.strip(), 4000) for _, out, _ in ends))


def test_a_store_that_another_process_holds_is_written_when_it_lets_go(path):
    prepare(path, deadline=time.monotonic() + 5)
    program = """
recorder = Recorder(path)
record(recorder, "r", 2_000)
ready()
sys.stdin.readline()
"""
    with (
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other,
        running(program, path) as process,
    ):
        other.execute("BEGIN EXCLUSIVE")
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("\n")
        process.stdin.flush()
        other.execute("ROLLBACK")
        code, _, _ = ended(process)
        assert code == 0
    assert stored(path) == names("r", 2_000)


def test_a_disk_that_is_full_takes_the_rows_once_there_is_room(path):
    program = """
import resource
recorder = Recorder(path)
record(recorder, "first", 10)
assert recorder.flush()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(f"{path}-wal"), most[1]))
record(recorder, "r", 3_000)
assert not recorder.flush(0.5)
resource.setrlimit(resource.RLIMIT_FSIZE, most)
assert recorder.flush(30)
"""
    with running(program, path) as process:
        code, _, errors = ended(process)
    assert code == 0, errors
    assert stored(path) == names("first", 10) | names("r", 3_000)


def test_a_program_that_ends_while_the_store_is_locked_says_what_it_lost(path):
    prepare(path, deadline=time.monotonic() + 5)
    program = """
import logging
logging.basicConfig(format="%(message)s", level=logging.ERROR)
recorder = Recorder(path)
record(recorder, "r", 100)
assert not recorder.close(0.2)
"""
    with (
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other,
        running(program, path) as process,
    ):
        other.execute("BEGIN IMMEDIATE")
        code, _, errors = ended(process)
    assert code == 0
    assert errors.startswith("100 requests were not recorded: The store ")
    assert len(errors.splitlines()) == 1
