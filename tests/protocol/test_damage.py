"""Reports from a store whose histograms or rows are damaged, which no comparison of totals finds: an error, never a crash."""

import sqlite3
from contextlib import closing

import pytest
from tests.factories import NOW, request_record

HOUR = 3_600_000
ROWS = [
    request_record(
        id=f"{n}", timestamp_ms=NOW + n, session_id="call", cost_nanousd=10**9, ttfb_ms=2.0, total_ms=5.0
    )
    for n in range(3)
]


def alter(house, damage):
    with closing(sqlite3.connect(house.database)) as connection, connection:
        connection.execute(f"UPDATE requests SET {damage} WHERE id = '1'")


def refused(called):
    failed, answer = called
    assert failed
    assert answer["error"]["code"] == "STORE_UNAVAILABLE", answer
    assert "voicegw repair" in answer["error"]["hint"]


@pytest.mark.parametrize(
    "damage",
    [
        "ttfb = 7",
        "total = 0.5",
        "ttfb = 'text'",
        "ttfb = x'09'",
        "ttfb = x''",
        "series_id = 77",
        "series_id = 'text'",
        f"bucket_ms = bucket_ms - {HOUR * 24 * 8}",
        f"bucket_ms = ({NOW} - {60 * HOUR}) / (grain_s * 1000) * (grain_s * 1000)",
        "bucket_ms = bucket_ms + 1",
        "grain_s = 7",
    ],
)
@pytest.mark.parametrize("grain", [900, 3600, 86_400, 691_200])
async def test_a_damaged_histogram_is_told_or_left_out_and_other_reports_go_on(house, damage, grain):
    rows = [
        request_record(
            id=f"{n}", timestamp_ms=NOW - n * HOUR // 2, ttfb_ms=5.0, total_ms=9.0, cost_nanousd=10**9
        )
        for n in range(400)
        if not 100 <= n < 148  # for a day nothing happened
    ]
    await house.log(*rows)
    with closing(sqlite3.connect(house.database)) as connection, connection:
        where = "(SELECT MIN(bucket_ms) FROM histogram WHERE grain_s = ?)"
        changed = connection.execute(
            f"UPDATE OR IGNORE histogram SET {damage} WHERE grain_s = ? AND bucket_ms = {where}",
            (grain, grain),
        )
        assert changed.rowcount in {0, 1}
    async with house.agent() as agent:
        for period in ("all", "today"):
            for group in (None, "model", "hour", "day"):
                arguments = {"period": period, **({"group_by": group} if group else {})}
                failed, answer = await agent.call("get_latency_stats", arguments)
                if failed:
                    assert answer["error"]["code"] == "STORE_UNAVAILABLE", answer
                    assert "voicegw repair" in answer["error"]["hint"]
        assert (await agent.ok("get_costs", period="all"))["total_usd"] == 352


@pytest.mark.parametrize("damage", ["session_id = x'07'", "cost_nanousd = 'text'", "cost_nanousd = 0.5"])
async def test_a_damaged_row_of_a_session_is_told(house, damage):
    await house.log(*ROWS)
    alter(house, damage)
    async with house.agent() as agent:
        refused(await agent.call("get_costs", {"period": "all", "group_by": "session"}))
        assert (await agent.ok("get_costs", period="all"))["total_usd"] == 3


@pytest.mark.parametrize(
    "damage",
    [
        *(f"{column} = x'07'" for column in ("id", "session_id", "error_message")),
        *(f"{column} = 'text'" for column in ("cost_nanousd", "total_us", "ttfb_us", "timestamp_ms")),
    ],
)
@pytest.mark.parametrize("detail", ["concise", "full"])
async def test_a_damaged_row_of_the_log_is_told(house, damage, detail):
    await house.log(*ROWS)
    alter(house, damage)
    async with house.agent() as agent:
        refused(await agent.call("get_logs", {"detail": detail}))


async def test_a_damaged_row_that_comes_in_is_told_to_who_follows(house):
    await house.log(ROWS[0])
    async with house.agent() as agent:
        seen = await agent.ok("get_logs", follow_seconds=0)
        await house.log(*ROWS[1:])
        alter(house, "session_id = x'07'")
        refused(await agent.call("get_logs", {"follow_seconds": 20, "cursor": seen["next_cursor"]}))
