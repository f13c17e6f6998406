"""How the dashboard looks and is used: colours, contrast, a phone, a keyboard. Also writes the screenshots."""

import os
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests import npm
from tests.e2e.dashboard.conftest import SIZES, VIEWS, Visits, go, loaded
from tests.e2e.dashboard.site import TOKEN

HERE = Path(__file__).parent
SCRIPTS = HERE.parents[2] / "src" / "voicegw_mcp" / "web" / "dashboard"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SHOTS = {
    ("desk", "light"): {"overview": "dashboard-overview", "changes": "dashboard-changes"},
    ("desk", "dark"): {"overview": "dashboard-overview-dark", "requests": "dashboard-requests-dark"},
    ("phone", "light"): {"overview": "dashboard-phone"},
}


@pytest.fixture(scope="module")
def packages():
    """The npm packages that look at the page and its scripts."""
    try:
        return npm.install(HERE) / "node_modules"
    except npm.NpmFailed as error:
        pytest.skip(f"npm cannot install: {error}")


@pytest.fixture(scope="module")
def changed(busy):
    """The busy gateway with a little history."""
    busy.run("call", "create_project", "project_id=evening-line", "name=Evening line", "daily_budget=7.5")
    return busy


@pytest.fixture(scope="module")
def look(browser, changed):
    """Show one page, signed in once, on a screen and in colours; who opens or chooses something undoes it."""
    visits = Visits(browser)
    page = visits(changed)

    def look(size, scheme):
        width, height = SIZES[size]
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)
        return page

    yield look
    visits.close()


def open_everything(page):
    """Open what is folded, or fold it again."""
    page.evaluate(
        "document.querySelectorAll('summary, #log tbody:first-of-type button').forEach((each) => each.click())"
    )


@pytest.mark.parametrize(("size", "scheme"), SHOTS)
def test_screenshots(look, changed, tmp_path, size, scheme):
    folder = Path(os.environ.get("VOICEGW_SCREENSHOTS") or tmp_path)
    page = look(size, scheme)
    for view, name in SHOTS[size, scheme].items():
        go(page, view)
        if view == "changes":
            page.locator("#changes summary").first.click()
        if view == "requests":
            page.get_by_role("combobox", name="Status").select_option("error")
            expect(page.locator("#log .state").first).to_have_text("error")
            page.locator("#log tbody button").first.click()
        # A folder of the tests is nothing for a picture in the documents.
        page.evaluate(
            "(path) => document.querySelectorAll('#footer, .facts').forEach((each) => (each.firstChild.data = each.firstChild.data.replace(path, '/etc/voicegateway/voicegw.yaml')))",
            str(changed.config),
        )
        page.evaluate("document.activeElement.blur()")
        page.mouse.move(0, 0)
        path = folder / f"{name}.png"
        page.screenshot(path=path, animations="disabled", full_page=(view, size) == ("overview", "desk"))
        assert path.stat().st_size > 10_000
        if view == "changes":
            page.locator("#changes summary").first.click()
        if view == "requests":
            page.get_by_role("combobox", name="Status").select_option("All")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_passes_the_checks_of_accessibility_with_contrast(look, packages, scheme):
    page = look("desk", scheme)
    axe = (packages / "axe-core" / "axe.min.js").read_text("utf-8")
    for view in VIEWS:
        go(page, view)
        open_everything(page)
        page.evaluate(axe)
        found = page.evaluate(
            "(rules) => axe.run(document, {runOnly: rules, resultTypes: ['violations']})", RULES
        )
        assert [
            (rule["id"], [node["html"] for node in rule["nodes"]][:3]) for rule in found["violations"]
        ] == []
        open_everything(page)


def test_the_colours_follow_the_system_until_somebody_chooses(visit, busy):
    page = visit(busy, scheme="dark")
    surface = "getComputedStyle(document.querySelector('.card')).backgroundColor"
    dark = page.evaluate(surface)
    page.get_by_role("button", name="Use light colours").click()
    light = page.evaluate(surface)
    assert light == "rgb(255, 255, 255)" != dark
    page.reload()
    loaded(page, "overview")
    assert page.evaluate(surface) == light
    page.get_by_role("button", name="Use dark colours").click()
    assert page.evaluate(surface) == dark
    page.emulate_media(color_scheme="light")
    assert page.evaluate(surface) == dark


def test_on_a_phone_nothing_is_wider_than_the_screen(look):
    page = look("phone", "light")
    for view in VIEWS:
        go(page, view)
        open_everything(page)
        widest = page.evaluate("document.documentElement.scrollWidth")
        assert (view, widest) == (view, 360)
        # Of what can be used, nothing is too narrow for a finger.
        low = page.evaluate(
            "[...document.querySelectorAll('nav a, form button, select')].filter((each) => each.checkVisibility()).map((each) => each.getBoundingClientRect().height).filter((height) => height < 24)"
        )
        assert low == []
        open_everything(page)


def test_an_opened_row_takes_no_width_from_the_columns_also_when_the_window_grows(look):
    page = look("phone", "light")
    go(page, "requests")
    width = "document.querySelector('#log td.model').getBoundingClientRect().width"
    closed = page.evaluate(width)
    page.locator("#log tbody button").first.click()
    assert page.evaluate(width) == closed > 100
    look("desk", "light")
    detail = page.locator("#log .detail td")
    assert detail.bounding_box()["width"] == page.locator("#log").bounding_box()["width"]
    look("phone", "light")
    page.wait_for_function(f"{width} === {closed}")
    page.locator("#log tbody button").first.click()


def test_everything_is_reached_and_used_by_keyboard(visit, busy):
    page = visit(busy, token="")
    press = page.keyboard.press
    expect(page.get_by_label("Token", exact=True)).to_be_focused()
    page.keyboard.type(TOKEN)
    press("Enter")
    loaded(page, "overview")
    page.evaluate("document.activeElement.blur()")
    page.evaluate("getSelection().removeAllRanges()")
    page.reload()
    loaded(page, "overview")
    press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    press("Enter")
    expect(page.locator("#main")).to_be_focused()
    for _ in range(30):
        press("Tab")
        if page.evaluate("document.activeElement.name") == "spend-split":
            break
    press("ArrowRight")
    expect(page.locator("#spend-table th").first).to_have_text("Model")
    page.get_by_role("link", name="Requests").focus()
    press("Enter")
    loaded(page, "requests")
    row = page.locator("#log tbody button").first
    row.focus()
    press("Enter")
    expect(row).to_have_attribute("aria-expanded", "true")
    expect(row).to_be_focused()


def test_the_scripts_pass_the_type_checker(packages):
    command = [npm.NODE, packages / "typescript" / "bin" / "tsc", "-p", HERE / "tsconfig.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "")
