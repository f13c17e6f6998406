"""The dashboard where there is nothing yet, where the server goes away, and where the data is hostile."""

import json
import shlex
import time
from urllib.parse import urlsplit

from playwright.sync_api import expect
from tests.e2e.dashboard.conftest import VIEWS, go, loaded
from tests.e2e.dashboard.site import Site
from tests.factories import request_record

from voicegw_mcp.domain import RequestStatus

MARKUP = "<img src=x onerror=window.broken=1>'\"&lt;script&gt;"
HOSTILE = f"""
providers:
  deepgram: {{api_key: "${{DEEPGRAM_API_KEY}}"}}
models:
  stt:
    deepgram/nova-3: {{provider: deepgram, model: nova-3, display_name: {json.dumps(MARKUP)}}}
projects:
  support: {{name: "<b>Support</b>", description: "<script>window.broken=1</script>", daily_budget: 3}}
"""


def test_an_empty_gateway_says_what_to_do_next_and_the_commands_do_it(visit, tmp_path):
    with Site(tmp_path / "gateway", "", token="") as site:
        page = visit(site, token="")
        loaded(page, "overview")
        expect(page.locator("#totals .figure")).to_have_text(["$0", "$0", "$0", "0"])
        expect(page.locator("#budgets")).to_contain_text("No project has a budget.")
        commands = "\n".join(page.locator("#overview pre").all_inner_texts()).splitlines()
        assert "voicegw import voicegw.db" in commands
        go(page, "changes")
        expect(page.locator("#change-list")).to_contain_text("Nothing was changed")
        called = [command for command in commands if command.startswith("voicegw call ")]
        assert len(called) == 3
        for command in called:
            site.run(*shlex.split(command)[1:])
        for view, text in (
            ("requests", "No request was recorded yet."),
            ("changes", "Create project support-line"),
        ):
            go(page, view)
            expect(page.locator(f"#{view}")).to_contain_text(text)
        site.record([request_record(id="first", timestamp_ms=time.time_ns() // 1_000_000)])
        go(page, "overview")
        expect(page.locator("#first-steps")).to_be_hidden()
        expect(page.locator("[data-project=support-line]")).to_contain_text("of $10.00")


def test_text_from_the_file_and_the_log_is_never_markup(visit, tmp_path):
    with Site(tmp_path / "gateway", HOSTILE, token="") as site:
        site.record(
            [
                request_record(
                    id="hostile",
                    timestamp_ms=time.time_ns() // 1_000_000,
                    project=f"p{MARKUP}",
                    provider=f"v{MARKUP}",
                    model_id=f"v/{MARKUP}",
                    status=RequestStatus.ERROR,
                    error_kind="server_error",
                    error_message=f"failed: {MARKUP}",
                    session_id=MARKUP,
                    cost_nanousd=5_000_000,
                    total_ms=100,
                )
            ]
        )
        page = visit(site, token="")
        loaded(page, "overview")
        for view in VIEWS:
            go(page, view)
            if view == "overview":
                expect(page.locator("#budgets")).to_contain_text("<b>Support</b>")
                expect(page.locator("#budgets")).to_contain_text("<script>window.broken=1</script>")
                for split, shown in (
                    ("Model", f"v/{MARKUP}"),
                    ("Project", f"p{MARKUP}"),
                    ("Provider", f"v{MARKUP}"),
                ):
                    page.locator("#spend-controls").get_by_text(split).click()
                    expect(page.locator("#spend-table")).to_contain_text(shown)
                    expect(page.locator("#spend-chart .readout")).to_contain_text(shown)
            if view == "requests":
                expect(page.locator("#log")).to_contain_text(f"failed: {MARKUP}")
                page.locator("#log tbody button").click()
                expect(page.locator("#log dl")).to_contain_text(MARKUP)
            if view == "providers":
                expect(page.locator("#model-table")).to_contain_text(MARKUP)
        assert page.evaluate("window.broken") is None
        assert page.locator("main img, main script, main b").count() == 0


def test_a_server_that_goes_away_is_told_and_found_again_without_anybody_s_help(visit, tmp_path):
    with Site(tmp_path / "gateway", "") as site:
        page = visit(site, "requests")
        site.stop()
        state = page.locator("#connection")
        expect(state).to_contain_text("Trying again in")
        expect(page.locator("#notice")).to_contain_text("The server does not answer.")
        expect(page.locator("#notice")).to_contain_text("voicegw serve")
        site.start(urlsplit(site.base).port)
        loaded(page, "requests")
        expect(page.locator("#notice")).to_be_hidden()
        site.record([request_record(id="after", timestamp_ms=time.time_ns() // 1_000_000)])
        expect(page.locator("#log tbody[data-id=after]")).to_be_visible()


def test_a_broken_file_is_named_with_its_line_while_the_last_good_one_is_shown(visit, tmp_path):
    good = "projects:\n  support: {name: Support, daily_budget: 3}\n"
    with Site(tmp_path / "gateway", good) as site:
        page = visit(site)
        site.config.write_text(f"{good}  sales: {{name: [}}\n", "utf-8")
        page.reload()
        loaded(page, "overview")
        expect(page.locator("#warnings")).to_contain_text("line 3")
        expect(page.locator("[data-project=support]")).to_be_visible()
