"""What ``voicegw serve`` and ``make run`` tell of who may enter, in each configuration: true, and enough to connect."""

import shlex
import sys
from pathlib import Path

import pytest
from tests.e2e.test_http import ACCEPT, INITIALIZE, OTHER, TOKEN, http, serve as serve, stop as stop  # noqa: PLC0414 - fixtures

ROOT = Path(__file__).parents[2]
KEYS = """
auth:
  api_keys:
    - {token: "${NOT_SET}", name: gone, role: viewer}
    - {token: "${OPS_TOKEN}", name: ops-desk, role: operator}
"""
LITERAL = f"\nauth: {{api_keys: [{{token: {OTHER}, name: ops-desk, role: viewer}}]}}\n"
OAUTH = "oauth: {issuer: 'https://id.example.com', resource: 'https://gateway.example.com'}"
SHORT = "\nauth: {api_keys: [{token: '${OPS_TOKEN}', role: viewer}]}\n"
HEADER = "Authorization: Bearer "
CASES = {
    "no token": ("", {}, "No token is asked for: every program on this machine may call.", None),
    "the variable": (
        "",
        {"VOICEGW_MCP_TOKEN": TOKEN},
        "Who sends VOICEGW_MCP_TOKEN may call.",
        "${VOICEGW_MCP_TOKEN}",
    ),
    "the file": (
        KEYS,
        {"OPS_TOKEN": OTHER},
        "Who sends a token of auth.api_keys may call.",
        "${OPS_TOKEN}",
    ),
    "a token in the file itself": (LITERAL, {}, "Who sends a token of auth.api_keys may call.", "TOKEN"),
    "both": (
        KEYS,
        {"OPS_TOKEN": OTHER, "VOICEGW_MCP_TOKEN": TOKEN},
        "Who sends VOICEGW_MCP_TOKEN or a token of auth.api_keys may call.",
        "${VOICEGW_MCP_TOKEN}",
    ),
    "oauth": (
        f"\nauth: {{{OAUTH}}}\n",
        {},
        "Who sends an access token of https://id.example.com may call.",
        None,
    ),
    "all three": (
        f"{KEYS}  {OAUTH}\n",
        {"OPS_TOKEN": OTHER, "VOICEGW_MCP_TOKEN": TOKEN},
        "Who sends VOICEGW_MCP_TOKEN, a token of auth.api_keys or an access token of https://id.example.com may call.",
        "${VOICEGW_MCP_TOKEN}",
    ),
    "a token that is not set": (
        KEYS,
        {},
        "Nobody may call: there is no token of 8 characters or more.",
        "TOKEN",
    ),
    "short tokens": (
        SHORT,
        {"OPS_TOKEN": "short", "VOICEGW_MCP_TOKEN": "short"},
        "Nobody may call: there is no token of 8 characters or more.",
        "TOKEN",
    ),
}


def told(server):
    return server.seen.decode().splitlines()


@pytest.mark.cover_processes
@pytest.mark.parametrize(("text", "variables", "sentence", "token"), CASES.values(), ids=CASES)
def test_it_tells_who_may_call_and_what_a_client_is_to_send(
    serve, stop, config, text, variables, sentence, token
):
    config.write_text(config.read_text() + text)
    server = serve(**variables)
    lines = told(server)
    assert lines[4] == f"  {sentence}"
    line = shlex.split(lines[-1])
    assert line[:7] == ["claude", "mcp", "add", "--transport", "http", "voicegateway", server.mcp]
    assert line[7:] == ([] if token is None else ["--header", f"{HEADER}{token}"])
    assert OTHER not in "".join(lines)
    with http() as client:
        refused = client.post(server.mcp, json=INITIALIZE, headers=ACCEPT).status_code == 401
    assert refused is (text != "" or variables != {})
    assert stop(server) == 0


def test_a_file_that_is_broken_at_the_start_lets_only_the_variable_in(serve, stop, config):
    config.write_text("auth: [\n")
    server = serve(VOICEGW_MCP_TOKEN=TOKEN)
    assert told(server)[4] == "  Who sends VOICEGW_MCP_TOKEN may call."
    assert stop(server) == 0


def test_make_run_tells_the_same_of_its_scratch_gateway(spawn, stop, tmp_path):
    examples = tmp_path / "checkout" / "examples"
    examples.mkdir(parents=True)
    script = examples / "scratch_server.py"
    script.write_bytes((ROOT / "examples" / "scratch_server.py").read_bytes())
    for variables, sentence in (
        ({}, CASES["no token"][2]),
        ({"VOICEGW_MCP_TOKEN": TOKEN}, CASES["the variable"][2]),
    ):
        server = spawn(script, command=(sys.executable,), **variables)
        lines = [server.line().decode().rstrip("\n")]
        while lines[-1] and "claude mcp add" not in lines[-1]:
            lines.append(server.line().decode().rstrip("\n"))
        assert f"  {sentence}" in lines, server.errors.read_text()
        assert stop(server) == 0
