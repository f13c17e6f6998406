"""The official clients against ``voicegw serve`` with a token, over Streamable HTTP and HTTP+SSE, and over stdio."""

import sys
from pathlib import Path

import pytest
from tests import npm
from tests.conformance import clients, suite
from tests.conformance.scene import Scene

from voicegw_mcp import __version__
from voicegw_mcp.tools import TOOLS

TOKEN = "fake-token-0001"
NAMES = [tool.name for tool in TOOLS]
LIBRARIES = [("sdk", "legacy"), ("client", "legacy"), ("client", "auto")]
NEWEST = "2026-07-28"


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path, TOKEN)


@pytest.mark.parametrize("transport", clients.TRANSPORTS)
@pytest.mark.parametrize(("library", "era"), LIBRARIES)
def test_the_typescript_clients_hold_the_eleven_step_conversation(scene, library, era, transport):
    with scene.served() as server:
        told = clients.typescript(scene, server, transport, library, era)
    assert (told["server"]["version"], told["tools"]) == (__version__, NAMES)
    if library == "client" and transport != "sse":
        assert (told["protocol"] == NEWEST) == (era == "auto")


@pytest.mark.parametrize("transport", clients.TRANSPORTS)
@pytest.mark.parametrize("era", ["legacy", "auto"])
def test_the_python_client_holds_the_eleven_step_conversation(scene, era, transport):
    with scene.served() as server:
        told = clients.python(scene, server, transport, Path(sys.executable), era)
    assert (told["server"]["version"], told["tools"]) == (__version__, NAMES)
    if transport != "sse":
        assert (told["protocol"] == NEWEST) == (era == "auto")


@pytest.mark.parametrize("transport", clients.TRANSPORTS)
def test_the_inspector_finds_no_fault_in_the_list_of_tools(scene, transport):
    with scene.served() as server:
        assert clients.inspect(scene, server, transport) == NAMES


def test_claude_code_connects_by_the_line_that_serve_prints_and_over_every_transport(scene):
    claude = clients.installed_claude()
    if claude is None:
        pytest.skip("claude is neither on PATH nor in VOICEGW_CLIENTS_DIR")
    with scene.served() as server:
        found = clients.add_and_list(claude, scene, server)
        assert TOKEN not in server.added
    assert found == dict.fromkeys(clients.TRANSPORTS, "✔ Connected")
    assert TOKEN not in (scene.folder / ".claude.json").read_text()


@pytest.mark.parametrize("source", [clients.TYPESCRIPT, clients.CLAUDE, suite.SOURCE])
def test_lock_files_pin_every_package_and_name_no_registry(source):
    assert all(version[0].isdigit() for version in npm.versions(source).values())
    packages = npm.locked(source)
    assert all("integrity" in package for name, package in packages.items() if name)
    assert "resolved" not in (source / "package-lock.json").read_text()
