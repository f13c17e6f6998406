"""Calls by the hundred: the short form of ``python -m tests.metering``."""

import gc
from collections import Counter

from tests.metering.faults import plan, storm
from tests.metering.waves import STALL_S, balance, providers, stages, watched, wave

from voicegw_mcp.inference import runtime


async def test_every_call_is_a_row_and_the_money_is_right_to_the_nano_dollar(tmp_path):
    async with providers(tmp_path, "openai") as where, stages() as made:
        runtime.current().prices()
        async with watched() as loop:
            await wave(made, 120, 64)
        books = await balance(tmp_path, where["openai"])
    assert (books.rows, books.calls, books.successes) == (360, 360, 360)
    assert books.sessions == {3}
    assert books.spent == books.owed > 0
    assert max(loop.ours) < STALL_S


async def test_every_request_that_goes_wrong_is_exactly_one_row(desk):
    server = await desk.start("openai")
    server.faults.plan(plan)
    async with stages() as made:
        await storm(made, 110, 64, 2.0)
        gc.collect()
        rows = desk.rows()
    assert len(rows) == 330
    assert set(Counter(row.session_id for row in rows).values()) == {1}
    assert {row.status for row in rows} <= {"error", "cancelled", "success"}
    assert sum(row.status == "error" for row in rows) > 20
