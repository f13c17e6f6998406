"""A disk that is really full: a small one in memory, in a mount namespace of the test's own."""

import json
import os
import subprocess
import sys

import pytest
from tests.e2e.test_mounts import may_mount

pytestmark = pytest.mark.skipif(
    not may_mount(), reason="mounting needs namespaces, which are not permitted here"
)

BOUND_S = 120
MOUNT = 'mount -t tmpfs -o size=3m tmpfs "$1" && shift && exec "$@"'
DRIVER = """
import json, os, subprocess, sys
from pathlib import Path
from voicegw_mcp.domain import Modality, RequestRecord
from voicegw_mcp.store.recorder import Recorder

small = Path(sys.argv[1])
store = small / "voicegw.db"
filler = small / "filler"

def row(name):
    return RequestRecord(f"{name}", 1_795_000_000_000, "p", Modality.LLM, "v", "m", cost_nanousd=1, error_message="x" * 200)

def fill():
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass

def voicegw(*arguments, **variables):
    command = [Path(sys.executable).with_name("voicegw"), *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables})
    assert "Traceback" not in done.stderr, done.stderr
    return [done.returncode, json.loads(done.stdout)]

def names():
    return sorted(path.name for path in small.iterdir() if not path.name.endswith(("-wal", "-shm")))

def tell(**found):
    print(json.dumps(found))
"""


def driven(folder, program):
    """Run a program with the small disk mounted at ``folder/small``, and return what it told."""
    (folder / "small").mkdir()
    kept = {name: value for name, value in os.environ.items() if name.startswith("COV") or name == "PATH"}
    environment = {
        **kept,
        "HOME": str(folder),
        "VOICEGW_DB_PATH": str(folder / "small" / "voicegw.db"),
    }
    command = [sys.executable, "-c", DRIVER + program, str(folder / "small")]
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", MOUNT, "sh", str(folder / "small"), *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_recorder_keeps_rows_until_there_is_room_and_loses_none(tmp_path):
    (found,) = driven(
        tmp_path,
        """
with Recorder(store) as recorder:
    for number in range(100):
        recorder.record(row(number))
    assert recorder.flush(30)
    fill()
    for number in range(100, 2_100):
        recorder.record(row(number))
    waited = recorder.flush(0.6)
    full = recorder.counts()
    filler.unlink()
    after = recorder.flush(60)
counts = recorder.counts()
tell(waited=waited, waiting=full.waiting, after=after, written=counts.written, lost=counts.lost,
     costs=voicegw("costs", "--start", "2026-11-18", "--end", "2026-11-18"))
""",
    )
    assert found["waited"] is False
    assert found["waiting"] > 0
    assert (found["after"], found["written"], found["lost"]) == (True, 2_100, {})
    assert found["costs"][1]["by_project"]["p"]["requests"] == 2_100


def test_rows_that_a_full_disk_cost_are_counted_and_told_by_the_next_who_records(tmp_path):
    found = driven(
        tmp_path,
        """
first = Recorder(store, most_waiting=500)
for number in range(100):
    first.record(row(number))
assert first.flush(30)
fill()
for number in range(2_000):
    first.record(row(f"b{number}"))
assert not first.flush(0.6)
filler.unlink()
assert first.flush(60)
first.close()
counts = first.counts()
tell(written=counts.written, lost=sum(counts.lost.values()), status=voicegw("status"))
""",
    )[0]
    assert found["written"] + found["lost"] == 2_100
    assert found["lost"] >= 500  # kept: what may wait, the batch in hand, and what still fitted onto the disk
    (warning,) = [text for text in found["status"][1]["warnings"] if "not recorded" in text]
    assert warning.startswith(f"{found['lost']} requests were not recorded by process ")
    assert "the queue was full because the store could not be written" in warning


def test_commands_on_a_full_disk_say_so_and_leave_everything_as_it_was(tmp_path):
    found = driven(
        tmp_path,
        """
with Recorder(store) as recorder:
    for number in range(600):
        recorder.record(row(number))
backup = small.parent / "b.db"
before = voicegw("backup", backup)
fill()
tell(what="backup", ran=voicegw("backup", small / "b.db"), names=names())
tell(what="restore", ran=voicegw("restore", backup), names=names())
tell(what="vacuum", ran=voicegw("prune", "--older-than", "36500", "--vacuum"), names=names())
other = {"VOICEGW_DB_PATH": str(backup)}  # a store as good as any, on another disk
tell(what="backup onto it", ran=voicegw("backup", small / "b.db", **other), names=names())
filler.unlink()
tell(what="after", ran=voicegw("backup", backup, "--force"), names=names(), before=before)
tell(what="repair", ran=voicegw("repair"), names=names())
""",
    )
    refused = {item["what"]: item for item in found[:4]}
    for what, item in refused.items():
        code, answer = item["ran"]
        assert (code, answer["error"]["code"]) == (3, "STORE_UNAVAILABLE"), what
        assert answer["error"]["details"]["reason"] == "full", what
        assert item["names"] == ["filler", "voicegw.db"], what
    told = refused["backup onto it"]["ran"][1]["error"]["message"]
    assert told == f"The disk that holds the file {tmp_path}/small/b.db is full."
    after, repair = found[4:]
    assert after["ran"][1]["rows"] == after["before"][1]["rows"]
    assert (repair["ran"][0], repair["ran"][1]["clean"]) == (0, True)
