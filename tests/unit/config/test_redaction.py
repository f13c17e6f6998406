"""What of a file may be shown."""

import contextlib
import datetime as dt
import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from voicegw_mcp.config.document import DELETE, Edit, unified_diff
from voicegw_mcp.config.excerpt import Excerpt, apply_steps, record_steps
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
from voicegw_mcp.config.secret_comments import hide_in_comment
from voicegw_mcp.config.secret_text import telling
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
        "X_api_key_old",
        "api_key_2",
        "apiKey2",
        "openAIKey",
        "token_value",
        "password_file_text",
        "openai_key_backup",
        "credentials_json",
        "db/password",
    ],
)
def test_names_of_secrets_are_known_in_any_spelling(name):
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    re.findall(
        r"\S+|^",
        """ max_tokens keyboard keyterms sort_key language tokenizer secretary model key_repeat tokens_per_minute voice_id
    default_voice api_key_env password_file secret_name token_limit high_pass eos_token cache_key_2 author pass_through
    top_k passage""",
    ),
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


HEX = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"# api_key: {HEX}01234567\n", "# api_key: ***\n"),
        ("#secret: hunter2hunter2\n", "#secret: ***\n"),
        ("# secret: correct horse battery staple  # x\n", "# secret: ***  # x\n"),
        ("api_key: ${X}   # was AIzaSyA1234567890abcdefghijk\n", "api_key: ${X}   # was ***\n"),
        ("api_key: ${X}   # was hunter2hunter2\n", "api_key: ${X}   # was ***\n"),
        ("api_key: ${X}   # hunter2\n", "api_key: ${X}   # ***\n"),
        ("api_key: ${X}   # abc1abc1abc1, until May\n", "api_key: ${X}   # ***, until May\n"),
        ('# token = "fake"\n', '# token = "***"\n'),
        ("# Authorization: Bearer fake-bearer\n", "# Authorization: ***\n"),
        ("# {api_key: fake, name: b, password: 'x'}\n", "# {api_key: ***, name: b, password: '***'}\n"),
        ("# export OPENAI_API_KEY=fake\n", "# export OPENAI_API_KEY=***\n"),
        ("# curl -H 'xi-api-key: abcdef12'\n", "# curl -H 'xi-api-key: ***'\n"),
        ("# my password: correct horse battery staple\n", "# my password: ***\n"),
        ("# password=-----BEGIN PRIVATE KEY-----MIIabc\n", "# password=***\n"),
        ("# the password is hunter2\n", "# the password is ***\n"),
        (f"# the key of deepgram: see {HEX}\n", "# the key of deepgram: see ***\n"),
        (
            "a:\n  # -----BEGIN PRIVATE KEY-----\n  # MIIabc\n  # -----END PRIVATE KEY-----\n  # c\n  b: 1\n",
            "a:\n  # ***\n  # ***\n  # ***\n  # c\n  b: 1\n",
        ),
        (
            "# private_key: |\n#   MIIabc\n#\n#   x\n# b: 1\n",
            "# private_key: |\n#   ***\n#\n#   ***\n# b: 1\n",
        ),
        ("# tokens:\n# - fake\n# - ${X}\n# b: 1\n", "# tokens:\n# - ***\n# - ${X}\n# b: 1\n"),
        ("# tokens:\n\n# - fake\n", "# tokens:\n\n# - fake\n"),
        ("n: |  # password: fake\n  # password: text\n", "n: |  # password: ***\n  # password: text\n"),
        ('a: "#1"  # password: fake\n', 'a: "#1"  # password: ***\n'),
        ('x: \'{"private_key":"-----BEGIN PRIVATE KEY-----MIIabc"}\'\n', 'x: \'{"private_key":"***"}\'\n'),
        ('credentials_json: \'{"a":"MIIabc"}\'\n', 'credentials_json: "***"\n'),
        ('x: "{\\"api_key\\": \\"fake\\"}"\n', 'x: "***"\n'),
        ('x: "sk\\x2dfake-0123456789abcdef"\n', 'x: "***"\n'),
        ('"api\\x5fkey": fake\n', '"api\\x5fkey": "***"\n'),
        (
            "x: |\n  -----BEGIN RSA PRIVATE KEY-----\n  MII\n  -----END RSA PRIVATE KEY-----\ny: 1\n",
            "x: |\n  ***\ny: 1\n",
        ),
        ("x: a\n  sk-fake-0123456789abcdef\n", 'x: "***"\n'),
        ("u: 'https://user:p@ss@host/x?token=fake'\n", "u: 'https://***@host/x?token=***'\n"),
        (f"openai_key_of_bob: {HEX}\n", 'openai_key_of_bob: "***"\n'),
        ("dsn: host=h password=fake user=x\n", "dsn: host=h password=*** user=x\n"),
        ("projects:\n  token: {name: T}\n", "projects:\n  token: {name: T}\n"),
        ("providers:\n  a: {credentials: {user: U}}\n", 'providers:\n  a: {credentials: {user: "***"}}\n'),
        ("İ: 1\n# api_key: fake\n", "İ: 1\n# api_key: ***\n"),
    ],
)
def test_keys_are_hidden_in_comments_and_texts_and_by_names_with_more_words(text, expected):
    found = shown(parse(text))
    assert found.text == expected
    assert shown(parse(found.text)).text == expected


SHAPES = [
    "AIzaSyA1234567890abcdefghijk", "AKIAIOSFODNN7EXAMPLE", "ghp_abcdefghijklmnop1234", "gho_abcdefghijklmnop1234",
    "github_pat_11ABCDEFG0abcdefghijkl", "xoxb-123456789012-abcdef", "xoxa-123456789012-abc", "xoxp-123456789012-abc",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc_def", "sk-fake-0123456789abcdef", "gsk_0123456789abcdef",
    "-----BEGIN PRIVATE KEY-----MIIabc-----END PRIVATE KEY-----",
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "text", ["x: {}\n", "x: 'a {} b'\n", "# {}\n", "a: 1  # see {}, then\n", "x: [a, '{}']\n"]
)
def test_keys_of_a_known_shape_are_hidden_wherever_they_stand(shape, text):
    assert shape[:20] not in shown(parse(text.replace("{}", shape))).text


@pytest.mark.parametrize(
    "text",
    [
        "model: gpt-4o-mini-2024-07-18",
        "model: eleven_multilingual_v2  # token limit 128k",
        "# api key for deepgram/nova-3",
        "#   key: deepgram/nova-3",
        "# Keys: run voicegw secrets set NAME",
        "# api_key: ${X}",
        "# api_key: <your key>",
        "# secret:",
        "default_voice: 21m00Tcm4TlvDq8ikWAM",
        f"voice_id: {HEX}",
        "voice_id: 0f8fad5b-d9cb-469f-a165-70867728950e",
        "voice_id: abcdefghijklmnopqrstuvwxyz0123456789",
        f"version: {HEX}01234567  # of the file",
        "path: /opt/voices/ABCdef0123456789ABCdef0123456789ABCdef0123456789/token.txt",
        'prompt: "Ask for the password: say it. Tokens: a word"',
        "task: risk-management-of-things",
        "projects: {secret-santa: {name: S, daily_budget: 1}}",
    ],
)
def test_what_is_no_key_stays(text):
    parsed = parse(f"{text}\n")
    assert shown(parsed) is parsed


def test_the_example_and_the_cases_of_the_editor_hold_nothing_to_hide():
    root = Path(__file__).parents[3]
    texts = [(root / "voicegw.example.yaml").read_text()]
    for path in (root / "tests/config_cases").rglob("*.case"):
        texts += re.split(r"^(?:<<<<<<|======|>>>>>>).*\n", path.read_text(), flags=re.MULTILINE)[1:3]
    for text in texts:
        with contextlib.suppress(ConfigInvalid):
            parsed = parse(text)
            assert shown(parsed) is parsed


@pytest.mark.parametrize(
    "unit",
    ["a", "A1a", "://", "://a:", "://a@", "?", "&a=", "key:", "key: ", 'key="', "key: a1b2c3d4 ", "sk-", "-----BEGIN ",
     "-----BEGIN PRIVATE KEY", "eyJ.", "eyJaaaaaaaaaaa.", "xoxb-", "key is ", "was ", "token_", "{key: ", '"', "#", "aA1/"],
)  # fmt: skip
def test_no_text_takes_long_to_look_through(unit):
    def cost(length):
        text = (unit * (length // len(unit) + 1))[:length]
        start = time.process_time()
        telling(text)
        hide_in_text(text)
        hide_in_comment(text, beside_secret=True)
        return time.process_time() - start

    # Sixteen times the text may cost sixteen times the work, with room for noise, and not its square.
    assert min(cost(800_000) for _ in range(2)) < 60 * max(0.002, min(cost(50_000) for _ in range(3)))


SECRETS = st.sampled_from([*SHAPES, "hunter2hunter2", HEX, "https://user:hunter2@pw@h.example/x"])
PLACES = st.sampled_from(
    ["  api_key: '{}'", "  # api_key: {}", "  token_old: {}  # was {}", "  u: 1  # password={}", "  headers: {{X-Auth-Token: '{}'}}",
     "  # secret = '{}'", "  tokens: ['{}', x]", "  # tokens:\n  # - {}", "  note: '{{\"password\": \"{}\"}}'",
     "  secret: |\n    {}\n    x", "  # my password: {}", "  name: plain", "", "  # a comment", "  model: deepgram/nova-3"]
)  # fmt: skip


@given(st.lists(st.tuples(PLACES, SECRETS), max_size=8))
def test_no_secret_is_in_what_is_shown_or_kept_and_an_undo_restores_the_bytes_or_refuses(lines):
    lines = [
        (re.sub(r"^(  )(#? ?)(\w+):", rf"\1\2\3_{number}:", place), secret)
        for number, (place, secret) in enumerate(lines)
    ]
    body = "".join(f"{place.format(*[secret] * place.count('{}'))}\n" for place, secret in lines)
    parsed = parse(f"a:\n  first: 1\n{body}b: 1\n")
    for edit in (Edit(("a", "first"), 2), Edit(("a", "new"), 1), Edit(("b",), DELETE), Edit(("a",), DELETE)):
        steps = apply_steps(parsed, [edit])
        visible = [shown(step) for step in steps]
        (kept,) = record_steps(visible, [edit.path])
        told = (
            unified_diff(visible[0].text, visible[1].text, "x") + json.dumps(kept.as_dict()) + visible[0].text
        )
        assert not [secret for _, secret in lines if secret in told or "hunter2" in told or "MIIabc" in told]
        try:
            back = apply_steps(steps[-1], [Excerpt.from_dict(json.loads(json.dumps(kept.as_dict())))])[-1]
        except Conflict:
            assert edit.path == ("a",)
        else:
            assert back.text == parsed.text


@pytest.mark.parametrize("lost", ["hunter2", "hunter3"])
def test_of_two_comments_alike_none_comes_back_as_the_other(lost):
    text = "a:\n  # password: hunter2\n  x: 1\n  # password: hunter3\n  y: 1\nb: 1\n"
    edit = Edit(("a",), {"y": 1} if lost == "hunter2" else {"x": 1})
    steps = apply_steps(parse(text), [edit])
    assert lost not in steps[-1].text
    (kept,) = record_steps([shown(step) for step in steps], [edit.path])
    with pytest.raises(Conflict):
        apply_steps(steps[-1], [kept])


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
    assert all(found.text.startswith(("# old: ***", '"***"', "https://***"), hole) for hole in found.holes)


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
