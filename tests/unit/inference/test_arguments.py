"""How options come together for a class, told by classes like those of plugins that are not installed here."""

import pytest

from voicegw_mcp import inference
from voicegw_mcp.core.provider_types import PROVIDER_TYPES
from voicegw_mcp.domain import Modality
from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.inference.arguments import Layer, arguments_for, merge
from voicegw_mcp.inference.parameters import form_of
from voicegw_mcp.inference.resolution import Account, Choice
from voicegw_mcp.inference.runtime import current


class WithAll:
    def __init__(self, *, model="m", voice="v", language="en", api_key=None, base_url="", speed=1.0):
        pass


class WithNothing:
    def __init__(self, *, credentials_file=None, speed=1.0):
        pass


class Slow:
    def __init__(self, *, pace=1):
        pass


class Open:
    def __init__(self, *, api_key=None, **more):
        pass


def choice(type_name, key=None, base_url=None):
    kind = PROVIDER_TYPES.get(type_name)
    account = Account("p", type_name, kind, base_url, key, {}, None)
    return Choice(account, Modality.TTS, "p/m", "m", None, None, {})


def arguments(type_name, cls, *layers, key="${KEY}", base_url=None):
    form = form_of(type_name, cls)
    return arguments_for(
        current(), choice(type_name, key, base_url), form, cls, merge(form, map(Layer, layers))
    )


@pytest.fixture(autouse=True)
def _configured(configure, monkeypatch):
    configure("")
    monkeypatch.setenv("KEY", "fake-key")


def test_what_is_given_last_holds():
    first, last = {"speed": 1.5, "voice": "a"}, {"speed": 2.0, "voice": "b"}
    assert arguments("lmnt", WithAll, first, last) == {
        "model": "m",
        "voice": "b",
        "api_key": "fake-key",
        "speed": 2.0,
    }


def test_a_class_without_names_for_something_is_not_given_it():
    assert arguments("google", WithNothing, {"speed": 2.0}) == {"speed": 2.0}


@pytest.mark.parametrize("option", ["model", "api_key", "voices", "_private"])
def test_what_a_class_has_not_is_refused(option):
    with pytest.raises(InvalidInput, match=f"WithNothing takes no option '{option}'"):
        arguments("google", WithNothing, {option: "x"})


def test_the_model_is_named_by_its_id_only():
    with pytest.raises(InvalidInput, match="takes no option 'model'"):
        arguments("lmnt", WithAll, {"model": "other"})


@pytest.mark.parametrize("concept", ["voice", "language"])
def test_what_a_class_cannot_be_told_is_refused(concept):
    with pytest.raises(InvalidInput, match=f"takes no {concept}") as caught:
        arguments("google", WithNothing, {concept: "x"})
    assert caught.value.details["field"] == concept


def test_an_address_is_not_dropped_where_a_class_takes_none():
    assert arguments("lmnt", WithAll, base_url="https://l.example/v1")["base_url"] == "https://l.example"
    with pytest.raises(InvalidInput, match="takes no base_url") as caught:
        arguments("google", WithNothing, base_url="https://l.example/v1")
    assert caught.value.details["field"] == "base_url"


def test_what_is_written_for_all_classes_of_a_provider_is_skipped_where_one_has_it_not():
    form, sibling = form_of("google", WithNothing), form_of("google", WithAll)
    for options in ({"voice": "v"}, {"api_key": "k"}, {"base_url": "https://x.example"}):
        given = merge(form, [Layer(options, " (in providers.p)", for_all=True)], [sibling])
        assert given.others == {}
    given = merge(form, [Layer({"pace": 2}, for_all=True)], [form_of("google", Slow)])
    assert (given.known, given.others) == ({}, {})
    with pytest.raises(InvalidInput, match=r"'pacce' \(in providers.p\)"):
        merge(form, [Layer({"pacce": 2}, " (in providers.p)", for_all=True)], [form_of("google", Slow)])


def test_an_open_class_takes_everything():
    assert arguments("gnani", Open, {"anything": 1}) == {"api_key": "fake-key", "anything": 1}


def test_a_key_that_is_nowhere_is_told_with_what_to_do():
    with pytest.raises(InvalidInput, match="no api_key is configured") as caught:
        arguments("lmnt", WithAll, key=None)
    assert "providers.p.api_key: ${NAME}" in caught.value.hint
    with pytest.raises(InvalidInput, match="NOWHERE is not set") as caught:
        arguments("lmnt", WithAll, key="${NOWHERE}")
    assert caught.value.details["command"] == "voicegw secrets set NOWHERE"


def test_some_find_a_key_of_their_own():
    assert "api_key" not in arguments("aws", WithAll, key=None)
    assert "api_key" not in arguments("brandnew", WithAll, key=None)
    assert arguments("gnani", Open, {"credentials": 1}, key=None) == {"credentials": 1}


def test_keys_and_addresses_in_code_come_first():
    given = {"api_key": "own", "base_url": "https://own.example"}
    made = arguments("lmnt", WithAll, given, base_url="https://l.example")
    assert (made["api_key"], made["base_url"]) == ("own", "https://own.example")


def test_every_public_name_is_there():
    assert set(inference.__all__) <= set(dir(inference))
