"""A caller who is bound to projects against a gateway that has no others: both must be told the same."""

import json
import random

import pytest
from tests.factories import DAY, NOW, request_record
from tests.protocol.agents import FILE, House

from voicegw_mcp.core.access import Access
from voicegw_mcp.core.alerts import Alerting, newest
from voicegw_mcp.domain import Modality, RequestStatus, Role
from voicegw_mcp.errors import Forbidden, GatewayError
from voicegw_mcp.tools import TOOLS, TOOLSETS
from voicegw_mcp.tools.resources import RESOURCES

CALLS = 5_000
MINE = "support-line"
CENT = 10_000_000
MARK = "zebra"
"""Stands in everything of the other projects and nowhere else."""

OTHERS = f"""\
  # {MARK} comment
  {MARK}-one: {{name: {MARK} one, daily_budget: 7.25, stt_model: deepgram/nova-3, tags: [{MARK}]}}
  {MARK}-two:
    name: {MARK} two
    default_stack: standard
    metrics: {{turn_buffer_flush_size: 7}}
"""
WHOLE = FILE.replace("  outbound:\n    name: Outbound\n    llm_model: ollama/qwen3\n", "").replace(
    "    timezone: America/New_York\n", OTHERS
)
ALONE = WHOLE.replace(OTHERS, "")
SETS = [tool for tools in TOOLSETS.values() for tool in tools]
BY_NAME = {tool.name: tool for tool in SETS}
VOLATILE = {
    "config_version",
    "version",
    "diff",
    "uptime_seconds",
    "instance_id",
    "path",
    "file",
    "line",
    "size_bytes",
    "created_at",
}
IDS = {
    "project": [MINE, f"{MARK}-one", f"{MARK}-two", f"{MARK}-gone", "default", "zebr", "support"],
    "provider_id": ["deepgram", "openai", "ollama", f"{MARK}vendor", "deepgra"],
    "model_id": ["deepgram/nova-3", "openai/tts-1", f"{MARK}vendor/x", "ollama/qwen3", "zebravendor"],
    "session_id": ["s1", "s2", f"{MARK}-session"],
    "search": [MARK, "quota", "e"],
    "status": ["success", "error", "fallback"],
    "modality": ["stt", "llm", "tts"],
    "period": ["today", "yesterday", "week", "month", "all", "last_7d"],
    "start": ["2020-01-01", "2026-11-17T00:00:00Z"],
    "group_by": ["provider", "model", "project", "modality", "day", "hour", "session", "status"],
    "compare_to": ["previous"],
    "order": ["newest", "oldest"],
    "limit": [1, 2, 5, 1000],
    "follow_seconds": [0],
    "detail": ["concise", "full"],
    "min_latency_ms": [1, 400],
    "min_cost_usd": [0, 0.015],
    "name": ["Renamed"],
    "provider_type": ["groq"],
    "model_name": ["phi"],
    "confirm": [True, False],
    "cascade": [True, False],
    "on_conflict": ["update", "error"],
    "change_id": [f"{MARK}", "20261117-000000-0001"],
}  # fmt: skip
IDS["project_id"] = IDS["project"]


def rows():
    """Requests of the caller's project and of others, mixed, many of them in the same milliseconds."""
    chance = random.Random(5)  # noqa: S311 - the same rows every time
    for number in range(300):
        mine = number % 3 == 0
        modality = chance.choice(list(Modality))
        failed = chance.random() < 0.2
        vendor = chance.choice(["deepgram", "openai"]) if mine else f"{MARK}vendor"
        yield request_record(
            id=f"{'' if mine else MARK}{number}",
            project=MINE if mine else chance.choice([f"{MARK}-one", f"{MARK}-two", f"{MARK}-gone"]),
            provider=vendor,
            model_id=chance.choice(["deepgram/nova-3", "openai/tts-1"]) if mine else f"{vendor}/x",
            modality=modality,
            status=RequestStatus.ERROR if failed else RequestStatus.SUCCESS,
            error_message=("over quota" if mine else f"{MARK} quota") if failed else None,
            session_id=chance.choice(["s1", "s2"]) if mine else f"{MARK}-session",
            cost_nanousd=chance.choice([None, 0, CENT, 2 * CENT]),
            timestamp_ms=NOW - chance.choice([0, 0, 1, DAY, 3 * DAY, 40 * DAY]) - (number % 7 if mine else 0),
            ttfb_ms=float(chance.randint(50, 500)),
            total_ms=float(chance.randint(100, 2000)),
        )


async def set_up(folder, text, keep):
    folder.mkdir()
    house = House(folder)
    house.write(text)
    await house.log(*(row for row in rows() if keep(row)))
    return house


@pytest.fixture
async def bound(tmp_path):
    """A caller with all rights on one project of several."""
    house = await set_up(tmp_path / "whole", WHOLE, bool)
    gateway = house.gateway()
    yield gateway.as_caller("bound", Access(Role.ADMIN, frozenset({MINE})))
    await gateway.close()


@pytest.fixture
async def alone(tmp_path):
    """The same caller on a gateway with that project only."""
    house = await set_up(tmp_path / "alone", ALONE, lambda row: row.project == MINE)
    gateway = house.gateway()
    yield gateway.as_caller("bound", Access(Role.ADMIN, frozenset({MINE})))
    await gateway.close()


async def answer(gateway, name, arguments):
    tool = BY_NAME[name]
    try:
        return (await tool.run(gateway, tool.parse(arguments))).as_json()
    except GatewayError as error:
        return error.payload()


def told(value):
    """What an answer tells, without what differs between any two gateways."""
    if isinstance(value, dict):
        return {key: told(item) for key, item in value.items() if key not in VOLATILE}
    if isinstance(value, list):
        return [told(item) for item in value]
    return value


def draw(chance):
    """Return a tool and arguments; a name that is another project's is never the only one of its kind."""
    tool = chance.choice(SETS)
    arguments = {}
    for key in tool.input_schema["properties"]:
        required = key in tool.input_schema.get("required", ())
        if key in IDS and (required or chance.random() < 0.3):
            arguments[key] = chance.choice(IDS[key])
    if not tool.read_only and tool.name != "test_provider":
        arguments["dry_run"] = True
    return tool.name, arguments


@pytest.mark.unmeasured
async def test_who_is_bound_to_a_project_is_told_what_a_gateway_without_the_others_tells(bound, alone):
    chance = random.Random(1)  # noqa: S311 - the same calls every time
    compared = 0
    for _ in range(CALLS):
        name, arguments = draw(chance)
        if name == "test_provider":
            continue
        given, wanted = await answer(bound, name, arguments), await answer(alone, name, arguments)
        asked = json.dumps(arguments)
        # A refusal repeats what was asked for, and the name of a project in a refusal is one that was asked for.
        assert MARK not in json.dumps(given).replace(f"{MARK}-one", "") or MARK in asked, (name, arguments)
        assert told(given) == told(wanted), (name, arguments)
        compared += "error" not in given
        while (cursor := given.get("next_cursor")) and "follow_seconds" not in arguments:
            given = await answer(bound, name, {**arguments, "cursor": cursor})
            wanted = await answer(alone, name, {**arguments, "cursor": cursor})
            assert told(given) == told(wanted), (name, arguments)
    assert compared > CALLS / 5


async def test_a_cursor_of_somebody_else_leads_to_no_row_of_others(bound, tmp_path):
    everybody = House(tmp_path / "whole").gateway()
    seen = 0
    try:
        for limit in range(1, 60):
            page = await answer(everybody, "get_logs", {"limit": limit})
            found = await answer(bound, "get_logs", {"limit": 20, "cursor": page["next_cursor"]})
            assert MARK not in json.dumps(found)
            seen += len(found["logs"])
    finally:
        await everybody.close()
    assert seen > 0


@pytest.fixture
async def _alerts(bound, tmp_path):  # noqa: ARG001 - whose folder it is
    """Alerts about his project and about another one."""
    house = House(tmp_path / "whole")
    for project in (MINE, f"{MARK}-one"):
        await house.log(request_record(id=f"costly {project}", project=project, cost_nanousd=900 * CENT))
    everybody = house.gateway()
    try:
        await Alerting(everybody).go_round()
        found = await (await everybody.reader()).ask(newest, limit=10)
        assert {alert.subject for alert in found} == {f"project:{MINE}", f"project:{MARK}-one"}
    finally:
        await everybody.close()


@pytest.mark.usefixtures("_alerts")
@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.name)
async def test_resources_show_nothing_of_other_projects(bound, resource):
    found = "{}"
    if resource.name in {"config", "changes", "change"}:
        with pytest.raises(Forbidden, match="is of all projects"):
            await resource.read(bound, MARK if resource.parameter else "")
    else:
        found = json.dumps(await resource.read(bound, ""))
        assert len(found) > 100
    assert MARK not in found


async def test_only_his_own_entries_are_changed_by_who_is_bound(bound):
    file = bound.config_file.path
    before = file.read_text()
    for name, arguments in [
        ("add_provider", {"provider_id": "groq", "provider_type": "groq"}),
        ("register_model", {"modality": "llm", "provider_id": "ollama", "model_name": "phi"}),
        ("create_project", {"project_id": f"{MARK}-one", "name": "Mine now", "on_conflict": "update"}),
        ("create_project", {"project_id": "new", "name": "New"}),
        ("delete_provider", {"provider_id": "openai", "cascade": True, "confirm": True}),
        ("delete_model", {"model_id": "openai/tts-1", "cascade": True, "confirm": True}),
        ("undo_change", {}),
        ("list_changes", {}),
    ]:
        assert (await answer(bound, name, arguments))["error"]["code"] == "FORBIDDEN", name
    refused = await answer(bound, "delete_project", {"project_id": f"{MARK}-two", "confirm": True})
    assert refused["error"]["code"] == "PROJECT_NOT_FOUND"
    assert file.read_text() == before
    arguments = {"project_id": MINE, "name": "Renamed", "on_conflict": "update"}
    dry = await answer(bound, "create_project", {**arguments, "dry_run": True})
    done = await answer(bound, "create_project", arguments)
    assert dry["diff"] == done["diff"]
    assert MARK not in json.dumps(done)
    assert file.read_text() == before.replace("name: Support line", "name: Renamed")
    await answer(bound, "delete_project", {"project_id": MINE, "confirm": True})
    assert MINE not in file.read_text()


async def test_a_diff_shows_who_is_bound_no_line_of_his_neighbours(bound):
    file = bound.config_file.path
    own = "  # The first customer.\n  support-line:\n"
    file.write_text(file.read_text().replace(own, f"  {MARK}-before: {{name: {MARK}}}\n{own}"))
    arguments = {"project_id": MINE, "name": "Support line", "tags": ["a"], "on_conflict": "update"}
    done = await answer(bound, "create_project", arguments)
    assert "a]" in done["diff"]
    assert MARK not in done["diff"]


@pytest.mark.parametrize(
    "text",
    [
        f"projects: {{{MINE}: {{name: Mine}}, {MARK}: {{name: {MARK}}}}}\n",
        f"projects:\n  {MINE}: {{name: Mine}}\n  {MARK}: {{name: {MARK}}}",
    ],
    ids=["one line", "no end of the last line"],
)
async def test_a_diff_shows_who_is_bound_no_neighbour_on_the_same_line(tmp_path, text):
    house = House(tmp_path)
    house.write(text)
    gateway = house.gateway()
    caller = gateway.as_caller("bound", Access(Role.ADMIN, frozenset({MINE, "new"})))
    try:
        found = [
            await answer(caller, "create_project", {"project_id": "new", "name": "New", "dry_run": True}),
            await answer(
                caller,
                "create_project",
                {"project_id": MINE, "name": "Ours", "on_conflict": "update", "tags": ["a"]},
            ),
            await answer(caller, "delete_project", {"project_id": MINE, "confirm": True, "dry_run": True}),
        ]
    finally:
        await gateway.close()
    for item, line in zip(found, ["new:", "Ours", f"{MINE}:"], strict=True):
        assert line in item["diff"]
    assert MARK not in json.dumps(found)


async def test_a_broken_file_tells_who_is_bound_where_and_not_what(bound):
    file = bound.config_file.path
    await answer(bound, "get_health", {})
    file.write_text(file.read_text().replace("daily_budget: 7.25", "daily_budget: zebra7"))
    health = await answer(bound, "get_health", {})
    assert health["status"] == "degraded"
    assert health["config"]["error"]["line"] > 40
    refused = await answer(
        bound, "create_project", {"project_id": MINE, "name": "X", "on_conflict": "update"}
    )
    assert refused["error"]["code"] == "CONFIG_INVALID"
    assert MARK not in json.dumps([health, refused])


async def test_a_file_that_was_never_good_tells_who_is_bound_where_and_not_what(tmp_path):
    house = House(tmp_path)
    house.write(f"projects:\n  {MARK}: {{name: x, {MARK}: 1}}\n")
    gateway = house.gateway()
    caller = gateway.as_caller("bound", Access(Role.VIEWER, frozenset({MINE})))
    try:
        found = [await answer(caller, name, {}) for name in ("list_projects", "get_health", "get_costs")]
    finally:
        await gateway.close()
    assert found[0]["error"]["code"] == "CONFIG_INVALID"
    assert MARK not in json.dumps(found)


async def test_more_callers_than_readers_are_kept_are_all_answered_their_own(tmp_path):
    house = House(tmp_path)
    house.write("{}\n")
    projects = [f"p{number}" for number in range(80)]
    await house.log(*(request_record(id=name, project=name) for name in projects))
    gateway = house.gateway()
    try:
        for name in [*projects, *projects]:
            caller = gateway.as_caller(name, Access(Role.VIEWER, frozenset({name})))
            logs = (await answer(caller, "get_logs", {}))["logs"]
            assert [row["id"] for row in logs] == [name]
            assert (await answer(caller, "get_health", {}))["store"]["rows"] == 1
    finally:
        await gateway.close()


async def test_a_project_that_no_store_can_name_is_one_without_rows(tmp_path):
    house = House(tmp_path)
    house.write("{}\n")
    await house.log(request_record(id="r", project=MARK))
    gateway = house.gateway()
    caller = gateway.as_caller("bound", Access(Role.VIEWER, frozenset({"\ud800", "a\0b"})))
    try:
        assert (await answer(caller, "get_logs", {}))["logs"] == []
    finally:
        await gateway.close()


def test_two_bounds_together_are_what_both_allow():
    pinned = Access(Role.ADMIN, frozenset({"a", "b"}))
    assert Access(Role.VIEWER).within(pinned) == Access(Role.VIEWER, frozenset({"a", "b"}))
    assert pinned.within(Access(Role.OPERATOR, frozenset({"b", "c"}))) == Access(
        Role.OPERATOR, frozenset({"b"})
    )
    assert Access(Role.ADMIN).within(Access(Role.OPERATOR)) == Access(Role.OPERATOR)


def test_every_tool_is_among_those_that_are_compared():
    assert {tool.name for tool in TOOLS} <= set(BY_NAME)
