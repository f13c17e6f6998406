import pytest

from voicegw_mcp.config.document import DELETE
from voicegw_mcp.core.catalog import Catalog
from voicegw_mcp.core.providers import (
    plan_provider,
    plan_provider_removal,
    provider_status,
    require_working,
    show_key,
    view_provider,
)
from voicegw_mcp.errors import (
    AlreadyExists,
    ConfirmationRequired,
    Conflict,
    InvalidInput,
    NotFound,
    ProviderFailed,
)

FILE = """\
providers:
  openai: {region: eu}
  mine: {type: openai, api_key: fake-key-0001, base_url: https://example.com}
  ollama: {}
  house: {type: openai_compatible, base_url: https://example.com}
  odd: {}
models:
  llm:
    a: {provider: openai}
    b: {provider: mine}
stacks: {s: {llm: a}}
"""
NOTHING = {"api_key": None, "base_url": None, "options": None, "update": False}


@pytest.fixture
def catalog(configuration):
    return Catalog(configuration(FILE))


def planned(catalog, **arguments):
    plan = plan_provider(catalog, **{**NOTHING, **arguments})
    (edit,) = plan.edits
    return plan, edit.value


def test_a_type_is_written_only_when_the_id_does_not_say_it(catalog):
    assert planned(catalog, provider_id="groq", provider_type="groq")[1] == {"api_key": "${GROQ_API_KEY}"}
    assert planned(catalog, provider_id="fast", provider_type="groq")[1] == {
        "type": "groq",
        "api_key": "${GROQ_API_KEY}",
    }


def test_local_types_and_those_that_do_without_get_no_key(catalog):
    assert planned(catalog, provider_id="whisper", provider_type="whisper")[1] == {}
    assert "api_key" not in planned(catalog, provider_id="x", provider_type="openai_compatible")[1]


def test_an_update_keeps_what_was_not_given(catalog):
    plan, entry = planned(
        catalog, provider_id="mine", provider_type="openai", base_url="https://example.org", update=True
    )
    assert entry == {"type": "openai", "api_key": "fake-key-0001", "base_url": "https://example.org"}
    assert (plan.updates, plan.summary) == (True, "Update provider mine")
    assert planned(catalog, provider_id="openai", provider_type="openai", update=True)[1] == {"region": "eu"}
    assert planned(catalog, provider_id="openai", provider_type="groq", update=True)[1]["type"] == "groq"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"provider_id": "openai", "provider_type": "openai"}, AlreadyExists),
        ({"provider_id": "A", "provider_type": "openai"}, InvalidInput),
        ({"provider_id": "x", "provider_type": "opnai"}, InvalidInput),
        ({"provider_id": "x", "provider_type": "openai", "api_key": "fake-key"}, InvalidInput),
        ({"provider_id": "x", "provider_type": "openai", "base_url": "ftp://x"}, InvalidInput),
        ({"provider_id": "x", "provider_type": "openai", "options": {"enabled": False}}, InvalidInput),
    ],
)
def test_what_does_not_hold_is_refused(catalog, arguments, error):
    with pytest.raises(error):
        planned(catalog, **arguments)


def test_a_removal_goes_from_telling_to_refusing_to_doing(catalog):
    with pytest.raises(NotFound):
        plan_provider_removal(catalog, provider_id="nobody", confirm=True, cascade=True)
    with pytest.raises(ConfirmationRequired):
        plan_provider_removal(catalog, provider_id="openai", confirm=False, cascade=True)
    with pytest.raises(Conflict, match=r"1 model\(s\) use provider openai: a"):
        plan_provider_removal(catalog, provider_id="openai", confirm=True, cascade=False)
    plan = plan_provider_removal(catalog, provider_id="openai", confirm=True, cascade=True)
    assert [edit.path for edit in plan.edits] == [
        ("providers", "openai"),
        ("models", "llm", "a"),
        ("stacks", "s", "llm"),
    ]
    assert {edit.value for edit in plan.edits} == {DELETE}
    assert plan_provider_removal(catalog, provider_id="ollama", confirm=True, cascade=False).impact == {
        "models_affected": [],
        "projects_affected": [],
        "stacks_affected": [],
        "fallbacks_affected": [],
    }


def test_a_key_in_the_file_is_only_named(catalog):
    assert show_key(catalog.provider("mine")) == "(a literal key in the file)"
    assert show_key(catalog.provider("openai")) == "${OPENAI_API_KEY}"
    assert show_key(catalog.provider("odd")) == ""


def test_the_type_s_own_address_is_shown_where_the_file_names_none(catalog):
    assert view_provider(catalog, catalog.provider("openai"))["base_url"].startswith("https://api.openai.com")
    assert view_provider(catalog, catalog.provider("mine"))["base_url"] == "https://example.com"
    assert view_provider(catalog, catalog.provider("odd"))["base_url"] is None


async def test_an_optional_key_that_is_not_set_leaves_a_provider_configured(gateway, catalog):
    status = provider_status(gateway, catalog, catalog.provider("house"))
    assert (status.configured, status.has_api_key, status.reason) == (True, False, None)


async def test_a_provider_that_does_not_work_is_not_planned_for(gateway):
    def plan(catalog):
        return plan_provider(catalog, provider_id="x", provider_type="openai", **NOTHING)

    with pytest.raises(ProviderFailed) as caught:
        await require_working(gateway, plan, "x", if_version=None)
    assert caught.value.details == {"reason": "not_configured", "http_status": None}
    assert not gateway.config_file.path.exists()
