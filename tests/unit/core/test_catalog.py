import pytest

from voicegw_mcp.core.catalog import Catalog
from voicegw_mcp.domain import Modality
from voicegw_mcp.errors import NotFound

FILE = """\
timezone: Europe/Berlin
providers:
  openai: {}
  mine: {type: openai, api_key: '${MY_KEY}'}
  ollama: {}
  odd: {}
models:
  llm:
    openai/gpt: {provider: openai, model: gpt-5}
    local/qwen: {provider: ollama}
    bare: {provider: ollama}
stacks:
  s: {llm: openai/gpt}
fallbacks:
  llm: [bare, nothing]
projects:
  p: {name: P, default_stack: s, timezone: UTC}
  q: {name: Q, default_stack: s, llm_model: bare}
"""


@pytest.fixture
def catalog(configuration):
    return Catalog(configuration(FILE))


def test_providers_know_their_type_and_where_their_key_is(catalog):
    assert catalog.provider("openai").key_reference == "${OPENAI_API_KEY}"
    assert catalog.provider("mine").key_reference == "${MY_KEY}"
    assert catalog.provider("mine").type_name == "openai"
    assert (catalog.provider("ollama").local, catalog.provider("ollama").key_reference) == (True, None)
    odd = catalog.provider("odd")
    assert (odd.provider_type, odd.key_reference, odd.local, odd.place.line) == (None, None, False, 6)


def test_a_model_has_the_name_it_is_given_else_the_one_in_its_id(catalog):
    names = {model.id: model.model_name for model in catalog.models.values()}
    assert names == {"openai/gpt": "gpt-5", "local/qwen": "qwen", "bare": "bare"}


def test_a_project_s_own_model_goes_before_its_stack_s(catalog):
    assert catalog.project("p").models == {Modality.LLM: "openai/gpt"}
    assert catalog.project("q").models == {Modality.LLM: "bare"}
    assert catalog.projects_of_models({"openai/gpt"}) == ["p"]
    assert catalog.stacks_of_models({"openai/gpt"}) == ["s"]
    assert catalog.fallbacks_of_models({"bare"}) == ["llm"]
    assert catalog.models_of_provider("ollama") == ["local/qwen", "bare"]


def test_there_is_always_a_default_project(catalog, configuration):
    assert list(catalog.projects) == ["default", "p", "q"]
    assert (catalog.project("default").declared, catalog.project("default").place.line) == (False, 0)
    declared = Catalog(configuration("projects: {default: {name: D}}"))
    assert [project.declared for project in declared.projects.values()] == [True]


def test_a_project_s_day_ends_in_its_own_zone_else_in_the_file_s(catalog):
    assert catalog.timezone_of(catalog.project("p")) == "UTC"
    assert catalog.timezone_of(catalog.project("q")) == "Europe/Berlin"


@pytest.mark.parametrize("kind", ["provider", "model", "project"])
def test_what_is_not_there_is_not_found_by_kind(catalog, kind):
    with pytest.raises(NotFound) as caught:
        getattr(catalog, kind)("openai/gp")
    assert caught.value.error_code == f"{kind.upper()}_NOT_FOUND"


def test_references_that_lead_nowhere_are_warnings_with_line_and_column(catalog):
    found = {problem.path: problem for problem in catalog.warnings}
    assert set(found) == {"providers.odd", "fallbacks.llm.1"}
    assert (found["fallbacks.llm.1"].line, found["fallbacks.llm.1"].column) == (15, 15)
    assert found["fallbacks.llm.1"].hint == "Add the model, or remove the reference."
