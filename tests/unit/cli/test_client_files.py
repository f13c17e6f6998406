import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from voicegw_mcp.cli import install
from voicegw_mcp.cli.client_files import ABSENT, JsonFile, TomlFile, Unparsable
from voicegw_mcp.cli.clients import CLIENTS, ClientName, Machine

NAMES = st.text("abcé \"\\/{}[],:#'\n\t", min_size=1, max_size=6)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NAMES
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
ENTRY = {"command": "x", "args": ["stdio"], "env": {"A": "é\\"}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{}", '{\n  "mcpServers": {\n    "n": {\n      "a": 1\n    }\n  }\n}'),
        ('\ufeff{"x": 1}', '\ufeff{"x": 1, "mcpServers": {"n": {"a": 1}}}'),
        ('{"mcpServers": {}}\n', '{"mcpServers": {"n": {"a": 1}}}\n'),
        ('{"mcpServers": {"n": 2, "o": 1}}', '{"mcpServers": {"n": {"a": 1}, "o": 1}}'),
        (
            '{\r\n\t"x": 1\r\n}\r\n',
            '{\r\n\t"x": 1,\r\n\t"mcpServers": {\r\n\t\t"n": {\r\n\t\t\t"a": 1\r\n\t\t}\r\n\t}\r\n}\r\n',
        ),
        (
            '{\n    "mcpServers": {\n    }\n}',
            '{\n    "mcpServers": {\n        "n": {\n            "a": 1\n        }\n    }\n}',
        ),
        ('{\n  "mcpServers": {\n    "n": 2}\n}', '{\n  "mcpServers": {\n    "n": {\n      "a": 1\n    }}\n}'),
        ('{\n"x": 1}', '{\n"x": 1,\n"mcpServers": {\n  "n": {\n    "a": 1\n  }\n}\n}'),
    ],
)
def test_an_entry_takes_the_layout_of_its_file(content, expected):
    file = JsonFile(content, "f", comments=False)
    file.put("mcpServers", "n", {"a": 1})
    assert file.text == expected


@pytest.mark.parametrize(
    "content",
    [
        "mcp_servers = {}\n",
        "mcp_servers = 1\n",
        '[mcp_servers]\nvoicegateway = { command = "old" }\n',
        '[mcp_servers]\nvoicegateway.command = "old"\n',
        '[mcp_servers.voicegateway]\n# why\ncommand = "old"\n',
    ],
)
def test_toml_that_cannot_be_edited_without_harm_is_left_alone(voicegw, home, content):
    path = home / ".codex" / "config.toml"
    path.parent.mkdir()
    path.write_text(content)
    found = voicegw("install", "codex", "--write", "--force", "--json")
    assert (found.code, found.json["error"]["code"]) == (2, "CONFIG_INVALID")
    assert path.read_text() == content


@pytest.mark.parametrize(
    "content",
    [
        '{"mcpServers": []}',
        '{"mcpServers": {}, "mcpServers": {}}',
        "[]",
        "3",
        '{"a": ' + "[" * 300,
        '{"a" 1}',
        "{1: 2}",
    ],
)
def test_json_that_has_no_place_for_the_entry_is_left_alone(voicegw, home, content):
    path = home / ".cursor" / "mcp.json"
    path.parent.mkdir()
    path.write_text(content)
    assert voicegw("install", "cursor", "--write").code == 2
    assert path.read_text() == content


def without(text, added):
    """Say whether ``text`` is ``added`` with some bytes taken out."""
    rest = iter(added)
    return all(character in rest for character in text)


@given(
    others=st.dictionaries(NAMES, JSON, max_size=4),
    servers=st.none() | st.dictionaries(NAMES, JSON, max_size=4),
    indent=st.sampled_from([None, 0, 1, 2, 4, "\t"]),
    comment=st.sampled_from(["", "// c, {}\n", "/* [ */"]),
)
def test_putting_an_entry_into_json_only_adds_bytes_and_changes_no_other_value(
    others, servers, indent, comment
):
    data = {**others, **({} if servers is None else {"servers": servers})}
    text = comment + json.dumps(data, indent=indent, ensure_ascii=False) + "\n" + comment
    file = JsonFile(text, "f", comments=True)
    assert file.get("servers", "mine") is ABSENT
    file.put("servers", "mine", ENTRY)
    assert without(text, file.text)
    body = file.text.removeprefix(comment).removesuffix(comment)
    assert list(json.loads(body).items()) == list(
        {**data, "servers": {**(servers or {}), "mine": ENTRY}}.items()
    )
    file.put("servers", "mine", {"other": 1})
    file.put("servers", "mine", ENTRY)
    assert file.get("servers", "mine") == ENTRY
    assert without(text, file.text)


TABLES = st.lists(
    st.sampled_from(
        [
            "[a]\nb = 1 # c\n",
            "# alone\n\n",
            '[mcp_servers.one]\ncommand = "x" # c\n',
            '[mcp_servers.one.env]\nA = """\n[mcp_servers.mine]\n"""\n',
            "[[list]]\nx = [\n[1],\n[2]\n]\n",
            "[[list]]\n",
            '[mcp_servers."two.three"]\r\nurl = "http://x#y"\r\n',
        ]
    ),
    max_size=5,
    unique=True,
)


@given(before=TABLES, after=TABLES, end=st.sampled_from(["", "\n", "  "]))
def test_putting_a_table_into_toml_leaves_all_text_around_it(before, after, end):
    head, tail = "".join(before), "".join(part for part in after if part not in before)
    mine = "[mcp_servers.mine]\nold = 1\n"
    try:
        tomllib.loads(head + mine + tail + end)
    except tomllib.TOMLDecodeError:
        return  # tables in an order that TOML does not take
    file = TomlFile(head + mine + tail + end, "f")
    file.put("mcp_servers", "mine", ENTRY)
    assert file.text.startswith(head)
    assert file.text.endswith(tail + end)
    assert file.get("mcp_servers", "mine") == ENTRY
    fresh = TomlFile(head + tail + end, "f")
    fresh.put("mcp_servers", "mine", ENTRY)
    assert fresh.text.startswith(head + tail + end)
    assert fresh.get("mcp_servers", "mine") == ENTRY


@given(st.text('{}[]",:/*\n 1a\\', max_size=12))
def test_json_is_taken_exactly_when_python_takes_it(text):
    try:
        found = JsonFile(text, "f", comments=False).get("a", "b")
    except Unparsable:
        found = None
    try:
        data = json.loads(text)
        usable = isinstance(data, dict) and isinstance(data.get("a", {}), dict)
    except ValueError:
        usable = False
    assert (found is not None) == usable


def test_files_are_where_each_platform_keeps_them(tmp_path):
    mac = Machine("darwin", {"HOME": str(tmp_path)})
    windows = Machine("win32", {"USERPROFILE": str(tmp_path), "APPDATA": str(tmp_path / "roaming")})
    linux = Machine("linux", {"HOME": "/none", "XDG_CONFIG_HOME": str(tmp_path / "xdg")})

    def file(client, machine):
        return CLIENTS[client].file(machine, None).relative_to(tmp_path).as_posix()

    desktop, code = ClientName.CLAUDE_DESKTOP, ClientName.VSCODE
    support = "Library/Application Support"
    assert file(desktop, mac) == f"{support}/Claude/claude_desktop_config.json"
    assert file(code, mac) == f"{support}/Code/User/mcp.json"
    assert file(desktop, windows) == "roaming/Claude/claude_desktop_config.json"
    assert file(ClientName.CURSOR, windows) == ".cursor/mcp.json"
    assert file(code, linux) == "xdg/Code/User/mcp.json"
    assert file(ClientName.OPENCODE, linux) == "xdg/opencode/opencode.json"
    assert file(desktop, Machine("win32", {"USERPROFILE": str(tmp_path)})).startswith("AppData/Roaming/")
    assert Machine(sys.platform, {}).home() == Path.home()
    for client, name in (
        (ClientName.CLINE, "CLINE_MCP_SETTINGS_PATH"),
        (ClientName.CLINE, "CLINE_DATA_DIR"),
        (ClientName.CODEX, "CODEX_HOME"),
        (ClientName.CLAUDE_CODE, "CLAUDE_CONFIG_DIR"),
        (ClientName.GEMINI, "GEMINI_CLI_HOME"),
    ):
        assert file(client, Machine("linux", {"HOME": "/none", name: str(tmp_path / "x")})).startswith("x")


def test_what_vs_code_asks_for_is_added_to_a_file_without_inputs():
    file = JsonFile("{}", "f", comments=True)
    for wanted in ({"id": "a"}, {"id": "b"}, {"id": "a"}):
        file.include("inputs", wanted)
    assert json.loads(file.text) == {"inputs": [{"id": "a"}, {"id": "b"}]}


@pytest.mark.parametrize("text", ["// only a comment", '{"a": 1} 2', '{"a": 1 "b": 2}', "{} /* open"])
def test_text_that_is_no_json_object_with_comments_is_refused(text):
    with pytest.raises(Unparsable):
        JsonFile(text, "f", comments=True).get("a", "b")


def test_a_trailing_comma_is_refused_in_plain_json():
    with pytest.raises(Unparsable, match="line 1, column 9"):
        JsonFile('{"a": 1,}', "f", comments=False).get("a", "b")


def test_what_is_shown_to_a_person_can_be_pasted_and_names_the_file_and_what_to_mind(voicegw, home):
    found = voicegw("install", "claude-code", "--project", ".")
    assert f"Claude Code reads {home}/.mcp.json" in found.out
    assert f"  cd {home} && claude mcp add -s project voicegateway -- " in found.out
    assert "--bare" in found.out
    begin = found.out.index("\n{\n")
    end = found.out.index("\n}\n", begin)
    assert "voicegateway" in json.loads(found.out[begin : end + 2])["mcpServers"]


def test_a_list_of_tables_of_the_name_is_replaced_by_a_table():
    file = TomlFile("[[mcp_servers.mine]]\na = 1\n[[mcp_servers.mine]]\na = 2\n", "f")
    file.put("mcp_servers", "mine", {"b": True})
    assert file.text == "[mcp_servers.mine]\nb = true\n"


def test_the_page_about_clients_shows_what_the_command_prints(voicegw, config):
    path = config("")
    page = (Path(__file__).parents[3] / "docs" / "clients.md").read_text(encoding="utf-8")
    examples = re.findall(
        r"^`voicegw install ([^`\n]+)`:\n\n```\w+\n(.+?)```$", page, re.MULTILINE | re.DOTALL
    )
    assert {line.split()[0] for line, _ in examples} == set(ClientName)
    for line, shown in examples:
        snippet = voicegw("install", *line.split(), "--json").json["snippet"]
        plain = snippet.replace(install.installed_program(), "/path/to/voicegw-mcp")
        assert plain.replace(str(path), "/path/to/voicegw.yaml") == shown, line
