"""The log in the dashboard: filters, new rows as they come in, older ones on demand."""

import time
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect
from tests.e2e.dashboard.conftest import go
from tests.factories import request_record

FILTERS = {
    "Project": ("project", "booking"),
    "Modality": ("modality", "tts"),
    "Provider": ("provider_id", "groq"),
    "Model": ("model_id", "openai/gpt-4.1"),
    "Status": ("status", "error"),
    "Search": ("search", "overloaded"),
}


@pytest.fixture
def log(page):
    """The log without filters."""
    if page.locator("#requests").is_hidden():
        go(page, "requests")
    for label in FILTERS:
        if field(page, label).input_value():
            choose(page, label, "")
    expect(page.locator("#log-state")).to_have_text("Live")
    return page


def ids(page):
    return page.locator("#log tbody[data-id]")


def shown(page):
    return [row.get_attribute("data-id") for row in ids(page).all()]


def field(page, label):
    filters = page.get_by_role("form", name="Filters")
    return filters.get_by_role("searchbox" if label == "Search" else "combobox", name=label)


def choose(page, label, value):
    found = field(page, label)
    found.fill(value) if label == "Search" else found.select_option(value)


@pytest.mark.parametrize("label", FILTERS)
def test_a_filter_shows_the_rows_that_the_api_gives_for_it(log, busy, label):
    name, value = FILTERS[label]
    expected = [row["id"] for row in busy.api("logs", **{name: value})]
    assert 0 < len(expected) <= 100
    choose(log, label, value)
    expect(ids(log).first).to_have_attribute("data-id", expected[0])
    expect(ids(log)).to_have_count(len(expected))
    assert shown(log) == expected


def test_times_are_those_of_the_gateway_s_time_zone_also_when_the_log_is_opened_first(visit, busy):
    page = visit(busy, "requests")
    (row,) = busy.api("logs", limit=1)
    zone = ZoneInfo(busy.api("costs")["timezone"])
    local = datetime.fromisoformat(row["timestamp"]).astimezone(zone)
    assert zone.utcoffset(local)
    expect(ids(page).first).to_contain_text(f"{local:%H:%M:%S}")


def test_filters_together_may_leave_nothing_and_say_so(log):
    choose(log, "Status", "error")
    choose(log, "Search", "no such text")
    expect(log.locator("#log-empty")).to_have_text("No request fits these filters.")
    choose(log, "Search", "")
    expect(ids(log).first).to_be_visible()


def test_older_rows_come_below_without_gap_or_repeat(log, busy):
    go(log, "overview")
    go(log, "requests")
    expected = [row["id"] for row in busy.api("logs", limit=200)]
    expect(ids(log)).to_have_count(100)
    log.get_by_role("button", name="Show older").click()
    expect(ids(log)).to_have_count(200)
    assert shown(log) == expected


def test_new_rows_appear_on_top_by_themselves_when_they_fit_the_filters(log, busy):
    choose(log, "Project", "lab")
    expect(log.locator("#log-state")).to_have_text("Live")
    now_ms = time.time_ns() // 1_000_000
    row = request_record(id="new-one", timestamp_ms=now_ms, project="lab", ttfb_ms=123.4)
    busy.record([replace(row, id="of-others", project="booking"), row])
    first = ids(log).first
    expect(first).to_have_attribute("data-id", "new-one")
    expect(first).to_contain_text("123 ms")
    expect(first).to_contain_text("unpriced")
    assert "of-others" not in shown(log)


def test_a_pause_holds_the_log_and_resuming_brings_what_came_meanwhile(log, busy):
    log.get_by_role("button", name="Pause").click()
    expect(log.locator("#log-state")).to_have_text("Paused")
    now_ms = time.time_ns() // 1_000_000
    busy.record([request_record(id="while-paused", timestamp_ms=now_ms)])
    assert "while-paused" not in shown(log)
    log.get_by_role("button", name="Resume").click()
    expect(ids(log).first).to_have_attribute("data-id", "while-paused")


def test_a_row_opens_to_everything_that_is_known_of_it(log, busy):
    choose(log, "Status", "error")
    (row,) = busy.api("logs", status="error", limit=1)
    body = log.locator(f"tbody[data-id='{row['id']}']")
    button = body.get_by_role("button")
    button.click()
    expect(button).to_have_attribute("aria-expanded", "true")
    for key in ("error_message", "error_kind", "session_id", "project", "id"):
        expect(body.locator("dl")).to_contain_text(row[key])
    button.click()
    expect(body.locator("dl")).to_have_count(0)
