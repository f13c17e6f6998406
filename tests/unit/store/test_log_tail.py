from functools import partial

import anyio
import pytest
from tests.factories import request_record

from voicegw_mcp.store import requests
from voicegw_mcp.store.log_tail import POLL_S, LogTails
from voicegw_mcp.store.requests import id_at, insert_requests, last_number, newest_number

BOUND_S = 20


async def put(store, *records):
    await store.write(partial(insert_requests, records=records))


async def test_who_joins_later_with_an_older_place_misses_nothing(store):
    tails = LogTails()
    mine = await store.narrowed(frozenset({"mine"}))
    await put(store, request_record(id="1", project="mine"), request_record(id="2"), request_record(id="3"))
    with anyio.fail_after(BOUND_S):
        async with anyio.create_task_group() as tasks:
            # Nothing of "mine" is above 1: this one waits, and has looked at all rows above 1.
            tasks.start_soon(tails.wait, store, mine, 1)
            await anyio.wait_all_tasks_blocked()
            await tails.wait(store, mine, 0)
            await put(store, request_record(id="4"), request_record(id="5", project="mine"))
        await tails.wait(store, mine, 4)


async def test_rows_of_others_wake_nobody(store):
    tails = LogTails()
    mine = await store.narrowed(frozenset({"mine"}))
    await put(store, request_record(id="1"))
    with anyio.move_on_after(4 * POLL_S) as waited:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tails.wait, store, mine, 0)
            await anyio.wait_all_tasks_blocked()
            await put(store, request_record(id="2"))
    assert waited.cancelled_caught


@pytest.mark.parametrize("near", [10_000, 1])
async def test_a_number_leads_to_the_last_row_that_a_reader_sees(store, near, monkeypatch):
    monkeypatch.setattr(requests, "_NEAR", near)
    rows = [request_record(id=f"{n}", project="mine" if n in {2, 4} else "other") for n in range(1, 9)]
    await put(store, *rows)
    mine, none = [await store.narrowed(frozenset({name})) for name in ("mine", "none")]
    assert [await mine.ask(id_at, number) for number in range(7)] == ["", "", "2", "2", "4", "4", "4"]
    assert [await none.ask(id_at, number) for number in (0, 8)] == ["", ""]
    assert await store.ask(id_at, 7) == "7"
    assert [await mine.ask(newest_number, above) for above in (0, 3, 4, 7)] == [4, 4, 4, 7]
    assert await mine.ask(last_number) == 8
