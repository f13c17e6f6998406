"""Clocks that are wrong: rows of yesterday and tomorrow, and a clock that is put back while all goes on."""

import pytest
from tests.factories import DAY, NOW, request_record

from voicegw_mcp.core.recording import open_recorder

HOUR = 3_600_000
USD = 10**9


def ids(answer):
    return [row["id"] for row in answer["logs"]]


def row(name, offset_ms=0, **fields):
    return request_record(
        id=name,
        timestamp_ms=NOW + offset_ms,
        cost_nanousd=USD,
        project="support-line",
        total_ms=5.0,
        **fields,
    )


async def spent(agent, **arguments):
    return (await agent.ok("get_costs", **arguments))["total_usd"]


async def pages(agent, answer, **arguments):
    """Return the ids of all further pages."""
    found = []
    while "next_cursor" in answer:
        answer = await agent.ok("get_logs", cursor=answer["next_cursor"], **arguments)
        found += ids(answer)
    return found


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_a_clock_that_steps_back_a_day_while_recording_keeps_every_cursor_and_follower(
    house, agent, order
):
    with open_recorder(agent.gateway) as recorder:
        for number in range(6):
            recorder.record(row(f"before-{number}", number))
        assert recorder.flush()
        page = await agent.ok("get_logs", limit=2, order=order)
        following = await agent.ok("get_logs", follow_seconds=0, limit=1)
        house.now -= DAY
        for number in range(6):
            recorder.record(row(f"after-{number}", number - DAY))
        assert recorder.flush()
        seen = ids(page) + await pages(agent, page, limit=2, order=order)
        arrived, answer = [], following
        while len(arrived) < 6:
            answer = await agent.ok("get_logs", cursor=answer["next_cursor"], follow_seconds=0, limit=4)
            arrived += ids(answer)
    late, early = ([f"{when}-{number}" for number in range(6)] for when in ("before", "after"))
    # By time; what came in behind the cursor of a page is not on a further one.
    assert seen == ([*late[::-1], *early[::-1]] if order == "newest" else late)
    assert arrived == early
    assert await spent(agent) == 6  # today is the day before now
    assert await spent(agent, period="all") == 12
    house.now += DAY
    assert await spent(agent) == 6
    assert await spent(agent, period="yesterday") == 6


async def test_rows_of_a_clock_that_runs_ahead_are_counted_at_their_own_time(house, agent):
    await house.log(row("now"), row("soon", 2 * HOUR), row("next year", 400 * DAY))
    assert await spent(agent) == 1
    everything = await agent.ok("get_costs", period="all", group_by="day")
    assert everything["total_usd"] == 3
    assert [group["key"][:10] for group in everything["groups"]] == ["2026-11-18", "2027-12-23"]
    assert everything["end"] == "2027-12-23T11:15:00+00:00"
    stats = await agent.ok("get_latency_stats", period="all", group_by="hour")
    assert [group["request_count"] for group in stats["groups"]] == [1, 1, 1]
    assert ids(await agent.ok("get_logs")) == ["next year", "soon", "now"]
    assert (await agent.ok("get_health"))["store"]["rows"] == 3
    house.now += 2 * HOUR
    assert await spent(agent) == 2


async def test_a_project_s_budget_counts_all_of_its_day_and_its_week_holds_that_day(house, agent):
    await house.log(row("now"), row("soon", 2 * HOUR), row("tomorrow", DAY))
    project = await agent.ok("get_project", project_id="support-line")
    assert (project["today_spend"], project["today_requests"]) == (2, 2)
    assert (project["week_spend"], project["week_requests"]) == (2, 2)
    assert project["by_modality"]["stt"]["requests"] == 2
    listed = {view["id"]: view["today_spend"] for view in (await agent.ok("list_projects"))["projects"]}
    assert listed["support-line"] == 2
    deleted = await agent.refused("delete_project", project_id="support-line")
    assert deleted["details"]["total_spend_usd"] == 3


async def test_rows_of_the_future_hold_up_neither_followers_nor_pruning(house):
    await house.log(*(row(f"old-{number}", -9 * DAY) for number in range(3)), row("far", 400 * DAY))
    house.write(house.text + "cost_tracking: {retention_days: 3}\n")
    async with house.agent(door="stdio") as agent:
        answer = await agent.ok("get_logs", follow_seconds=0)
        await (await agent.gateway.store()).write(
            lambda _: None
        )  # behind the round of pruning that the first use began
        assert ids(await agent.ok("get_logs")) == ["far"]
        await house.log(row("new"))
        answer = await agent.ok("get_logs", cursor=answer["next_cursor"], follow_seconds=0)
        assert ids(answer) == ["new"]
        assert ids(await agent.ok("get_logs")) == ["far", "new"]
        assert await spent(agent, period="all") == 5


async def test_get_health_tells_of_rows_of_the_future_until_their_time_has_come(house, agent):
    async def told():
        warnings = (await agent.ok("get_health"))["warnings"]
        return [text for text in warnings if "in the future" in text]

    await house.log(row("now"), row("a clock that is a little fast", HOUR // 2))
    assert await told() == []
    await house.log(row("next year", 400 * DAY))
    (warning,) = await told()
    assert "up to 2027-12-23T11:00:00+00:00" in warning
    house.now += 400 * DAY
    assert await told() == []


@pytest.mark.unmeasured
async def test_rows_of_the_first_and_the_last_moment_there_is_leave_every_report_working(house, agent):
    await house.log(row("first", -NOW), row("now"), row("last", 7_258_118_399_999 - NOW))
    for zone in ("UTC", "Pacific/Kiritimati", "America/New_York"):
        for group in ("day", "hour", "session"):
            answer = await agent.ok("get_costs", period="all", timezone=zone, group_by=group)
            assert (answer["total_usd"], sum(item["requests"] for item in answer["groups"])) == (3, 3)
            assert "truncated" not in answer
    for group in ("day", "hour"):
        stats = await agent.ok("get_latency_stats", period="all", group_by=group)
        assert [item["key"][:10] for item in stats["groups"]] == ["1970-01-01", "2026-11-18", "2199-12-31"]
    assert (await agent.ok("get_costs", start="2199-12-31", end="2199-12-31"))["total_usd"] == 1


async def test_what_makes_no_sense_is_not_stored_and_get_health_counts_it(agent):
    nothing = float("nan")
    with open_recorder(agent.gateway) as recorder:
        recorder.record(row("good"))
        for number, fields in enumerate(
            (
                {"timestamp_ms": 253_402_300_799_000},
                {"timestamp_ms": -1},
                {"cost_nanousd": float("inf")},
                {"cost_nanousd": nothing},
                {"cost_nanousd": -1},
                {"cost_nanousd": 10**13},
            )
        ):
            recorder.record(request_record(**{"id": f"bad-{number}", **fields}))
        for number, latency in enumerate((nothing, -1.0, float("inf"), 1e12)):
            recorder.record(row(f"slow-{number}", ttfb_ms=latency))
        assert recorder.flush()
    assert set(ids(await agent.ok("get_logs"))) == {"good", *(f"slow-{number}" for number in range(4))}
    assert await spent(agent, period="all") == 5
    overall = (await agent.ok("get_latency_stats", period="all"))["overall"]
    assert (overall["request_count"], overall["avg_latency_ms"]) == (5, 5.0)
    assert "avg_ttfb_ms" not in overall
    (warning,) = [text for text in (await agent.ok("get_health"))["warnings"] if "not recorded" in text]
    assert warning.startswith("6 requests were not recorded by process ")
    assert "4: cost_nanousd out of range" in warning
    assert "2: timestamp_ms out of range" in warning


async def test_losses_told_before_and_after_the_clock_was_put_back_are_told_in_order(house, agent):
    with open_recorder(agent.gateway) as recorder:
        for _ in range(2):
            recorder.record(request_record(id="bad", timestamp_ms=-1))
            assert recorder.flush()
            house.now -= DAY
    house.now += 2 * DAY
    warning = (await agent.ok("get_health"))["warnings"][0]
    assert "2026-11-17T11:06:40Z to 2026-11-18T11:06:40Z (2: timestamp_ms out of range)" in warning


async def test_rows_of_one_moment_keep_their_order_over_pages(house, agent):
    await house.log(*(row(f"{number:02}") for number in range(30)))
    first = await agent.ok("get_logs", limit=7)
    assert ids(first) + await pages(agent, first, limit=7) == [
        f"{number:02}" for number in reversed(range(30))
    ]
