import stat
from pathlib import Path

import pytest
from pydantic import BaseModel

from voicegw_mcp.cli import setup
from voicegw_mcp.config.schema import Settings

ROOT = Path(__file__).parents[3]


def test_init_writes_a_starter_that_has_no_problem(voicegw, home):
    found = voicegw("init")
    assert found.code == 0
    assert "voicegw check" in found.out
    assert "voicegw secrets set" in found.out
    checked = voicegw("check", "--json")
    assert checked.code == 0
    assert (checked.json["problems"], checked.json["warnings"]) == ([], [])
    assert [entry.name for entry in home.iterdir()] == ["voicegw.yaml"]


def test_init_full_writes_the_whole_example(voicegw, home):
    found = voicegw("init", "sub/my file.yaml", "--full", "--json")
    assert found.code == 0
    assert found.json["file"] == str(home / "sub" / "my file.yaml")
    assert "'sub/my file.yaml'" in found.json["next"][0]
    assert (home / "sub" / "my file.yaml").read_bytes() == (ROOT / "voicegw.example.yaml").read_bytes()


@pytest.mark.parametrize("content", ["", "precious: yes\n"])
def test_init_never_overwrites(voicegw, config, content):
    path = config(content)
    found = voicegw("init", "--full")
    assert found.code == 1
    assert "exists already" in found.err
    assert path.read_text() == content


def test_init_leaves_a_dangling_link_alone(voicegw, home):
    (home / "voicegw.yaml").symlink_to(home / "gone.yaml")
    assert voicegw("init").code == 1
    assert not (home / "gone.yaml").exists()


def test_init_where_nothing_can_be_written_says_so(voicegw, home):
    (home / "file").write_text("")
    found = voicegw("init", "file/voicegw.yaml")
    assert found.code == 1
    assert "cannot be written" in found.err or "exists already" in found.err
    found = voicegw("init", "/proc/voicegw.yaml")
    assert found.code == 1
    assert "READ_ONLY_RESOURCE" in found.err


def test_the_example_at_the_top_is_the_one_that_is_shipped():
    shipped = Path(setup.__file__).parent / "example.yaml"
    assert (ROOT / "voicegw.example.yaml").read_bytes() == shipped.read_bytes()


def test_the_example_is_valid_and_its_only_warnings_are_keys_that_are_not_set(voicegw):
    found = voicegw("check", "-c", ROOT / "voicegw.example.yaml", "--json")
    assert found.code == 0
    assert found.json["problems"] == []
    assert all("is not set" in warning["message"] for warning in found.json["warnings"])


def _keys(model, path=""):
    for name, field in model.model_fields.items():
        yield name
        stack = [field.annotation]
        while stack:
            kind = stack.pop()
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _keys(kind, f"{path}.{name}")
            else:
                stack += getattr(kind, "__args__", ())


def test_the_example_has_every_key_there_is():
    text = (ROOT / "voicegw.example.yaml").read_text()
    missing = {key for key in _keys(Settings) if f"{key}:" not in text}
    assert missing == set()


def test_the_file_that_init_writes_has_the_mode_of_any_new_file(voicegw, home):
    voicegw("init")
    (home / "other").write_text("")
    assert stat.S_IMODE((home / "voicegw.yaml").stat().st_mode) == stat.S_IMODE(
        (home / "other").stat().st_mode
    )


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("providers: [\n", 1, ""),
        ("timezone: UTC\ntimezone: UTC\n", 2, "timezone"),
        ("providers:\n\topenai: {}\n", 2, "tab"),
        ("projects:\n  a: {name: A, daily_budget: much}\n", 2, "number"),
        ("projekts: {}\n", 1, "projects"),
        ("providers:\n  ollama: {base_url: '${NOWHERE}'}\n", 2, "NOWHERE is not set"),
    ],
    ids=["syntax", "duplicate", "tab", "wrong type", "unknown key", "unset reference"],
)
def test_check_names_what_is_wrong_and_where(voicegw, config, text, line, words):
    path = config(text)
    found = voicegw("check")
    assert found.code == 2
    first = found.out.splitlines()[0]
    assert first.startswith(f"{path}:")
    assert ": error: " in first
    assert words in found.out
    assert "cannot be used: 1 problem," in found.out
    answer = voicegw("check", "--json")
    assert answer.code == 2
    assert answer.json["ok"] is False
    if words:
        assert answer.json["problems"][0]["line"] == line


def test_check_lists_all_problems_at_once(voicegw, config):
    config("projekts: {}\nprojects:\n  a: {}\n  b: {name: B, budget_action: blok}\n")
    answer = voicegw("check", "--json").json
    assert [problem["line"] for problem in answer["problems"]] == [1, 3, 4]


def test_check_warns_of_what_is_odd_and_ends_with_0(voicegw, config):
    config(
        "workers: {}\nproviders:\n  openai: {api_key: fake-key-0001}\n  deepgram: {}\n  deepgrm: {}\n"
        "models:\n  llm:\n    m: {provider: opnai}\nauth:\n  api_keys:\n    - token: ${A_TOKEN}\n"
    )
    found = voicegw("check")
    assert found.code == 0
    assert "fake-key-0001" not in found.out
    for words in (
        "workers: is a VoiceGateway 0.27 section",
        "providers.openai.api_key: holds a key itself",
        "needs ${DEEPGRAM_API_KEY}",
        "voicegw secrets set DEEPGRAM_API_KEY",
        "unknown provider type 'deepgrm'",
        "names the provider 'opnai'",
        "auth.api_keys.0.token: needs ${A_TOKEN}",
    ):
        assert words in found.out
    assert [warning["line"] for warning in voicegw("check", "--json").json["warnings"]] == [
        1,
        3,
        4,
        5,
        8,
        11,
        11,
    ]


def test_check_of_no_file_at_all_ends_with_2(voicegw):
    found = voicegw("check")
    assert found.code == 2
    assert "voicegw init" in found.err


def test_check_says_when_the_file_of_secrets_is_open_to_others(voicegw, config, home):
    config("providers:\n  openai: {}\n")
    (home / "secrets.env").write_text("OPENAI_API_KEY=fake-key-0001\n")
    (home / "secrets.env").chmod(0o644)
    found = voicegw("check")
    assert found.code == 0
    assert "mode 0644" in found.out
    assert "chmod 600" in found.out


def test_check_names_models_without_a_price_and_what_to_write(voicegw, config):
    path = config(
        "providers:\n  house: {type: openai_compatible, base_url: 'http://10.0.0.5/v1', api_key: x1}\n"
        "  soniox: {api_key: x2}\n"
        "models:\n  llm:\n    house/a: {provider: house}\n    house/b: {provider: house}\n"
        "    house/off: {provider: house, enabled: false}\n  stt:\n    soniox/stt-rt-preview: {provider: soniox}\n"
        "pricing:\n  house/b:\n    - {effective: 2190-01-01, per_minute: 1}\n  huose/b: {per_minute: 1}\n"
    )
    found = voicegw("check")
    assert found.code == 0
    unpriced = "no price is known in the unit of its requests"
    for words in (
        f"models.llm.house/a: {unpriced}",
        f"models.llm.house/b: {unpriced}",
        # Known by the token, and the plugin reports time.
        f"models.stt.soniox/stt-rt-preview: {unpriced}",
        "pricing.house/b.0: holds from 2190-01-01 on, which is to come",
        "pricing.huose/b: is a price of a model of no configured provider",
    ):
        assert words in found.out
    assert "house/off" not in found.out
    line = '"house/a": {per_million_input_tokens: 0.20, per_million_output_tokens: 0.60}'
    assert line in found.out.replace("\n", " ")
    path.write_text(path.read_text() + f"  {line}\n")
    assert "models.llm.house/a" not in voicegw("check").out
