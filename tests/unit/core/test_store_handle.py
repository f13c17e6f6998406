"""A running gateway notices that another file took the place of its store."""

import os
import shutil
from functools import partial

import anyio
import pytest
from tests.factories import request_record
from tests.held_state import held

from voicegw_mcp.core.costs import costs
from voicegw_mcp.domain import Window
from voicegw_mcp.errors import StoreUnavailable
from voicegw_mcp.store import backup
from voicegw_mcp.store.requests import insert_requests

START = 1_795_000_000_000 // 900_000 * 900_000
WINDOW = Window("custom", START, START + 86_400_000, "UTC")
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


async def put(gateway, row_id, usd):
    store = await gateway.store()
    record = request_record(id=row_id, timestamp_ms=START, cost_nanousd=usd * 10**9)
    await store.write(partial(insert_requests, records=[record]))
    return store


async def total(gateway):
    return (await (await gateway.reader()).ask(costs, WINDOW)).total_usd


def back_up(store, target):
    backup.back_up(store.path, target, progress=lambda *_: None)


async def test_what_was_put_in_the_place_of_the_store_is_answered_from(gateway, tmp_path):
    store = await put(gateway, "a", 1)
    back_up(store, tmp_path / "backup.db")
    await put(gateway, "b", 2)
    assert await total(gateway) == 3
    os.replace(tmp_path / "backup.db", store.path)  # noqa: PTH105 - as other programs do it
    for name in ("-wal", "-shm"):
        store.path.with_name(f"{store.path.name}{name}").unlink()
    assert await total(gateway) == 1
    await put(gateway, "c", 4)
    assert await total(gateway) == 5


async def test_a_report_that_had_begun_ends_with_the_store_it_began_with(gateway, tmp_path):
    store = await put(gateway, "a", 1)
    shutil.copyfile(store.path, tmp_path / "other.db")
    async with held(store) as state:
        assert await state.read("SELECT COUNT(*) FROM requests") == [(1,)]
        os.replace(tmp_path / "other.db", store.path)  # noqa: PTH105
        for name in ("-wal", "-shm"):
            store.path.with_name(f"{store.path.name}{name}").unlink()
        assert (await gateway.store()) is not store
        assert await state.read("SELECT COUNT(*) FROM requests") == [(1,)]
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.write(lambda connection: connection.execute("DELETE FROM requests"))


async def test_a_store_that_was_deleted_is_made_anew(gateway):
    store = await put(gateway, "a", 1)
    for name in ("", "-wal", "-shm"):
        store.path.with_name(f"{store.path.name}{name}").unlink()
    assert await total(gateway) == 0
    assert store.path.exists()


async def test_closing_the_gateway_ends_a_report_in_progress(gateway):
    store = await gateway.store()

    async def ask():
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.read(ENDLESS)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            await gateway.close()
