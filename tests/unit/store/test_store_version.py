"""The number that tells whether anything was committed to a store since."""

import asyncio
import contextlib
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from tests.unit.store.test_sqlite import put_series

from voicegw_mcp.store.schema import connect
from voicegw_mcp.store.sqlite import Store


async def test_it_is_another_one_behind_every_commit_and_the_same_between(store):
    seen = [await store.version(), await store.version()]
    assert seen[0] == seen[1]
    with closing(connect(store.path, timeout_s=1)) as other:
        for number in range(1, 50):  # faster than a clock of a file system ticks
            if number % 2:
                put_series(other, number)
            else:
                await store.write(lambda connection, number=number: put_series(connection, number))
            seen.append(await store.version())
            other.execute("BEGIN IMMEDIATE")
            put_series(other, 1000)
            other.execute("ROLLBACK")
            await store.read("SELECT COUNT(*) FROM series")
            assert await store.version() == seen[-1]
        assert len({*seen}) == 50
        other.execute("PRAGMA wal_checkpoint(RESTART)")  # the next row goes to where an older one was
        put_series(other, 51)
        assert await store.version() not in seen


async def test_it_waits_for_nobody(store):
    before = await store.version()
    with closing(connect(store.path, timeout_s=1)) as other:
        other.execute("BEGIN EXCLUSIVE")
        put_series(other)
        assert await store.version() == before
        other.execute("COMMIT")
    assert await store.version() != before


async def test_many_who_ask_first_open_one_connection(store, monkeypatch):
    opened = []
    connected = asyncio.Event()

    async def slowly(function, *args, **named):
        opened.append(own := function(*args, **named))
        await connected.wait()
        return own

    monkeypatch.setattr(asyncio, "to_thread", slowly)
    asked = asyncio.gather(*(store.version() for _ in range(3)))
    await anyio.wait_all_tasks_blocked()
    assert len(opened) == 3
    connected.set()
    assert len({*await asked}) == 1
    assert sum(map(is_open, opened)) == 1


def is_open(connection):
    with contextlib.suppress(sqlite3.ProgrammingError):
        return bool(connection.execute("PRAGMA data_version").fetchall())
    return False


def held_under(folder):
    descriptors = list(Path("/proc/self/fd").iterdir())
    return [path for path in map(os.path.realpath, descriptors) if path.startswith(str(folder))]


@pytest.mark.parametrize("end", ["close", "retire"])
async def test_a_store_that_ends_tells_none_and_leaves_no_file_open(tmp_path, end):
    store = await Store.open(tmp_path / "voicegw.db")
    assert await store.version() is not None
    await getattr(store, end)()
    assert await store.version() is None
    assert not held_under(tmp_path)
    await store.close()


async def test_a_store_that_is_not_there_or_is_damaged_tells_none(tmp_path, store):
    empty = await Store.open(tmp_path / "none.db", read_only=True)
    assert await empty.version() is None
    await empty.close()
    await store.close()
    store.path.write_bytes(b"no store" * 1000)
    damaged = Store(store.path, read_only=True, missing=False, busy_timeout_ms=1)
    assert await damaged.version() is None
    await damaged.close()
