import pytest

from voicegw_mcp.core.catalog import Catalog
from voicegw_mcp.core.costs import Spend
from voicegw_mcp.core.projects import (
    plan_project,
    plan_project_removal,
    total_spend,
    view_projects,
    view_settings,
)
from voicegw_mcp.errors import (
    AlreadyExists,
    ConfirmationRequired,
    Conflict,
    InvalidInput,
    NotFound,
    ReadOnly,
)

FILE = """\
timezone: Europe/Berlin
models: {llm: {m: {provider: a}}, stt: {s: {provider: a}}}
stacks: {trio: {llm: m}}
projects:
  p: {name: P, llm_model: m, tags: [x], timezone: UTC}
  q: {name: Q, default_stack: trio}
default_project: q
"""
NONE = Spend(0, 0)


@pytest.fixture
def catalog(configuration):
    return Catalog(configuration(FILE))


def planned(catalog, project_id="new", *, update=False, **fields):
    (edit,) = plan_project(
        catalog, project_id=project_id, fields={"name": "N", **fields}, update=update
    ).edits
    return edit.value


def test_only_what_differs_from_the_defaults_is_written(catalog):
    assert planned(catalog, description="", daily_budget=0.0, budget_action="warn", tags=[], timezone="") == {
        "name": "N"
    }
    assert planned(catalog, daily_budget=1.5, tags=["a"]) == {"name": "N", "daily_budget": 1.5, "tags": ["a"]}


def test_an_update_sets_a_default_where_another_value_stands(catalog):
    assert planned(catalog, "p", update=True, tags=[], timezone="") == {
        "name": "N",
        "llm_model": "m",
        "tags": [],
        "timezone": "",
    }


def test_stack_and_models_take_each_other_s_place(catalog):
    assert planned(catalog, "p", update=True, default_stack="trio") == {
        "name": "N",
        "tags": ["x"],
        "timezone": "UTC",
        "default_stack": "trio",
    }
    assert planned(catalog, "q", update=True, stt_model="s") == {"name": "N", "stt_model": "s"}


def test_the_auto_made_default_project_can_be_declared(catalog):
    plan = plan_project(catalog, project_id="default", fields={"name": "D"}, update=False)
    assert (plan.updates, plan.summary) == (False, "Create project default")


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        ({"name": ""}, InvalidInput, "name"),
        ({"name": "x" * 201}, InvalidInput, "name"),
        ({"description": "a\0"}, InvalidInput, "description"),
        ({"tags": ["a"] * 21}, InvalidInput, "tags"),
        ({"tags": ["x" * 65]}, InvalidInput, "tags"),
        ({"timezone": "Mars"}, InvalidInput, "timezone"),
        ({"default_stack": "tri"}, InvalidInput, "default_stack"),
        ({"default_stack": "zzz"}, InvalidInput, "default_stack"),
        ({"default_stack": ""}, InvalidInput, "default_stack"),
        ({"default_stack": "trio", "llm_model": "m"}, InvalidInput, "default_stack"),
        ({"llm_model": "s"}, InvalidInput, "llm_model"),
        ({"llm_model": "x"}, NotFound, "llm_model"),
        ({"project_id": "A"}, InvalidInput, "project_id"),
        ({"project_id": "p"}, AlreadyExists, "project_id"),
    ],
)
def test_what_does_not_hold_is_refused_by_field(catalog, fields, error, field):
    with pytest.raises(error) as caught:
        planned(catalog, **fields)
    assert caught.value.details["field"] == field
    assert caught.value.hint


def test_a_removal_needs_a_declared_project_that_is_not_the_default_and_a_yes(catalog):
    def remove(project_id, confirm=True):
        return plan_project_removal(catalog, project_id=project_id, spent=Spend(5, 2), confirm=confirm)

    with pytest.raises(NotFound):
        remove("x")
    with pytest.raises(ReadOnly):
        remove("default")
    with pytest.raises(Conflict):
        remove("q")
    with pytest.raises(ConfirmationRequired):
        remove("p", confirm=False)
    assert remove("p").impact == {"total_spend_usd": 5e-9, "total_requests": 2}


def test_settings_are_shown_without_absent_stacks_and_models(catalog):
    shown = view_settings(catalog, catalog.project("p"), 0)
    assert (shown["default_stack"], shown["llm_model"], shown["timezone"]) == (None, "m", "UTC")
    assert shown["created_at"] == "1970-01-01T00:00:00+00:00"
    assert view_settings(catalog, catalog.project("q"), 0)["timezone"] == "Europe/Berlin"


async def test_projects_without_requests_spent_nothing(gateway, catalog):
    views = await view_projects(gateway, catalog, list(catalog.projects.values()))
    assert {view.today_spend for view in views} == {0}
    assert {view.reset_at[-6:] for view in views} == {"+01:00", "+00:00"}
    assert await view_projects(gateway, catalog, []) == []
    assert await total_spend(gateway, "p") == NONE
