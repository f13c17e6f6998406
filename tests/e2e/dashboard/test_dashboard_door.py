"""Who sees the dashboard: the page asks for the token, keeps it for the tab, and forgets it."""

from playwright.sync_api import expect
from tests.e2e.dashboard.conftest import go, loaded
from tests.e2e.dashboard.site import TOKEN, Site

BOUND = """
projects:
  support: {name: Support}
auth:
  api_keys:
    - {token: "${VIEW_TOKEN}", name: wall-board, role: viewer, projects: [support]}
"""
OTHER = "fake-token-0002"


def offer(page, token):
    page.get_by_label("Token", exact=True).fill(token)
    page.keyboard.press("Enter")


def test_the_page_loads_without_a_token_asks_for_it_and_says_when_it_is_wrong(visit, busy):
    page = visit(busy, token="")
    expect(page.get_by_role("heading", name="This gateway asks for a token")).to_be_visible()
    expect(page.get_by_label("Token", exact=True)).to_be_focused()
    expect(page.locator("#overview")).to_be_hidden()
    offer(page, "a-wrong-token-0001")
    expect(page.get_by_role("alert").filter(has_text="The token is not accepted.")).to_be_visible()
    expect(page.get_by_label("Token", exact=True)).to_have_value("")
    offer(page, TOKEN)
    loaded(page, "overview")
    expect(page.locator("#gate")).to_be_hidden()
    assert TOKEN not in page.url


def test_a_wrong_token_is_sent_once_so_that_nobody_is_locked_out_by_the_page(visit, busy):
    page = visit(busy, token="")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    offer(page, "a-wrong-token-0002")
    expect(page.get_by_role("alert").filter(has_text="not accepted")).to_be_visible()
    assert [url for url in asked if "/v1/" in url] == [f"{busy.base}/v1/status"]


def test_the_token_lasts_as_long_as_the_tab_and_can_be_forgotten(visit, busy):
    page = visit(busy)
    page.reload()
    loaded(page, "overview")
    assert page.evaluate("Object.keys(localStorage)") == []
    assert page.context.cookies() == []
    page.get_by_role("button", name="Forget token").click()
    expect(page.locator("#gate")).to_be_visible()
    assert page.evaluate("Object.keys(sessionStorage)") == []
    page.reload()
    expect(page.locator("#gate")).to_be_visible()
    expect(page.locator("#refusal")).to_have_text("")


def test_the_same_page_is_on_its_own_port(visit, busy):
    page = visit(busy, base=busy.own)
    expect(page.locator("#totals .figure").first).to_be_visible()


def test_a_token_of_projects_sees_those_and_is_told_why_there_is_no_history(visit, tmp_path):
    with Site(tmp_path / "gateway", BOUND, VIEW_TOKEN=OTHER) as site:
        page = visit(site, token=OTHER)
        page.get_by_role("link", name="Changes").click()
        notice = page.locator("#notice")
        expect(notice).to_contain_text("projects")
        go(page, "requests")
        expect(notice).to_be_hidden()


def test_a_token_that_is_taken_out_is_asked_for_anew_also_while_the_log_is_followed(visit, tmp_path):
    with Site(tmp_path / "gateway", BOUND, VIEW_TOKEN=OTHER) as site:
        page = visit(site, "requests", token=OTHER)
        site.config.write_text("projects: {}\n", "utf-8")
        expect(page.locator("#gate")).to_be_visible()
        expect(page.locator("#refusal")).to_contain_text("The token is not accepted.")
