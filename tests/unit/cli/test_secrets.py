import stat

import pytest

KEY = "fake-key-0001"
CONFIG = """\
providers:
  openai: {api_key: "${OPENAI_API_KEY}"}
  deepgram:
  house: {type: openai_compatible, api_key: "${file:house.key}", base_url: "http://h.example"}
  ollama: {}
  odd: 7
"""


@pytest.fixture
def never_shown(voicegw):
    """Runs commands and checks that no output holds the key."""

    def run(*arguments, **given):
        found = voicegw(*arguments, **given)
        assert KEY not in found.out + found.err
        assert KEY[:8] not in found.out + found.err
        return found

    return run


def test_set_reads_standard_input_and_writes_a_file_for_its_owner_only(never_shown, home):
    found = never_shown("secrets", "set", "OPENAI_API_KEY", stdin=f"{KEY}\r\n")
    assert found.code == 0
    assert "OPENAI_API_KEY is set" in found.out
    (path,) = (home / ".config" / "voicegateway").glob("secrets.env")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert f"OPENAI_API_KEY={KEY}\n" in path.read_text()


def test_set_asks_unseen_on_a_terminal(never_shown, config, home, monkeypatch):
    config("timezone: UTC\n")
    monkeypatch.setattr("getpass.getpass", lambda _: KEY)
    found = never_shown("secrets", "set", "A_KEY", "--json", typed="")
    assert found.code == 0
    assert KEY in (home / "secrets.env").read_text()


@pytest.mark.parametrize("stdin", ["", "\n", f"{KEY}\n{KEY}\n", "a\x1bb\n", "x" * 70_000])
def test_a_value_that_is_empty_or_not_one_line_is_refused(never_shown, home, stdin):
    found = never_shown("secrets", "set", "A_KEY", stdin=stdin)
    assert found.code == 2
    assert "VALIDATION_ERROR" in found.err
    assert not list(home.rglob("secrets.env"))


@pytest.mark.parametrize(
    "arguments", [["A_KEY", KEY], [f"A_KEY={KEY}"], [KEY], ["A_KEY", "--", KEY], ["", ""]]
)
@pytest.mark.parametrize("verb", ["set", "unset"])
def test_a_value_on_the_command_line_is_refused_and_not_repeated(never_shown, home, verb, arguments):
    found = never_shown("secrets", verb, *arguments, stdin="x\n")
    assert found.code == 2
    assert not list(home.rglob("secrets.env"))


def test_list_names_what_is_referred_to_where_and_whether_it_is_set(never_shown, config, home, monkeypatch):
    config(CONFIG)
    monkeypatch.setenv("DEEPGRAM_API_KEY", KEY)
    (home / "house.key").write_text(KEY)
    never_shown("secrets", "set", "OPENAI_API_KEY", stdin=KEY)
    never_shown("secrets", "set", "UNUSED", stdin=KEY)
    listed = {item["name"]: item for item in never_shown("secrets", "list", "--json").json["secrets"]}
    assert {name: item["source"] for name, item in listed.items()} == {
        "OPENAI_API_KEY": "secrets.env",
        "file:house.key": "file",
        "DEEPGRAM_API_KEY": "environment",
        "UNUSED": "secrets.env",
    }
    assert listed["OPENAI_API_KEY"]["references"] == [
        {"path": "providers.openai.api_key", "line": 2, "column": 12}
    ]
    shown = never_shown("secrets", "list").out
    assert "providers.deepgram:3" in shown
    assert "(nothing)" in shown


def test_list_of_unset_names_says_what_to_run(never_shown, config):
    config("auth: {api_keys: [{token: '${A_TOKEN}'}]}\n")
    assert "voicegw secrets set A_TOKEN" in never_shown("secrets", "list").out
    (item,) = never_shown("secrets", "list", "--json").json["secrets"]
    assert (item["set"], item["command"]) == (False, "voicegw secrets set A_TOKEN")


def test_list_works_for_a_file_that_does_not_fit(never_shown, config):
    config("projekts: {}\nproviders:\n  ollama: {base_url: '${HOST}'}\n")
    assert never_shown("secrets", "list", "--json").json["secrets"][0]["name"] == "HOST"


def test_list_of_a_file_that_cannot_be_read_is_an_error(never_shown, config):
    config("providers: [\n")
    found = never_shown("secrets", "list")
    assert found.code == 2
    assert "CONFIG_INVALID" in found.err


def test_list_of_nothing_says_so(never_shown):
    assert "refers to no secret" in never_shown("secrets", "list").out


def test_unset_removes_a_name_once(never_shown, config):
    config("timezone: UTC\n")
    never_shown("secrets", "set", "A_KEY", stdin=KEY)
    assert never_shown("secrets", "unset", "A_KEY", "--json").json["removed"] is True
    assert "was not in" in never_shown("secrets", "unset", "A_KEY").out
    never_shown("secrets", "set", "A_KEY", stdin=KEY)
    assert "is removed from" in never_shown("secrets", "unset", "A_KEY").out


@pytest.mark.parametrize("command", [["list"], ["set", "A_KEY"], ["unset", "A_KEY"]])
def test_a_file_of_secrets_that_others_can_read_is_refused(never_shown, config, home, command):
    config("timezone: UTC\n")
    (home / "secrets.env").write_text(f"A_KEY={KEY}\n")
    (home / "secrets.env").chmod(0o644)
    found = never_shown("secrets", *command, stdin=KEY)
    assert found.code == 1
    assert "READ_ONLY_RESOURCE" in found.err
    assert "chmod 600" in found.err


def test_a_key_from_the_environment_is_seen_past_a_refused_file(never_shown, config, home, monkeypatch):
    config("providers: {openai: {}}\n")
    (home / "secrets.env").write_text(f"A_KEY={KEY}\n")
    (home / "secrets.env").chmod(0o644)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert voicegw_warnings(never_shown) == []


def voicegw_warnings(run):
    return run("check", "--json").json["warnings"]


@pytest.mark.parametrize("verb", ["set", "unset"])
def test_a_folder_that_cannot_be_written_is_a_plain_error(never_shown, home, verb):
    (home / ".config").write_text("a file where a folder should be")
    found = never_shown("secrets", verb, "A_KEY", stdin=KEY)
    assert found.code == 1
    assert "cannot be written" in found.err


def test_a_name_used_twice_is_listed_once_with_both_places(never_shown, config):
    config("providers:\n  openai: {}\n  eu: {type: openai, api_key: '${OPENAI_API_KEY}'}\n")
    (item,) = never_shown("secrets", "list", "--json").json["secrets"]
    assert [place["path"] for place in item["references"]] == ["providers.eu.api_key", "providers.openai"]
