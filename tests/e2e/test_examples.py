"""What the top-level files tell a reader to run is run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import anyio
from mcp import Client, StdioServerParameters

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


def test_the_demonstration_of_make_run_ends_well_and_shows_calls_diff_and_costs(tmp_path):
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


def test_the_benchmark_of_changes_runs_and_gives_figures(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "run.py", "--only", "changes", "--rounds", "3", "--json"],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pairs = next(
        item for item in json.loads(done.stdout)["figures"] if item["name"].startswith("register_model")
    )
    assert pairs["median"] > 0
