"""What the dashboard shows is what the API answers: totals, charts, budgets, latency, providers, history."""

import re

import pytest
from playwright.sync_api import expect
from tests.e2e.dashboard.conftest import go


def money(usd):
    """Write an amount as the page does."""
    return "$0" if usd == 0 else f"${usd:,.4f}" if usd < 1 else f"${usd:,.2f}"


def percent(part, whole):
    share = part / whole * 100
    return f"{share:.1f} %" if share < 10 else f"{share:.0f} %"


def cells(page, selector):
    """Return the texts of a table's rows."""
    return [
        [cell.inner_text() for cell in row.locator("td").all()]
        for row in page.locator(f"{selector} tbody tr").all()
    ]


def list_figures(page):
    """Open the table of the figures of spend, unless it is."""
    if page.locator("#spend-chart details").get_attribute("open") is None:
        page.locator("#spend-chart summary").click()


def test_the_totals_are_those_of_the_api(page, busy):
    go(page, "overview")
    shown = page.locator("#totals .figure").all_inner_texts()
    spent = [busy.api("costs", period=period)["total_usd"] for period in ("today", "week", "this_month")]
    today = busy.api("latency", period="today")["overall"]
    assert shown == [*map(money, spent), f"{today['request_count']:,}"]
    assert percent(today["error_count"], today["request_count"]) in page.locator("#totals").inner_text()


@pytest.mark.parametrize(
    ("split", "key"), [("Provider", "by_provider"), ("Model", "by_model"), ("Project", "by_project")]
)
def test_spend_is_split_as_the_api_splits_it(page, busy, split, key):
    go(page, "overview")
    controls = page.locator("#spend-controls")
    controls.get_by_text(split, exact=True).click()
    controls.get_by_text("30 days").click()
    report = busy.api("costs", period="month", group_by="day")
    expect(page.locator("#spend-table th").first).to_have_text(split)
    expect(page.locator("#spend-chart .when")).to_have_text("30 days")
    shown = {row[0]: row[1:] for row in cells(page, "#spend-table")}
    ranked = list(report[key].items())[:9]
    assert shown == {
        name: [money(entry["cost"]), percent(entry["cost"], report["total_usd"]), f"{entry['requests']:,}"]
        for name, entry in ranked
    }
    legend = page.locator("#spend-chart .readout").inner_text()
    assert all(name in legend for name, _ in ranked[:4])
    list_figures(page)
    expect(page.locator("#spend-chart tbody tr")).to_have_count(30)
    days = cells(page, "#spend-chart")
    amounts = [float(re.sub(r"[$,<\s–]", "", cell) or 0) for row in days for cell in row[1:]]
    assert sum(amounts) == pytest.approx(report["total_usd"], abs=0.005 * len(amounts))


def test_pointing_at_the_chart_tells_the_values_of_that_day(page):
    go(page, "overview")
    page.locator("#spend-controls").get_by_text("7 days").click()
    readout = page.locator("#spend-chart .when")
    expect(readout).to_have_text("7 days")
    page.locator("#spend-chart .u-over").hover()
    expect(readout).to_have_text(re.compile(r"^\w{3} \d+ \w{3}$|^\w{3}, \d+ \w{3}$"))


def test_hours_of_today_are_those_of_the_gateway_s_time_zone(page, busy):
    go(page, "overview")
    page.locator("#spend-controls").get_by_text("Today").click()
    expect(page.locator("#spend-chart .when")).to_have_text("Today")
    list_figures(page)
    report = busy.api("costs", period="today", group_by="hour")
    expect(page.locator("#spend-chart tbody tr")).not_to_have_count(0)
    hours = [row[0] for row in cells(page, "#spend-chart")]
    assert hours[0].endswith("00:00")
    assert {group["key"][11:16] for group in report["groups"]} <= {hour[-5:] for hour in hours}


def test_latency_is_that_of_the_api_by_figure_and_modality(page, busy):
    go(page, "overview")
    for label, key in (("First byte", "ttfb_percentiles"), ("Total", "latency_percentiles")):
        page.locator("#latency-controls").get_by_text(label, exact=True).click()
        page.locator("#latency-controls").get_by_text("TTS", exact=True).click()
        report = busy.api("latency", period="week", modality="tts")
        expected = [[model, f"{stats[key]['p50']:,.0f} ms"] for model, stats in report["by_model"].items()]
        expect(page.locator("#latency-table tbody tr")).to_have_count(len(expected))
        expect(page.locator("#latency-table tbody tr").first).to_contain_text(expected[0][1])
        assert [row[:2] for row in cells(page, "#latency-table")] == expected
        legend = page.locator("#latency-chart .readout").inner_text()
        assert f"{report['overall'][key]['p95']:,.0f} ms" in legend


def test_budgets_have_a_bar_a_status_and_the_time_of_their_reset(page, busy):
    go(page, "overview")
    projects = {project["id"]: project for project in busy.api("projects")["projects"]}
    limited = [project for project in projects.values() if project["daily_budget"]]
    assert {project["budget_status"] for project in limited} == {"ok", "warning", "exceeded"}
    for project in limited:
        row = page.locator(f"[data-project={project['id']}]")
        expect(row).to_contain_text(f"{money(project['today_spend'])} of {money(project['daily_budget'])}")
        expect(row.locator(".state")).to_have_text(project["budget_status"])
        expect(row).to_contain_text("resets at 00:00, in ")
        meter = row.get_by_role("meter", name=f"Budget of {project['name']}")
        assert float(meter.get_attribute("aria-valuenow")) == pytest.approx(
            min(project["today_spend"], project["daily_budget"])
        )
        filled, whole = (element.bounding_box()["width"] for element in (meter.locator("div"), meter))
        assert filled / whole == pytest.approx(
            min(1, project["today_spend"] / project["daily_budget"]), abs=0.01
        )
    expect(page.locator("[data-project=lab]")).to_contain_text("no budget")


def test_providers_say_whether_they_could_be_called_and_models_how_they_did(page, busy):
    go(page, "providers")
    ready = busy.api("status")["providers"]
    shown = {row[0].split("\n")[0]: row for row in cells(page, "#provider-table")}
    assert {name: row[1] for name, row in shown.items()} == {
        name: "ready" if provider["configured"] else "no key" for name, provider in ready.items()
    }
    assert "voicegw secrets set" in shown["elevenlabs"][0]
    today = busy.api("latency", period="today")["by_model"]
    models = {row[0]: row[4] for row in cells(page, "#model-table")}
    assert models.keys() == busy.api("models")["models"].keys()
    assert {name: models[name] for name in today} == {
        name: f"{stats['request_count']:,}" for name, stats in today.items()
    }


def test_a_change_by_a_tool_appears_in_the_history_with_its_diff_and_goes_by_undo(page, busy):
    busy.run("call", "create_project", "project_id=night-line", "name=Night line", "daily_budget=7.5")
    go(page, "overview")
    expect(page.locator("[data-project=night-line]")).to_contain_text("$0 of $7.50")
    go(page, "changes")
    entry = page.locator(".change").first
    entry.locator("summary").click()
    expect(entry).to_contain_text("Create project night-line")
    added = entry.locator(".diff .added").all_inner_texts()
    assert "+  night-line:" in added
    assert "+    daily_budget: 7.5" in added
    (change,) = busy.api("changes", limit=1)["changes"]
    expect(entry).to_contain_text(f"voicegw undo {change['id']}")
    busy.run("undo", change["id"])
    go(page, "overview")
    go(page, "changes")
    undone = page.locator(".change").nth(1)
    expect(undone).to_contain_text("Create project night-line")
    expect(undone.locator(".state")).to_have_text("undone")
