from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from tests.factories import DAY, NOW, request_record
from tests.protocol.agents import FILE

from voicegw_mcp.domain import Modality

HOUR = 3_600_000
CENT = 10_000_000


def local_midnight(zone, now=NOW):
    """Return UTC epoch ms of the midnight that began the local day."""
    local = datetime.fromtimestamp(now / 1000, ZoneInfo(zone))
    return int(local.replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)


async def test_creating_a_project_writes_only_what_was_given(agent, house):
    answer = await agent.ok(
        "create_project",
        project_id="emea",
        name="EMEA",
        daily_budget="42",
        budget_action="block",
        stt_model="deepgram/nova-3",
        tags=["a", "b"],
        timezone="Europe/Berlin",
    )
    assert answer["daily_budget"] == 42.0
    assert answer["budget_action"] == "block"
    assert (answer["created"], answer["updated"], answer["source"]) == (True, False, "yaml")
    assert (answer["description"], answer["tags"], answer["timezone"]) == ("", ["a", "b"], "Europe/Berlin")
    assert answer["created_at"].startswith("2026-11-18T")
    assert "default_stack" not in answer
    new = [line.strip() for line in house.lines if line not in FILE.splitlines()]
    assert new[:2] == ["emea:", "name: EMEA"]
    assert "description" not in " ".join(new)
    assert not [line for line in FILE.splitlines() if line not in house.lines]


async def test_defaults_need_no_line(agent, house):
    answer = await agent.ok(
        "create_project",
        project_id="plain",
        name="Plain",
        description="",
        daily_budget=0,
        budget_action="warn",
        tags=[],
        timezone="",
    )
    assert (answer["daily_budget"], answer["budget_action"], answer["tags"]) == (0.0, "warn", [])
    assert [line.strip() for line in house.lines if line not in FILE.splitlines()] == [
        "plain:",
        "name: Plain",
    ]


async def test_a_dry_run_of_create_project_answers_the_same_diff(agent, house):
    before = house.state()
    planned = await agent.ok("create_project", project_id="emea", name="EMEA", dry_run=True)
    assert house.state() == before
    done = await agent.ok("create_project", project_id="emea", name="EMEA")
    assert done["diff"] == planned["diff"]
    error = await agent.refused("create_project", project_id="emea", name="EMEA")
    assert error["code"] == "PROJECT_ALREADY_EXISTS"


async def test_on_conflict_update_changes_one_line_and_keeps_the_comments(agent, house):
    answer = await agent.ok(
        "create_project",
        project_id="support-line",
        name="Support line",
        daily_budget=7.5,
        on_conflict="update",
    )
    assert (answer["updated"], answer["daily_budget"], answer["default_stack"]) == (True, 7.5, "standard")
    assert [line for line in house.lines if line not in FILE.splitlines()] == ["    daily_budget: 7.5"]


async def test_models_take_the_place_of_a_stack_and_a_stack_that_of_models(agent):
    update = {"project_id": "support-line", "name": "Support line", "on_conflict": "update"}
    answer = await agent.ok("create_project", **update, llm_model="ollama/qwen3")
    assert "default_stack" not in answer
    assert answer["llm_model"] == "ollama/qwen3"
    answer = await agent.ok("create_project", **update, default_stack="standard")
    assert answer["default_stack"] == "standard"
    assert "llm_model" not in answer
    shown = await agent.ok("get_project", project_id="support-line")
    assert [shown[f"{m}_model"] for m in ("stt", "llm", "tts")] == [
        "deepgram/nova-3",
        "openai/gpt-4.1-mini",
        "openai/tts-1",
    ]


@pytest.mark.parametrize(
    ("spent", "status"),
    [
        (4_00_000_000_0 - 1, "ok"),
        (4_000_000_000, "warning"),
        (4_999_999_999, "warning"),
        (5_000_000_000, "exceeded"),
    ],
)
async def test_budget_status_turns_at_80_and_100_percent(agent, house, spent, status):
    await house.log(request_record(project="support-line", cost_nanousd=spent))
    (project,) = [
        item for item in (await agent.ok("list_projects"))["projects"] if item["id"] == "support-line"
    ]
    assert project["budget_status"] == status
    assert project["today_spend"] == spent / 1e9
    assert project["today_requests"] == 1


async def test_7999_and_80_percent_are_told_apart(agent, house):
    house.write("projects: {p: {name: P, daily_budget: 100}}\n")
    await house.log(request_record(project="p", id="a", cost_nanousd=79_990_000_000))
    assert (await agent.ok("get_project", project_id="p"))["budget_status"] == "ok"
    await house.log(request_record(project="p", id="b", cost_nanousd=CENT))
    assert (await agent.ok("get_project", project_id="p"))["budget_status"] == "warning"


async def test_spend_is_counted_from_the_midnight_of_the_project_s_own_zone(agent, house):
    zones = {"support-line": "UTC", "outbound": "America/New_York"}
    records = []
    for project, zone in zones.items():
        midnight = local_midnight(zone)
        for n, at in enumerate((midnight - 1, midnight, NOW, midnight - 6 * DAY, midnight - 6 * DAY - 1)):
            records.append(
                request_record(
                    id=f"{project}{n}", project=project, timestamp_ms=at, cost_nanousd=CENT * 10**n // 10
                )
            )
    await house.log(*records)
    for project, zone in zones.items():
        answer = await agent.ok("get_project", project_id=project)
        assert answer["timezone"] == zone
        assert answer["today_requests"] == 2
        assert answer["today_spend"] == pytest.approx(0.11)
        assert answer["week_requests"] == 4
        assert answer["week_spend"] == pytest.approx(1.111)
        assert answer["by_modality"] == {"stt": {"cost": pytest.approx(1.111), "requests": 4}}
        reset = datetime.fromisoformat(answer["reset_at"])
        assert reset.timestamp() * 1000 == local_midnight(zone) + DAY
        assert reset.hour == 0
    listed = {item["id"]: item for item in (await agent.ok("list_projects"))["projects"]}
    assert all(listed[project]["today_requests"] == 2 for project in zones)


async def test_spend_of_a_project_is_split_by_modality(agent, house):
    await house.log(
        request_record(id="a", project="outbound", cost_nanousd=CENT),
        request_record(id="b", project="outbound", modality=Modality.LLM, cost_nanousd=2 * CENT),
    )
    answer = await agent.ok("get_project", project_id="outbound")
    assert answer["by_modality"] == {
        "llm": {"cost": 0.02, "requests": 1},
        "stt": {"cost": 0.01, "requests": 1},
    }


async def test_a_project_is_shown_with_file_and_line(agent, house):
    answer = await agent.ok("get_project", project_id="outbound")
    assert house.lines[answer["line"] - 1].strip() == "outbound:"
    assert answer["file"] == str(house.file)
    assert answer["llm_model"] == "ollama/qwen3"
    assert answer["budget_status"] == "ok"


async def test_there_is_always_a_default_project_which_cannot_be_deleted_until_it_is_declared(agent, house):
    await house.log(request_record(project="default", cost_nanousd=CENT))
    first = (await agent.ok("list_projects"))["projects"][0]
    assert (first["id"], first["source"], first["today_requests"]) == ("default", "auto", 1)
    assert "line" not in await agent.ok("get_project", project_id="default")
    error = await agent.refused("delete_project", project_id="default", confirm=True)
    assert error["code"] == "READ_ONLY_RESOURCE"
    declared = await agent.ok("create_project", project_id="default", name="Ours", daily_budget=1)
    assert (declared["created"], declared["source"]) == (True, "yaml")
    await agent.ok("delete_project", project_id="default", confirm=True)
    assert house.text == FILE
    assert (await agent.ok("list_projects"))["projects"][0]["source"] == "auto"


async def test_deleting_a_project_tells_its_total_spend_and_keeps_its_log(agent, house):
    await house.log(
        request_record(id="a", project="outbound", cost_nanousd=CENT, timestamp_ms=NOW - 400 * DAY),
        request_record(id="b", project="outbound", cost_nanousd=CENT, timestamp_ms=NOW + HOUR),
        request_record(id="c", project="support-line", cost_nanousd=CENT),
    )
    before = house.state()
    error = await agent.refused("delete_project", project_id="outbound")
    version = error["details"].pop("config_version")
    assert (error["code"], error["details"]) == (
        "CONFIRMATION_REQUIRED",
        {"total_spend_usd": 0.02, "total_requests": 2},
    )
    assert house.state() == before
    planned = await agent.ok("delete_project", project_id="outbound", confirm=True, dry_run=True)
    answer = await agent.ok("delete_project", project_id="outbound", confirm=True, if_version=version)
    assert (answer["action"], answer["project_id"]) == ("deleted", "outbound")
    assert (answer["total_spend_usd"], answer["total_requests"]) == (0.02, 2)
    assert answer["diff"] == planned["diff"]
    assert (await agent.ok("get_logs", project="outbound"))["count"] == 2
    error = await agent.refused("delete_project", project_id="outbound", confirm=True)
    assert error["code"] == "PROJECT_NOT_FOUND"
    assert (await agent.refused("get_project", project_id="outbund"))["code"] == "PROJECT_NOT_FOUND"


async def test_the_default_project_of_the_file_cannot_be_deleted(agent, house):
    house.write(FILE + "default_project: outbound\n")
    error = await agent.refused("delete_project", project_id="outbound", confirm=True)
    assert error["code"] == "CONFLICT"
    assert "default_project" in error["message"]
