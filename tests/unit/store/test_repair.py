# Seeded generators make the same rows in every run.
# ruff: noqa: S311

import random
import sqlite3
import time
from contextlib import closing

import pytest
from tests.factories import DAY, NOW, request_record

from voicegw_mcp.domain import Modality, RequestStatus, Usage
from voicegw_mcp.errors import InvalidInput, StoreUnavailable
from voicegw_mcp.store import backup
from voicegw_mcp.store.failures import translated
from voicegw_mcp.store.repair import integrity, repair_store
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.retention import prune_batch
from voicegw_mcp.store.schema import VIEWS, connect, is_foreign, prepare, view_texts


def quiet(_done, _total):
    pass


@pytest.fixture
def path(tmp_path):
    """A store of every kind of row, a part of them pruned."""
    rng = random.Random(3)
    path = tmp_path / "voicegw.db"
    prepare(path, deadline=time.monotonic() + 5)
    rows = [
        request_record(
            id=f"r{number}",
            timestamp_ms=NOW - rng.randrange(20 * DAY),
            project=f"p{rng.randrange(3)}",
            modality=rng.choice(list(Modality)),
            status=rng.choice(list(RequestStatus)),
            usage=Usage(*(rng.randrange(1000) for _ in range(5))),
            cost_nanousd=rng.choice([None, 0, rng.randrange(10**9)]),
            ttfb_ms=rng.choice([None, float("nan"), rng.uniform(0, 3000)]),
            total_ms=rng.choice([None, -1.0, rng.uniform(0, 9000)]),
            estimated=rng.random() < 0.1,
            session_id=f"s{number // 9}" if number % 3 else None,
            error_message=None if number % 4 else f"{number} failed",
        )
        for number in range(600)
    ]
    with closing(connect(path, timeout_s=1)) as connection:
        connection.execute("BEGIN")
        insert_requests(connection, rows)
        prune_batch(connection, NOW // DAY * DAY - 12 * DAY)
        connection.execute("COMMIT")
    return path


def change(path, *statements):
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_what_the_product_writes_agrees_with_itself(path, tmp_path):
    found = repair_store(path, tmp_path / "saved.db", dry_run=True, progress=quiet)
    assert found.is_clean()
    assert (found.lost_rows, found.structure, found.mended) == (0, 0, False)


@pytest.mark.parametrize("seed", range(12))
def test_any_one_number_that_changes_in_a_sum_is_mended_exactly_or_to_the_hour(path, tmp_path, seed):
    rng = random.Random(seed)
    with closing(sqlite3.connect(path)) as connection, connection:
        before = connection.execute("SELECT * FROM rollup ORDER BY 1, 2, 3, 4").fetchall()
        names = [row[1] for row in connection.execute("PRAGMA table_info(rollup)")][4:-2]
        row = rng.choice(before)
        connection.execute(
            f"UPDATE rollup SET {rng.choice(names)} = {1 << rng.randrange(20)} + {rng.choice(names)} "
            "WHERE grain_s = ? AND bucket_ms = ? AND series_id = ? AND status = ?",
            row[:4],
        )
    done = repair_store(path, tmp_path / "saved.db", dry_run=False, progress=quiet)
    assert done.mended
    with closing(sqlite3.connect(path)) as connection:
        after = connection.execute("SELECT * FROM rollup ORDER BY 1, 2, 3, 4").fetchall()
    if "hour" in {item.remedy for item in done.findings.differences}:
        assert [row for row in after if row[0] > 900] == [row for row in before if row[0] > 900]
    else:
        assert after == before


def test_two_grains_that_are_wrong_in_one_place_are_made_anew_from_the_rows(path, tmp_path):
    recent = NOW // DAY * DAY - 3 * DAY
    with closing(sqlite3.connect(path)) as connection:
        before = connection.execute("SELECT * FROM rollup ORDER BY 1, 2, 3, 4").fetchall()
    change(
        path,
        f"UPDATE rollup SET audio_ms = audio_ms + 5 WHERE grain_s = 900 AND bucket_ms > {recent}",
        f"UPDATE rollup SET audio_ms = audio_ms + 7 WHERE grain_s = 3600 AND bucket_ms > {recent}",
    )
    repair_store(path, tmp_path / "saved.db", dry_run=False, progress=quiet)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM rollup ORDER BY 1, 2, 3, 4").fetchall() == before


def test_indexes_that_cannot_be_made_anew_are_left_and_rows_saved(path, tmp_path):
    # Two rows of one id: only a damaged file has them, and no unique index can be made of them.
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = 1")
        name = connection.execute(
            "SELECT name FROM sqlite_master WHERE tbl_name = 'requests' AND name LIKE 'sqlite_autoindex%'"
        ).fetchone()[0]
        sql = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'requests'").fetchone()[0]
        connection.execute(
            "UPDATE sqlite_master SET sql = ? WHERE name = 'requests'", (sql.replace("UNIQUE", "      "),)
        )
        connection.execute(
            "UPDATE sqlite_master SET name = 'odd', sql = 'CREATE INDEX odd ON requests (error_kind)' WHERE name = ?",
            (name,),
        )
    counted = "SELECT seq FROM requests WHERE status = 'success' ORDER BY seq DESC LIMIT 2"
    change(path, f"UPDATE requests SET id = 'twice' WHERE seq IN ({counted})")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = 1")
        connection.execute("UPDATE sqlite_master SET name = ?, sql = NULL WHERE name = 'odd'", (name,))
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'requests'", (sql,))
    done = repair_store(path, tmp_path / "saved.db", dry_run=False, progress=quiet)
    assert done.saved is not None
    assert done.lost_rows == 1
    with closing(sqlite3.connect(tmp_path / "saved.db")) as saved:
        assert integrity(saved) == []


@pytest.mark.parametrize("garbled", ["tota|_us", "Total_us"])
def test_a_view_that_was_altered_is_told_by_the_dry_run_too_and_made_anew(path, tmp_path, garbled):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = 1")
        connection.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'total_us', ?) WHERE type = 'view'", (garbled,)
        )
        connection.execute("CREATE VIEW somebodys AS SELECT 1")
    saved = tmp_path / "saved.db"
    for dry_run in (True, False):
        found = repair_store(path, saved, dry_run=dry_run, progress=quiet)
        assert (found.is_clean(), found.structure, found.indexes) == (False, 1, True)
    assert repair_store(path, saved, dry_run=True, progress=quiet).is_clean()
    with closing(sqlite3.connect(path)) as connection:
        views = dict(connection.execute(VIEWS))
        assert views.pop("somebodys")
        assert views == view_texts()


def test_a_locked_store_is_locked_and_not_damaged(path, tmp_path, monkeypatch):
    monkeypatch.setattr("voicegw_mcp.store.repair._PATIENCE_S", 0.05)
    change(path, "UPDATE rollup SET requests = requests + 1 WHERE grain_s = 86400")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable) as caught:
            repair_store(path, tmp_path / "saved.db", dry_run=False, progress=quiet)
        other.execute("ROLLBACK")
    assert caught.value.details["reason"] == "locked"
    assert not (tmp_path / "saved.db").exists()


def test_garbled_names_in_the_schema_are_damage(path, tmp_path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw = path.read_bytes()
    place = raw.index(b"CREATE TABLE requests") + 3
    path.write_bytes(raw[:place] + b"\xe9" + raw[place + 1 :])
    with pytest.raises(StoreUnavailable) as caught:
        repair_store(path, tmp_path / "saved.db", dry_run=False, progress=quiet)
    assert caught.value.details["reason"] == "damaged"
    assert is_foreign(path) is False
    with pytest.raises(InvalidInput, match="damaged"):
        backup.verify(path, path, quiet)
    with pytest.raises(StoreUnavailable) as caught, translated(path):
        b"\xe9".decode()
    assert caught.value.details["reason"] == "damaged"


def test_a_backup_is_put_in_place_where_files_cannot_be_linked(path, tmp_path, monkeypatch):
    def link(*_arguments, **_options):
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(backup.os, "link", link)
    held = backup.back_up(path, tmp_path / "b.db", progress=quiet)
    assert held.rows_cost_nanousd < held.cost_nanousd
    assert (tmp_path / "b.db").is_file()


def test_a_file_that_appears_meanwhile_is_not_replaced(path, tmp_path, monkeypatch):
    target = tmp_path / "b.db"
    whole = backup._sync
    monkeypatch.setattr(backup, "_sync", lambda file: (whole(file), target.write_text("mine")))
    with pytest.raises(InvalidInput, match="meanwhile"):
        backup.back_up(path, target, progress=quiet)
    assert target.read_text() == "mine"
    assert not list(tmp_path.glob("*.partial-*"))


def test_a_backup_and_its_log_are_copied_together(path, tmp_path):
    with closing(sqlite3.connect(path)) as open_one:
        open_one.execute("UPDATE requests SET error_kind = 'late' WHERE seq = 600")
        open_one.commit()
        backup.copy_file(path, tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT error_kind FROM requests WHERE seq = 600").fetchone() == ("late",)


def test_a_backup_and_a_salvage_know_every_table_there_is(path):
    from voicegw_mcp.store import salvage

    with closing(sqlite3.connect(path)) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    # What leads to rows is made anew from them; the index of error texts is copied as pages and has nothing to count.
    tables -= {"voicegw_mcp_migrations", "error_text", "error_term"}
    tables -= {f"error_text_{part}" for part in ("data", "idx", "config")}
    assert set(backup._TABLES) == {*salvage._TABLES, "session_cell"} == tables


def test_a_repair_makes_anew_what_leads_to_rows(path, tmp_path):
    saved = tmp_path / "saved.db"
    searches = [
        ("session_cell", "SELECT * FROM session_cell ORDER BY 1, 2, 3"),
        ("peaks", "SELECT * FROM rollup ORDER BY 1, 2, 3, 4"),
        ("error_text", "SELECT term, doc FROM error_term ORDER BY 1"),
    ]

    def held():
        with closing(sqlite3.connect(path)) as connection:
            return {name: connection.execute(query).fetchall() for name, query in searches}

    before = held()
    assert all(before.values())
    recent = NOW // DAY * DAY - 12 * DAY
    change(
        path,
        "DELETE FROM session_cell WHERE series_id = 1",
        "INSERT INTO session_cell VALUES ('none', 5, 5)",
        f"UPDATE rollup SET peaks = NULL WHERE bucket_ms >= {recent}",
        "INSERT INTO error_text (error_text) VALUES ('delete-all')",
    )
    assert repair_store(path, saved, dry_run=True, progress=quiet).is_clean()
    assert held() != before
    assert repair_store(path, saved, dry_run=False, progress=quiet).is_clean()
    assert held() == before
