"""``voicegw backup | restore | prune | repair`` asked for what cannot be done: told why, and nothing is lost."""

import sqlite3
from contextlib import closing

import pytest


@pytest.fixture
def path(home):
    return home / ".config" / "voicegateway" / "voicegw.db"


@pytest.fixture
def rows(config, log, request_row):
    """Puts three rows into the log; each costs 1 USD."""
    config("timezone: UTC\n")
    log(*(request_row(cost_nanousd=10**9) for _ in range(3)))


def total(voicegw):
    return voicegw("costs", "--period", "all", "--json").json["total_usd"]


@pytest.mark.parametrize("command", [("backup", "b.db"), ("prune", "--older-than", "3"), ("repair",)])
def test_a_store_that_is_not_there_is_not_made_to_be_kept_in_order(voicegw, config, home, path, command):
    """A backup of nothing, because a path is wrong, would be taken for one of the store."""
    config("timezone: UTC\n")
    found = voicegw(*command, "--json")
    assert (found.code, found.json["error"]["code"]) == (3, "STORE_UNAVAILABLE")
    assert found.json["error"]["message"] == f"There is no store at {path}."
    assert "VOICEGW_DB_PATH" in found.json["error"]["hint"]
    assert [file.name for file in home.iterdir()] == ["voicegw.yaml"]


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("in_use", [False, True])
def test_a_backup_never_takes_the_place_of_a_file_of_the_store(voicegw, path, suffix, in_use):
    target = path.with_name(path.name + suffix)
    with closing(sqlite3.connect(path)) as connection:
        if in_use:  # the log and its index are there
            connection.execute("UPDATE requests SET error_kind = 'late'")
            connection.commit()
        for name in (target, path.parent / "." / target.name):
            found = voicegw("backup", name, "--force", "--json")
            assert (found.code, found.json["error"]["code"]) == (2, "VALIDATION_ERROR")
            assert found.json["error"]["message"].endswith("is a file of the store itself.")
    assert total(voicegw) == 3
    with closing(sqlite3.connect(path)) as connection:
        (late,) = connection.execute("SELECT COUNT(*) FROM requests WHERE error_kind = 'late'").fetchone()
    assert late == (3 if in_use else 0)


@pytest.mark.usefixtures("rows")
def test_force_replaces_a_backup_and_nothing_else(voicegw, home, pytestconfig):
    sample = (pytestconfig.rootpath / "tests" / "data" / "voicegateway-0.27.0.db").read_bytes()
    for name, content in (
        ("voicegw.yaml", b"timezone: UTC\n"),
        ("notes.txt", b"mine"),
        ("theirs.db", sample),
    ):
        (home / name).write_bytes(content)
        found = voicegw("backup", name, "--force", "--json")
        assert (found.code, found.json["error"]["message"]) == (
            2,
            f"{name} is there already, and is no backup.",
        )
        assert (home / name).read_bytes() == content
    (home / "empty").touch()
    assert voicegw("backup", "empty", "--force").code == 0
    assert voicegw("backup", "empty", "--force").code == 0
    assert voicegw("backup", "empty").code == 2


@pytest.mark.usefixtures("rows")
def test_a_folder_that_is_not_there_and_a_disk_that_refuses_are_told_of_the_backup_s_file(voicegw, home):
    found = voicegw("backup", "nowhere/b.db")
    assert found.code == 3
    assert "The file nowhere/b.db cannot be opened or written (ENOENT)." in found.err
    assert voicegw("backup", home).code == 2
    assert voicegw("restore", home).code == 2


@pytest.mark.usefixtures("rows")
def test_a_backup_of_a_newer_program_is_refused_by_its_name(voicegw, home, path):
    voicegw("backup", "b.db")
    with closing(sqlite3.connect(home / "b.db")) as connection, connection:
        connection.execute("INSERT INTO voicegw_mcp_migrations VALUES (99, 0)")
    found = voicegw("restore", "b.db", "--json").json["error"]
    assert found["code"] == "VALIDATION_ERROR"
    assert found["message"].startswith("b.db has schema version 99; this program knows versions up to ")
    assert "Update voicegw-mcp" in found["hint"]
    assert "restoring" not in str(found)
    assert not list(path.parent.glob("*restoring*"))
    assert total(voicegw) == 3
