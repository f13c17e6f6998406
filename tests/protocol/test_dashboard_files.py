"""The dashboard's files as the application serves them: to everybody, with a policy, and nothing else of the disk."""

import re
from importlib.resources import files

import pytest
from tests.protocol.api_client import Site

from voicegw_mcp.web.pages import FILES, PATHS

TOKEN = "fake-token-0001"
FOLDER = files("voicegw_mcp.web") / "dashboard"
SCRIPTS = [name for name in FILES if name.endswith(".js") and "/" not in name]


def sources():
    return {
        name: (FOLDER / name).read_text("utf-8")
        for name in (*SCRIPTS, "index.html", "style.css", "theme.css")
    }


@pytest.fixture
async def closed(house):
    """The application when it asks for a token."""
    house.environment["VOICEGW_MCP_TOKEN"] = TOKEN
    gateway = house.gateway("http")
    yield Site(gateway, open_without_token=False)
    await gateway.close()


@pytest.mark.parametrize("path", PATHS)
async def test_every_file_is_served_without_a_token_with_a_strict_policy(closed, path):
    answer = await closed.get(path)
    assert (answer.status, answer.body) == (200, (FOLDER / PATHS[path]).read_bytes())
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_a_browser_that_has_a_file_gets_it_once(closed):
    first = await closed.get("/dashboard/app.js")
    again = await closed.get("/dashboard/app.js", if_none_match=f'"other", W/{first.headers["etag"]}')
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
    head = await closed.get("/", method="HEAD")
    assert (head.status, head.headers["content-type"]) == (200, "text/html; charset=utf-8")


async def test_only_reading_is_answered(closed):
    answer = await closed.get("/", method="POST")
    assert (answer.status, answer.headers["allow"], answer.error["code"]) == (
        405,
        "GET, HEAD",
        "VALIDATION_ERROR",
    )


@pytest.mark.parametrize(
    "path",
    [
        "/dashboard/../pages.py",
        "/dashboard//etc/passwd",
        "/dashboard/%2e%2e/pages.py",
        "/dashboard/",
        "/index.html",
    ],
)
async def test_no_other_path_leads_to_a_file(closed, path):
    assert (await closed.get(path)).status == 401
    assert (await closed.get(path, token=TOKEN)).status == 404


async def test_names_of_others_and_foreign_pages_are_refused_as_everywhere(closed):
    assert (await closed.get("/", host="evil.example")).status == 421
    assert (await closed.get("/", origin="https://evil.example")).status == 403


def test_every_file_of_the_folder_is_served_but_licences():
    found = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    assert found - {"vendor/uplot-LICENSE"} == set(PATHS.values())


def test_the_page_and_its_scripts_name_only_files_that_there_are():
    for name, text in sources().items():
        named = re.findall(r'(?:src|href)="(?!#)([^"]+)"|from "\./([^"]+)"', text)
        assert {link.removeprefix("dashboard/") or script for link, script in named} <= set(FILES), name


def test_nothing_becomes_markup_and_nothing_comes_from_elsewhere():
    for name, text in sources().items():
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text
        ), name
        assert not re.search(r"https?://", text), name
        assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", text), name


def test_each_script_says_its_purpose_and_stays_short():
    for name, text in sources().items():
        assert len(text.splitlines()) <= 400, name
        assert name == "index.html" or re.match(r"// |/\* |\*", text), name
