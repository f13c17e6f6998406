"""What is told of, when, and how often; the clock is set by hand."""

import logging

import pytest
from tests.alert_scene import Scene, together
from tests.factories import DAY, NOW

from voicegw_mcp.core.alerts import view
from voicegw_mcp.core.periods import next_midnight_ms
from voicegw_mcp.store.reader import Reads

MINUTE = 60_000
ONE_BUDGET = "projects: {p0: {name: P, daily_budget: 10}}\n"


@pytest.fixture
async def scene(tmp_path):
    scene = Scene(tmp_path)
    yield scene
    await scene.close()


async def levels(scene):
    """Return which parts of its budget a project was told to have reached, in order."""
    import json

    rows = await (await scene.gateway.reader()).read("SELECT body FROM alerts ORDER BY rowid")
    return [json.loads(body)["data"].get("threshold_percent") for (body,) in rows]


async def test_each_threshold_of_a_budget_is_told_of_once(scene, caplog):
    scene.write(ONE_BUDGET)
    for usd, reached in [
        (4.99, []),
        (0.01, [50]),
        (0, [50]),
        (2.5, [50]),
        (0.5, [50, 80]),
        (9, [50, 80, 100]),
    ]:
        await scene.spend(usd)
        await scene.round()
        await scene.round()
        assert await levels(scene) == reached
    ((_, first), *_) = await scene.told()
    assert first.startswith(
        "50 % of a budget is reached. Project p0 has spent 5.00 of its 10.00 USD for today (50 %); the budget begins anew at 20"
    )
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == 3
    assert lines[0].startswith("alert firing, budget (")
    assert all("\n" not in line for line in lines)


async def test_who_jumps_over_several_thresholds_is_told_of_each(scene):
    scene.write(ONE_BUDGET + "alerts: {budget: {percent: [12.5, 100]}}\n")
    await scene.spend(20)
    await scene.round()
    assert await levels(scene) == [12.5, 100]


async def test_a_new_day_of_the_project_s_zone_begins_anew_at_its_midnight(scene):
    scene.write("projects: {p0: {name: P, daily_budget: 10, timezone: Asia/Kathmandu}}\n")
    midnight = next_midnight_ms("Asia/Kathmandu", NOW)
    scene.now = midnight - 1
    await scene.spend(5)
    await scene.round()
    assert await levels(scene) == [50]
    scene.now = midnight
    await scene.round()
    assert await levels(scene) == [50]
    await scene.spend(5)
    await scene.round()
    assert await levels(scene) == [50, 50]
    scene.now = next_midnight_ms("Asia/Kathmandu", midnight) - 1
    await scene.round()
    assert await levels(scene) == [50, 50]


async def test_a_budget_that_is_raised_in_the_middle_of_the_day_is_told_of_anew(scene):
    scene.write(ONE_BUDGET)
    await scene.spend(6)
    await scene.round()
    scene.write(ONE_BUDGET.replace("10", "100"))
    await scene.round()
    assert await levels(scene) == [50]
    await scene.spend(44)
    await scene.round()
    assert await levels(scene) == [50, 50]


async def test_only_named_projects_are_told_of(scene):
    scene.write(
        "projects: {p0: {name: P, daily_budget: 10}, p1: {name: Q, daily_budget: 10}, free: {name: F}}\n"
        "alerts: {budget: {projects: [p1]}}\n"
    )
    for project in ("p0", "p1", "free"):
        await scene.spend(20, project)
    await scene.round()
    assert {row.subject for row in await scene.rows()} == {"project:p1"}


async def test_the_daily_total_of_all_projects_is_told_of_once_a_day_of_the_file_s_zone(scene):
    scene.write("timezone: America/New_York\ncost_tracking: {daily_budget_alert: 3.5}\n")
    await scene.spend(2, "a")
    await scene.round()
    assert await scene.told() == []
    await scene.spend(1.5, "b")
    await scene.round()
    await scene.spend(100, "b")
    await scene.round()
    ((event, message),) = await scene.told()
    assert event == "firing"
    assert "spent 3.50 USD today; cost_tracking.daily_budget_alert is 3.50 USD" in message
    scene.now = next_midnight_ms("America/New_York", NOW)
    await scene.spend(4, "a")
    await scene.round()
    assert len(await scene.told()) == 2


async def test_nothing_is_looked_at_when_alerts_are_off(scene):
    scene.write(ONE_BUDGET + "alerts: {enabled: false}\n")
    await scene.spend(20)
    await scene.round()
    assert await scene.told() == []


async def test_without_rules_or_without_a_store_none_is_made(scene, tmp_path):
    scene.write("projects: {p0: {name: P}}\n")
    await scene.round()
    scene.write(ONE_BUDGET)
    await scene.round()
    assert not (tmp_path / "voicegw.db").exists()


ERRORS = "alerts: {error_rate: {percent: 10, least_requests: 20, by: provider}}\n"


async def test_an_error_rate_is_told_of_above_its_threshold_and_with_enough_requests(scene):
    scene.write(ERRORS)
    await scene.requests(19, failed=19, provider="openai")
    await scene.round()
    assert await scene.told() == []
    await scene.requests(171, provider="openai")  # 19 of 190: exactly 10 %
    await scene.round()
    assert await scene.told() == []
    await scene.requests(1, failed=1, provider="openai")
    await scene.requests(30, provider="deepgram")
    await scene.round()
    await scene.round()
    ((event, message),) = await scene.told()
    assert event == "firing"
    assert message.startswith("Provider openai: 20 of 191 requests failed since 2026-")
    assert message.endswith("the threshold is 10 %.")


async def test_an_end_is_told_of_below_four_fifths_of_the_threshold_and_not_before(scene):
    scene.write(ERRORS)
    await scene.requests(20, failed=4, provider="openai")
    await scene.round()
    await scene.requests(24, provider="openai")  # 9.1 %: below the threshold, above four fifths of it
    await scene.round()
    await scene.requests(4, failed=4, provider="openai")  # and over it again
    await scene.round()
    assert [event for event, _ in await scene.told()] == ["firing"]
    await scene.requests(48, provider="openai")
    await scene.requests(4, provider="openai")
    await scene.round()
    await scene.round()
    assert [event for event, _ in await scene.told()] == ["firing", "resolved"]
    await scene.requests(200, failed=200, provider="openai")
    await scene.round()
    assert [event for event, _ in await scene.told()] == ["firing", "resolved", "firing"]


async def test_an_error_rate_ends_when_there_are_no_requests_any_more(scene):
    scene.write(ERRORS.replace("by: provider", "by: all"))
    await scene.requests(20, failed=20)
    await scene.round()
    scene.now += 20 * MINUTE  # still within the quarter hours of the window
    await scene.round()
    assert len(await scene.told()) == 1
    scene.now += DAY
    await scene.round()
    (_, (event, message)) = await scene.told()
    assert event == "resolved"
    assert message.startswith("All requests: 0 of 0 requests failed")


async def test_what_a_rule_went_by_before_is_not_shown_as_over(scene):
    async def over():
        shown = await view(scene.gateway, limit=0)
        return [each.subject for rule in shown.rules for each in rule.over]

    scene.write(ERRORS)
    await scene.requests(20, failed=20, provider="openai", model_id="openai/m")
    await scene.round()
    assert await over() == ["provider:openai"]
    scene.write(ERRORS.replace("by: provider", "by: model"))
    await scene.round()
    assert await over() == ["model:openai/m"]


async def test_a_slow_model_is_told_of_by_its_95th_percentile(scene):
    scene.write("latency: {ttfb_warning_ms: 800}\nalerts: {ttfb: {}}\n")
    await scene.requests(100, ttfb_ms=300.0, model_id="fast")
    await scene.requests(94, ttfb_ms=300.0, model_id="v0/m")
    await scene.requests(5, ttfb_ms=3000.0, model_id="v0/m")
    await scene.round()
    assert await scene.told() == []
    await scene.requests(10, ttfb_ms=3000.0, model_id="v0/m")
    await scene.requests(50, model_id="untimed")
    await scene.round()
    ((event, message),) = await scene.told()
    assert event == "firing"
    assert message.startswith("Model v0/m: the 95th percentile of the time to first byte is 30")
    assert "over 109 requests since" in message
    scene.now += DAY
    await scene.round()
    assert "Model v0/m: no request was timed since" in (await scene.told())[1][1]


async def test_a_threshold_of_0_ms_is_none(scene):
    scene.write("latency: {ttfb_warning_ms: 0}\nalerts: {ttfb: {}}\n")
    await scene.requests(30, ttfb_ms=300.0)
    await scene.round()
    assert await scene.told() == []


async def test_only_requests_of_named_projects_count(scene):
    scene.write(
        "projects: {p0: {name: P}}\nalerts: {error_rate: {by: project, projects: [p0]}, ttfb: {by: project, projects: [p0]}}\n"
    )
    await scene.requests(20, failed=20, project="other")
    await scene.requests(20, ttfb_ms=9000.0, project="other")
    await scene.round()
    assert await scene.told() == []
    await scene.requests(20, ttfb_ms=9000.0, project="p0")
    await scene.round()
    assert [(row.rule, row.subject) for row in await scene.rows()] == [("ttfb", "project:p0")]


async def test_names_out_of_the_log_break_out_of_no_line(scene, caplog):
    scene.write(ERRORS)
    await scene.requests(20, failed=20, provider='a"b\n\x1b[31m\u202e')
    await scene.round()
    (row,) = await scene.rows()
    assert row.message.isprintable()
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert line.isprintable()


async def test_two_processes_on_one_store_tell_of_a_crossing_once(scene):
    scene.write(ONE_BUDGET + ERRORS)
    others = [scene.another() for _ in range(3)]
    try:
        await scene.spend(20)
        await scene.requests(100, failed=100)
        await together(*(each.round() for each in (scene, *others)))
        assert len(await scene.told()) == 4
        for each in (scene, *others):
            each.now += DAY
        await together(*(each.round() for each in (scene, *others)))
        assert [event for event, _ in await scene.told()] == ["firing"] * 4 + ["resolved"]
    finally:
        await together(*(each.close() for each in others))


async def test_a_look_at_many_projects_asks_no_more_queries_than_one_at_a_single_one(scene, monkeypatch):
    async def queries(projects):
        entries = "".join(f"  p{number}: {{name: P, daily_budget: 1}}\n" for number in range(projects))
        scene.write(f"projects:\n{entries}")
        asked = []
        read = Reads.read

        def counting(self, sql, params=()):
            asked.append(sql)
            return read(self, sql, params)

        with monkeypatch.context() as patched:
            patched.setattr(Reads, "read", counting)
            await scene.spend(0, "nobody")  # nothing that was read before holds
            await scene.round()
        return len(asked)

    await scene.spend(0)
    await queries(1)
    few = await queries(1)
    for number in range(360):
        await scene.spend(2, f"p{number}")
    assert await queries(360) == few
    assert len(await scene.told()) == 360 * 3
    assert await queries(360) == few
    assert len(await scene.told()) == 360 * 3
