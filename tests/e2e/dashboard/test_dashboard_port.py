"""Where the dashboard listens: ``--dashboard-port`` and the section ``dashboard`` of the file, with real processes."""

import socket
from contextlib import closing
from types import SimpleNamespace

import pytest
from tests.e2e.test_http import OTHER, TOKEN, http, run, serve, stop  # noqa: F401 - two are fixtures

from voicegw_mcp.cli.dashboard import choose_place, listen_second
from voicegw_mcp.config.schema import Dashboard
from voicegw_mcp.errors import StoreUnavailable

LOCAL = SimpleNamespace(host="127.0.0.1", port=8080)


@pytest.fixture
def taken():
    """A port on which somebody listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as holder:
        yield holder.getsockname()[1]


@pytest.fixture
def free():
    """A port on which nobody listened a moment ago."""
    with closing(socket.create_server(("127.0.0.1", 0))) as holder:
        return holder.getsockname()[1]


def place(asked=None, **section):
    return choose_place(Dashboard(**section), LOCAL, asked)


def test_without_anything_said_it_is_on_9090_of_the_server_s_own_host():
    assert place() == ("127.0.0.1", 9090, False)


def test_the_file_names_host_and_port_and_the_command_line_counts_more():
    assert place(host="127.0.0.2", port=9191) == ("127.0.0.2", 9191, True)
    assert place(9292, host="127.0.0.2", port=9191) == ("127.0.0.2", 9292, True)


def test_the_server_s_own_port_needs_no_second_one():
    assert place(8080) is place(enabled=False) is None
    assert place(8080, host="127.0.0.2") == ("127.0.0.2", 8080, True)


def test_the_usual_port_that_is_taken_stops_nothing_and_one_that_was_asked_for_does(taken):
    assert listen_second(place()._replace(port=taken)) is None
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{taken} cannot be listened on for the dashboard"):
        listen_second(place(taken))


@pytest.mark.cover_processes
def test_the_page_and_the_api_are_on_both_ports(serve, stop, free):  # noqa: F811 - a fixture
    server = serve("serve", "--dashboard-port", str(free), VOICEGW_MCP_TOKEN=TOKEN)
    with http(TOKEN) as client:
        for base in (server.base, f"http://127.0.0.1:{free}"):
            assert "text/html" in client.get(f"{base}/").headers["content-type"]
            assert client.get(f"{base}/v1/status").status_code == 200
            assert client.get(f"{base}/", headers={"host": "evil.example"}).status_code == 421
    assert stop(server) == 0


def test_a_dashboard_that_is_switched_off_is_on_no_port(serve, stop, config, environment, tmp_path):  # noqa: F811 - as above
    with config.open("a") as file:
        file.write("dashboard: {enabled: false}\n")
    server = serve("serve", VOICEGW_MCP_TOKEN=TOKEN)
    with http(TOKEN) as client:
        assert client.get(f"{server.base}/").status_code == 404
    assert stop(server) == 0
    refused = run(environment, tmp_path, "serve", "-p", "0", "--dashboard-port", "0")
    assert refused.returncode == 2
    assert "dashboard.enabled is false" in refused.stderr


@pytest.mark.cover_processes
def test_ports_that_cannot_be_had_stop_the_start_with_a_sentence(environment, config, tmp_path, taken):
    refused = run(environment, tmp_path, "serve", "-p", "0", "--dashboard-port", str(taken))
    assert (refused.returncode, refused.stdout) == (3, "")
    assert f"127.0.0.1:{taken} cannot be listened on for the dashboard" in refused.stderr
    assert "--dashboard-port" in refused.stderr
    with config.open("a") as file:
        file.write("dashboard: {host: 0.0.0.0, port: 0}\n")
    open_to_all = run(environment, tmp_path, "serve", "-p", "0")
    assert open_to_all.returncode == 2
    assert "0.0.0.0 is not a loopback address" in open_to_all.stderr
    assert "leave dashboard.host out" in open_to_all.stderr


@pytest.mark.cover_processes
def test_a_file_that_is_broken_keeps_no_dashboard_from_starting(serve, stop, config):  # noqa: F811 - as above
    config.write_text("projects: [\n")
    server = serve("serve", "--dashboard-port", "0", VOICEGW_MCP_TOKEN=TOKEN)
    with http() as client:
        assert client.get(f"{server.base}/").status_code == 200
    assert stop(server) == 0
