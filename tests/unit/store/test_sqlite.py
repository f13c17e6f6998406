import asyncio
import contextlib
import errno
import os
import sqlite3
import stat
import subprocess
import sys
import time

import anyio
import pytest
from tests.held_state import held

from voicegw_mcp.errors import Conflict, StoreUnavailable
from voicegw_mcp.store.failures import translated
from voicegw_mcp.store.schema import choose_path, connect, migration_scripts, prepare
from voicegw_mcp.store.sqlite import Store

NEWEST = len(migration_scripts())
linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a store is made in its place")

EMPTY_STORE_OPENED_TWICE = """
import asyncio, sys
from pathlib import Path
from voicegw_mcp.store.schema import connect, prepare
from voicegw_mcp.store.sqlite import Store

async def main():
    store = await Store.open(Path(sys.argv[1]))
    print(store.schema_version, await store.read("SELECT COUNT(*) FROM requests"))
    await store.close()

asyncio.run(main())
"""


def put_series(connection, number=1):
    connection.execute("INSERT INTO series VALUES (?, 'p', 'stt', 'v', ?)", (number, f"m{number}"))
    return number


async def count_series(store):
    return (await store.read("SELECT COUNT(*) FROM series"))[0][0]


async def test_a_new_store_is_made_private_and_written_ahead(tmp_path):
    store = await Store.open(tmp_path / "deep" / "er" / "voicegw.db")
    assert await store.write(put_series) == 1
    assert await count_series(store) == 1
    assert await store.read("PRAGMA journal_mode") == [("wal",)]
    for path in (store.path, store.path.with_name("voicegw.db-wal"), store.path.with_name("voicegw.db-shm")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in list(store.path.parents)[:2]] == [0o700, 0o700]
    assert store.stamp().size_bytes() > store.path.stat().st_size
    await store.close()
    await store.close()


async def test_opening_again_finds_the_schema_and_the_rows(tmp_path):
    for count in (1, 2):
        store = await Store.open(tmp_path / "a b?#%.db")
        assert store.schema_version == NEWEST
        await store.write(lambda connection, count=count: put_series(connection, count))
        assert await count_series(store) == count
        await store.close()


def test_two_processes_opening_an_empty_store_at_once_both_succeed(tmp_path):
    command = [sys.executable, "-c", EMPTY_STORE_OPENED_TWICE, str(tmp_path / "voicegw.db")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out.decode().strip(), err) == (0, f"{NEWEST} [(0,)]", b"")


async def test_many_opens_of_an_empty_store_in_one_process_all_succeed(tmp_path):
    stores = await asyncio.gather(*(Store.open(tmp_path / "voicegw.db") for _ in range(8)))
    assert [store.schema_version for store in stores] == [NEWEST] * 8
    for store in stores:
        await store.close()


async def test_a_store_that_another_program_makes_meanwhile_is_used(tmp_path, monkeypatch):
    path, fsync = tmp_path / "voicegw.db", os.fsync

    def make_first(descriptor):
        monkeypatch.setattr(os, "fsync", fsync)
        prepare(path, deadline=time.monotonic() + 10)
        with contextlib.closing(connect(path, timeout_s=0)) as other:
            put_series(other)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", make_first)
    store = await Store.open(path)
    assert await count_series(store) == 1
    await store.close()
    assert [file.name for file in tmp_path.iterdir()] == ["voicegw.db"]


@linux
@pytest.mark.parametrize("lacking", ["files without a name", "/proc"])
async def test_a_store_is_made_where_it_cannot_be_put_in_place_whole(tmp_path, monkeypatch, lacking):
    open_file = os.open

    def refuse(path, flags, *more):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.ENOTSUP, "no")
        return open_file(path, flags, *more)

    def miss(*_, **__):
        raise FileNotFoundError(errno.ENOENT, "no")

    monkeypatch.setattr(*((os, "link", miss) if lacking == "/proc" else (os, "open", refuse)))
    store = await Store.open(tmp_path / "voicegw.db")
    assert (store.schema_version, await count_series(store)) == (NEWEST, 0)
    assert await store.read("PRAGMA journal_mode") == [("wal",)]
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    await store.close()
    assert [file.name for file in tmp_path.iterdir()] == ["voicegw.db"]


@linux
async def test_both_ways_to_make_a_store_make_the_same(tmp_path):
    schemas = []
    (tmp_path / "migrated.db").touch()
    for name in ("whole.db", "migrated.db"):
        store = await Store.open(tmp_path / name)
        assert await store.read("PRAGMA integrity_check") == [("ok",)]
        pragmas = [await store.read(f"PRAGMA {name}") for name in ("journal_mode", "page_size", "encoding")]
        schemas.append(
            (pragmas, await store.read("SELECT type, name, sql FROM sqlite_master ORDER BY rowid"))
        )
        await store.close()
    assert schemas[0] == schemas[1]


@linux
async def test_a_store_that_cannot_be_made_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(StoreUnavailable) as caught:
            await Store.open(tmp_path / "voicegw.db")
    assert caught.value.details["reason"] == "full"
    assert list(tmp_path.iterdir()) == []


async def test_a_store_is_made_where_its_symlink_leads(tmp_path):
    (tmp_path / "voicegw.db").symlink_to(tmp_path / "data" / "real.db")
    await (await Store.open(tmp_path / "voicegw.db")).close()
    assert (tmp_path / "voicegw.db").is_symlink()
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["real.db"]


async def test_a_reader_cannot_write_and_a_read_only_store_refuses_to(store):
    with pytest.raises(StoreUnavailable):
        await store.read("DELETE FROM series")
    reading = await Store.open(store.path, read_only=True)
    assert await count_series(reading) == 0
    with pytest.raises(StoreUnavailable, match="read-only"):
        await reading.write(put_series)
    await reading.close()


async def test_read_only_a_store_that_is_not_there_is_empty_and_not_made(tmp_path):
    store = await Store.open(tmp_path / "folder" / "none.db", read_only=True)
    assert store.missing
    for reader in (store, await store.narrowed(frozenset({"default"}))):
        assert await count_series(reader) == 0
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.write(put_series)
    await store.close()
    assert list(tmp_path.iterdir()) == []


async def test_read_only_needs_a_migrated_store(tmp_path):
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreUnavailable, match=f"schema version 0 and needs {NEWEST}"):
        await Store.open(tmp_path / "empty.db", read_only=True)
    assert (tmp_path / "empty.db").read_bytes() == b""


async def test_a_store_newer_than_the_program_is_refused_with_both_numbers(tmp_path):
    store = await Store.open(tmp_path / "voicegw.db")
    await store.write(
        lambda connection: connection.execute("INSERT INTO voicegw_mcp_migrations VALUES (99, 0)")
    )
    await store.close()
    with pytest.raises(
        StoreUnavailable, match=f"schema version 99; this program knows versions up to {NEWEST}"
    ):
        await Store.open(tmp_path / "voicegw.db")


@pytest.mark.parametrize(
    "content", [b"this is not a database, it only looks long enough " * 20, b"SQLite format 3\0" * 40]
)
async def test_garbage_is_reported_as_damaged_and_left_alone(tmp_path, content):
    path = tmp_path / "voicegw.db"
    path.write_bytes(content)
    with pytest.raises(StoreUnavailable) as caught:
        await Store.open(path)
    assert caught.value.details["reason"] == "damaged"
    assert path.read_bytes() == content


async def test_a_truncated_store_is_reported_as_damaged(tmp_path):
    path = tmp_path / "voicegw.db"
    await (await Store.open(path)).close()
    path.write_bytes(path.read_bytes()[:9000])

    async def open_and_read():
        store = await Store.open(path)
        try:
            await count_series(store)
        finally:
            await store.close()

    with pytest.raises(StoreUnavailable) as caught:
        await open_and_read()
    assert caught.value.details["reason"] == "damaged"


async def test_another_programs_tables_are_not_mixed_with_ours(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "voicegw.db")) as other:
        other.execute("CREATE TABLE requests (mine)")
    with pytest.raises(StoreUnavailable, match="could not answer") as caught:
        await Store.open(tmp_path / "voicegw.db")
    assert "CREATE" not in str(caught.value.payload())
    with contextlib.closing(sqlite3.connect(tmp_path / "voicegw.db")) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("requests",)]


async def test_a_folder_in_place_of_the_file_and_a_file_in_place_of_the_folder_are_refusals(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "voicegw.db"):
        with pytest.raises(StoreUnavailable, match="cannot be opened or written"):
            await Store.open(path)


async def test_a_locked_file_is_answered_within_one_span_of_patience(tmp_path):
    path = tmp_path / "voicegw.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("CREATE TABLE t (x)")
        holder.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="locked by another program"):
            await Store.open(path, busy_timeout_ms=200)
        assert time.monotonic() - began < 2


async def test_a_switch_to_wal_that_is_blocked_is_reported_as_locked(tmp_path):
    path = tmp_path / "voicegw.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("CREATE TABLE t (x)")
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable) as caught:
            await Store.open(path, busy_timeout_ms=50)
    assert caught.value.details["reason"] == "locked"


async def test_readers_go_on_while_another_program_writes_and_writers_say_locked(tmp_path):
    store = await Store.open(tmp_path / "voicegw.db", busy_timeout_ms=50)
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        assert await count_series(store) == 0
        with pytest.raises(StoreUnavailable, match="locked"):
            await store.write(put_series)
        holder.execute("ROLLBACK")
    assert await store.write(put_series, durable=True) == 1
    await store.close()


async def test_a_query_after_the_first_span_has_its_own_patience(tmp_path):
    store = await Store.open(tmp_path / "voicegw.db", busy_timeout_ms=0)
    assert await count_series(store) == 0
    assert await count_series(store) == 0
    await store.close()


async def test_a_failing_transaction_leaves_nothing_and_keeps_its_own_error(store):
    def fail(connection):
        put_series(connection)
        raise Conflict("no")

    with pytest.raises(Conflict):
        await store.write(fail)
    assert await count_series(store) == 0
    assert await store.write(put_series) == 1


async def test_writes_asked_for_at_once_happen_one_after_the_other(store):
    await asyncio.gather(*(store.write(lambda c, n=n: put_series(c, n)) for n in range(20)))
    assert await count_series(store) == 20


async def test_a_cancelled_caller_leaves_a_whole_transaction_behind(store):
    entered = anyio.Event()
    loop = asyncio.get_running_loop()

    def slow(connection):
        loop.call_soon_threadsafe(entered.set)
        for number in range(2000):
            put_series(connection, number)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.write, slow)
        await entered.wait()
        tasks.cancel_scope.cancel()
    assert await count_series(store) == 2000


async def test_a_snapshot_does_not_see_later_writes_and_ends_even_after_an_error(store):
    async with held(store) as reads:
        before = await reads.read("SELECT COUNT(*) FROM series")
        await store.write(put_series)
        assert await reads.read("SELECT COUNT(*) FROM series") == before

    def fail(_reads):
        raise Conflict("no")

    with pytest.raises(Conflict):
        await store.ask(fail)
    assert await count_series(store) == 1


async def test_a_closed_store_says_so(store):
    await store.write(put_series)
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.read("SELECT 1")
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.write(put_series)


@pytest.mark.parametrize("version", ["0.4.0", "0.27.0"])
async def test_a_store_of_voicegateway_is_left_alone(tmp_path, version, pytestconfig):
    path = tmp_path / "voicegw.db"
    path.write_bytes((pytestconfig.rootpath / f"tests/data/voicegateway-{version}.db").read_bytes())
    assert choose_path(path) == tmp_path / "voicegw-mcp.db"


async def test_missing_own_garbage_and_locked_files_are_chosen_as_they_are(tmp_path, store):
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"x" * 5000)
    locked = tmp_path / "locked.db"
    with contextlib.closing(sqlite3.connect(locked, isolation_level=None)) as holder:
        holder.execute("CREATE TABLE managed_providers (x)")
        holder.execute("BEGIN EXCLUSIVE")
        for path in (tmp_path / "none.db", store.path, garbage, locked):
            assert choose_path(path) == path
        holder.execute("COMMIT")
        assert choose_path(locked) == tmp_path / "locked-mcp.db"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "x"), "full"),
        (OSError("no number"), "permission"),
        (PermissionError(errno.EACCES, "x"), "permission"),
        (sqlite3.ProgrammingError("SELECT secret FROM x"), "unexpected"),
    ],
)
def test_errors_of_the_system_become_reasons(tmp_path, error, reason):
    with pytest.raises(StoreUnavailable) as caught, translated(tmp_path):
        raise error
    assert caught.value.details["reason"] == reason
    assert "secret" not in str(caught.value.payload())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (sqlite3.SQLITE_FULL, "full"),
        (sqlite3.SQLITE_IOERR_WRITE, "io"),
        (sqlite3.SQLITE_IOERR_SHORT_READ, "damaged"),
        (sqlite3.SQLITE_READONLY, "permission"),
    ],
)
def test_codes_of_sqlite_become_reasons(tmp_path, code, reason):
    error = sqlite3.OperationalError("SELECT secret")
    error.sqlite_errorcode, error.sqlite_errorname = code, "SQLITE_X"
    with pytest.raises(StoreUnavailable) as caught, translated(tmp_path):
        raise error
    assert caught.value.details["reason"] == reason


async def test_a_disk_that_is_full_rolls_back_and_says_so(store):
    def fill(connection):
        connection.execute("PRAGMA max_page_count = 40")
        try:
            for number in range(5000):
                put_series(connection, number)
        finally:
            connection.execute("PRAGMA max_page_count = 1000000")

    with pytest.raises(StoreUnavailable) as caught:
        await store.write(fill)
    assert caught.value.details["reason"] == "full"
    assert await count_series(store) == 0


async def test_writes_that_stood_in_line_behind_a_locked_store_fail_with_the_first_one(tmp_path):
    store = await Store.open(tmp_path / "s.db", busy_timeout_ms=300)
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    tries = []

    def put(connection):
        tries.append(connection)

    try:
        other.execute("BEGIN EXCLUSIVE")
        failures = await asyncio.gather(*(store.write(put) for _ in range(5)), return_exceptions=True)
        assert {failure.details["reason"] for failure in failures} == {"locked"}
        other.execute("ROLLBACK")
        await store.write(put)
        assert len(tries) == 1
    finally:
        other.close()
        await store.close()
