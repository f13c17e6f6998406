"""``voicegw changes`` and ``voicegw undo``: what they print, and how they end."""

import json

import anyio
import pytest

from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.tools.projects import create_project

FILE = "# top\nprojects:\n  a: {name: A}  # first\n"


@pytest.fixture
def file(config):
    return config(FILE)


@pytest.fixture
def make(file):
    """Makes projects by undoable changes and returns their ids; the commands alone change nothing else."""

    async def work(names):
        gateway = Gateway.open(str(file), door="stdio").as_caller("claude-code")
        try:
            return [
                (
                    await create_project.run(
                        gateway, create_project.parse({"project_id": name, "name": name})
                    )
                ).change_id
                for name in names
            ]
        finally:
            await gateway.close()

    return lambda *names: anyio.run(work, names)


def test_nothing_was_changed_yet(voicegw, file):
    assert voicegw("changes").out == "Nothing was changed yet.\n"
    assert voicegw("changes", "--json").json == {"changes": [], "count": 0}
    found = voicegw("undo")
    assert (found.code, file.read_text()) == (2, FILE)
    assert found.err.startswith("voicegw: VALIDATION_ERROR: There is no change to undo.")


def test_the_newest_change_is_taken_back_and_redone(voicegw, file, make):
    first, second = make("b", "c")
    after = file.read_text()
    found = voicegw("undo")
    assert found.code == 0
    told, made, *diff, redo = [line for line in found.out.splitlines() if line]
    assert told == f"Took back {second}: Create project c"
    assert made.startswith("  made by claude-code (stdio, create_project) at 20")
    assert diff[:2] == ["--- a/voicegw.yaml", "+++ b/voicegw.yaml"]
    assert "-  c: {name: c}" in diff
    assert redo.startswith("To have it again: voicegw undo ")
    assert "  c:" not in file.read_text()
    assert voicegw("undo", redo.rpartition(" ")[2]).code == 0
    assert file.read_text() == after
    assert voicegw("undo", first).code == 0
    assert "  c:" in file.read_text()
    assert "  b:" not in file.read_text()


def test_undo_as_json_is_the_answer_of_the_tool(voicegw, file, make):
    (change_id,) = make("b")
    after = file.read_text()
    planned = voicegw("undo", "--dry-run", "--json").json
    assert (planned["undone"], planned["summary"]) == (change_id, "Create project b")
    assert "change_id" not in planned
    assert file.read_text() == after
    answer = voicegw("undo", change_id, "--if-version", planned["config_version"], "--json").json
    assert {key: answer[key] for key in planned if key != "config_version"} == {
        key: value for key, value in planned.items() if key != "config_version"
    }
    assert file.read_text() == FILE
    again = voicegw("undo", change_id, "--json")
    assert (again.code, again.json["error"]["code"]) == (1, "CONFLICT")
    assert again.json["error"]["details"]["undone_by"] == answer["change_id"]


def test_a_dry_run_shows_the_diff_and_says_that_nothing_was_written(voicegw, file, make):
    (change_id,) = make("b")
    found = voicegw("undo", "--dry-run")
    assert found.out.startswith(f"Would take back {change_id}: Create project b\n")
    assert "-  b: {name: b}" in found.out
    assert found.out.endswith("Nothing was written.\n")
    assert "  b:" in file.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("undo", "nothing"), 2, "There is no change 'nothing'"),
        (("undo", "--if-version", "000000000000"), 1, "CONFLICT: The configuration is at version"),
        (("changes", "nothing"), 2, "There is no change 'nothing'"),
        (("changes", "--limit", "0"), 2, "--limit"),
        (("changes", "--limit", "1001"), 2, "--limit"),
    ],
)
def test_what_cannot_be_is_refused_with_its_exit_code(voicegw, file, make, arguments, code, words):
    make("b")
    before = file.read_text()
    found = voicegw(*arguments)
    assert (found.code, found.out, file.read_text()) == (code, "", before)
    assert words in found.err
    assert voicegw(*arguments, "--json").json["error"]["message"]


def test_changes_are_a_table_of_who_did_what_and_what_is_undone(voicegw, make, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    first, second = make("b", "c")
    undone = voicegw("undo", "--json").json["change_id"]
    head, newest, middle, oldest = voicegw("changes").out.splitlines()
    assert head.split() == ["Change", "When", "(UTC)", "Who", "Tool", "Summary", "State"]
    assert newest.split()[0] == undone
    assert "(cli)" in newest
    assert newest.rstrip().endswith("Undo: Create project c  applied")
    assert middle.startswith(second)
    assert "claude-code (stdio)  create_project  Create project c" in middle
    assert middle.rstrip().endswith(f"undone by {undone}")
    assert oldest.startswith(first)
    assert oldest.rstrip().endswith("applied")


def test_a_narrow_terminal_keeps_id_summary_and_state(voicegw, make, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    (change_id,) = make("b")
    out = voicegw("changes").out
    assert change_id in out
    assert "Create project b" in out
    assert "no room for: When (UTC), Who, Tool" in out


def test_one_change_is_shown_with_its_diff(voicegw, file, make):
    (change_id,) = make("b")
    out = voicegw("changes", change_id).out
    assert out.startswith(f"{change_id}: Create project b\n")
    for line in ("  who      claude-code (stdio)", "  tool     create_project", "  state    applied"):
        assert line in out
    assert f"  file     {file} at version " in out
    assert "+  b: {name: b}" in out
    answer = voicegw("changes", change_id, "--json").json
    assert (answer["id"], "+  b: {name: b}" in answer["diff"]) == (change_id, True)
    undo = voicegw("undo", "--json").json["change_id"]
    assert f"  state    undone by {undo}" in voicegw("changes", change_id).out
    assert f"  undoes   {change_id}" in voicegw("changes", undo).out


def test_older_changes_follow_behind_a_change(voicegw, make):
    made = make(*(f"p{number:02}" for number in range(9)))[::-1]
    out = voicegw("changes", "--limit", "4").out.splitlines()
    assert [line.split()[0] for line in out[1:5]] == made[:4]
    assert out[-1] == f"More: repeat with --before {made[3]}"
    answer = voicegw("changes", "-n", "100", "--before", made[3], "--json").json
    assert [view["id"] for view in answer["changes"]] == made[4:]
    assert "next_cursor" not in answer
    for odd in ("zzz", "é", ""):
        assert voicegw("changes", "--before", odd).code == 0


def test_changes_gather_pages_until_the_limit(voicegw, make):
    make(*(f"project-{number:03}" for number in range(130)))
    answer = voicegw("changes", "--limit", "125", "--json").json
    assert answer["count"] == len({view["id"] for view in answer["changes"]}) == 125
    assert len(json.dumps(answer)) > 32_000
    assert "next_cursor" in answer


def test_a_toolset_that_is_not_there_stops_the_start(voicegw, file):
    found = voicegw("mcp", "--toolsets", "core,histroy", "-c", file)
    assert (found.code, found.out) == (2, "")
    assert "There is no toolset 'histroy'." in found.err
    assert "Did you mean history?" in found.err
