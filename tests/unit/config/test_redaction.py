"""What of a file may be shown."""

import datetime as dt

import pytest

from voicegw_mcp.config.parse import parse
from voicegw_mcp.config.redaction import (
    ShownFile,
    hide_in_text,
    hide_secrets,
    is_literal_secret,
    is_secret_name,
    revealed,
    secret_places,
    shown,
)
from voicegw_mcp.errors import ConfigInvalid, Conflict

KEY = "fake-key-0001"


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "apikey",
        "API_KEY",
        "X-Api-Key",
        "xi-api-key",
        "accessToken",
        "client_secret",
        "password",
        "passwd",
        "credentials",
        "Authorization",
        "private_key",
        "aws_secret_access_key",
        "speech_key",
        "jwt",
        "Cookie",
        "token",
        "key",
        "openai_key",
        "tokens",
        "api_keys",
        "pwd",
    ],
)
def test_names_of_secrets_are_known_in_any_spelling(name):
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["max_tokens", "keyboard", "keyterms", "sort_key", "language", "tokenizer", "secretary", "model", ""],
)
def test_names_of_other_things_are_not(name):
    assert not is_secret_name(name)


def test_secrets_are_found_and_hidden_at_any_depth_and_references_are_not():
    data = {
        "providers": {
            "a": {"api_key": KEY, "base_url": "https://u:fake-pw@example.com"},
            "b": {
                "api_key": "${X}",
                "note": "sk-fake-0123456789abcdef",
                "credentials": {"user": "fake-user"},
            },
        },
        "auth": {
            "api_keys": [{"token": "fake-token", "name": "ci"}, {"token": "${file:/x}"}, {"token": " "}]
        },
        "headers": {"Authorization": ["Bearer fake-bearer", "Bearer ${X}", "Bearer fake-bearer ${X}"]},
        "password": 123456,
        "secret": True,
        "token": None,
        "max_tokens": 100,
        "since": dt.date(2026, 1, 2),
    }
    shown_data = hide_secrets(data)
    assert shown_data == {
        "providers": {
            "a": {"api_key": "***", "base_url": "https://***@example.com"},
            "b": {"api_key": "${X}", "note": "***", "credentials": {"user": "***"}},
        },
        "auth": {"api_keys": [{"token": "***", "name": "ci"}, {"token": "${file:/x}"}, {"token": " "}]},
        "headers": {"Authorization": ["***", "Bearer ${X}", "***"]},
        "password": "***",
        "secret": True,
        "token": None,
        "max_tokens": 100,
        "since": "2026-01-02",
    }
    places = [".".join(map(str, path)) for path in secret_places(data)]
    assert places == [
        "providers.a.api_key",
        "providers.a.base_url",
        "providers.b.note",
        "providers.b.credentials.user",
        "auth.api_keys.0.token",
        "headers.Authorization.0",
        "headers.Authorization.2",
        "password",
    ]
    assert is_literal_secret("api_key", "Bearer ${X}")
    assert not is_literal_secret("authorization", "Bearer ${X}")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@example.com/x?y=a:b@c", "https://***@example.com/x?y=a:b@c"),
        ("https://:p@example.com", "https://***@example.com"),
        ("https://example.com/a@b:c", "https://example.com/a@b:c"),
        ("https://example.com:8080/x@y", "https://example.com:8080/x@y"),
        ("https://fake-token@example.com/v1", "https://***@example.com/v1"),
        ("https://${NAME}@example.com/v1", "https://${NAME}@example.com/v1"),
        ("https://example.com/v1?api_key=fake-key&v=2", "https://example.com/v1?api_key=***&v=2"),
        ("use Bearer fake-bearer here", "use Bearer *** here"),
        ("key sk-fake-0123456789abcdef!", "key ***!"),
        ("text", "text"),
    ],
)
def test_what_a_url_or_text_gives_away_is_hidden(url, shown):
    assert hide_in_text(url) == shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: {b: 1}\n", "a: {b: 1}\n"),
        ("", ""),
        (
            "p:\n  api_key: ollama  # its name\n  model: ollama/x\n",
            'p:\n  api_key: "***"  # its name\n  model: ollama/x\n',
        ),
        ("p: {api_key: e, name: else}\n", 'p: {api_key: "***", name: else}\n'),
        ("api_key: |\n  fake\n  key\nb: 1\n", 'api_key: "***"\nb: 1\n'),
        ("api_key: >-\n  fake\n\n# c\nb: 1\n", 'api_key: "***"\n\n# c\nb: 1\n'),
        ("tokens:\n- fake-1\n- ${X}\n", 'tokens:\n- "***"\n- ${X}\n'),
        ("a: &k fake\napi_key: *k\n", 'a: &k "***"\napi_key: *k\n'),
        ("a: &k fake\nb: *k\n", "a: &k fake\nb: *k\n"),
        ("token: !!str 12\n", 'token: !!str "***"\n'),
        ("# old: sk-fake-0123456789abcdef\na: 1\n", "# old: ***\na: 1\n"),
        ("u: https://fake@h/v1\r\nb: 1\r\n", "u: https://***@h/v1\r\nb: 1\r\n"),
    ],
)
def test_a_file_is_shown_without_its_keys_and_otherwise_as_it_is(text, expected):
    assert shown(parse(text)).text == expected


def test_a_file_without_keys_is_shown_as_it_is():
    parsed = parse("a: 1\n")
    assert shown(parsed) is parsed


def test_a_key_that_cannot_be_hidden_is_refused():
    with pytest.raises(ConfigInvalid, match="cannot be hidden"):
        shown(parse("? sk-fake-0123456789abcdef\n: 1\n"))


def test_a_shown_file_knows_where_something_is_hidden_and_how_often():
    text = (
        "# old: sk-fake-0123456789abcdef *** and sk-fake-abcdef0123456789\n"
        "a:\n  api_key: fake  # ***\n  url: https://u:p@h/v1?token=fake&x=***\n  note: '***'\n"
    )
    found = shown(parse(text))
    assert isinstance(found, ShownFile)
    lines = [found.text.count("\n", 0, hole) for hole in found.holes]
    assert lines == [0, 0, 2, 3, 3]
    assert all(found.text.startswith(("***", '"***"', "https://***"), hole) for hole in found.holes)


SOURCE = (
    "a:\n  # old: sk-fake-0123456789abcdef\n  api_key: |\n    fake\n    key\n  x: 1\nb: {api_key: 'fake'}\n"
)


def test_secrets_come_back_where_the_entry_still_has_them():
    source = parse(SOURCE)
    restored = SOURCE.replace("|\n    fake\n    key\n  x: 1", '"***"\n  x: 2')
    assert revealed(parse(restored), source, ("a",), 1).text == SOURCE.replace("x: 1", "x: 2")
    untouched = parse(SOURCE.replace("x: 1", "x: '***'"))
    assert revealed(untouched, source, ("a",), 0) is untouched


@pytest.mark.parametrize(
    ("restored", "path"),
    [
        ('c: {api_key: "***"}\n', ("c",)),
        ("b: {note: \"***\", api_key: 'fake'}\n", ("b",)),
        ("b: {api_key: 'fake'}  # ***\n", ("b",)),
        ('b: {api_key: "***", token: "***"}\n', ("b",)),
    ],
)
def test_a_secret_that_is_nowhere_any_more_is_told_and_not_made_up(restored, path):
    hidden = restored.count("***")
    with pytest.raises(Conflict, match="held a key that stood in the file itself"):
        revealed(parse(restored), parse(SOURCE), path, hidden)
