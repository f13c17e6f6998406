import json
import os
import stat
import tomllib

import pytest

from voicegw_mcp.cli import install
from voicegw_mcp.cli.clients import CLIENTS, ClientName
from voicegw_mcp.config import replacement

HTTP, SSE = "http://127.0.0.1:8090/mcp", "http://127.0.0.1:8090/sse"
PROGRAM = install.installed_program()
LAUNCH = {"command": PROGRAM, "args": ["stdio"]}
FORMS = [
    (client, form, url)
    for client in ClientName
    for form, url in (("stdio", None), ("http", HTTP), ("sse", SSE))
    if form in CLIENTS[client].forms
]
IN_PROJECTS = [client for client in ClientName if CLIENTS[client].project_file]
AUTHORIZATION = "Bearer ${VOICEGW_MCP_TOKEN}"
REFERENCES = {
    "claude-code": AUTHORIZATION,
    "cursor": "Bearer ${env:VOICEGW_MCP_TOKEN}",
    "vscode": "Bearer ${input:VOICEGW_MCP_TOKEN}",
    "gemini": AUTHORIZATION,
    "opencode": "Bearer {env:VOICEGW_MCP_TOKEN}",
}
USER_FILES = {
    "claude-desktop": ".config/Claude/claude_desktop_config.json",
    "claude-code": ".claude.json",
    "cursor": ".cursor/mcp.json",
    "cline": ".cline/data/settings/cline_mcp_settings.json",
    "codex": ".codex/config.toml",
    "vscode": ".config/Code/User/mcp.json",
    "gemini": ".gemini/settings.json",
    "opencode": ".config/opencode/opencode.json",
}


@pytest.fixture(autouse=True)
def no_folders_of_this_user(monkeypatch):
    for name in [*os.environ]:
        if name.startswith(("XDG_", "CODEX_", "CLAUDE_", "GEMINI_", "CLINE_")):
            monkeypatch.delenv(name)


def parsed(client, text):
    """Return the servers that a file or snippet names."""
    kind = CLIENTS[ClientName(client)]
    return (tomllib.loads if kind.syntax == "toml" else json.loads)(text)[kind.key]


def at(home, client, content=""):
    """Return the client's file in the home, with this content."""
    path = home / USER_FILES[client]
    path.parent.mkdir(parents=True, exist_ok=True)
    if content:
        path.write_bytes(content.encode())
    return path


def options(url):
    return ("--url", url) if url else ()


# Every client and form


@pytest.mark.parametrize(("client", "form", "url"), FORMS)
def test_what_is_printed_is_what_is_written_into_an_absent_file(voicegw, home, client, form, url):
    shown = voicegw("install", client, *options(url), "--json").json
    path = home / USER_FILES[client]
    assert shown["file"] == str(path)
    assert not shown["written"]
    assert not path.exists()
    done = voicegw("install", client, *options(url), "--write", "--json").json
    assert done == {**shown, "written": True}
    assert path.read_text() == shown["snippet"]
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    (entry,) = parsed(client, path.read_text()).values()
    text = json.dumps(entry)
    assert (url or PROGRAM) in text
    if url and client in REFERENCES:
        assert REFERENCES[client] in text
    assert ("required" in entry) == (client == "codex")
    del form


@pytest.mark.parametrize(("client", "form", "url"), FORMS)
def test_a_second_time_nothing_is_written(voicegw, home, client, form, url):
    voicegw("install", client, *options(url), "--write")
    path = home / USER_FILES[client]
    before = (path.read_bytes(), path.stat().st_ino)
    found = voicegw("install", client, *options(url), "--write")
    assert found.code == 0
    assert "nothing is written" in found.out
    assert (path.read_bytes(), path.stat().st_ino) == before
    del form


@pytest.mark.unmeasured
@pytest.mark.parametrize(("client", "form", "url"), FORMS)
def test_another_entry_of_the_name_is_kept_without_force_and_replaced_with_it(
    voicegw, home, client, form, url
):
    voicegw("install", client, *options(url), "--write", "--name", "before")
    path = home / USER_FILES[client]
    path.write_text(path.read_text().replace("before", "voicegateway").replace("stdio", "old"))
    if url:
        path.write_text(path.read_text().replace("8090", "9999"))
    voicegw("install", client, "--write", "--name", "beside")
    before = path.read_text()
    refused = voicegw("install", client, *options(url), "--write")
    assert refused.code == 1
    assert "--force" in refused.err
    assert "\n-" in refused.err
    assert "\n+" in refused.err
    assert path.read_text() == before
    told = voicegw("install", client, *options(url), "--write", "--json")
    assert (told.json["error"]["code"], told.err) == ("CONFLICT", "")
    assert "@@" in told.json["error"]["details"]["diff"]
    done = voicegw("install", client, *options(url), "--write", "--force", "--json").json
    assert done["written"]
    servers = parsed(client, path.read_text())
    assert servers["voicegateway"] == parsed(client, done["snippet"])["voicegateway"]
    assert servers["beside"] == parsed(client, before)["beside"]
    del form


@pytest.mark.parametrize("client", ClientName)
def test_a_broken_file_is_refused_and_left_alone(voicegw, home, client):
    for number, content in enumerate(("{ not = [json\n", '{"a": 1,, }', "[", '{"a": "\\x"}', "= 1")):
        path = at(home, client, content)
        found = voicegw("install", client, "--write", "--json")
        assert (found.code, found.json["error"]["code"]) == (2, "CONFIG_INVALID"), number
        assert str(path) in found.json["error"]["message"]
        assert path.read_text() == content
    path.write_bytes(b'{"a": "\xff"}')
    assert "UTF-8" in voicegw("install", client, "--write").err


@pytest.mark.parametrize("client", ClientName)
def test_a_link_stays_a_link_and_the_file_keeps_its_mode(voicegw, home, client):
    path = at(home, client)
    real = home / "dotfiles" / "kept"
    real.parent.mkdir()
    real.write_text("" if client == "codex" else "{}\n")
    real.chmod(0o640)
    path.symlink_to(real)
    assert voicegw("install", client, "--write").code == 0
    assert path.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert "voicegateway" in real.read_text()


def test_a_new_file_is_for_this_user_only(voicegw, home):
    voicegw("install", "cursor", "--write")
    assert stat.S_IMODE((home / USER_FILES["cursor"]).stat().st_mode) == 0o600


@pytest.mark.parametrize("client", IN_PROJECTS)
def test_a_project_s_file_is_written_instead_of_the_user_s(voicegw, home, client):
    (home / "work").mkdir()
    done = voicegw("install", client, "--project", "work", "--write", "--bare", "--json").json
    path = home / "work" / CLIENTS[client].project_file
    assert done["file"] == str(path)
    assert '"voicegw-mcp"' in path.read_text()
    assert not (home / USER_FILES[client]).exists()


@pytest.mark.parametrize("client", sorted(set(ClientName) - set(IN_PROJECTS)))
def test_a_client_without_a_project_s_file_says_so(voicegw, client):
    found = voicegw("install", client, "--project", ".", "--json")
    assert (found.code, found.json["error"]["details"]) == (2, {"field": "project"})


@pytest.mark.parametrize(
    ("client", "url", "forms"),
    [
        ("claude-desktop", HTTP, ["stdio"]),
        ("claude-desktop", SSE, ["stdio"]),
        ("codex", f"{SSE}/", ["stdio", "http"]),
    ],
)
def test_a_client_that_does_not_speak_a_transport_says_what_it_speaks(voicegw, client, url, forms):
    found = voicegw("install", client, "--url", url, "--write", "--json")
    assert (found.code, found.json["error"]["details"]) == (2, {"field": "url", "forms": forms})


# Entries


def test_a_configuration_goes_along_as_an_absolute_path(voicegw, config):
    path = config("")
    for client in ClientName:
        entry = parsed(client, voicegw("install", client, "-c", "voicegw.yaml", "--json").json["snippet"])
        text = json.dumps(entry)
        assert json.dumps({"VOICEGW_CONFIG": str(path)}) in text
    assert voicegw("install", "cursor", "-c", "none.yaml").code == 2


def test_claude_code_s_own_command_is_shown_with_every_part_quoted(voicegw, config, home):
    config("")
    assert voicegw("install", "claude-code", "-c", "voicegw.yaml", "--json").json["command"] == (
        f"claude mcp add -s user voicegateway -e VOICEGW_CONFIG={home}/voicegw.yaml -- {PROGRAM} stdio"
    )
    assert voicegw("install", "claude-code", "--url", SSE, "--project", ".", "--json").json["command"] == (
        f"cd {home} && claude mcp add -s project -t sse voicegateway {SSE} -H 'Authorization: {AUTHORIZATION}'"
    )


def test_a_header_is_left_out_for_a_server_without_a_token(voicegw):
    for client, _, url in FORMS:
        if url:
            text = voicegw("install", client, "--url", url, "--token-env", "", "--json").json["snippet"]
            assert "Bearer" not in text
            assert "TOKEN" not in text.upper()


def test_cline_gets_no_header_because_it_expands_nothing(voicegw):
    found = voicegw("install", "cline", "--url", HTTP, "--json").json
    assert "headers" not in found["snippet"]
    assert any("expands no variables" in note for note in found["notes"])
    refused = voicegw("install", "cline", "--url", HTTP, "--token-env", "MY_TOKEN", "--json").json
    assert refused["error"]["details"] == {"field": "token_env"}


def test_codex_reads_the_token_from_a_variable_by_name(voicegw):
    text = voicegw("install", "codex", "--url", HTTP, "--token-env", "MY_TOKEN", "--json").json["snippet"]
    assert parsed("codex", text) == {
        "voicegateway": {"url": HTTP, "bearer_token_env_var": "MY_TOKEN", "required": True}
    }


def test_vs_code_asks_once_for_the_token_of_two_servers(voicegw, home):
    path = at(home, "vscode", '{\n  "inputs": [],\n  "servers": {}\n}\n')
    for name in ("one", "two"):
        voicegw("install", "vscode", "--url", HTTP, "--name", name, "--write")
    found = json.loads(path.read_text())
    assert [asked["id"] for asked in found["inputs"]] == ["VOICEGW_MCP_TOKEN"]
    assert found["inputs"][0]["password"]
    assert list(found["servers"]) == ["one", "two"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--name", "with space"),
        ("--name", ""),
        ("--token-env", "VOICEGW_MCP_TOKEN"),
        ("--url", HTTP, "-c", "voicegw.yaml"),
        ("--url", HTTP, "--bare"),
        ("--url", "ftp://host/mcp"),
        ("--url", "http://user:hidden@host/mcp"),
        ("--url", "http://host/${TOKEN}/mcp"),
        ("--url", HTTP, "--token-env", "sk-abcdef-hidden"),
        ("--project", "missing"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_and_secrets_in_them_not_repeated(voicegw, arguments):
    found = voicegw("install", "cursor", *arguments, "--json")
    assert (found.code, found.json["error"]["code"]) == (2, "VALIDATION_ERROR")
    assert "hidden" not in found.out + found.err


def test_a_path_that_clients_would_expand_is_refused(voicegw, home):
    (home / "$HOME.yaml").write_text("")
    assert "expand" in voicegw("install", "gemini", "-c", "$HOME.yaml").err


def test_a_command_that_is_nowhere_is_refused_unless_its_bare_name_will_do(voicegw, home, monkeypatch):
    monkeypatch.setattr("sysconfig.get_path", lambda *_: str(home))
    monkeypatch.setenv("PATH", str(home))
    assert "--bare" in voicegw("install", "cursor").err
    assert '"voicegw-mcp"' in voicegw("install", "cursor", "--bare").out
    found = home / "bin" / "voicegw-mcp"
    found.parent.mkdir()
    found.write_text("")
    found.chmod(0o755)
    monkeypatch.setenv("PATH", str(found.parent))
    assert str(found) in voicegw("install", "cursor").out


def test_a_token_in_the_entry_that_is_there_is_not_shown(voicegw, home):
    entry = {"url": HTTP, "headers": {"Authorization": "Bearer literal-token-0001"}}
    at(home, "cursor", json.dumps({"mcpServers": {"voicegateway": entry}}))
    for more in ((), ("--json",)):
        found = voicegw("install", "cursor", "--url", HTTP, "--write", *more)
        assert found.code == 1
        assert "literal-token-0001" not in found.out + found.err


# Files


@pytest.mark.parametrize("client", ["vscode", "opencode"])
def test_comments_and_trailing_commas_stay_where_the_client_allows_them(voicegw, home, client):
    key = CLIENTS[ClientName(client)].key
    content = (
        f'// mine\n{{\n\t"{key}": {{ // all\n\t\t"a": {{"type": "x",}}, // last\n\t\t/* end */\n\t}},\n}}\n'
    )
    path = at(home, client, content)
    assert voicegw("install", client, "--write").code == 0
    text = path.read_text()
    start = text.index('\n\t\t"voicegateway"')
    end = text.index("\n\t},", start + 1)
    assert text[start:end].startswith('\n\t\t"voicegateway": {\n\t\t\t"type": ')
    assert text[:start] + text[end:] == content


@pytest.mark.parametrize("client", ["vscode", "opencode"])
def test_an_entry_with_comments_inside_is_not_replaced(voicegw, home, client):
    key = CLIENTS[ClientName(client)].key
    content = f'{{"{key}": {{"voicegateway": {{"type": "x" /* why */}}}}}}'
    path = at(home, client, content)
    found = voicegw("install", client, "--write", "--force")
    assert found.code == 2
    assert "comments" in found.err
    assert path.read_text() == content


@pytest.mark.parametrize("client", ["claude-desktop", "claude-code", "cursor", "cline", "gemini"])
def test_comments_are_refused_where_the_client_takes_plain_json(voicegw, home, client):
    content = '{\n  // mine\n  "mcpServers": {}\n}\n'
    path = at(home, client, content)
    found = voicegw("install", client, "--write")
    assert found.code == 2
    assert "line 2, column 3" in found.err
    assert path.read_text() == content


def test_codex_comments_and_other_tables_stay_byte_for_byte(voicegw, home):
    before = '# mine\nmodel = "o"  # this\n[mcp_servers.a]\r\ncommand = "x"\n\n'
    text = '"""\n[mcp_servers.voicegateway]\n"""'
    after = f"\n# of b\n[mcp_servers.b]\nargs = [\n  [1],\n]\ntext = {text}\n"
    mine = '[mcp_servers."voicegateway"]\ncommand = "old"\n[mcp_servers.voicegateway.env]\nA = "1"\n'
    path = at(home, "codex", before + mine + after)
    assert voicegw("install", "codex", "--write").code == 1
    assert voicegw("install", "codex", "--write", "--force").code == 0
    text = path.read_bytes().decode()
    assert text.startswith(before)
    assert text.endswith(after)
    assert parsed("codex", text)["voicegateway"]["args"] == ["stdio"]


def test_codex_subtables_elsewhere_are_replaced_with_their_table(voicegw, home):
    content = '[mcp_servers.voicegateway]\ncommand = "old"\n\n[a]\nb = 1\n\n[mcp_servers.voicegateway.env]\nA = "1"\n\n[c]\n'
    path = at(home, "codex", content)
    assert voicegw("install", "codex", "--write", "--force").code == 0
    found = tomllib.loads(path.read_text())
    assert "env" not in found["mcp_servers"]["voicegateway"]
    assert (found["a"], found["c"]) == ({"b": 1}, {})


def test_inputs_that_are_no_list_are_left_alone(voicegw, home):
    path = at(home, "vscode", '{"inputs": {}}')
    assert voicegw("install", "vscode", "--url", HTTP, "--write").code == 2
    assert path.read_text() == '{"inputs": {}}'


def test_an_entry_after_a_flat_trailing_comma_needs_no_other(voicegw, home):
    path = at(home, "opencode", '{"mcp": {"a": 1,}}')
    voicegw("install", "opencode", "--write")
    assert path.read_text().startswith('{"mcp": {"a": 1, "voicegateway": {')


def test_opencode_s_file_with_comments_is_used_when_it_is_the_only_one(voicegw, home):
    path = at(home, "opencode").with_suffix(".jsonc")
    path.write_text("{}")
    assert voicegw("install", "opencode", "--json").json["file"] == str(path)
    path.with_suffix(".json").write_text("{}")
    assert voicegw("install", "opencode", "--json").json["file"] == str(path.with_suffix(".json"))


def test_a_file_that_is_saved_meanwhile_stays_as_it_was_saved(voicegw, home, monkeypatch):
    path = at(home, "cursor", "{}")
    write_like = replacement._write_like

    def save_meanwhile(*arguments):
        path.write_text('{"saved": true}')
        write_like(*arguments)

    monkeypatch.setattr(replacement, "_write_like", save_meanwhile)
    found = voicegw("install", "cursor", "--write")
    assert found.code == 1
    assert "another program" in found.err
    assert path.read_text() == '{"saved": true}'
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_where_nothing_can_be_read_or_written_it_says_so(voicegw, home):
    (home / USER_FILES["cursor"]).mkdir(parents=True)
    assert "cannot be read" in voicegw("install", "cursor", "--write").err
    (home / ".gemini").write_text("")
    assert voicegw("install", "gemini", "--write").code == 1
    (home / ".codex").symlink_to("/proc/none")
    assert "cannot be written" in voicegw("install", "codex", "--write").err
