"""The commands as real processes in an empty home: streams, terminals, signals, locales, and who
imports what."""

import contextlib
import json
import os
import pty
import select
import signal
import sqlite3
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import anyio
import pytest

from voicegw_mcp.domain import Modality, RequestRecord
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.sqlite import Store

BIN = Path(sys.executable).parent
SAMPLE = Path(__file__).parents[1] / "data" / "voicegateway-0.4.0.db"
KEY = "fake-key-0001"
WAIT_S = 60


@pytest.fixture
def environment(tmp_path):
    """An empty home; of ours only what coverage measures subprocesses by."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("COV")}
    return {
        **kept,
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TERM": "dumb",
        "NO_COLOR": "1",
        "COLUMNS": "100",
        "LANG": "C.UTF-8",
    }


@pytest.fixture
def run(tmp_path, environment):
    """Run a command line to its end, in the home."""

    def run(*arguments, stdin="", **variables):
        done = subprocess.run(
            [BIN / "voicegw", *map(str, arguments)],
            input=stdin.encode(),
            capture_output=True,
            timeout=WAIT_S,
            check=False,
            cwd=tmp_path,
            env={**environment, **variables},
        )
        assert b"Traceback" not in done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def log(tmp_path):
    """Fills the default store with requests."""

    def fill(count, **fields):
        now = int(time.time() * 1000)
        values = {
            "project": "default",
            "modality": Modality.TTS,
            "provider": "openai",
            "model_id": "openai/tts-1",
        }
        records = [
            RequestRecord(
                id=f"r{n}", timestamp_ms=now - 1000 - n, cost_nanousd=1_000_000, **{**values, **fields}
            )
            for n in range(count)
        ]

        async def work():
            store = await Store.open(tmp_path / ".config" / "voicegateway" / "voicegw.db")
            try:
                await store.write(partial(insert_requests, records=records))
            finally:
                await store.close()

        anyio.run(work)

    return fill


class Terminal:
    """A command on a pseudo-terminal of its own."""

    def __init__(self, arguments, cwd, environment):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [BIN / "voicegw", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)
        self.text = ""

    def wait_for(self, words):
        """Read until the words were shown."""
        deadline = time.monotonic() + WAIT_S
        while words not in self.text:
            assert self._read(deadline), f"never shown: {words!r} in {self.text!r}"

    def type(self, text):
        os.write(self.master, text.encode())

    def interrupt(self):
        """Press Ctrl-C until it ends: Python notices one that falls between question and read only at the next."""
        for _ in range(5):
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(2)
                break
        return self.end()

    def end(self):
        """Read the rest; return the exit code."""
        deadline = time.monotonic() + WAIT_S
        while self._read(deadline):
            pass
        os.close(self.master)
        return self.process.wait(WAIT_S)

    def _read(self, deadline):
        ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"silent after {self.text!r}"
        try:
            part = os.read(self.master, 65536)
        except OSError:  # Linux answers EIO when the other side is closed
            return False
        self.text += part.decode("utf-8", "replace")
        return bool(part)


@pytest.mark.cover_processes
def test_init_check_status_costs_logs_and_projects_work_in_an_empty_home(run, log):
    assert run("init").returncode == 0
    log(3)
    for command in (
        ["check"],
        ["status"],
        ["costs"],
        ["logs"],
        ["projects"],
        ["projects", "default"],
        ["secrets", "list"],
    ):
        done = run(*command)
        assert (done.returncode, done.stderr) == (0, b""), command
        assert done.stdout
        document = json.loads(run(*command, "--json").stdout)
        assert isinstance(document, dict)


def test_init_is_never_repeated_over_a_file(run, tmp_path):
    run("init")
    before = (tmp_path / "voicegw.yaml").read_bytes()
    done = run("init", "--full")
    assert done.returncode == 1
    assert (tmp_path / "voicegw.yaml").read_bytes() == before


def test_call_spawns_a_server_and_prints_its_answer_alone(run, tmp_path):
    run("init")
    (tmp_path / "json.py").write_text(
        "raise SystemExit('a file in the current folder took the place of a module')"
    )
    done = run("call", "add_provider", "provider_id=openai", "provider_type=openai")
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["api_key_masked"] == "${OPENAI_API_KEY}"
    assert "openai" in (tmp_path / "voicegw.yaml").read_text()
    refused = run("call", "add_provider", "provider_id=o2", "provider_type=openai", f"api_key={KEY}")
    assert refused.returncode == 2
    assert KEY.encode() not in refused.stdout + refused.stderr
    assert KEY not in (tmp_path / "voicegw.yaml").read_text()


@pytest.mark.cover_processes
def test_call_passes_the_named_file_and_the_environment_on(run, tmp_path):
    run("init", "other.yaml")
    store = tmp_path / "other.db"
    done = run("call", "get_health", "-c", "other.yaml", VOICEGW_DB_PATH=str(store))
    answer = json.loads(done.stdout)
    assert answer["config"]["path"] == str(tmp_path / "other.yaml")
    assert answer["store"]["path"] == str(store)
    broken = tmp_path / "broken.yaml"
    broken.write_text("providers: [\n")
    done = run("call", "list_providers", "-c", broken)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "CONFIG_INVALID"


@pytest.mark.cover_processes
def test_call_on_a_locked_store_ends_with_3(run, tmp_path, log):
    run("init")
    log(1)
    connection = sqlite3.connect(tmp_path / ".config" / "voicegateway" / "voicegw.db", isolation_level=None)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        done = run("call", "get_costs")
    finally:
        connection.close()
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["code"] == "STORE_UNAVAILABLE"


@pytest.mark.cover_processes
def test_call_on_a_terminal_is_indented(tmp_path, environment):
    terminal = Terminal(["call", "list_providers"], tmp_path, environment)
    assert terminal.end() == 0
    assert '\r\n  "count": 0,' in terminal.text


def test_mcp_serves_stdio_with_nothing_but_protocol_on_standard_output(run, tmp_path):
    run("init")
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    done = run("mcp", "-t", "stdio", "-c", tmp_path / "voicegw.yaml", stdin=json.dumps(hello) + "\n")
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["result"]["serverInfo"]["name"] == "voicegw-mcp"


@pytest.mark.cover_processes
def test_python_m_is_the_stdio_server(tmp_path, environment):
    done = subprocess.run(
        [sys.executable, "-m", "voicegw_mcp", "--version"],
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env=environment,
        timeout=WAIT_S,
    )
    assert done.stdout.strip()


@pytest.mark.cover_processes
def test_a_reader_that_goes_away_is_no_error(tmp_path, environment, log):
    log(1000, error_message="e" * 150)
    with subprocess.Popen(
        [BIN / "voicegw", "logs", "--limit", "1000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=environment,
    ) as process:
        assert b"Time" in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(WAIT_S) == 1


@pytest.mark.cover_processes
@pytest.mark.parametrize(
    "arguments", [["logs", "--json"], ["--help"], ["costs", "--nope", "--json"], ["projects"]]
)
def test_a_reader_that_never_was_is_no_error(tmp_path, environment, arguments):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [BIN / "voicegw", *arguments],
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=environment,
        timeout=WAIT_S,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_text_that_the_locale_lacks_is_escaped(run, tmp_path, log):
    (tmp_path / "voicegw.yaml").write_text("projects:\n  p: {name: Zürich ☎}\n", encoding="utf-8")
    log(1, session_id="Zürich ☎")
    ascii_only = {"PYTHONIOENCODING": "ascii", "LANG": "C"}
    done = run("projects", **ascii_only)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Z\\xfcrich \\u260e" in done.stdout
    names = {
        project["name"] for project in json.loads(run("projects", "--json", **ascii_only).stdout)["projects"]
    }
    assert "Zürich ☎" in names
    assert "Zürich ☎".encode() in run("projects").stdout
    assert run("projects", "☎", **ascii_only).returncode == 1
    for command in (["logs"], ["costs"], ["status"], ["check"], ["--help"]):
        assert run(*command, **ascii_only).returncode == 0


@pytest.mark.cover_processes
def test_a_terminal_with_colours_gets_them_and_no_other_does(tmp_path, environment, run, log):
    log(1)
    coloured = {name: value for name, value in environment.items() if name != "NO_COLOR"} | {
        "TERM": "xterm-256color"
    }
    terminal = Terminal(["costs"], tmp_path, coloured)
    assert terminal.end() == 0
    assert "\x1b[1m" in terminal.text
    terminal = Terminal(["costs"], tmp_path, environment)
    assert terminal.end() == 0
    assert "\x1b[" not in terminal.text
    assert b"\x1b" not in run("costs", TERM="xterm-256color").stdout


def test_a_key_is_typed_unseen(tmp_path, environment):
    terminal = Terminal(["secrets", "set", "OPENAI_API_KEY"], tmp_path, environment)
    terminal.wait_for("(not shown): ")
    terminal.type(f"{KEY}\n")
    assert terminal.end() == 0
    assert KEY not in terminal.text
    assert KEY in (tmp_path / ".config" / "voicegateway" / "secrets.env").read_text()


def test_a_key_on_the_command_line_is_refused_and_not_repeated(run, tmp_path):
    done = run("secrets", "set", "OPENAI_API_KEY", KEY)
    assert done.returncode == 2
    assert KEY.encode() not in done.stdout + done.stderr
    assert not list(tmp_path.rglob("secrets.env"))


def test_no_command_ever_shows_a_key(run, tmp_path):
    (tmp_path / "voicegw.yaml").write_text(
        f"providers:\n  openai: {{api_key: '${{A_KEY}}'}}\n  groq: {{api_key: {KEY}-literal}}\n"
        f"  cartesia: {{api_key: '${{B_KEY}}'}}\n"
    )
    run("secrets", "set", "A_KEY", stdin=f"{KEY}\n")
    for command in (
        ["check"],
        ["status"],
        ["projects"],
        ["costs"],
        ["secrets", "list"],
        ["call", "list_providers"],
        ["call", "get_provider", "provider_id=groq"],
        [
            "call",
            "add_provider",
            "provider_id=groq",
            "provider_type=groq",
            "on_conflict=update",
            "base_url=https://g.example",
        ],
        ["import", str(SAMPLE)],
        ["import", str(SAMPLE), "--yes"],
    ):
        # Into a pipe `call` prints the same with --json and without.
        for extra in [[]] if command[0] == "call" else [[], ["--json"]]:
            done = run(*command, *extra, B_KEY=f"{KEY}-b")
            assert KEY.encode() not in done.stdout + done.stderr, command


def test_import_asks_on_a_terminal_after_a_progress_bar(tmp_path, environment, run):
    run("init")
    terminal = Terminal(["import", str(SAMPLE)], tmp_path, environment | {"TERM": "xterm"})
    terminal.wait_for("Write this into")
    assert "+providers:" in terminal.text
    terminal.type("y\n")
    assert terminal.end() == 0
    assert "added: project clinic" in terminal.text
    assert "clinic" in (tmp_path / "voicegw.yaml").read_text()


@pytest.mark.cover_processes
@pytest.mark.parametrize(
    "arguments", [["import", str(SAMPLE), "--entries-only"], ["secrets", "set", "A_KEY"]]
)
def test_ctrl_c_at_a_question_ends_with_130_and_changes_nothing(tmp_path, environment, run, arguments):
    run("init")
    before = sorted(path.name for path in tmp_path.iterdir()), (tmp_path / "voicegw.yaml").read_bytes()
    terminal = Terminal(arguments, tmp_path, environment)
    terminal.wait_for("Write this" if arguments[0] == "import" else "(not shown)")
    assert terminal.interrupt() == 130
    assert "Traceback" not in terminal.text
    after = (
        sorted(path.name for path in tmp_path.iterdir() if path.name != ".config"),
        (tmp_path / "voicegw.yaml").read_bytes(),
    )
    assert after == before


@pytest.mark.parametrize("arguments", [["--help"], ["costs", "--help"], ["--version"], ["call", "--help"]])
def test_help_loads_neither_mcp_nor_the_gateway_nor_rich(tmp_path, environment, arguments):
    code = (
        "import sys\n"
        "from voicegw_mcp.cli.app import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'mcp', 'rich', 'anyio', 'voicegw_mcp.core.gateway'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env=environment,
        timeout=WAIT_S,
    )
    assert done.stderr == b"[]\n"


def test_the_stdio_server_loads_no_client(tmp_path, environment):
    code = (
        "import sys\n"
        "import voicegw_mcp.transports.stdio, voicegw_mcp.server\n"
        "print(sorted({'mcp.client.streamable_http', 'mcp.client.sse', 'typer', 'rich'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env=environment,
        timeout=WAIT_S,
    )
    baseline = subprocess.run(
        [
            sys.executable,
            "-c",
            code.replace("voicegw_mcp.transports.stdio, voicegw_mcp.server", "mcp.server.stdio, mcp.server"),
        ],
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env=environment,
        timeout=WAIT_S,
    )
    assert done.stdout == baseline.stdout


@pytest.fixture
def shell(tmp_path, environment):
    """Run a command line whose streams a shell redirects; return its exit code and what it told on standard error."""

    def run(redirections, *arguments):
        done = subprocess.run(
            ["/bin/sh", "-c", f'"$@" {redirections}', "sh", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=WAIT_S,
            check=False,
            cwd=tmp_path,
            env=environment,
        )
        assert b"Traceback" not in done.stdout + done.stderr
        return done.returncode, done.stderr.decode()

    return run


COMMANDS = pytest.mark.parametrize("arguments", [["costs"], ["costs", "--json"], ["-V"]])


@pytest.mark.cover_processes
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@COMMANDS
def test_an_output_that_takes_no_more_is_told_on_standard_error(shell, arguments):
    code, told = shell(">/dev/full", BIN / "voicegw", *arguments)
    assert code == 1
    assert told.startswith("voicegw: READ_ONLY_RESOURCE: Standard output cannot be written (No space left")
    assert len(told.splitlines()) == 2
    assert shell(">/dev/full 2>&1", BIN / "voicegw", *arguments) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_the_version_of_the_server_that_cannot_be_written_is_told(shell):
    code, told = shell(">/dev/full", BIN / "voicegw-mcp", "-V")
    assert code == 1
    assert told.startswith(
        "voicegw-mcp: READ_ONLY_RESOURCE: Standard output cannot be written (No space left"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize(
    "command", [["voicegw", "stauts"], ["voicegw", "stauts", "--json"], ["voicegw-mcp", "-c", "nowhere.yaml"]]
)
def test_an_error_that_nobody_can_be_told_of_is_the_exit_code(shell, command):
    assert shell(">/dev/full 2>&1", BIN / command[0], *command[1:]) == (2, "")


@pytest.mark.cover_processes
@COMMANDS
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_does_its_work_with_closed_streams(shell, closed, arguments):
    assert shell(closed, BIN / "voicegw", *arguments) == (0, "")
