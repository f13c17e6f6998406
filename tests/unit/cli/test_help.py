import os
from pathlib import Path

import pytest

from voicegw_mcp import __version__
from voicegw_mcp.tools.observe import get_costs, get_logs

GOLDEN = Path(__file__).parents[2] / "golden" / "help"
COMMANDS = [
    (),
    ("mcp",),
    ("serve",),
    ("init",),
    ("check",),
    ("status",),
    ("costs",),
    ("logs",),
    ("projects",),
    ("changes",),
    ("undo",),
    ("import",),
    ("reprice",),
    ("prune",),
    ("backup",),
    ("restore",),
    ("repair",),
    ("alerts",),
    ("alerts", "test"),
    ("secrets",),
    ("secrets", "set"),
    ("secrets", "list"),
    ("secrets", "unset"),
    ("call",),
    ("install",),
]


@pytest.mark.golden
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: "-".join(command) or "voicegw")
def test_help_is_the_golden_text(voicegw, command):
    file = GOLDEN / f"{'-'.join(('voicegw', *command))}.txt"
    found = voicegw(*command, "--help")
    assert (found.code, found.err) == (0, "")
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(found.out, encoding="utf-8")
    assert found.out == file.read_text(encoding="utf-8"), "UPDATE_GOLDEN=1 writes the golden files anew"


def test_every_golden_file_belongs_to_a_command():
    assert {file.stem for file in GOLDEN.iterdir()} == {
        "-".join(("voicegw", *command)) for command in COMMANDS
    }


def test_every_command_is_in_the_help_and_has_a_golden_file(voicegw):
    listed = voicegw().out.partition("Commands:\n")[2].splitlines()
    assert {line.split()[0] for line in listed if line.strip()} == {
        command[0] for command in COMMANDS if command
    }


@pytest.mark.parametrize(("command", "tool"), [("costs", get_costs), ("logs", get_logs)])
def test_options_are_the_arguments_of_the_tool_with_every_choice_named(voicegw, command, tool):
    text = voicegw(command, "--help").out
    for name, schema in tool.input_schema["properties"].items():
        assert f"--{name.replace('_', '-')}" in text
        for choice in schema.get("enum", []):
            assert choice in text


def test_version_is_the_program_s(voicegw):
    assert voicegw("--version").out == f"{__version__}\n"
