import math
from pathlib import Path

import pytest

from voicegw_mcp.core.catalog import Catalog
from voicegw_mcp.core.entries import (
    blaming,
    check_options,
    check_reference,
    check_text,
    raw_entry,
    reference_edits,
    require_confirmation,
)
from voicegw_mcp.errors import ConfirmationRequired, InvalidInput, NotFound

KEY = "fake-key-0001"
FOLDER = Path("/etc/voicegateway")


def check(options):
    return check_options(options, field="options", reserved=frozenset({"type"}))


def test_a_reference_is_taken_and_nothing_is_no_reference():
    assert check_reference(" ${A} ", None, FOLDER) == "${A}"
    assert check_reference(None, "${A}", FOLDER) is None
    assert check_reference("", "${A}", FOLDER) is None


@pytest.mark.parametrize(("usual", "name"), [("${GROQ_API_KEY}", "GROQ_API_KEY"), (None, "PROVIDER_API_KEY")])
def test_a_literal_key_is_refused_with_the_command_to_run_and_not_repeated(usual, name):
    with pytest.raises(InvalidInput) as caught:
        check_reference(KEY, usual, FOLDER)
    assert f"voicegw secrets set {name}" in caught.value.hint
    assert KEY not in str(caught.value.payload())


def test_ordinary_options_are_taken_as_they_are():
    options = {
        "speed": 1.5,
        "flags": [True, None, {"a": "b"}],
        "api_key": "${A}",
        "headers": {"Authorization": "Bearer ${A}"},
    }
    assert check(options) == options
    assert check({"a": [[[[["deep enough"]]]]]})


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"type": 1}, "options.type"),
        ({"1a": 1}, "options"),
        ({"": 1}, "options"),
        ({"a": math.nan}, "options.a"),
        ({"a": [math.inf]}, "options.a"),
        ({"a": [[[[[["too deep"]]]]]]}, "options.a"),
        ({"a": [1] * 201}, "options.a"),
        ({"a": "x" * 4_097}, "options.a"),
        ({"a": {"x" * 201: 1}}, "options.a"),
        ({"a": {"b\n": 1}}, "options.a"),
        ({"a": "\ud800"}, "options"),
        ({"a": 10**5_000}, "options"),
        ({f"a{n}": 1 for n in range(51)}, "options"),
        ({f"a{n}": "x" * 4_000 for n in range(10)}, "options"),
        ({"token": [KEY]}, "options.token"),
        ({"a": {"token": 1234}}, "options.a"),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name_with_a_hint(options, field):
    with pytest.raises(InvalidInput) as caught:
        check(options)
    assert caught.value.details["field"] == field
    assert caught.value.hint
    assert KEY not in str(caught.value.payload())


def test_text_for_people_is_short_and_plain():
    check_text("Ünïcode 😀", "name", longest=20)
    check_text("", "description", longest=20, several_lines=True)
    check_text("a\nb", "description", longest=20, several_lines=True)
    for text in ("", " ", "a\nb", "x" * 21, "a\x1bb", "a\u202eb"):
        with pytest.raises(InvalidInput) as caught:
            check_text(text, "name", longest=20)
        assert caught.value.details == {"field": "name"}


def test_blame_names_the_argument_the_caller_knows():
    with pytest.raises(NotFound) as caught, blaming("llm_model"):
        raise NotFound("model", "x")
    assert caught.value.details["field"] == "llm_model"


FILE = """\
models: {llm: {a: {provider: p}, b: {provider: p}}, stt: {c: {provider: p}}}
stacks: {s: {stt: c, llm: a}, t: {llm: b}}
fallbacks: {llm: [a, b, a]}
projects:
  one: {name: x, llm_model: a, stt_model: c}
  two: {name: x, default_stack: s}
"""


@pytest.fixture
def catalog(configuration):
    return Catalog(configuration(FILE))


def test_every_mention_of_a_model_is_taken_out_and_nothing_else(catalog):
    edits = {edit.path: edit.value for edit in reference_edits(catalog, {"a"})}
    assert set(edits) == {("stacks", "s", "llm"), ("fallbacks", "llm"), ("projects", "one", "llm_model")}
    assert edits["fallbacks", "llm"] == ["b"]
    assert reference_edits(catalog, {"nothing"}) == []


def test_an_entry_is_given_as_the_file_has_it(catalog):
    assert raw_entry(catalog, "stacks", "t") == {"llm": "b"}
    assert raw_entry(catalog, "stacks", "u") == {}
    assert raw_entry(catalog, "nothing", "u") == {}


def test_confirmation_shows_the_impact_shortly_and_wholly_in_the_details(catalog):
    impact = {"models_affected": list("abcdefg"), "stacks_affected": [], "total_requests": 3}
    require_confirmation(catalog, "provider", "p", impact, confirm=True)
    with pytest.raises(ConfirmationRequired) as caught:
        require_confirmation(catalog, "provider", "p", impact, confirm=False)
    assert "models affected: a, b, c, d, e, …; total requests: 3." in caught.value.message
    assert caught.value.details == {**impact, "config_version": catalog.configuration.version}


def test_tools_refer_to_files_beside_the_configuration_and_in_secret_folders_only(tmp_path):
    (tmp_path / "out").symlink_to("/etc")
    for name in ("key", "sub/key", str(tmp_path / "key"), "/run/secrets/openai"):
        reference = f"${{file:{name}}}"
        assert check_reference(reference, None, tmp_path) == reference
    for name in ("/etc/passwd", "../key", "sub/../../key", "out/passwd", "~/key", "~nobody-there/key"):
        with pytest.raises(InvalidInput, match="outside of"):
            check_reference(f"${{file:{name}}}", None, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"openai_key": "fake-1"},
        {"key": "fake-1"},
        {"tokens": ["fake-1"]},
        {"Authorization": "Bearer fake-live ${OPENAI_API_KEY}"},
        {"headers": {"credentials": {"user": "fake-1"}}},
        {"url": "https://a:fake-pw@h/"},
        {"note": "Bearer fake-live-0001"},
        {"note": "sk-fake-0123456789abcdef"},
    ],
)
def test_a_key_under_any_name_in_any_place_is_no_option(options):
    with pytest.raises(InvalidInput, match="looks like a secret"):
        check(options)


def test_a_reference_in_a_header_is_an_option():
    assert check({"Authorization": "Bearer ${NAME}", "max_tokens": 100}) == {
        "Authorization": "Bearer ${NAME}",
        "max_tokens": 100,
    }
