"""The toolset history and undo between processes: real servers over stdio."""

import sys

import pytest
from tests.e2e.conftest import BIN, COMMAND, CONFIG, WAIT_S

TOGETHER = 4


@pytest.mark.parametrize(
    "command",
    [
        (COMMAND, "--toolsets", "history"),
        (COMMAND, "stdio", "--toolsets", "core", "--toolsets=history"),
        (BIN / "voicegw", "mcp", "-t", "stdio", "--toolsets", "core,history"),
        (sys.executable, "-m", "voicegw_mcp", "--toolsets", "history"),
    ],
    ids=["option", "repeated", "voicegw", "module"],
)
def test_the_toolset_history_is_there_when_it_is_asked_for(spawn, config, command):
    server = spawn(command=command)
    server.initialize()
    names = [tool["name"] for tool in server.request("tools/list")["result"]["tools"]]
    assert len(names) == 19
    assert names[17:] == ["list_changes", "undo_change"]
    server.call("create_project", project_id="p", name="P")
    assert server.call("undo_change")["action"] == "undone"
    assert config.read_text() == CONFIG
    assert server.call("list_changes")["count"] == 2
    assert server.close() == 0


@pytest.mark.parametrize("command", [(COMMAND,), (BIN / "voicegw", "mcp")], ids=["voicegw-mcp", "voicegw"])
def test_an_unknown_toolset_stops_the_start_with_the_nearest_name(spawn, command):
    server = spawn("--toolsets", "history,hystory", command=command)
    assert server.process.wait(WAIT_S) == 2
    assert server.line() == b""
    told = server.errors.read_text()
    assert "There is no toolset 'hystory'." in told
    assert "Did you mean history?" in told


def test_of_servers_that_take_the_same_change_back_at_once_exactly_one_succeeds(spawn, config):
    servers = [spawn("--toolsets", "history") for _ in range(TOGETHER)]
    for server in servers:
        server.initialize()
        server.health()
    change_id = servers[0].call("create_project", project_id="p", name="P")["change_id"]
    arguments = {"name": "undo_change", "arguments": {"change_id": change_id}}
    asked = [server.ask("tools/call", **arguments) for server in servers]
    answers = [
        server.answer(number)["result"]["structuredContent"]
        for server, number in zip(servers, asked, strict=True)
    ]
    refused = [answer["error"] for answer in answers if "error" in answer]
    assert len(refused) == TOGETHER - 1
    (done,) = [answer for answer in answers if "error" not in answer]
    for error in refused:
        assert (error["code"], error["details"]["undone_by"]) == ("CONFLICT", done["change_id"])
    assert config.read_text() == CONFIG
