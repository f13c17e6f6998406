"""The examples for CI, run against a real server with a token: every step of the workflow, and the shell script."""

import json
import re
import subprocess
import time
from functools import partial
from pathlib import Path

import anyio
import pytest
import yaml
from tests.e2e.conftest import BIN, WAIT_S
from tests.e2e.test_http import serve as serve  # noqa: PLC0414 - a fixture
from tests.factories import request_record

from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.sqlite import Store

FOLDER = Path(__file__).parents[2] / "examples" / "ci"
WORKFLOW = yaml.safe_load((FOLDER / "github-actions.yml").read_text())
(JOB,) = WORKFLOW["jobs"].values()
STEPS = {step["name"]: step["run"] for step in JOB["steps"]}
TOKEN = "fake-token-0001"
READER = "fake-token-0002"
KEYS = """
auth:
  api_keys:
    - {token: "${OPS_TOKEN}", name: ops, role: admin}
    - {token: "${CI_TOKEN}", name: ci, role: viewer}
"""
FAILING = {"Cost of today", "Budget", "Latency of the last 24 hours"}


@pytest.fixture
def gateway(serve, config):
    """A server that asks for a token; its project ``kept`` has a budget of 5 USD."""
    config.write_text(config.read_text() + KEYS)
    return serve(OPS_TOKEN=TOKEN, CI_TOKEN=READER)


@pytest.fixture
def ci(environment, tmp_path, gateway):
    """Runs a command as a CI job does: a token of the role viewer in the environment, its working folder elsewhere."""

    def ci(*command, **variables):
        known = {"vars.VOICEGW_URL": gateway.mcp, "secrets.VOICEGW_MCP_TOKEN": READER}
        job = {
            name: re.sub(r"\$\{\{ *(.*?) *\}\}", lambda found: known[found[1]], value)
            for name, value in JOB["env"].items()
        }
        folder = tmp_path / "job"
        folder.mkdir(exist_ok=True)
        coverage = {name: value for name, value in environment.items() if name.startswith("COV")}
        path = f"{BIN}:{environment['PATH']}"
        found = subprocess.run(
            command,
            env={
                **coverage,
                "HOME": str(folder),
                "PATH": path,
                **job,
                "PROJECT": "kept",
                "PROJECTS": "default kept",
                **variables,
            },
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=WAIT_S * 2,
            text=True,
            check=False,
        )
        assert "fake-token" not in found.stdout + found.stderr
        assert "Traceback" not in found.stderr
        return found

    return ci


@pytest.fixture
def step(ci):
    """Runs one step of the workflow, in the shell that GitHub runs it in."""
    return lambda name, **variables: ci(
        "bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS[name], **variables
    )


@pytest.fixture
def script(ci):
    """Runs the shell script."""
    return partial(ci, "sh", str(FOLDER / "check-gateway.sh"))


@pytest.fixture
def spend(environment):
    """Record one slow and costly request of a moment ago."""

    def spend(usd, total_ms):
        record = request_record(
            timestamp_ms=int(time.time() * 1000) - 1000,
            project="kept",
            cost_nanousd=int(usd * 1e9),
            total_ms=total_ms,
        )

        async def work():
            store = await Store.open(Path(environment["VOICEGW_DB_PATH"]))
            try:
                await store.write(partial(insert_requests, records=[record]))
            finally:
                await store.close()

        anyio.run(work)

    return spend


def test_the_workflow_is_one_that_github_takes_and_writes_no_expression_into_a_shell():
    assert set(WORKFLOW) == {"name", True, "permissions", "jobs"}  # YAML 1.1 reads `on` as true
    assert {"schedule", "workflow_dispatch"} == set(WORKFLOW[True])
    assert all("${{" not in run for run in STEPS.values())
    assert JOB["env"]["VOICEGW_MCP_TOKEN"] == "${{ secrets.VOICEGW_MCP_TOKEN }}"
    assert set(STEPS) > FAILING


def test_every_step_passes_on_a_gateway_that_is_well(step):
    for name, text in STEPS.items():
        found = step(name)
        assert (found.returncode, found.stderr) == (0, ""), name
        if "voicegw call" in text:
            assert json.loads(found.stdout)


def test_steps_fail_on_a_gateway_that_costs_too_much_and_is_too_slow(step, spend):
    spend(12.5, 9000)
    for name in STEPS:
        found = step(name)
        assert found.returncode == (4 if name in FAILING else 0), name
        assert ("holds" in found.stderr) is (name in FAILING)
    assert "total_usd = 12.5" in step("Cost of today").stderr
    assert step("Cost of today", MAX_USD="20").returncode == 0


def test_the_health_step_fails_when_the_file_is_broken(step, script, config):
    config.write_text(config.read_text() + "projects: [\n")
    found = step("Health")
    assert found.returncode == 4
    assert 'status = "degraded"' in found.stderr
    assert script().returncode == 4


def test_the_script_passes_on_a_gateway_that_is_well(script):
    found = script()
    assert (found.returncode, found.stderr) == (0, "")
    assert len([json.loads(line) for line in found.stdout.splitlines()]) == 5


def test_the_script_makes_every_check_and_fails_when_one_did(script, spend):
    spend(12.5, 9000)
    found = script()
    assert found.returncode == 4
    assert found.stderr.count("holds") == 3
    assert len(found.stdout.splitlines()) == 5
    assert script(MAX_USD="20", MAX_P95_MS="10000", PROJECTS="default").returncode == 0


@pytest.mark.parametrize(
    ("variables", "code", "told"),
    [
        ({"VOICEGW_MCP_TOKEN": "fake-token-0003"}, 1, "another token (HTTP 401)"),
        ({"MAX_USD": "ten"}, 2, "fail_if"),
        ({"PROJECTS": "kep"}, 1, "PROJECT_NOT_FOUND"),
    ],
    ids=["wrong token", "no number", "no such project"],
)
def test_a_check_that_cannot_be_made_is_told_from_one_that_failed(script, spend, variables, code, told):
    spend(12.5, 9000)
    found = script(**variables)
    assert found.returncode == code
    assert told in found.stdout


@pytest.mark.parametrize("name", ["VOICEGW_URL", "VOICEGW_MCP_TOKEN"])
def test_the_script_does_not_start_without_address_and_token(script, name):
    found = script(**{name: ""})
    assert found.returncode not in {0, 4}
    assert name in found.stderr
