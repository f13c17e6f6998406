import pytest
from tests.factories import NOW, request_record

LISTS = {
    "list_providers": ("providers", "provider_id"),
    "list_models": ("models", "model_id"),
    "list_projects": ("projects", "id"),
}
MANY = "providers:\n" + "".join(
    f"  p{n:03}: {{type: openai, base_url: 'https://example.com/{'x' * 300}'}}\n" for n in range(500)
)
MANY += "models:\n  llm:\n" + "".join(
    f"    m{n:03}: {{provider: p{n:03}, display_name: {'y' * 300}}}\n" for n in range(500)
)
MANY += "projects:\n" + "".join(
    f"  j{n:03}: {{name: P, description: {'z' * 300}}}\n" for n in range(499)
) + "  default: {name: D}\n"  # fmt: skip


async def pages(agent, tool, **arguments):
    """Return the ids of all pages, one list each."""
    key, id_name = LISTS[tool]
    found, cursor = [], None
    while cursor is not None or not found:
        page = await agent.ok(tool, **arguments, **({"cursor": cursor} if cursor else {}))
        assert page["count"] == len(page[key])
        found.append([entry[id_name] for entry in page[key]])
        cursor = page.get("next_cursor")
        assert len(str(page)) < 40_000
    return found


@pytest.mark.parametrize("tool", LISTS)
async def test_five_hundred_long_entries_come_in_pages_within_the_byte_budget_each_entry_once(
    agent, house, tool
):
    house.write(MANY)
    found = await pages(agent, tool, limit=1000)
    ids = [entry_id for page in found for entry_id in page]
    assert len(found) > 2
    assert len(ids) == len(set(ids)) == 500
    assert ids == sorted(ids)


@pytest.mark.parametrize("tool", LISTS)
async def test_a_limit_is_kept_and_the_last_page_has_no_cursor(agent, house, tool):
    house.write("".join(MANY.splitlines(keepends=True)))
    found = await pages(agent, tool, limit=83)
    assert [len(page) for page in found][:-1] == [len(found[0])] * (len(found) - 1)
    assert len(found[0]) <= 83
    assert sum(len(page) for page in found) == 500


async def test_pages_hold_while_entries_come_and_go(agent):
    first = await agent.ok("list_projects", limit=2)
    assert [project["id"] for project in first["projects"]] == ["default", "outbound"]
    await agent.ok("create_project", project_id="aaa", name="Before the cursor")
    await agent.ok("create_project", project_id="zzz", name="Behind it")
    await agent.ok("delete_project", project_id="outbound", confirm=True)
    second = await agent.ok("list_projects", limit=2, cursor=first["next_cursor"])
    assert [project["id"] for project in second["projects"]] == ["support-line", "zzz"]
    assert "next_cursor" not in second


async def test_log_pages_hold_while_rows_come_in(agent, house):
    await house.log(*(request_record(id=f"{n}", timestamp_ms=NOW - n) for n in range(5)))
    first = await agent.ok("get_logs", limit=2)
    await house.log(request_record(id="new", timestamp_ms=NOW + 1))
    second = await agent.ok("get_logs", limit=3, cursor=first["next_cursor"])
    assert [entry["id"] for entry in first["logs"] + second["logs"]] == ["0", "1", "2", "3", "4"]
    assert "next_cursor" not in second


async def test_a_page_of_long_log_rows_is_cut_and_says_so(agent, house):
    await house.log(*(request_record(id=f"{n}", error_message="e" * 2_000) for n in range(100)))
    page = await agent.ok("get_logs", limit=100, detail="full")
    assert page["truncated"] is True
    assert page["count"] < 100
    assert page["next_cursor"]


async def test_a_cursor_of_another_query_is_refused(agent, house):
    await house.log(*(request_record(id=f"{n}", project="outbound") for n in range(3)))
    cursors = {tool: (await agent.ok(tool, limit=1))["next_cursor"] for tool in (*LISTS, "get_logs")}
    for tool in cursors:
        for other, cursor in cursors.items():
            if other != tool:
                error = await agent.refused(tool, cursor=cursor)
                assert (error["code"], error["details"]["field"]) == ("VALIDATION_ERROR", "cursor")
                assert "another query" in error["message"]
    for tool, arguments in (
        ("list_models", {"modality": "llm"}),
        ("list_models", {"detail": "full"}),
        ("list_models", {"enabled_only": False}),
        ("get_logs", {"project": "outbound"}),
        ("get_logs", {"order": "oldest"}),
    ):
        error = await agent.refused(tool, {**arguments, "cursor": cursors[tool]})
        assert "another query" in error["message"]
