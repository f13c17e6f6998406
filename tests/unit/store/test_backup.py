"""Backups put in place and put back where the disk, the file system or the file itself is not as it should be."""

import errno
import fcntl
import os
import shutil
import sqlite3
import time
from contextlib import closing

import pytest
from tests.factories import NOW, request_record

from voicegw_mcp.errors import InvalidInput, StoreUnavailable
from voicegw_mcp.store import backup
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.schema import connect, prepare


def quiet(_done, _total):
    pass


def fill(path, count):
    prepare(path, deadline=time.monotonic() + 5)
    with closing(connect(path, timeout_s=1)) as connection, connection:
        insert_requests(
            connection,
            [request_record(id=f"{n}", timestamp_ms=NOW + n, cost_nanousd=1) for n in range(count)],
        )


def rows(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT COUNT(*) FROM requests").fetchone()[0]


def failing(number):
    def fail(*_arguments, **_options):
        raise OSError(number, "no")

    return fail


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "voicegw.db"
    fill(path, 30)
    return path


@pytest.fixture
def copy(tmp_path):
    """What is about to take the store's place."""
    copy = tmp_path / "copy.db"
    fill(copy, 7)
    return copy


@pytest.mark.parametrize("links", [True, False])
def test_a_store_is_kept_where_files_can_be_linked_and_where_not(path, copy, tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(backup.os, "link", failing(errno.EPERM))
    backup.put_back(copy, path, tmp_path / "kept.db")
    assert (rows(path), rows(tmp_path / "kept.db")) == (7, 30)
    assert not copy.exists()


@pytest.mark.parametrize("links", [True, False])
def test_a_store_whose_successor_cannot_take_its_place_is_where_it_was(
    path, copy, tmp_path, monkeypatch, links
):
    replace = type(path).replace

    def refuse(source, target):
        return failing(errno.EIO)() if source == copy else replace(source, target)

    if not links:
        monkeypatch.setattr(backup.os, "link", failing(errno.EPERM))
    monkeypatch.setattr(type(path), "replace", refuse)
    with pytest.raises(StoreUnavailable):
        backup.put_back(copy, path, tmp_path / "kept.db")
    assert sorted(file.name for file in tmp_path.glob("*.db")) == ["copy.db", "voicegw.db"]
    assert rows(path) == 30


@pytest.mark.parametrize("refused", [False, True])
def test_a_log_that_cannot_be_written_back_goes_with_the_store_and_comes_back_with_it(
    path, copy, tmp_path, monkeypatch, refused
):
    monkeypatch.setattr(backup, "_settle", lambda _store: None)  # as on a full disk
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("UPDATE requests SET session_id = 'late'")
        connection.commit()
        log = tmp_path / "voicegw.db-wal"
        content, aside = path.read_bytes(), log.read_bytes()
    path.write_bytes(content)
    log.write_bytes(aside)
    replace = type(path).replace
    if refused:
        monkeypatch.setattr(
            type(path), "replace", lambda old, new: failing(errno.EIO)() if old == copy else replace(old, new)
        )
        with pytest.raises(StoreUnavailable):
            backup.put_back(copy, path, tmp_path / "kept.db")
        assert (path.read_bytes(), log.read_bytes()) == (content, aside)
        assert not list(tmp_path.glob("kept.db*"))
        return
    backup.put_back(copy, path, tmp_path / "kept.db")
    assert rows(path) == 7
    assert (tmp_path / "kept.db").read_bytes() == content
    assert (tmp_path / "kept.db-wal").read_bytes() == aside


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_refuses_the_last_step_leaves_neither_backup_nor_restored_store(
    path, copy, tmp_path, monkeypatch, number
):
    monkeypatch.setattr(backup.os, "link", failing(number))
    with pytest.raises(StoreUnavailable) as caught:
        backup.back_up(path, tmp_path / "b.db", progress=quiet)
    assert caught.value.details["reason"] == ("full" if number == errno.ENOSPC else "permission")
    with pytest.raises(StoreUnavailable):
        backup.put_back(copy, path, tmp_path / "kept.db")
    assert sorted(file.name for file in tmp_path.glob("*.db*")) == ["copy.db", "voicegw.db"]
    assert rows(path) == 30


def test_a_file_system_without_locks_is_told_as_such(path, copy, tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "lockf", failing(errno.ENOLCK))
    with pytest.raises(StoreUnavailable, match="ENOLCK"):
        backup.put_back(copy, path, tmp_path / "kept.db")
    assert rows(path) == 30


def test_a_file_that_only_begins_like_a_store_is_not_replaced(path, tmp_path):
    target = tmp_path / "b.db"
    for content in (b"SQLite format 3\0" + b"\xee" * 5000, b"SQLite format 3\0"):
        target.write_bytes(content)
        with pytest.raises(InvalidInput, match="is no backup"):
            backup.back_up(path, target, force=True, progress=quiet)
        assert target.read_bytes() == content


def test_a_link_to_the_store_is_the_store(path, tmp_path):
    os.link(path, tmp_path / "hard.db")
    (tmp_path / "soft.db").symlink_to(path)
    for name in ("hard.db", "soft.db"):
        with pytest.raises(InvalidInput, match="a file of the store itself"):
            backup.back_up(path, tmp_path / name, force=True, progress=quiet)
    assert rows(path) == 30


def test_a_backup_whose_indexes_are_damaged_is_no_backup(path, tmp_path):
    backup.back_up(path, tmp_path / "b.db", progress=quiet)
    with closing(sqlite3.connect(tmp_path / "b.db")) as connection, connection:
        connection.execute("PRAGMA writable_schema = 1")
        connection.execute("DELETE FROM sqlite_master WHERE name = 'requests_by_time'")
    shutil.copyfile(tmp_path / "b.db", tmp_path / "copy.db")
    with pytest.raises(InvalidInput, match="is damaged"):
        backup.verify(tmp_path / "copy.db", tmp_path / "b.db", quiet)


def test_a_copy_that_another_program_holds_is_locked_and_not_damaged(path, monkeypatch):
    monkeypatch.setattr(backup, "connect", lambda file, **_options: connect(file, timeout_s=0))
    monkeypatch.setattr(backup, "is_foreign", lambda _path: False)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError) as caught:
            backup.verify(path, path, quiet)
    assert caught.value.sqlite_errorname == "SQLITE_BUSY"
