"""Which tools a server offers, and what it does not do, in each mode: through the in-memory client."""

import json

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from tests.factories import request_record
from tests.protocol.agents import Agent

from voicegw_mcp.cli.modes import Mode
from voicegw_mcp.core.access import Access
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.domain import Role
from voicegw_mcp.errors import Forbidden, InvalidInput
from voicegw_mcp.server import build_server
from voicegw_mcp.tools import TOOLS, TOOLSETS, choose_tools

EVERY = {tool.name: tool for tools in TOOLSETS.values() for tool in tools}
READING = [
    "get_health", "get_provider_status", "get_costs", "get_latency_stats", "get_logs", "list_providers",
    "get_provider", "list_models", "list_projects", "get_project",
]  # fmt: skip


def chosen(*toolsets, **terms):
    return [tool.name for tool in choose_tools(toolsets, **terms)]


def refused(*toolsets, **terms):
    with pytest.raises(InvalidInput) as caught:
        choose_tools(toolsets, **terms)
    assert caught.value.hint
    return caught.value


@pytest.fixture
def start(house):
    """Start a server in a mode, as the commands do; give a connected agent."""
    gateways = []

    def start(**fields):
        mode = Mode(**fields)
        environment = {"VOICEGW_DB_PATH": str(house.database)}
        access = Access(projects=frozenset({mode.project})) if mode.project else Access()
        gateway = Gateway.open(
            str(house.file),
            door="test",
            access=access,
            read_only=mode.read_only,
            environment=environment,
            now_ms=lambda: house.now,
        )
        gateways.append(gateway)
        return gateway, build_server(gateway, mode.choose_tools())

    return start


def test_without_options_the_seventeen_tools_are_offered():
    assert choose_tools() == TOOLS


def test_named_tools_are_the_only_ones_whatever_toolset_they_are_of():
    assert chosen(only=["undo_change,get_health"]) == ["get_health", "undo_change"]
    assert chosen(only=["undo_change", " get_health , get_health"]) == ["get_health", "undo_change"]
    assert chosen("core", "history", only=["get_costs"]) == ["get_costs"]


def test_all_is_every_toolset():
    assert chosen("all") == list(EVERY)


def test_exclusion_wins_over_everything_that_was_asked_for():
    assert chosen("all", without=["undo_change"]) == [name for name in EVERY if name != "undo_change"]
    assert chosen(only=["get_health,get_costs"], without=["get_costs"]) == ["get_health"]
    assert len(chosen(without=["undo_change"])) == 17


def test_read_only_wins_over_everything_that_was_asked_for():
    assert chosen(read_only=True) == READING
    assert chosen("all", read_only=True) == [*READING, "list_changes"]
    assert chosen(only=["get_health,delete_project,undo_change"], read_only=True) == ["get_health"]
    assert chosen(only=["get_health", "get_costs"], without=["get_health"], read_only=True) == ["get_costs"]


@pytest.mark.parametrize(
    ("terms", "field", "near"),
    [
        ({"only": ["get_cost"]}, "tools", "get_costs"),
        ({"only": ["get_health,get_helth"]}, "tools", "get_health"),
        ({"without": ["undo_chang"]}, "exclude_tools", "undo_change"),
        ({"only": ["Get_Health"]}, "tools", "get_health"),
        ({"only": ["history"]}, "tools", None),
    ],
)
def test_an_unknown_tool_is_refused_with_the_nearest_name(terms, field, near):
    error = refused(**terms)
    assert error.details["field"] == field
    assert near is None or error.hint.startswith(f"Did you mean {near}?")
    assert error.exit_code == 2


@pytest.mark.parametrize("text", ["", " ", ",", " , ", "{},", ",{}", "{},,{}", "{}, ,"])
@pytest.mark.parametrize(
    ("option", "flag"), [("only", "--tools"), ("without", "--exclude-tools"), ("toolsets", "--toolsets")]
)
def test_an_empty_name_is_refused_and_does_not_mean_all(option, flag, text):
    text = text.replace("{}", "history" if option == "toolsets" else "get_health")
    error = refused(text) if option == "toolsets" else refused(**{option: ["get_health", text]})
    assert error.message == f"{flag} {text!r} holds an empty name."
    assert "leave the option out" in error.hint


@pytest.mark.parametrize(
    "terms",
    [
        {"without": [",".join(EVERY)]},
        {"only": ["get_health"], "without": ["get_health"]},
        {"only": ["add_provider,test_provider"], "read_only": True},
    ],
)
def test_nothing_left_to_offer_is_refused(terms):
    assert refused(**terms).message == "No tool is left to offer."


@pytest.mark.parametrize("tool", EVERY.values(), ids=EVERY)
def test_a_pinned_tool_takes_no_project_and_everything_else_as_before(tool):
    pinned = tool.pinned("kept")
    properties = {
        name: part for name, part in tool.input_schema["properties"].items() if not name.startswith("project")
    }
    assert pinned.input_schema["properties"] == properties
    required = [name for name in tool.input_schema.get("required", []) if not name.startswith("project")]
    assert pinned.input_schema.get("required", []) == required
    assert {**pinned.input_schema, "properties": 0, "required": 0} == {
        **tool.input_schema, "properties": 0, "required": 0,
    }  # fmt: skip
    assert (pinned.name, pinned.description, pinned.output_schema) == (
        tool.name, tool.description, tool.output_schema,
    )  # fmt: skip
    assert "project" in tool.input_schema["properties"] or pinned.input_schema == tool.input_schema or tool.name in {
        "get_project", "create_project", "delete_project",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "argument"), [("get_costs", "project"), ("get_project", "project_id")])
def test_the_project_is_filled_in_and_another_one_is_an_unknown_argument(name, argument):
    tool = EVERY[name].pinned("kept")
    assert getattr(tool.parse({}), argument) == "kept"
    assert getattr(tool.parse({argument: "kept"}), argument) == "kept"
    assert getattr(tool.parse({argument: None}), argument) == "kept"
    for other in ("other", 5, True, ["kept"], {"kept": 1}):
        with pytest.raises(InvalidInput) as caught:
            tool.parse({argument: other})
        assert caught.value.details == {"field": argument}
        assert "unknown argument" in caught.value.message
    with pytest.raises(InvalidInput) as caught:
        tool.parse({"projct": "x"})
    assert "project," not in caught.value.hint


async def test_a_read_only_server_lists_and_calls_only_tools_that_read(start, house):
    before = house.state()
    gateway, server = start(read_only=True, toolsets=["all"])
    async with Client(server) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == [*READING, "list_changes"]
        for name in sorted(set(EVERY) - {*READING, "list_changes"}):
            with pytest.raises(MCPError, match="Unknown tool"):
                await client.call_tool(name, {})
    await gateway.close()
    assert house.state() == before
    assert [path.name for path in house.folder.iterdir()] == ["voicegw.yaml"]


@pytest.mark.parametrize("role", Role)
async def test_in_a_read_only_server_the_core_refuses_an_administrator_too(start, house, role):
    async with house.agent() as agent:  # so that there is something to undo
        await agent.ok("create_project", project_id="new", name="New")
    before = house.state()
    gateway, _ = start(read_only=True)
    caller = gateway.as_caller("admin", Access(role))
    for name, arguments in (
        ("add_provider", {"provider_id": "groq", "provider_type": "groq"}),
        ("add_provider", {"provider_id": "groq", "provider_type": "groq", "dry_run": True}),
        ("delete_model", {"model_id": "ollama/qwen3", "confirm": True}),
        ("undo_change", {}),
        ("test_provider", {"provider_id": "ollama"}),
    ):
        tool = EVERY[name]
        with pytest.raises(Forbidden):
            await tool.run(caller, tool.parse(arguments))
    await gateway.close()
    assert house.state() == before


async def test_a_read_only_server_answers_for_a_store_that_is_not_there_and_sees_it_when_it_comes(
    start, house
):
    gateway, server = start(read_only=True, toolsets=["all"])
    async with Client(server) as client:
        agent = Agent(client, gateway)
        health = await agent.ok("get_health")
        assert (health["status"], health["store"]["rows"]) == ("ok", 0)
        assert health["store"]["path"] == str(house.database)
        assert (await agent.ok("get_costs"))["total_usd"] == 0
        assert (await agent.ok("get_latency_stats"))["overall"]["request_count"] == 0
        assert (await agent.ok("get_logs"))["logs"] == []
        assert (await agent.ok("list_changes"))["changes"] == []
        assert not house.database.exists()
        await house.log(request_record(id="r1"))
        assert (await agent.ok("get_health"))["store"]["rows"] == 1
        assert len((await agent.ok("get_logs"))["logs"]) == 1
    await gateway.close()


async def test_a_read_only_server_says_that_an_old_store_has_to_be_migrated(start, house):
    house.database.touch()
    gateway, server = start(read_only=True)
    async with Client(server) as client:
        agent = Agent(client, gateway)
        error = await agent.refused("get_costs")
        assert error["code"] == "STORE_UNAVAILABLE"
        assert "without --read-only" in error["hint"]
        assert (await agent.ok("get_health"))["status"] == "degraded"
    await gateway.close()
    assert house.database.read_bytes() == b""


async def test_a_pinned_server_speaks_of_its_project_only(start, house):
    await house.log(
        request_record(id="r1", project="support-line"),
        request_record(id="r2", project="outbound"),
        request_record(id="r3", project="outbound"),
    )
    gateway, server = start(project="outbound", toolsets=["all"])
    async with Client(server) as client:
        agent = Agent(client, gateway)
        listed = (await client.list_tools()).tools
        assert len(listed) == 19
        arguments = {name for tool in listed for name in tool.input_schema["properties"]}
        assert not arguments & {"project", "project_id"}
        assert [item["project"] for item in (await agent.ok("get_logs"))["logs"]] == ["outbound"] * 2
        assert list((await agent.ok("get_costs", period="all"))["by_project"]) == ["outbound"]
        assert (await agent.ok("get_project"))["id"] == "outbound"
        assert [item["id"] for item in (await agent.ok("list_projects"))["projects"]] == ["outbound"]
        error = await agent.refused("get_logs", project="support-line")
        assert error["code"] == "VALIDATION_ERROR"
        assert "support-line" not in json.dumps(error)
    await gateway.close()


async def test_a_pinned_read_only_server_answers_without_a_store(start, house):
    gateway, server = start(project="outbound", read_only=True)
    async with Client(server) as client:
        agent = Agent(client, gateway)
        assert (await agent.ok("get_project"))["today_spend"] == 0
        assert (await agent.ok("get_logs"))["logs"] == []
    await gateway.close()
    assert not house.database.exists()


@pytest.mark.parametrize("role", Role)
async def test_a_request_to_a_provider_needs_an_operator(start, role):
    gateway, _ = start()
    caller = gateway.as_caller("x", Access(role))
    probe = EVERY["test_provider"]
    write = EVERY["add_provider"]
    for tool, arguments in (
        (probe, {"provider_id": "deepgram"}),
        (write, {"provider_id": "groq", "provider_type": "groq", "test": True}),
    ):
        if role is Role.VIEWER:
            with pytest.raises(Forbidden) as caught:
                await tool.run(caller, tool.parse(arguments))
            assert caught.value.details == {"role": "viewer", "needed": "operator"}
    if role is not Role.VIEWER:  # without a key nothing is sent
        answer = (await probe.run(caller, probe.parse({"provider_id": "deepgram"}))).as_json()
        assert answer["status"] == "failed"
    await gateway.close()


@pytest.mark.parametrize(
    ("read_only", "told"),
    [(True, "`voicegw init` makes it."), (False, "`voicegw init` or the first change makes it.")],
)
async def test_a_file_that_is_not_there_is_made_by_who_may_make_it(start, house, read_only, told):
    house.file.unlink()
    gateway, server = start(read_only=read_only)
    async with Client(server) as client:
        (warning,) = (await Agent(client, gateway).ok("get_health"))["warnings"]
    assert warning == f"There is no {house.file} yet: {told}"
    await gateway.close()
