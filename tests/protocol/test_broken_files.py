"""The file and the store can break at any time: reads go on, writes refuse, get_health names the place."""

import contextlib
import errno
import os
import sqlite3
import stat
import time

import anyio
import pytest
from tests.factories import request_record
from tests.protocol.agents import FILE

from voicegw_mcp.config import replacement
from voicegw_mcp.store.sqlite import Store

ADD = {"project_id": "new", "name": "New"}
BROKEN = {
    "a syntax error": ("projects:\n  p: {name: [P\n", 3, None, ""),
    "a tab": ("projects:\n\tp:\n", 2, 1, "Indent with spaces"),
    "a duplicate key": ("projects:\n  p: {name: A}\n  p: {name: B}\n", 3, 3, ""),
    "a wrong type": ("projects:\n  p:\n    name: A\n    daily_budget: lots\n", 4, 5, ""),
    "a negative budget": ("projects:\n  p:\n    name: A\n    daily_budget: -1\n", 4, 5, ""),
    "an unknown key": ("projects:\n  p:\n    name: A\n    dayly_budget: 1\n", 4, 5, "Did you mean 'daily_budget'?"),
    "an unknown section": ("provider: {}\n", 1, 1, "Did you mean 'providers'?"),
    "a missing key": ("projects:\n  p:\n    description: x\n", 2, 3, ""),
    "a reference that stands for nothing": ("cost_tracking:\n  db_path: ${NOBODY_SET_THIS}\n", 2, 3, "Run: voicegw secrets set NOBODY_SET_THIS"),
    "a model id in two modalities": ("models:\n  stt: {m: {provider: a}}\n  llm: {m: {provider: a}}\n", 3, 9, "another id"),
    "a list": ("- a\n", 1, 1, "providers:"),
    "a zone nobody knows": ("timezone: Mars/Base\n", 1, 1, ""),
    "zero bytes": ("a\0b: 1\n", 1, 1, ""),
    "two documents": ("timezone: UTC\n---\ntimezone: UTC\n", None, None, ""),
    "a foreign tag": ("timezone: !!python/object:os.system x\n", 1, None, ""),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line", "column", "hint"), BROKEN.values(), ids=BROKEN)
async def test_a_file_that_breaks_while_running_is_named_by_line_and_column_and_the_last_good_version_stays(
    agent, house, text, line, column, hint
):
    good = await agent.ok("list_projects")
    house.write(text)
    before = house.state()
    assert await agent.ok("list_projects") == good
    health = await agent.ok("get_health")
    problem = health["config"]["error"]
    assert health["status"] == "degraded"
    assert health["config"]["version"] == good["config_version"]
    assert problem["file"] == str(house.file)
    assert line in {None, problem["line"]}, problem
    assert column in {None, problem["column"]}, problem
    assert hint in problem["message"]
    assert any("is broken: the last good version stays in force" in text for text in health["warnings"])
    for tool, arguments in (
        ("create_project", ADD),
        ("create_project", {**ADD, "dry_run": True}),
        ("add_provider", {"provider_id": "groq", "provider_type": "groq"}),
        ("register_model", {"modality": "llm", "provider_id": "openai", "model_name": "x"}),
        ("delete_model", {"model_id": "ollama/qwen3", "confirm": True}),
        ("delete_provider", {"provider_id": "openai", "confirm": True, "cascade": True}),
        ("delete_project", {"project_id": "outbound", "confirm": True}),
    ):
        error = await agent.refused(tool, arguments)
        assert error["code"] == "CONFIG_INVALID", tool
        assert error["details"]["problems"][0]["line"] == problem["line"]
    assert house.state() == before
    house.write(FILE)
    assert (await agent.ok("get_health"))["status"] == "ok"
    await agent.ok("create_project", **ADD)


async def test_a_file_that_was_broken_from_the_start_is_told_by_every_tool_and_picked_up_once_it_is_right(
    agent, house
):
    house.write("projects:\n  p: {nam: P}\n")
    health = await agent.ok("get_health")
    assert (health["status"], health["project_count"], health["config"]["version"]) == ("degraded", 0, "")
    assert health["config"]["error"]["line"] == 2
    assert "no configuration is in force" in health["warnings"][0]
    for tool in ("list_projects", "get_costs", "get_logs", "get_provider_status", "list_models"):
        error = await agent.refused(tool)
        assert error["code"] == "CONFIG_INVALID"
        assert "voicegw.yaml:2:" in error["message"]
        assert {problem["message"] for problem in error["details"]["problems"]} == {
            "unknown key 'nam'",
            "name is missing",
        }
    house.write("projects:\n  p: {name: P}\n")
    assert (await agent.ok("get_health"))["project_count"] == 2


async def test_the_first_change_makes_the_file_and_its_folder(house):
    house.file.unlink()
    house.folder = house.folder / "deep" / "er"
    async with house.agent() as agent:
        health = await agent.ok("get_health")
        assert (health["status"], health["provider_count"], health["project_count"]) == ("ok", 0, 1)
        assert any("`voicegw init` or the first change makes it" in text for text in health["warnings"])
        await agent.ok("add_provider", provider_id="openai", provider_type="openai")
    assert house.text == "providers:\n  openai:\n    api_key: ${OPENAI_API_KEY}\n"
    assert stat.S_IMODE(house.file.stat().st_mode) == 0o600


async def test_a_file_that_vanishes_while_running_is_not_made_anew(agent, house):
    await agent.ok("list_projects")
    house.file.unlink()
    assert (await agent.ok("list_projects"))["count"] == 3
    assert "the file is gone" in (await agent.ok("get_health"))["config"]["error"]["message"]
    assert (await agent.refused("create_project", **ADD))["code"] == "CONFIG_INVALID"
    assert not house.file.exists()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EROFS, "READ_ONLY_RESOURCE"),
        (errno.EACCES, "READ_ONLY_RESOURCE"),
        (errno.ENOSPC, "STORE_UNAVAILABLE"),
    ],
)
@pytest.mark.parametrize("call", ["fsync", "replace"])
async def test_a_disk_that_refuses_leaves_the_file_as_it_was(agent, house, monkeypatch, number, code, call):
    await agent.ok("get_health")
    before = house.file.read_bytes()

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*((os, "fsync", refuse) if call == "fsync" else (replacement, "_put", refuse)))
    error = await agent.refused("create_project", **ADD)
    monkeypatch.undo()
    assert error["code"] == code
    assert house.file.read_bytes() == before
    assert not list(house.folder.glob("*.tmp"))
    assert [row[1] for row in house.journal()] == ["failed"]


async def test_a_folder_that_cannot_be_synced_does_not_undo_a_change_that_is_in_place(
    agent, house, monkeypatch
):
    await agent.ok("get_health")

    sync, calls = os.fsync, []

    def refuse(descriptor):
        calls.append(descriptor)
        if len(calls) > 1:  # the first is the file
            raise OSError(errno.EINVAL, "no such thing here")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    await agent.ok("create_project", **ADD)
    assert len(calls) == 2
    assert [row[1] for row in house.journal()] == ["applied"]


async def test_a_file_where_a_folder_should_be_is_a_typed_error(house):
    (house.folder / "blocked").write_text("a file")
    database, house.folder = house.database, house.folder / "blocked"
    house.environment["VOICEGW_DB_PATH"] = str(database)
    async with house.agent() as agent:
        error = await agent.refused("create_project", **ADD)
        assert error["code"] in {"READ_ONLY_RESOURCE", "CONFIG_INVALID"}
        assert (await agent.ok("get_health"))["status"] == "degraded"


async def test_a_folder_in_place_of_the_file_is_a_typed_error(agent, house):
    house.file.unlink()
    house.file.mkdir()
    assert (await agent.ok("get_health"))["config"]["error"]["line"] == 1
    assert (await agent.refused("create_project", **ADD))["code"] == "CONFIG_INVALID"


async def test_a_store_in_a_home_that_does_not_exist_is_told_by_health(house):
    house.write("cost_tracking: {db_path: '~nobody-of-this-name/x.db'}\n")
    house.environment["VOICEGW_DB_PATH"] = ""
    async with house.agent() as agent:
        health = await agent.ok("get_health")
        assert health["status"] == "degraded"
        assert "~nobody-of-this-name" in health["store"]["error"]
        assert (await agent.refused("get_costs"))["code"] == "STORE_UNAVAILABLE"
        assert (await agent.ok("list_providers"))["count"] == 0


async def test_a_store_path_with_a_zero_byte_is_told_by_health(house):
    house.write('cost_tracking: {db_path: "a\\0b"}\n')
    house.environment["VOICEGW_DB_PATH"] = ""
    async with house.agent() as agent:
        assert (await agent.ok("get_health"))["status"] == "degraded"
        assert (await agent.refused("get_costs"))["code"] in {"STORE_UNAVAILABLE", "CONFIG_INVALID"}


@contextlib.contextmanager
def locked(path):
    """Hold the store exclusively, as another program would, in a connection of its own."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        connection.close()


async def test_a_store_that_is_locked_is_answered_within_six_seconds_and_health_says_so(house):
    await house.log(request_record())
    with locked(house.database):
        async with house.agent() as agent:
            for tool, arguments in (("get_costs", {}), ("create_project", ADD)):
                began = time.monotonic()
                error = await agent.refused(tool, arguments)
                assert time.monotonic() - began < 6
                assert (error["code"], error["details"]["reason"]) == ("STORE_UNAVAILABLE", "locked")
                assert "locked by another program" in error["message"]
            began = time.monotonic()
            health = await agent.ok("get_health")
            assert time.monotonic() - began < 6
            assert health["status"] == "degraded"
            assert "locked" in health["store"]["error"]
            assert (await agent.ok("list_providers"))["count"] == 3
    assert house.text == FILE


async def test_a_store_that_gets_locked_while_open_refuses_changes_and_recovers(agent, house):
    await agent.ok("get_health")
    holder = sqlite3.connect(house.database, isolation_level=None)
    with contextlib.closing(holder):
        holder.execute("BEGIN EXCLUSIVE")
        with anyio.fail_after(6):
            error = await agent.refused("create_project", **ADD)
        assert error["code"] == "STORE_UNAVAILABLE"
        assert house.text == FILE
        holder.execute("ROLLBACK")
    await agent.ok("create_project", **ADD)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "damaged"),
        (lambda path: path.write_bytes(b"this is not a database at all, only text " * 200), "damaged"),
    ],
    ids=["truncated", "garbage"],
)
async def test_a_damaged_store_is_left_alone_and_told(house, break_it, words):
    await house.log(*(request_record(id=f"{n}") for n in range(200)))
    for side in ("-wal", "-shm"):
        house.database.with_name(house.database.name + side).unlink(missing_ok=True)
    break_it(house.database)
    content = house.database.read_bytes()
    async with house.agent() as agent:
        health = await agent.ok("get_health")
        assert health["status"] == "degraded"
        assert words in health["store"]["error"]
        assert (await agent.refused("get_costs"))["code"] == "STORE_UNAVAILABLE"
        assert (await agent.refused("create_project", **ADD))["code"] == "STORE_UNAVAILABLE"
        assert (await agent.ok("create_project", **ADD, dry_run=True))["created"] is True
    assert house.text == FILE
    assert house.database.read_bytes() == content


async def test_a_store_newer_than_the_program_is_refused_with_both_numbers(house):
    store = await Store.open(house.database)
    await store.write(
        lambda connection: connection.execute("INSERT INTO voicegw_mcp_migrations VALUES (99, 0)")
    )
    await store.close()
    async with house.agent() as agent:
        error = await agent.refused("get_logs")
        assert error["code"] == "STORE_UNAVAILABLE"
        assert "99" in error["message"]
        assert "99" in (await agent.ok("get_health"))["store"]["error"]


async def test_a_reference_that_comes_to_stand_for_something_mends_the_file(agent, house):
    house.write("timezone: UTC\nprojects: {p: {name: '${TEAM}'}}\n")
    assert (await agent.ok("get_health"))["status"] == "degraded"
    secrets = house.folder / "secrets.env"
    secrets.write_text("TEAM=blue\n")
    secrets.chmod(0o644)
    assert "chmod 600" in (await agent.ok("get_health"))["config"]["error"]["message"]
    secrets.chmod(0o600)
    os.utime(secrets, ns=(1, 1))
    assert (await agent.ok("get_project", project_id="p"))["name"] == "blue"


async def test_a_voicegateway_store_is_left_alone_and_health_names_the_import(house):
    with contextlib.closing(sqlite3.connect(house.database)) as connection:
        connection.execute("CREATE TABLE managed_providers (id INTEGER PRIMARY KEY)")
    content = house.database.read_bytes()
    async with house.agent() as agent:
        health = await agent.ok("get_health")
    assert health["store"]["path"].endswith("voicegw-mcp.db")
    assert any(f"voicegw import {house.database}" in text for text in health["warnings"])
    assert house.database.read_bytes() == content


async def test_calls_side_by_side_on_a_locked_store_are_all_answered_within_six_seconds(house):
    await house.log(request_record())

    async def refused(agent, tool, arguments):
        assert (await agent.refused(tool, arguments))["code"] == "STORE_UNAVAILABLE"

    with locked(house.database):
        async with house.agent() as agent:
            with anyio.fail_after(6):
                async with anyio.create_task_group() as tasks:
                    for tool, arguments in (
                        ("get_costs", {}),
                        ("get_logs", {}),
                        ("list_projects", {}),
                        ("create_project", ADD),
                    ):
                        tasks.start_soon(refused, agent, tool, arguments)
                    tasks.start_soon(agent.ok, "get_health")
    assert house.text == FILE
