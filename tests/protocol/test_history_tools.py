"""The toolset history: the journal as pages, and undo, through the in-memory client."""

import json

import anyio
import pytest
from tests.factories import NOW
from tests.protocol.agents import FILE

from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.tools import TOOLS, TOOLSETS, choose_tools

HISTORY = choose_tools(["history"])
KEYS = {"id", "created", "applied", "state", "tool", "summary", "actor", "door", "file", "config_version"}


@pytest.fixture
async def agent(house):
    async with house.agent(tools=HISTORY) as agent:
        yield agent


@pytest.fixture
async def tools(agent):
    listed = (await agent.client.list_tools()).tools
    return {tool.name: tool for tool in listed if tool.name in {"list_changes", "undo_change"}}


async def make(agent, *names):
    """Create projects and return the ids of the changes, oldest first."""
    return [(await agent.ok("create_project", project_id=name, name=name))["change_id"] for name in names]


def test_toolsets_are_chosen_by_name_and_the_core_is_always_there():
    history = ("list_changes", "undo_change")
    assert choose_tools([]) == choose_tools(["core", "core"]) == TOOLS
    for names in (["history"], ["core,history"], ["history", "core"], [" history , history"], ["all"]):
        assert choose_tools(names)[:17] == TOOLS
        assert tuple(tool.name for tool in choose_tools(names)[17:]) == history
    names = [tool.name for tools in TOOLSETS.values() for tool in tools]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("name", "near"), [("histroy", "history"), ("Core", "core"), ("x\n", None)])
def test_an_unknown_toolset_is_refused_with_the_nearest_name(name, near):
    with pytest.raises(InvalidInput) as caught:
        choose_tools(["history", name])
    assert caught.value.details == {"field": "toolsets", "nearest": [near] if near else []}
    assert "core, history" in caught.value.hint
    assert near is None or f"Did you mean {near}?" in caught.value.hint


async def test_the_two_tools_come_behind_the_seventeen_only_when_asked_for(house):
    async with house.agent(tools=HISTORY) as agent:
        listed = [tool.name for tool in (await agent.client.list_tools()).tools]
    assert listed == [*(tool.name for tool in TOOLS), "list_changes", "undo_change"]
    async with house.agent() as agent:
        assert len((await agent.client.list_tools()).tools) == 17


async def test_they_keep_the_contract_of_all_tools(tools):
    for tool in tools.values():
        first, *rest = tool.description.splitlines()
        assert 0 < len(first) <= 80
        assert first.endswith(".")
        assert [line for line in rest if line.startswith("Use when")]
        assert tool.title
        assert tool.input_schema["type"] == tool.output_schema["type"] == "object"
        assert tool.input_schema["additionalProperties"] is False
        for forbidden in ('"$ref"', '"$defs"', '"anyOf"', '"oneOf"', '"allOf"', '"null"'):
            assert forbidden not in json.dumps([tool.input_schema, tool.output_schema])
    hints = {name: tool.annotations for name, tool in tools.items()}
    assert [hints["list_changes"].read_only_hint, hints["list_changes"].destructive_hint] == [True, False]
    assert [hints["list_changes"].idempotent_hint, hints["list_changes"].open_world_hint] == [True, False]
    assert [hints["undo_change"].read_only_hint, hints["undo_change"].destructive_hint] == [False, True]
    assert [hints["undo_change"].idempotent_hint, hints["undo_change"].open_world_hint] == [False, False]


async def test_their_arguments_and_answers_are_those_of_the_others(tools):
    def of(name, schema="input_schema"):
        return {key: part["type"] for key, part in getattr(tools[name], schema)["properties"].items()}

    assert of("list_changes") == {"limit": "integer", "cursor": "string", "detail": "string"}
    assert of("undo_change") == {"change_id": "string", "dry_run": "boolean", "if_version": "string"}
    assert not any("required" in tool.input_schema for tool in tools.values())
    view = tools["list_changes"].output_schema["properties"]["changes"]["items"]["properties"]
    assert set(view) == KEYS | {"undone_by", "undoes", "diff"}
    assert set(of("undo_change", "output_schema")) == {
        *("action", "undone", "summary"),
        *("change_id", "config_version", "diff", "file"),
    }


@pytest.mark.filterwarnings("ignore:open_binary is deprecated:DeprecationWarning")  # bpe_openai's own import
async def test_the_toolset_costs_a_model_at_most_350_tokens(tools):
    from bpe_openai import get_encoding

    fields = {"name", "description", "input_schema"}
    listed = [tool.model_dump(mode="json", by_alias=True, include=fields) for tool in tools.values()]
    text = json.dumps(listed, ensure_ascii=False, separators=(",", ":"))
    assert len(get_encoding("o200k_base").encode(text)) <= 350


async def test_a_change_is_shown_the_same_by_tool_and_resources(agent, house):
    house.now = NOW
    (change_id,) = await make(agent, "new")
    undo = await agent.ok("undo_change")
    page = await agent.ok("list_changes")
    assert page["count"] == 2
    assert "next_cursor" not in page
    undone, made = page["changes"]
    assert set(made) == KEYS | {"undone_by"}
    assert set(undone) == KEYS | {"undoes"}
    assert (made["id"], made["undone_by"], undone["undoes"]) == (change_id, undo["change_id"], change_id)
    assert (made["summary"], undone["summary"]) == ("Create project new", "Undo: Create project new")
    assert made["created"] == made["applied"] == "2026-11-18T11:06:40+00:00"
    assert (made["door"], made["tool"], undone["tool"]) == ("test", "create_project", "undo_change")
    assert (made["file"], made["state"]) == (str(house.file), "applied")
    assert await agent.resource("voicegw://changes") == page
    full = (await agent.ok("list_changes", detail="full"))["changes"]
    assert [await agent.resource(f"voicegw://changes/{view['id']}") for view in full] == full
    assert full[0]["diff"] == undo["diff"]


async def test_undo_answers_with_what_it_took_back_and_the_change_by_which_it_is_redone(agent, house):
    (change_id,) = await make(agent, "new")
    after = house.text
    planned = await agent.ok("undo_change", dry_run=True)
    assert "change_id" not in planned
    assert house.text == after
    done = await agent.ok("undo_change", change_id=change_id, if_version=planned["config_version"])
    assert house.text == FILE
    assert (done["action"], done["undone"], done["summary"]) == ("undone", change_id, "Create project new")
    assert (done["diff"], done["file"]) == (planned["diff"], str(house.file))
    assert (await agent.ok("get_health"))["config"]["version"] == done["config_version"]
    redone = await agent.ok("undo_change", change_id=done["change_id"])
    assert (redone["undone"], house.text) == (done["change_id"], after)
    states = {view["id"]: view.get("undone_by") for view in (await agent.ok("list_changes"))["changes"]}
    assert states == {change_id: None, done["change_id"]: redone["change_id"], redone["change_id"]: None}


async def test_refusals_have_their_codes_and_write_nothing(agent, house):
    first, second = await make(agent, "new", "newer")
    await agent.ok("create_project", project_id="new", name="N2", on_conflict="update")
    await agent.ok("undo_change", change_id=second)
    before = house.state()
    for arguments, code, words in (
        ({"change_id": first}, "CONFLICT", "projects.new was changed since"),
        ({"change_id": second}, "CONFLICT", "was taken back already by mcp (test, undo_change)"),
        ({"change_id": "nothing"}, "VALIDATION_ERROR", "There is no change 'nothing'"),
        ({"change_id": "\ud800"}, "VALIDATION_ERROR", "There is no change"),
        ({"change_id": "x" * 5_000}, "VALIDATION_ERROR", "There is no change"),
        ({"change_id": 7}, "VALIDATION_ERROR", "change_id"),
        ({"if_version": "0" * 12}, "CONFLICT", "at version"),
        ({"nonsense": 1}, "VALIDATION_ERROR", "nonsense"),
    ):
        error = await agent.refused("undo_change", arguments)
        assert (error["code"], words in error["message"]) == (code, True), error
        assert house.state() == before


async def test_there_is_nothing_to_undo_in_a_new_gateway(agent):
    assert (await agent.refused("undo_change"))["code"] == "VALIDATION_ERROR"
    assert await agent.ok("list_changes") == {"changes": [], "count": 0}


async def test_the_journal_comes_in_pages_each_change_once_while_more_are_made(agent):
    made = await make(agent, *(f"p{number:02}" for number in range(11)))
    first = await agent.ok("list_changes", limit=4)
    await make(agent, "later")
    found, page = first["changes"], first
    while "next_cursor" in page:
        page = await agent.ok("list_changes", limit=4, cursor=page["next_cursor"])
        found += page["changes"]
    assert [view["id"] for view in found] == made[::-1]


async def test_pages_end_at_the_byte_budget(agent, house):
    text = "x" * 2_000
    for number in range(30):
        await agent.ok("create_project", project_id=f"p{number}", name="P", description=text)
    first = await agent.ok("list_changes", detail="full", limit=1000)
    assert 3 < first["count"] < 30
    assert len(json.dumps(first)) < 34_000
    count, page = first["count"], first
    while "next_cursor" in page:
        page = await agent.ok("list_changes", detail="full", limit=1000, cursor=page["next_cursor"])
        count += page["count"]
    assert count == 30
    assert (await agent.ok("list_changes", limit=1000))["count"] == 30
    assert len(house.journal()) == 30


async def test_a_cursor_of_another_list_or_none_at_all_is_refused(agent):
    await make(agent, "a", "b")
    foreign = (await agent.ok("list_projects", limit=1))["next_cursor"]
    for cursor in (foreign, "garbage", "é", ""):
        if cursor:
            error = await agent.refused("list_changes", cursor=cursor)
            assert (error["code"], error["details"]["field"]) == ("VALIDATION_ERROR", "cursor")
    for limit in (0, 1001, "many"):
        assert (await agent.refused("list_changes", limit=limit))["details"]["field"] == "limit"


async def test_listing_reads_and_writes_nothing(agent, house):
    await make(agent, "a")
    before, rows = house.state(), house.database.read_bytes()
    await agent.ok("list_changes", detail="full")
    assert (house.state(), house.database.read_bytes()) == (before, rows)


@pytest.mark.parametrize("named", [False, True])
async def test_of_two_agents_that_undo_the_same_change_exactly_one_succeeds(house, named):
    async with house.agent(tools=HISTORY) as one, house.agent(tools=HISTORY) as two:
        change_id, _ = *(await make(one, "new")), await two.ok("get_health")
        answers = []

        async def work(agent):
            arguments = {"change_id": change_id} if named else {}
            answers.append(await agent.call("undo_change", arguments))

        async with anyio.create_task_group() as tasks:
            for agent in (one, two):
                tasks.start_soon(work, agent)
        ((_, error),) = [answer for answer in answers if answer[0]]
        assert error["error"]["code"] in ({"CONFLICT"} if named else {"CONFLICT", "VALIDATION_ERROR"})
    assert house.text == FILE
    assert [row[1] for row in house.journal()] == ["applied"] * 2


async def test_text_of_others_in_the_journal_is_shown_escaped(house):
    house.write(FILE)
    async with house.agent(tools=HISTORY) as agent:
        agent.gateway.as_caller("x")
        await make(agent, "new")
        named = agent.gateway.as_caller("evil\u202e\nname")
        tool = next(tool for tool in HISTORY if tool.name == "undo_change")
        await tool.run(named, tool.parse({}))
        (view, _) = (await agent.ok("list_changes"))["changes"]
        assert view["actor"] == "evil\\u202e\\nname"
