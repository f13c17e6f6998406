import os
import stat
import sys
import threading

import filelock
import pytest

from voicegw_mcp.config.secrets import (
    MAX_SECRET_BYTES,
    Secrets,
    is_reference,
)
from voicegw_mcp.errors import InvalidInput, ReadOnly, StoreUnavailable

KEY = "fake-key-0001"


@pytest.fixture
def secrets(tmp_path):
    return Secrets(tmp_path / "secrets.env", {"FROM_ENVIRONMENT": "environment", "EMPTY": ""})


def value_of(found):
    return found.value.get_secret_value() if found.value else None


def test_a_name_is_looked_up_in_the_environment_then_in_the_file(secrets):
    secrets.set("FROM_ENVIRONMENT", "file")
    secrets.set("EMPTY", "file")
    assert value_of(secrets.look_up("${FROM_ENVIRONMENT}")) == "environment"
    assert value_of(secrets.look_up(" ${EMPTY} ")) == "file"


def test_a_rotated_key_counts_at_the_next_look_up(secrets):
    for key in ("one", "two"):
        secrets.set("NAME", key)
        assert value_of(secrets.look_up("${NAME}")) == key
    assert secrets.unset("NAME") is True
    assert secrets.unset("NAME") is False
    assert secrets.look_up("${NAME}").value is None


def test_without_an_environment_the_process_s_own_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("ONLY_FOR_THIS_TEST", KEY)
    assert value_of(Secrets(tmp_path / "secrets.env").look_up("${ONLY_FOR_THIS_TEST}")) == KEY


def test_what_is_not_set_says_which_command_sets_it(secrets):
    found = secrets.look_up("${NOBODY}")
    assert (found.value, found.command) == (None, "voicegw secrets set NOBODY")
    assert found.reason == "NOBODY is not set in the environment nor in secrets.env"
    assert secrets.look_up("  ").reason == "no key is set"


def test_a_literal_stands_for_itself(secrets):
    found = secrets.look_up(KEY)
    assert value_of(found) == KEY
    assert KEY not in repr(found)


def test_a_file_reference_is_read_relative_to_the_configuration(secrets, tmp_path):
    (tmp_path / "key.txt").write_text(f"{KEY}\n")
    assert value_of(secrets.look_up("${file:key.txt}")) == KEY
    assert value_of(secrets.look_up(f"${{file:{tmp_path}/key.txt}}")) == KEY
    (tmp_path / "key.txt").write_text(" \n")
    assert secrets.look_up("${file:key.txt}").reason == "the file 'key.txt' is empty"
    assert "cannot be read (No such file" in secrets.look_up("${file:gone}").reason
    assert "home that does not exist" in secrets.look_up("${file:~nobody-of-this-name/x}").reason


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604])
def test_a_file_others_can_read_is_not_used_and_the_fix_is_named(secrets, mode):
    secrets.set("NAME", KEY)
    secrets.path.chmod(mode)
    found = secrets.look_up("${NAME}")
    assert (found.value, found.command) == (None, f"chmod 600 {secrets.path}")
    assert f"mode {mode:04o}" in found.reason
    with pytest.raises(ReadOnly):
        secrets.set("OTHER", KEY)


def test_a_folder_in_place_of_the_file_is_told(secrets):
    secrets.path.mkdir()
    assert "cannot be read" in secrets.look_up("${NAME}").reason


@pytest.mark.parametrize(
    "value", [KEY, "with space ", ' $`"\\', "it's", 'say "x"', "a=b#c", "'", "=", "mixed'\""]
)
def test_any_printable_value_comes_back_as_it_was_set(secrets, value):
    secrets.set("NAME", value)
    secrets.set("OTHER", "x")
    assert value_of(secrets.look_up("${NAME}")) == value
    assert stat.S_IMODE(secrets.path.stat().st_mode) == 0o600


def test_comments_order_and_foreign_lines_of_the_file_stay(secrets):
    secrets.path.write_text("# mine\nexport A='1'\n\nnot an entry\nB=2\nB=3\n")
    secrets.path.chmod(0o600)
    secrets.set("A", "new")
    secrets.set("C", "c")
    assert secrets.path.read_text().splitlines() == ["# mine", "A=new", "", "not an entry", "B=3", "C=c"]
    secrets.unset("B")
    assert secrets.read() == {"A": "new", "C": "c"}


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "${A}", "A\n", "Ä", "A" * 200])
def test_a_name_that_is_no_variable_is_refused(secrets, name):
    with pytest.raises(InvalidInput) as caught:
        secrets.set(name, KEY)
    assert caught.value.details["field"] == "name"
    assert not secrets.path.exists()


@pytest.mark.parametrize("value", ["", "a\nb", "a\0", "x" * (MAX_SECRET_BYTES + 1)])
def test_a_value_that_is_no_line_is_refused_without_repeating_it(secrets, value):
    with pytest.raises(InvalidInput) as caught:
        secrets.set("NAME", value)
    assert caught.value.details == {"field": "value"}
    assert len(caught.value.message) < 200


def test_a_failed_write_leaves_the_file_and_no_other(secrets, monkeypatch):
    secrets.set("NAME", KEY)

    def refuse(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        secrets.set("NAME", "other")
    monkeypatch.undo()
    assert value_of(secrets.look_up("${NAME}")) == KEY
    assert not list(secrets.path.parent.glob("*.tmp"))


def test_a_lock_that_another_program_holds_is_told(secrets, monkeypatch):
    monkeypatch.setattr("voicegw_mcp.config.secrets.LOCK_TIMEOUT_S", 0.01)
    secrets.path.parent.mkdir(parents=True, exist_ok=True)
    with (
        filelock.FileLock(secrets.path.with_name(f".{secrets.path.name}.lock")),
        pytest.raises(StoreUnavailable, match="locked"),
    ):
        secrets.set("NAME", KEY)
    assert secrets.read() == {}


def test_names_set_at_once_from_many_threads_all_land(secrets):
    threads = [threading.Thread(target=secrets.set, args=(f"N{n}", str(n))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert secrets.read() == {f"N{n}": str(n) for n in range(8)}


def test_references_are_expanded_everywhere_but_in_keys(secrets):
    missing = []
    data = {
        "api_key": "${FROM_ENVIRONMENT}",
        "text": "a ${FROM_ENVIRONMENT} b ${FROM_ENVIRONMENT}",
        "list": ["${NOBODY}", {"token": "${NOBODY}"}, 3, None],
        "plain": "$HOME ${} {x}",
    }
    expanded = secrets.expand(data, lambda path, found: missing.append((path, found.command)))
    assert expanded == {
        "api_key": "${FROM_ENVIRONMENT}",
        "text": "a environment b environment",
        "list": ["", {"token": "${NOBODY}"}, 3, None],
        "plain": "$HOME ${} {x}",
    }
    assert missing == [(("list", 0), "voicegw secrets set NOBODY")]


@pytest.mark.parametrize("text", ["${A}", " ${A_1} ", "${file:/run/x y}", "${file:~/k}"])
def test_a_whole_reference_is_one(text):
    assert is_reference(text)


@pytest.mark.parametrize(
    "text", ["", "${}", "${1A}", "x${A}", "${A}${B}", "$A", "${file:}", "${file:a\nb}", "${A", KEY]
)
def test_anything_else_is_none(text):
    assert not is_reference(text)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes in folders")
def test_a_pipe_is_no_secret_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "secrets.env", 0o600)
    os.mkfifo(tmp_path / "key")
    secrets = Secrets(tmp_path / "secrets.env", {})
    assert "Not a regular file" in secrets.look_up("${NOBODY}").reason
    assert secrets.look_up("${file:" + str(tmp_path / "key") + "}").value is None
