"""The dashboard in Debian's Chromium, headless, driven by Playwright."""

from types import SimpleNamespace

import pytest
from playwright.sync_api import expect, sync_playwright
from tests.e2e.dashboard.site import TOKEN, WAIT_S, busy_site
from tests.programs import program_of

OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
VIEWS = ("overview", "requests", "providers", "changes")
SIZES = {"desk": (1280, 900), "phone": (360, 740)}


@pytest.fixture(scope="package")
def browser():
    """One browser with a profile of its own for all tests of the package."""
    program = program_of("chromium", "chromium")
    expect.set_options(timeout=WAIT_S * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def busy(tmp_path_factory):
    """The gateway that most tests look at."""
    with busy_site(tmp_path_factory.mktemp("busy") / "gateway") as site:
        yield site


class Visits:
    """Opens pages of sites, and looks at everything they asked for and complained of when they are closed."""

    def __init__(self, browser):
        self._browser = browser
        self._opened = []

    def __call__(self, site, view="overview", *, token=TOKEN, size="desk", scheme="light", base=None):
        """Return a page of a site that shows a view; with token "" one that asks for it, or needs none."""
        width, height = SIZES[size]
        context = self._browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
        context.set_default_timeout(WAIT_S * 1000)
        page = context.new_page()
        seen = SimpleNamespace(context=context, base=base or site.base, urls=[], complaints=[])
        self._opened.append(seen)
        page.on("request", lambda request: seen.urls.append(request.url))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.on("console", lambda message: seen.complaints.append(message.text))
        page.goto(f"{seen.base}/#{view}")
        if token:
            page.get_by_label("Token", exact=True).fill(token)
            page.get_by_role("button", name="Open").click()
            loaded(page, view)
        return page

    def close(self):
        """Close all pages: none left the site, put the token into an address, or broke its policy."""
        for seen in self._opened:
            seen.context.close()
        for seen in self._opened:
            assert [url for url in seen.urls if not url.startswith(f"{seen.base}/")] == []
            assert [url for url in seen.urls if "token" in url] == []
            # What the browser says of an answer with an error status, or of a server that is gone, is no complaint of the page's.
            assert [text for text in seen.complaints if not text.startswith("Failed to load resource")] == []


@pytest.fixture
def visit(browser):
    """Open pages, each with storage of its own."""
    visits = Visits(browser)
    yield visits
    visits.close()


@pytest.fixture(scope="module")
def page(browser, busy):
    """One page of the busy gateway, for the tests of a file that leave it usable for each other."""
    visits = Visits(browser)
    yield visits(busy)
    visits.close()


def loaded(page, view):
    """Wait until a view shows what the server answered."""
    expect(page.locator(f"#{view}")).to_be_visible()
    expect(page.locator(f"#{view}")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("#connection")).to_have_text("Live")
    if view == "requests":
        expect(page.locator("#log-state")).to_have_text("Live")


def go(page, view):
    """Choose a view and wait until it is loaded."""
    page.get_by_role("link", name=view.capitalize(), exact=True).click()
    loaded(page, view)
