"""What ``voicegw install`` writes against what the clients write and read.

Always: the files that the clients' own commands wrote once (tests/golden/clients). With the clients' command lines on PATH
or in the folder VOICEGW_CLIENTS_DIR (``npm install --prefix DIR @anthropic-ai/claude-code @openai/codex @google/gemini-cli
opencode-ai cline``): they read the file, and all but Codex and Cline, which do so only in a conversation, connect.
"""

import http.server
import json
import os
import re
import shutil
import subprocess
import threading
import tomllib
from pathlib import Path

import pytest
from tests.e2e.conftest import BIN, COMMAND

GOLDEN = Path(__file__).parents[1] / "golden" / "clients"
RUN_S = 180
HTTP, SSE = "http://127.0.0.1:8090/mcp", "http://127.0.0.1:8090/sse"
TOKEN = "fake-token-0001"
CASES = [
    ("claude-code", "claude-code.user.json", "mcpServers", ["stdio", "http", "sse"]),
    ("claude-code", "claude-code.project.json", "mcpServers", ["stdio", "http", "sse"]),
    ("codex", "codex.toml", "mcp_servers", ["stdio", "http"]),
    ("gemini", "gemini.json", "mcpServers", ["stdio", "http", "sse"]),
    ("opencode", "opencode.jsonc", "mcp", ["stdio", "http"]),
    ("cline", "cline.json", "mcpServers", ["stdio", "http", "sse"]),
]


def run(command, environment, folder):
    done = subprocess.run(
        [*map(str, command)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert TOKEN not in done.stdout + done.stderr
    return done


@pytest.fixture
def install(tmp_path, home):
    """Run ``voicegw install`` in a home of its own and return its answer."""

    def install(*arguments):
        done = run([BIN / "voicegw", "install", *arguments, "--json"], home, tmp_path)
        assert done.returncode == 0, done.stdout
        return json.loads(done.stdout)

    return install


@pytest.fixture
def home(tmp_path, environment):
    """The environment of a user who has nothing configured but the token and what clients need to run unattended."""
    del environment["VOICEGW_CONFIG"]  # the entry has to bring it
    path = os.pathsep.join([str(tmp_path / "bin"), str(BIN), environment["PATH"]])
    quiet = {"DISABLE_AUTOUPDATER": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1", "NO_COLOR": "1", "TERM": "dumb"}
    return {
        **environment,
        **quiet,
        "PATH": path,
        "VOICEGW_MCP_TOKEN": TOKEN,
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
    }


@pytest.fixture
def client(tmp_path, home):
    """Run a client's command line; the test is skipped without it."""
    given = os.environ.get("VOICEGW_CLIENTS_DIR")
    places = [given, str(Path(given) / "node_modules" / ".bin")] if given else []

    def client(name, *arguments):
        found = shutil.which(name, path=os.pathsep.join([*places, os.environ["PATH"]]))
        if found is None:
            pytest.skip(f"{name} is neither on PATH nor in VOICEGW_CLIENTS_DIR")
        return run([found, *arguments], home, tmp_path)

    return client


@pytest.mark.parametrize(("name", "file", "key", "forms"), CASES, ids=[case[1] for case in CASES])
def test_entries_are_those_the_client_s_own_command_writes(install, tmp_path, config, name, file, key, forms):
    text = (GOLDEN / file).read_text(encoding="utf-8")
    load = tomllib.loads if file.endswith(".toml") else json.loads
    golden = load(
        text.replace("/opt/voicegw/bin/voicegw-mcp", str(COMMAND)).replace(
            "/srv/voice/voicegw.yaml", str(config)
        )
    )[key]
    more = ["--project", tmp_path] if ".project." in file else []
    asked = {
        "voicegateway": [] if name == "cline" else ["-c", config],
        "vg-http": ["--url", HTTP],
        "vg-sse": ["--url", SSE],
    }
    for server in list(asked)[: len(forms)]:
        done = install(name, "--name", server, *asked[server], *more, "--write")
    written = load(Path(done["file"]).read_text(encoding="utf-8"))[key]
    for server, entry in golden.items():
        if name == "codex":
            entry["required"] = True  # so that it waits for the server
        if name == "cline":
            entry["transport"].pop("headers", None)  # it expands no variables
        assert written[server] == entry
    assert list(written) == list(golden)


def test_the_command_that_is_shown_for_claude_code_writes_the_same_entries(client, install, tmp_path, config):
    client("claude", "--version")
    ours = tmp_path / ".claude.json"
    for number, arguments in enumerate((["-c", config], ["--url", HTTP], ["--url", SSE])):
        wanted = install("claude-code", *arguments, "--name", f"n{number}")
        line = wanted["command"].removeprefix("claude ")
        words = subprocess.run(
            ["sh", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True
        )
        assert client("claude", *words.stdout.split("\0")[:-1]).returncode == 0
        name = f"n{number}"
        snippet = json.loads(wanted["snippet"])["mcpServers"]
        assert json.loads(ours.read_text())["mcpServers"][name] == snippet[name]


def test_claude_code_connects_by_its_user_s_file(client, install, config, tmp_path):
    client("claude", "--version")
    file = tmp_path / ".claude.json"
    before = file.read_text() if file.exists() else "{}"
    install("claude-code", "-c", config, "--write")
    if file.exists():
        assert json.loads(before).items() <= json.loads(file.read_text()).items()
    listed = client("claude", "mcp", "list").stdout
    assert re.search(r"^voicegateway: .*voicegw-mcp stdio - ✔ Connected$", listed, re.MULTILINE), listed
    told = client("claude", "mcp", "get", "voicegateway").stdout
    assert "Scope: User config" in told
    assert str(config) in told


def test_codex_lists_the_server_from_its_file(client, install, config, tmp_path):
    folder = tmp_path / ".codex"
    folder.mkdir()
    (folder / "config.toml").write_text('# mine\nmodel = "x"\n\n[mcp_servers.other]\ncommand = "true"\n')
    install("codex", "-c", config, "--write")
    install("codex", "--url", HTTP, "--name", "remote", "--write")
    install("codex", "--name", "without", "--write")
    found = {server["name"]: server for server in json.loads(client("codex", "mcp", "list", "--json").stdout)}
    launch = found["voicegateway"]["transport"]
    assert (launch["command"], launch["args"]) == (str(COMMAND), ["stdio"])
    assert launch["env"] == {"VOICEGW_CONFIG": str(config)}
    assert found["remote"]["transport"]["bearer_token_env_var"] == "VOICEGW_MCP_TOKEN"
    assert found["without"]["transport"]["env_vars"] == ["VOICEGW_CONFIG"]
    assert all(server["enabled"] for server in found.values())
    assert "other" in found


def test_gemini_connects_by_its_user_s_and_a_project_s_file(client, install, config, tmp_path):
    install("gemini", "-c", config, "--write")
    install("gemini", "-c", config, "--project", tmp_path, "--name", "here", "--write")
    done = client("gemini", "mcp", "list")
    for name in ("voicegateway", "here"):
        assert re.search(rf"{name}: .*voicegw-mcp stdio \(stdio\) - Connected", done.stdout + done.stderr)


def test_opencode_connects_by_its_user_s_and_a_project_s_file(client, install, config, tmp_path):
    (tmp_path / "opencode.json").write_text("{\n  // mine\n}\n")
    install("opencode", "-c", config, "--write")
    install("opencode", "-c", config, "--project", tmp_path, "--name", "here", "--write")
    listed = client("opencode", "mcp", "list")
    for name in ("voicegateway", "here"):
        assert re.search(rf"✓ {name} .*connected", listed.stdout + listed.stderr), (
            listed.stdout + listed.stderr
        )


def test_cline_reads_its_file_and_keeps_the_entry_when_it_writes(client, install, config):
    done = install("cline", "-c", config, "--write")
    install("cline", "--url", SSE, "--name", "remote", "--write")
    file = Path(done["file"])
    before = json.loads(file.read_text())["mcpServers"]
    assert client("cline", "mcp", "uninstall", "remote").returncode == 0
    assert json.loads(file.read_text())["mcpServers"] == {"voicegateway": before["voicegateway"]}


@pytest.mark.parametrize(
    ("name", "command"), [("claude-code", "claude"), ("gemini", "gemini"), ("opencode", "opencode")]
)
def test_the_client_puts_the_token_of_the_variable_into_the_header(client, install, name, command):
    client(command, "--version")
    seen = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            seen.append((self.path, self.headers.get("Authorization")))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_error(404)

        do_GET = do_DELETE = do_POST  # noqa: N815 - the names the base class asks for

        def log_message(self, *_):
            """Keep quiet: nothing of ours."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            done = install(name, "--url", f"http://127.0.0.1:{server.server_address[1]}/mcp", "--write")
            client(command, "mcp", "list")
        finally:
            server.shutdown()
            thread.join()
    assert ("/mcp", f"Bearer {TOKEN}") in seen
    assert TOKEN not in Path(done["file"]).read_text()
