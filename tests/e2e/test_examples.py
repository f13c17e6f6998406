"""What the top-level files tell a reader to run is run."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from mcp import Client, StdioServerParameters
from tests.e2e.conftest import WAIT_S, LineServer

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


async def test_the_command_of_the_desktop_example_starts_the_server(tmp_path):
    example = json.loads((ROOT / "claude_desktop_config.example.json").read_text(encoding="utf-8"))
    (server,) = example["mcpServers"].values()
    config = tmp_path / "voicegw.yaml"
    config.write_text("projects: {a: {name: A}}\n")
    assert list(server["env"]) == ["VOICEGW_CONFIG"]
    environment = {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "VOICEGW_CONFIG": str(config),
        "VOICEGW_DB_PATH": str(tmp_path / "voicegw.db"),
    }
    parameters = StdioServerParameters(command=server["command"], args=server["args"], env=environment)
    with anyio.fail_after(60):
        async with Client(parameters) as client:
            assert len((await client.list_tools()).tools) == 17
            health = await client.call_tool("get_health", {})
    assert health.structured_content["config"]["path"] == str(config)
    assert health.structured_content["status"] == "ok"


def test_the_demonstration_of_make_demo_ends_well_and_shows_calls_diff_and_costs(tmp_path):
    environment = {**os.environ, "HOME": str(tmp_path), "TERM": "dumb", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "agent_conversation.py"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = done.stdout
    for expected in (
        "17 tools",
        "add_provider",
        "+  deepgram-eu:",
        "CONFIRMATION_REQUIRED",
        "openai/whisper-1",
        "-  clinic:",
    ):
        assert expected in shown
    assert list(tmp_path.iterdir()) == []


async def health_of(url):
    with anyio.fail_after(WAIT_S):
        async with Client(url) as client:
            return (await client.call_tool("get_health", {})).structured_content


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_make_run_serves_a_scratch_gateway_in_the_checkout_until_a_signal_comes(tmp_path, number):
    home, checkout = tmp_path / "home", tmp_path / "checkout"
    home.mkdir()
    shutil.copytree(ROOT / "examples", checkout / "examples")
    kept = {name: value for name, value in os.environ.items() if name.startswith("COV") or name == "PATH"}
    with (tmp_path / "stderr.txt").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, checkout / "examples" / "scratch_server.py"],
            env={**kept, "HOME": str(home)},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            server = LineServer(process)
            told = [server.line().decode() for _ in range(7)]
            assert "claude mcp add --transport http voicegateway http://127.0.0.1:" in told[-1]
            health = anyio.run(health_of, told[-1].split()[-1])
            assert health["config"]["path"] == str(checkout / ".run" / "voicegw.yaml")
            process.send_signal(number)
            assert process.wait(WAIT_S) == 0
        finally:
            process.kill()
            process.wait(WAIT_S)
            process.stdout.close()
    assert (checkout / ".run" / "voicegw.db").exists()
    assert list(home.iterdir()) == []
    assert (tmp_path / "stderr.txt").read_text() == ""


def test_make_run_takes_the_next_port_when_one_is_in_use():
    program = "import runpy, sys; print(runpy.run_path(sys.argv[1])['free_port']())"
    command = [sys.executable, "-c", program, ROOT / "examples" / "scratch_server.py"]

    def free_port():
        return int(subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=True).stdout)

    first = free_port()
    with closing(socket.create_server(("127.0.0.1", first))):
        assert free_port() > first
