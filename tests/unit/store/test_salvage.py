"""What can be read of a damaged store, table by table."""

import sqlite3
import time
from contextlib import closing

import pytest
from tests.factories import NOW, request_record

from voicegw_mcp.errors import StoreUnavailable
from voicegw_mcp.store import repair, salvage
from voicegw_mcp.store.repair import repair_store
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.schema import connect, prepare

COUNT = 900


def quiet(_done, _total):
    pass


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "voicegw.db"
    prepare(path, deadline=time.monotonic() + 5)
    records = [
        request_record(id=f"{n:05}", timestamp_ms=NOW - n * 60_000, cost_nanousd=1, error_message="x" * 300)
        for n in range(COUNT)
    ]
    with closing(connect(path, timeout_s=1)) as connection, connection:
        insert_requests(connection, records)
    with closing(connect(path, timeout_s=1)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def leaves(path, table):
    """Return page size and the numbers of a table's leaf pages, in the order of their rows."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path", (table,)
        ).fetchall()
        return connection.execute("PRAGMA page_size").fetchone()[0], [number for (number,) in found]


def spoil(path, size, number, content=b"\xff"):
    with path.open("rb+") as file:
        file.seek((number - 1) * size)
        file.write(content * size)


@pytest.mark.parametrize("part", [0, 0.5, 1], ids=["first", "middle", "last"])
def test_rows_before_and_behind_a_lost_page_are_saved(path, tmp_path, part):
    size, pages = leaves(path, "requests")
    spoil(path, size, pages[int(part * (len(pages) - 1))])
    found = repair_store(path, tmp_path / "saved.db", dry_run=False, progress=quiet)
    assert COUNT - 40 < found.saved.saved["requests"] < COUNT
    assert found.saved.broken == ["requests"]
    assert found.lost_rows == COUNT - found.saved.saved["requests"]


@pytest.mark.parametrize("part", [0, 0.5, 1], ids=["first", "middle", "last"])
def test_cells_before_and_behind_a_lost_page_are_saved_and_made_anew_from_the_rows(path, tmp_path, part):
    with closing(sqlite3.connect(path)) as connection:
        totals = connection.execute(
            "SELECT grain_s, SUM(requests), SUM(cost_nanousd) FROM rollup GROUP BY 1"
        ).fetchall()
    size, pages = leaves(path, "rollup")
    spoil(path, size, pages[int(part * (len(pages) - 1))])
    found = repair_store(path, tmp_path / "saved.db", dry_run=False, progress=quiet)
    assert found.saved.saved["requests"] == COUNT
    assert found.saved.broken == ["rollup"]
    with closing(sqlite3.connect(tmp_path / "saved.db")) as connection:
        assert (
            connection.execute(
                "SELECT grain_s, SUM(requests), SUM(cost_nanousd) FROM rollup GROUP BY 1"
            ).fetchall()
            == totals
        )


def test_a_table_that_is_gone_is_told_and_is_empty_in_the_new_store(path, tmp_path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE lost")
        connection.execute("DROP TABLE rollup")
    found = repair_store(path, tmp_path / "saved.db", dry_run=False, progress=quiet)
    assert set(found.saved.broken) == {"lost", "rollup"}
    assert (found.saved.saved["requests"], found.saved.saved["lost"], found.lost_rows) == (COUNT, 0, 0)
    again = repair_store(tmp_path / "saved.db", tmp_path / "never.db", dry_run=True, progress=quiet)
    assert again.is_clean()


def test_a_table_of_which_not_even_the_end_is_known_is_left_after_a_while(path, tmp_path):
    with closing(sqlite3.connect(path)) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'requests'").fetchone()[0]
    size, _ = leaves(path, "requests")
    spoil(path, size, root)
    found = repair_store(path, tmp_path / "saved.db", dry_run=False, progress=quiet)
    assert (found.saved.saved["requests"], found.lost_rows) == (0, COUNT)
    assert found.saved.saved["rollup"] > 0


def test_a_lock_is_a_lock_and_no_damage(path, tmp_path, monkeypatch):
    def impatient(file, **options):
        return connect(file, **{**options, "timeout_s": 0})

    into = tmp_path / "saved.db"
    monkeypatch.setattr(salvage, "connect", impatient)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        original = salvage._leaping

        def locking(*arguments):
            other.execute("BEGIN EXCLUSIVE")
            return original(*arguments)

        monkeypatch.setattr(salvage, "_leaping", locking)
        with pytest.raises(sqlite3.OperationalError) as caught:
            salvage.salvage(path, into)
    assert caught.value.sqlite_errorname == "SQLITE_BUSY"


def test_a_repair_that_fails_half_way_changes_no_span_by_halves(path, tmp_path, monkeypatch):
    def state():
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("SELECT * FROM rollup ORDER BY 1, 2, 3, 4").fetchall()

    right = state()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE rollup SET requests = requests + 1 WHERE grain_s = 3600")
    wrong = state()
    write, calls = repair._write, []

    def failing(connection, difference):
        calls.append(difference)
        if len(calls) == 3:
            failure = sqlite3.OperationalError("database or disk is full")
            failure.sqlite_errorcode, failure.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
            raise failure
        write(connection, difference)

    monkeypatch.setattr(repair, "_write", failing)
    with pytest.raises(StoreUnavailable) as caught:
        repair_store(path, tmp_path / "saved.db", dry_run=False, progress=quiet)
    assert caught.value.details["reason"] == "full"
    assert state() == wrong
    monkeypatch.setattr(repair, "_write", write)
    repair_store(path, tmp_path / "saved.db", dry_run=False, progress=quiet)
    assert state() == right
    assert not (tmp_path / "saved.db").exists()
