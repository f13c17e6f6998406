"""The modes of all three ways to start a server, as real processes: what is offered, refused, and left untouched on disk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.conftest import COMMAND, WAIT_S
from tests.e2e.test_http import VOICEGW, call, connected, run, serve as serve, stop as stop  # noqa: PLC0414 - fixtures

from voicegw_mcp.tools import TOOLSETS, choose_tools

STDIO = {"voicegw-mcp": (COMMAND,), "mcp": (VOICEGW, "mcp")}
STARTS = {**STDIO, "serve": (VOICEGW, "serve", "-p", "0")}
SERVES = {"mcp": ("mcp", "-t", "http"), "serve": ("serve",)}
WATCHED = """\
import os, sys
folder, log = sys.argv[1].encode(), os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"mkdir", "rename", "remove", "rmdir", "link", "symlink", "truncate", "chmod", "chown", "utime", "setxattr"}

def watch(event, values):
    if event == "open":
        name, mode, flags = values
        tell = bool(flags & WRITES)
    elif event == "sqlite3.connect":
        name, tell = values[0], True
    else:
        name, tell = values[0] if values else "", event[:3] == "os." and event[3:] in CHANGES
    if tell:
        name = name if isinstance(name, bytes) else str(name).encode()
        if folder in name:
            os.write(log, event.encode() + b" " + name + b"\\n")

sys.addaudithook(watch)
from voicegw_mcp.cli import app, stdio
arguments = sys.argv[3:]
(app if arguments[0] == "voicegw" else stdio).main(arguments[1:])
"""


def listed(server):
    server.initialize()
    return [tool["name"] for tool in server.request("tools/list")["result"]["tools"]]


@pytest.mark.cover_processes
@pytest.mark.parametrize("start", STDIO.values(), ids=STDIO)
def test_over_stdio_options_choose_the_tools(spawn, start):
    options = ("--tools", "get_costs,undo_change", "--tools", "get_health", "--exclude-tools=get_costs")
    server = spawn(*options, command=start)
    assert listed(server) == ["get_health", "undo_change"]
    assert server.close() == 0


@pytest.mark.parametrize("start", SERVES.values(), ids=SERVES)
async def test_over_http_options_choose_the_tools(serve, stop, start):
    server = serve(*start, "--toolsets", "history", "--read-only", "--exclude-tools", "get_health,get_costs")
    async with connected(server, "auto") as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
    expected = choose_tools(["history"], read_only=True, without=["get_health", "get_costs"])
    assert names == [tool.name for tool in expected]
    assert stop(server) == 0


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--tools", "get_cost"), "Did you mean get_costs?"),
        (("--tools", ""), "--tools '' holds an empty name"),
        (("--exclude-tools", "get_health,,"), "--exclude-tools 'get_health,,' holds an empty name"),
        (("--toolsets", ""), "--toolsets '' holds an empty name"),
        pytest.param(("--project", ""), "--project names no project", marks=pytest.mark.cover_processes),
        pytest.param(("-c", ""), "--config names no file", marks=pytest.mark.cover_processes),
        (("--exclude-tools", "get_helth"), "Did you mean get_health?"),
        pytest.param(("--project", "kep"), "Did you mean kept?", marks=pytest.mark.cover_processes),
        (("--read-only", "--tools", "add_provider"), "No tool is left"),
        (("--readonly",), "--read"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_typo_stops_the_start_with_2_and_nothing_is_made(
    environment, tmp_path, config, start, options, told
):
    before = sorted(tmp_path.iterdir())
    found = subprocess.run(
        [*map(str, start), *options],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=WAIT_S,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout) == (2, "")
    assert told in found.stderr
    assert "Traceback" not in found.stderr
    assert sorted(tmp_path.iterdir()) == before
    assert config.exists()


@pytest.mark.parametrize("start", [(VOICEGW, "mcp"), STARTS["serve"]], ids=["mcp", "serve"])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--allowed-host", ""), "'' is no name for --allowed-host"),
        (("--allowed-host", "a.example.com,,"), "'a.example.com,,' is no name for --allowed-host"),
        (("--allowed-origin", ""), "'' is no name for --allowed-origin"),
        pytest.param(("--host", ""), "--host names no address", marks=pytest.mark.cover_processes),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_empty_host_or_origin_stops_the_start(environment, tmp_path, start, options, told):
    found = run(environment, tmp_path, *start[1:], *options, VOICEGW_MCP_TOKEN="fake-token-0001")
    assert (found.returncode, found.stdout) == (2, "")
    assert told in found.stderr


@pytest.mark.cover_processes
def test_a_token_that_is_set_to_nothing_does_not_open_the_door(environment, tmp_path, config):
    found = run(environment, tmp_path, "serve", "-p", "0", VOICEGW_MCP_TOKEN="")
    assert (found.returncode, found.stdout) == (2, "")
    assert "VOICEGW_MCP_TOKEN is set, to nothing" in found.stderr
    assert config.exists()


@pytest.mark.cover_processes
def test_of_a_broken_file_no_project_is_known_so_that_it_does_not_start(spawn, config):
    config.write_text("projects: [\n")
    server = spawn("--project", "kept")
    assert server.process.wait(WAIT_S) == 2
    assert "voicegw.yaml" in server.errors.read_text()


@pytest.mark.cover_processes
def test_a_project_that_is_made_automatically_can_be_served(spawn):
    server = spawn("--project", "default")
    assert "get_project" in listed(server)
    assert server.call("get_project")["id"] == "default"
    assert server.close() == 0


@pytest.mark.parametrize("start", STDIO.values(), ids=STDIO)
def test_a_pinned_server_knows_one_project(spawn, config, start):
    config.write_text(config.read_text().replace("security:", "  other: {name: Secret plans}\n\nsecurity:"))
    server = spawn("--project", "kept", command=start)
    listed(server)
    told = [
        server.call(tool, **arguments)
        for tool, arguments in (
            ("list_projects", {}),
            ("get_project", {}),
            ("get_health", {}),
            ("get_costs", {}),
            ("get_project", {"project_id": "other"}),
        )
    ]
    assert [project["id"] for project in told[0]["projects"]] == ["kept"]
    assert told[4]["error"]["code"] == "VALIDATION_ERROR"
    assert "Secret plans" not in json.dumps(told[:4])
    assert server.close() == 0


async def test_a_token_for_all_projects_sees_only_that_of_a_pinned_server(serve, stop, config):
    config.write_text(config.read_text().replace("security:", "  other: {name: Other}\n\nsecurity:"))
    server = serve("serve", "--project", "kept", VOICEGW_MCP_TOKEN="fake-token-0001")
    async with connected(server, "auto", "fake-token-0001") as client:
        projects = (await call(client, "list_projects"))["projects"]
    assert [project["id"] for project in projects] == ["kept"]
    assert stop(server) == 0


def opened_for_writing(process, folder):
    """Return the files below a folder that the kernel says a process has open for writing (proc(5), fdinfo)."""
    found = []
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        target = descriptor.readlink()
        lines = (descriptor.parents[1] / "fdinfo" / descriptor.name).read_text().splitlines()
        flags = next(int(line.split()[1], 8) for line in lines if line.startswith("flags:"))
        if folder in target.parents and flags & os.O_ACCMODE != os.O_RDONLY:
            found.append(target.name)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("made", [False, True], ids=["no store yet", "a store"])
@pytest.mark.parametrize("program", ["voicegw-mcp", "voicegw mcp"])
def test_read_only_nothing_of_the_gateway_is_opened_for_writing(
    spawn, tmp_path, environment, config, program, made
):
    folder = tmp_path / "gateway"
    folder.mkdir()
    config.rename(folder / "voicegw.yaml")
    place = {
        "VOICEGW_CONFIG": str(folder / "voicegw.yaml"),
        "VOICEGW_DB_PATH": str(folder / "data" / "voicegw.db"),
    }
    environment.update(place)
    if made:
        server = spawn()
        server.initialize()
        assert server.call("create_project", project_id="new", name="New")["created"]
        assert server.close() == 0
    before = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert (len(before) > 1) is made
    log = tmp_path / "writes.txt"
    script = (sys.executable, "-c", WATCHED, folder, log)
    server = spawn(*program.split(), "--read-only", "--toolsets", "all", command=script)
    server.initialize()
    assert server.health()["status"] == "ok"
    told = [
        server.call(tool.name)
        for tool in choose_tools(["all"], read_only=True)
        if not tool.input_schema.get("required")
    ]
    assert all("error" not in answer for answer in told)
    assert server.call("list_changes")["count"] == int(made)
    for resource in ("config", "logs", "changes", "prices"):
        assert "result" in server.request("resources/read", uri=f"voicegw://{resource}")
    written = opened_for_writing(server.process, folder)
    # How SQLite's readers and writers know of each other; the store itself is not among them.
    assert set(written) <= {"voicegw.db-shm", "voicegw.db-wal"}
    assert server.close() == 0
    told = [
        line
        for line in log.read_text().splitlines()
        if not line.startswith("sqlite3.connect file:") or "?mode=ro" not in line
    ]
    assert told == []
    after = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {path: raw for path, raw in after.items() if not path.name.endswith(("-shm", "-wal"))} == before


def test_the_watch_on_writing_sees_a_server_that_writes(spawn, tmp_path):
    log = tmp_path.with_suffix(".txt")
    server = spawn("voicegw-mcp", command=(sys.executable, "-c", WATCHED, tmp_path, log))
    server.initialize()
    assert server.call("create_project", project_id="new", name="New")["created"]
    assert server.close() == 0
    told = log.read_text()
    assert "voicegw.yaml.lock" in told
    assert "?mode=rw" in told


def test_every_tool_that_is_offered_read_only_says_that_it_reads():
    for tool in choose_tools(TOOLSETS, read_only=True):
        assert tool.read_only
        assert not tool.destructive
