"""File and journal when one of them is locked, gone, spoilt, or comes from a backup: real servers and commands."""

import os
import select
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
import yaml
from tests.e2e.conftest import BIN, CONFIG, WAIT_S

from voicegw_mcp.config.disk import version_of
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.undo import undo_change
from voicegw_mcp.errors import Conflict, InvalidInput

HOLDER = """
import sys
import filelock
with filelock.FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""
ANSWER_S = 8
"""Within this a call must be answered whose file another process holds: the server gives up after 5 seconds."""


def project(name, **fields):
    return {"project_id": name, "name": name.title(), **fields}


@pytest.fixture
def server(spawn):
    server = spawn()
    server.initialize()
    return server


@pytest.fixture
def hold(config):
    """Starts processes that hold the file's lock; whatever still runs at the end is killed by its pid."""
    started = []

    def hold():
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, config.with_name(f".{config.name}.lock")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield hold
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(WAIT_S)
        process.stdin.close()
        process.stdout.close()


@pytest.fixture
def check(environment, tmp_path):
    """Runs ``voicegw check`` and returns its exit code and all it said."""

    def check(*arguments):
        done = subprocess.run(
            [BIN / "voicegw", "check", *arguments],
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
            cwd=tmp_path,
            env={**environment, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "1000"},
        )
        assert "Traceback" not in done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr

    return check


@pytest.fixture
async def gateway(config, environment):
    gateway = Gateway.open(str(config), door="test", environment=environment)
    yield gateway
    await gateway.close()


def journal(environment):
    """Return id, state and versions of all changes, oldest first."""
    with closing(sqlite3.connect(environment["VOICEGW_DB_PATH"])) as connection:
        return connection.execute(
            "SELECT id, state, version_before, version_after FROM changes ORDER BY id"
        ).fetchall()


def back_up(environment, to):
    """Copy the store as a backup program does."""
    with (
        closing(sqlite3.connect(environment["VOICEGW_DB_PATH"])) as connection,
        closing(sqlite3.connect(to)) as copy,
    ):
        connection.backup(copy)


def restore(environment, backup):
    for name in ("", "-wal", "-shm"):
        path = environment["VOICEGW_DB_PATH"] + name
        if os.path.exists(path):  # noqa: PTH110 - a name with a suffix, not a path to walk
            os.unlink(path)  # noqa: PTH108
    shutil.copy(backup, environment["VOICEGW_DB_PATH"])


def test_a_lock_that_a_killed_process_held_does_not_block(server, hold, config):
    holder = hold()
    holder.kill()
    holder.wait(WAIT_S)
    assert config.with_name(f".{config.name}.lock").exists()
    assert server.call("create_project", **project("after"))["change_id"]


def test_a_lock_that_a_living_process_holds_is_a_conflict_that_says_when_to_come_again(
    server, hold, config, environment
):
    server.call("create_project", **project("before"))
    known = config.read_bytes(), journal(environment)
    holder = hold()
    asked = server.ask("tools/call", name="create_project", arguments=project("new"))
    assert server.call("get_project", project_id="before")["name"] == "Before", "reading goes on"
    ready, _, _ = select.select([server.process.stdout], [], [], ANSWER_S)
    assert ready, "the call is still waiting"
    error = server.answer(asked)["result"]["structuredContent"]["error"]
    assert error["code"] == "CONFLICT"
    assert 0 < error["details"]["retry_after_ms"] <= 10_000
    assert "Nothing was written" in error["hint"]
    assert (config.read_bytes(), journal(environment)) == known
    holder.stdin.close()
    assert holder.wait(WAIT_S) == 0
    assert server.call("create_project", **project("new"))["change_id"]


def vanish(path):
    path.unlink()


def become_a_folder(path):
    path.unlink()
    path.mkdir()


def dangle(path):
    path.unlink()
    path.symlink_to("nowhere.yaml")


def loop(path):
    path.unlink()
    path.symlink_to(path.name)


def become_binary(path):
    path.write_bytes(b"\x7fELF\x02\x01\x01\0\0\xff" + bytes(range(256)))


def become_latin(path):
    path.write_bytes(CONFIG.encode() + "# Grüße\n".encode("latin-1"))


def lose_its_permissions(path):
    path.chmod(0)


SPOILT = {
    "vanished": (vanish, "the file is gone", "There is no file"),
    "became a folder": (become_a_folder, "the file cannot be read (Is a directory)", ""),
    "became a dangling symlink": (dangle, "the file is gone", "is no file that can be read"),
    "became a symlink to itself": (loop, "the file cannot be read (Too many levels of symbolic links)", ""),
    "became binary": (
        become_binary,
        "zero bytes: it is binary or UTF-16",
        "zero bytes: it is binary or UTF-16",
    ),
    "is no UTF-8": (become_latin, "is not valid UTF-8", "is not valid UTF-8"),
    "lost its permissions": pytest.param(
        lose_its_permissions,
        "the file cannot be read (Permission denied)",
        "the file cannot be read (Permission denied)",
        marks=pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file, whatever its mode"),
    ),
}


@pytest.mark.parametrize(("spoil", "told", "checked"), SPOILT.values(), ids=SPOILT)
def test_a_spoilt_file_is_told_clearly_and_all_works_once_it_is_back(
    server, check, config, environment, tmp_path, spoil, told, checked
):
    made = server.call("create_project", **project("before"))
    good = config.read_bytes()
    served = server.call("list_projects")
    rows = journal(environment)
    spoil(config)
    spoilt = sorted(path.name for path in tmp_path.iterdir())
    health = server.health()
    assert health["status"] == "degraded"
    assert told in health["config"]["error"]["message"]
    assert health["config"]["error"]["file"] == str(config)
    assert min(health["config"]["error"]["line"], health["config"]["error"]["column"]) >= 1
    assert health["config"]["version"] == made["config_version"]
    assert server.call("list_projects") == served
    for dry_run in (True, False):
        refused = server.call("create_project", **project("new"), dry_run=dry_run)
        assert refused["error"]["code"] == "CONFIG_INVALID"
    code, said = check()
    assert code == 2
    assert str(config) in said
    assert checked in said
    assert sorted(path.name for path in tmp_path.iterdir()) == spoilt
    assert journal(environment) == rows
    if config.is_dir():
        config.rmdir()
    else:
        config.unlink(missing_ok=True)
    config.write_bytes(good)
    assert server.call("create_project", **project("new"))["change_id"]
    assert server.health()["status"] == "ok"
    assert check()[0] == 0


def test_a_file_restored_from_a_backup_is_told_by_the_change_it_is_at_and_what_is_not_in_it(
    server, check, config, tmp_path
):
    ids = [server.call("create_project", **project("p0"))["change_id"]]
    assert server.health()["config"].get("journal") is None
    backup = shutil.copy(config, tmp_path / "backup.yaml")
    ids += [server.call("create_project", **project(f"p{number}"))["change_id"] for number in (1, 2)]
    shutil.copy(backup, config)
    health = server.health()
    assert health["status"] == "ok"
    for said in (health["config"]["journal"], check()[1], check("--json")[1]):
        assert ids[0] in said
        assert "2 later changes" in said
    assert check()[0] == 0
    assert server.call("create_project", **project("p3"))["change_id"]
    assert server.health()["config"].get("journal") is None
    assert set(yaml.safe_load(config.read_text())["projects"]) == {"kept", "p0", "p3"}


def test_a_file_edited_by_hand_is_told_by_the_last_change_of_the_journal(server, check, config):
    change = server.call("create_project", **project("p0"))["change_id"]
    config.write_text(config.read_text() + "# by hand\n")
    for said in (server.health()["config"]["journal"], check()[1]):
        assert change in said
        assert "edited since" in said


async def test_undo_takes_nothing_back_that_a_restored_file_does_not_have(
    server, config, environment, gateway
):
    server.call("create_project", **project("p0"))
    backup = config.read_bytes()
    late = server.call("create_project", **project("p1"))["change_id"]
    again = server.call("create_project", **project("p0", daily_budget=7), on_conflict="update")["change_id"]
    config.write_bytes(backup)
    for change in (late, again):
        with pytest.raises(Conflict, match="was changed since"):
            await undo_change(gateway, change, tool="test")
    assert config.read_bytes() == backup
    assert [state for _, state, _, _ in journal(environment)] == ["applied"] * 3


async def test_a_store_restored_from_a_backup_older_than_the_file_loses_nothing_of_the_file(
    spawn, config, environment, tmp_path, gateway
):
    first = spawn()
    first.initialize()
    early = first.call("create_project", **project("p0"))["change_id"]
    touched = first.call("create_project", **project("p1"))["change_id"]
    back_up(environment, tmp_path / "backup.db")
    late = first.call("create_project", **project("p1", daily_budget=3), on_conflict="update")["change_id"]
    first.call("create_project", **project("p2"))
    assert first.close() == 0
    restore(environment, tmp_path / "backup.db")
    before = config.read_bytes()
    second = spawn()
    second.initialize()
    assert second.health()["status"] == "ok"
    made = second.call("create_project", **project("p3"))
    assert config.read_bytes().startswith(before.partition(b"\nsecurity:")[0])
    rows = journal(environment)
    assert [row[0] for row in rows] == [early, touched, made["change_id"]]
    assert rows[-1][1:] == ("applied", version_of(before), version_of(config.read_bytes()))
    with pytest.raises(Conflict, match=r"projects\.p1 was changed since"):
        await undo_change(gateway, touched, tool="test")
    with pytest.raises(InvalidInput, match="There is no change"):
        await undo_change(gateway, late, tool="test")
    await undo_change(gateway, early, tool="test")
    projects = yaml.safe_load(config.read_text())["projects"]
    assert set(projects) == {"kept", "p1", "p2", "p3"}
    assert projects["p1"]["daily_budget"] == 3


def test_a_store_restored_from_a_backup_older_than_the_file_is_told(spawn, check, environment, tmp_path):
    first = spawn()
    first.initialize()
    early = first.call("create_project", **project("p0"))["change_id"]
    back_up(environment, tmp_path / "backup.db")
    first.call("create_project", **project("p1"))
    assert first.close() == 0
    restore(environment, tmp_path / "backup.db")
    second = spawn()
    second.initialize()
    for said in (second.health()["config"]["journal"], check()[1]):
        assert early in said
        assert "restored from an older backup" in said


def test_a_store_that_was_deleted_begins_anew_and_the_file_stays_as_it_is(spawn, config, environment):
    first = spawn()
    first.initialize()
    first.call("create_project", **project("p0"))
    assert first.close() == 0
    os.unlink(environment["VOICEGW_DB_PATH"])  # noqa: PTH108
    before = config.read_bytes()
    second = spawn()
    second.initialize()
    assert second.health()["status"] == "ok"
    assert config.read_bytes() == before
    made = second.call("create_project", **project("p1"))["change_id"]
    assert [row[:2] for row in journal(environment)] == [(made, "applied")]
    assert set(yaml.safe_load(config.read_text())["projects"]) == {"kept", "p0", "p1"}
