import pytest
from tests.factories import NOW

from voicegw_mcp.core.catalog import Catalog
from voicegw_mcp.core.models import plan_model, plan_model_removal, price_of, select_models, view_model
from voicegw_mcp.domain import Modality
from voicegw_mcp.errors import AlreadyExists, ConfirmationRequired, Conflict, InvalidInput, NotFound

FILE = """\
providers: {openai: {}, ollama: {}}
models:
  llm:
    gpt: {provider: openai, model: gpt-5, temperature: 0.5}
  tts:
    idle: {provider: openai, enabled: false}
    orphan: {provider: gone, model: tts-1}
projects: {p: {name: P, llm_model: gpt}}
"""
BASE = {
    "modality": Modality.LLM,
    "provider_id": "openai",
    "model_name": "gpt-6",
    "model_id": "new",
    "fields": {},
    "config": None,
    "update": False,
}


@pytest.fixture
def catalog(configuration):
    return Catalog(configuration(FILE))


def planned(catalog, **arguments):
    plan = plan_model(catalog, **{**BASE, **arguments})
    (edit,) = plan.edits
    return plan, edit


def test_a_new_model_has_only_the_lines_it_needs(catalog):
    _, edit = planned(catalog, fields={"enabled": True, "display_name": None, "default_voice": "amy"})
    assert edit.path == ("models", Modality.LLM, "new")
    assert edit.value == {"provider": "openai", "model": "gpt-6", "default_voice": "amy"}
    assert planned(catalog, fields={"enabled": False})[1].value["enabled"] is False


def test_an_update_keeps_what_was_not_given(catalog):
    plan, edit = planned(catalog, model_id="gpt", update=True, config={"top_p": 1}, fields={"enabled": True})
    assert plan.updates
    assert edit.value == {
        "provider": "openai",
        "model": "gpt-6",
        "temperature": 0.5,
        "top_p": 1,
        "enabled": True,
    }


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"model_name": ""}, InvalidInput),
        ({"model_name": "a b"}, InvalidInput),
        ({"model_id": "../x"}, InvalidInput),
        ({"provider_id": "gone"}, NotFound),
        ({"model_id": "gpt"}, AlreadyExists),
        ({"model_id": "gpt", "modality": Modality.TTS, "update": True}, Conflict),
        ({"fields": {"display_name": "x" * 201}}, InvalidInput),
        ({"config": {"model": "x"}}, InvalidInput),
    ],
)
def test_what_does_not_hold_is_refused(catalog, arguments, error):
    with pytest.raises(error):
        planned(catalog, **arguments)


def test_models_are_selected(catalog):
    def ids(modality=None, provider_id=None, enabled_only=True):
        found = select_models(catalog, modality=modality, provider_id=provider_id, enabled_only=enabled_only)
        return [entry.id for entry in found]

    assert ids() == ["gpt", "orphan"]
    assert ids(enabled_only=False) == ["gpt", "idle", "orphan"]
    assert ids(modality=Modality.TTS) == ["orphan"]
    assert ids(provider_id="openai") == ["gpt"]
    with pytest.raises(NotFound):
        ids(provider_id="gone")


def test_a_removal_goes_from_telling_to_refusing_to_doing(catalog):
    with pytest.raises(NotFound):
        plan_model_removal(catalog, model_id="x", confirm=True, cascade=True)
    with pytest.raises(ConfirmationRequired):
        plan_model_removal(catalog, model_id="gpt", confirm=False, cascade=False)
    with pytest.raises(Conflict, match="Model gpt is named by projects p"):
        plan_model_removal(catalog, model_id="gpt", confirm=True, cascade=False)
    plan = plan_model_removal(catalog, model_id="gpt", confirm=True, cascade=True)
    assert [edit.path for edit in plan.edits] == [("models", "llm", "gpt"), ("projects", "p", "llm_model")]
    assert len(plan_model_removal(catalog, model_id="idle", confirm=True, cascade=False).edits) == 1


async def test_a_model_of_a_provider_that_is_gone_is_priced_by_its_name(gateway, catalog):
    assert gateway.now_ms() == NOW
    assert view_model(catalog.model("orphan"))["price"] is None
    assert await price_of(gateway, catalog, catalog.model("orphan")) is None
    price = await price_of(gateway, catalog, catalog.model("gpt"))
    assert view_model(catalog.model("gpt"), price)["price"].usd_per_million_input_tokens > 0
