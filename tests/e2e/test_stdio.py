"""voicegw-mcp as hosts run it: real processes over stdio, what they write, when they end, and what survives them."""

import json
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest
import yaml
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from tests.e2e.conftest import COMMAND, CONFIG, KEY, WAIT_S
from tests.fake_providers import answering, serving

ADDED = {
    "+  loop:",
    "+    type: deepgram",
    "+    loop/nova-3:",
    "+      provider: loop",
    "+      model: nova-3",
    "+  clinic:",
    "+    name: Clinic",
    "+    daily_budget: 2.5",
    "+    stt_model: loop/nova-3",
}
LOUD = """
import builtins, os

plain_import = builtins.__import__
said = set()

def loud_import(name, *rest, **named):
    module = plain_import(name, *rest, **named)
    if name in ("yaml", "pydantic", "voicegw_mcp.server") and name not in said:
        said.add(name)
        print("printed by", name, flush=True)
        os.write(1, b"written to descriptor 1\\n")
        os.system("echo said by a child process")
    if name == "voicegw_mcp.server" and "patched" not in said:
        said.add("patched")
        from voicegw_mcp.tools import observe
        quiet = observe.health

        async def loud(gateway):
            print("printed in a call", flush=True)
            os.write(1, b"written in a call\\n")
            os.system("echo said by a child in a call")
            return await quiet(gateway)

        observe.health = loud
    return module

builtins.__import__ = loud_import
from voicegw_mcp.cli.stdio import main

main([])
"""
INTERMEDIATE = """
import subprocess, sys
server = subprocess.Popen(sys.argv[1:])
sys.exit(server.wait())
"""
GARBAGE = [
    b"garbage\n",
    b"{\n",
    b"\n",
    b"[]\n",
    b"null\n",
    b'{"jsonrpc":"2.0"}\n',
    b'{"jsonrpc":"1.0","id":7,"method":"tools/list"}\n',
    b'{"jsonrpc":"2.0","id":{},"method":7}\n',
    b'{"jsonrpc":"2.0","method":"notifications/nonsense","params":[1]}\n',
    b"\xff\xfe\x00\x01\x80\n",
    b"x" * 1_000_000 + b"\n",
    b"[" * 50_000 + b"\n",
]


def git(folder, *arguments):
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@localhost", "-c", "init.defaultBranch=main"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=WAIT_S
    )
    return done.stdout


def project(name):
    return {"project_id": name, "name": name.title()}


@pytest.mark.cover_processes
async def test_the_eleven_step_conversation_touches_its_own_entries_and_its_deletes_leave_no_trace(
    tmp_path, config, environment
):
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", config.name)
    git(tmp_path, "commit", "-q", "-m", "before")
    errors = (tmp_path / "stderr.txt").open("w+")
    with serving(answering(200, b"{}")) as fake, errors:
        server = StdioServerParameters(command=str(COMMAND), env=environment)
        async with Client(stdio_client(server, errlog=errors), read_timeout_seconds=WAIT_S) as client:

            async def call(tool, code=None, **arguments):
                result = await client.call_tool(tool, arguments)
                answer = result.structured_content
                assert KEY not in result.model_dump_json()
                assert json.loads(result.content[0].text) == answer
                assert (answer["error"]["code"] if result.is_error else None) == code, answer
                return answer

            assert len((await client.list_tools()).tools) == 17
            await call(
                "add_provider",
                provider_id="loop",
                provider_type="deepgram",
                api_key="${DEEPGRAM_API_KEY}",
                base_url=fake.url,
            )
            assert (await call("test_provider", provider_id="loop"))["status"] == "ok"
            await call("register_model", modality="stt", provider_id="loop", model_name="nova-3")
            await call(
                "create_project",
                project_id="clinic",
                name="Clinic",
                daily_budget=2.5,
                stt_model="loop/nova-3",
            )
            assert (await call("get_project", project_id="clinic"))["stt_model"] == "loop/nova-3"
            assert (await call("get_logs", project="clinic"))["logs"] == []
            assert (await call("get_costs", project="clinic"))["total_usd"] == 0
            diff = git(tmp_path, "diff", "-U0", "--", config.name).splitlines()
            changed = [line for line in diff if line[:1] in "+-" and line[:3] not in ("+++", "---")]
            assert all(line.startswith("+") for line in changed)
            assert set(changed) >= ADDED
            assert len(changed) == len(ADDED) + 2  # api_key and base_url
            refused = await call("delete_project", "CONFIRMATION_REQUIRED", project_id="clinic")
            assert "details" in refused["error"]
            await call("delete_provider", "CONFIRMATION_REQUIRED", provider_id="loop", cascade=True)
            await call("delete_project", project_id="clinic", confirm=True)
            await call("delete_provider", provider_id="loop", confirm=True, cascade=True)
        errors.seek(0)
        assert KEY not in errors.read()
    assert KEY in str(fake.requests)
    assert git(tmp_path, "diff", "--", config.name) == ""
    assert config.read_text() == CONFIG


def test_two_servers_on_the_same_files_see_each_others_changes_at_once(spawn):
    one, two = spawn(), spawn()
    for server in (one, two):
        server.initialize()
        assert server.health()["project_count"] == 2
    for number in range(5):
        maker, other = (one, two) if number % 2 else (two, one)
        maker.call("create_project", **project(f"p{number}"))
        assert other.call("get_project", project_id=f"p{number}")["name"] == f"P{number}"
        for server in (one, two):
            refused = server.call("create_project", **project(f"p{number}"))
            assert refused["error"]["code"] == "PROJECT_ALREADY_EXISTS"
        assert other.call("delete_project", project_id=f"p{number}", confirm=True)["action"] == "deleted"
        assert maker.call("get_project", project_id=f"p{number}")["error"]["code"] == "PROJECT_NOT_FOUND"


def test_of_two_servers_that_create_the_same_project_at_the_same_time_one_is_refused(spawn, config):
    servers = [spawn(), spawn()]
    for server in servers:
        server.initialize()
    for number in range(5):
        arguments = project(f"race{number}")
        asked = [server.ask("tools/call", name="create_project", arguments=arguments) for server in servers]
        answers = [server.answer(id_) for server, id_ in zip(servers, asked, strict=True)]
        told = [answer["result"]["structuredContent"] for answer in answers]
        assert sorted("error" in answer for answer in told) == [False, True]
        assert {answer["error"]["code"] for answer in told if "error" in answer} == {"PROJECT_ALREADY_EXISTS"}
    assert len(yaml.safe_load(config.read_text())["projects"]) == 6


def test_a_hand_edit_shows_in_the_next_call(spawn, config):
    server = spawn()
    server.initialize()
    assert server.call("get_project", project_id="kept")["name"] == "Kept"
    config.write_text(CONFIG.replace("name: Kept", "name: Held"))
    assert server.call("get_project", project_id="kept")["name"] == "Held"


def test_stdout_holds_only_json_rpc_whatever_a_library_prints(spawn, tmp_path):
    script = tmp_path / "loud.py"
    script.write_text(LOUD)
    server = spawn(command=(sys.executable, script))
    server.initialize()
    for _ in range(2):
        assert server.health()["status"] == "ok"
    assert server.close() == 0
    while server.line():
        pass
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in server.seen.splitlines())
    told = server.errors.read_text()
    for said in ("printed by yaml", "written to descriptor 1", "said by a child process"):
        assert said in told
    for said in ("printed in a call", "written in a call", "said by a child in a call"):
        assert said in told


@pytest.mark.cover_processes
def test_it_ends_with_code_0_at_the_end_of_its_input(spawn):
    server = spawn()
    server.initialize()
    server.health()
    assert server.close() == 0
    assert server.errors.read_bytes() == b""


def test_it_ends_with_code_0_when_its_input_ends_before_any_message(spawn):
    assert spawn().close() == 0


@pytest.mark.cover_processes
def test_it_ends_when_its_parent_is_killed_though_others_hold_its_input_open(spawn):
    intermediate = spawn(command=(sys.executable, "-c", INTERMEDIATE, COMMAND))
    intermediate.initialize()
    assert intermediate.health()["status"] == "ok"
    intermediate.process.kill()
    # The server is the last that has the pipe of standard output open: its end is the server's.
    assert intermediate.line() == b""
    assert intermediate.process.wait(WAIT_S) == -signal.SIGKILL


@pytest.mark.cover_processes
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_ends_it_while_idle(spawn, sent, code):
    server = spawn()
    server.initialize()
    server.health()
    server.process.send_signal(sent)
    assert server.process.wait(WAIT_S) == code
    assert b"Traceback" not in server.errors.read_bytes()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_the_middle_of_a_call(spawn, sent):
    asked = threading.Event()

    def silent(_handler, released):
        asked.set()
        released.wait(WAIT_S)

    with serving(silent) as fake:
        server = spawn()
        server.initialize()
        arguments = {"provider_id": "slow", "provider_type": "openai_compatible", "base_url": fake.url}
        assert "error" not in server.call("add_provider", **arguments, api_key="${DEEPGRAM_API_KEY}")
        server.ask(
            "tools/call", name="test_provider", arguments={"provider_id": "slow", "timeout_seconds": 30}
        )
        assert asked.wait(WAIT_S)
        server.process.send_signal(sent)
        server.process.wait(WAIT_S / 3)
    assert b"Traceback" not in server.errors.read_bytes()


@pytest.mark.cover_processes
@pytest.mark.parametrize(
    ("arguments", "variables", "told"),
    [
        (["--nonsense"], {}, "--nonsense"),
        (["http"], {}, "stdio"),
        (["--config", "/nowhere/voicegw.yaml"], {}, "voicegw init /nowhere/voicegw.yaml"),
        ([], {"VOICEGW_CONFIG": "/nowhere/else.yaml"}, "VOICEGW_CONFIG"),
    ],
)
def test_a_start_that_cannot_be_exits_with_2_and_says_why_on_stderr(spawn, arguments, variables, told):
    server = spawn(*arguments, **variables)
    assert server.process.wait(WAIT_S) == 2
    assert server.line() == b""
    lines = server.errors.read_text().splitlines()
    assert told in lines[-1]
    assert lines[-1].startswith("voicegw-mcp: ")
    assert len(lines) == 1 or lines[0].startswith("usage: voicegw-mcp")


def test_a_broken_file_lets_it_start_and_say_what_is_wrong(spawn, config):
    config.write_text(CONFIG.replace("  deepgram:", "\tdeepgram:"))
    server = spawn()
    assert server.initialize()["serverInfo"]["name"] == "voicegw-mcp"
    health = server.health()
    assert health["status"] == "degraded"
    assert "tab" in health["config"]["error"]["message"]
    assert health["config"]["error"]["line"] == 5
    for tool, arguments in (("list_providers", {}), ("create_project", project("p"))):
        assert server.call(tool, **arguments)["error"]["code"] == "CONFIG_INVALID"
    config.write_text(CONFIG)
    assert server.health()["status"] == "ok"
    assert "error" not in server.call("create_project", **project("p"))


def test_a_store_that_is_locked_at_the_start_lets_it_start_and_say_so(spawn, environment):
    path = environment["VOICEGW_DB_PATH"]
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE mine (x)")
        other.execute("BEGIN EXCLUSIVE")
        server = spawn()
        server.initialize()
        health = server.health()
        assert health["status"] == "degraded"
        assert "locked" in health["store"]["error"]
        assert health["provider_count"] == 1
        assert server.call("get_logs")["error"]["code"] == "STORE_UNAVAILABLE"
        assert server.call("list_providers")["count"] == 1
        other.execute("ROLLBACK")
        other.execute("DROP TABLE mine")
    assert server.health()["status"] == "ok"


def test_garbage_on_its_input_is_survived(spawn):
    server = spawn()
    server.initialize()
    for garbage in GARBAGE:
        server.send_bytes(garbage)
        assert server.health()["status"] == "ok", garbage[:40]
    refused = server.call("get_project", project_id="p" * 1_000_000)
    assert refused["error"]["code"] in ("PROJECT_NOT_FOUND", "VALIDATION_ERROR")
    assert len(json.dumps(refused)) < 4000
    assert server.close() == 0


def test_garbage_before_the_handshake_is_survived(spawn):
    server = spawn()
    for garbage in GARBAGE:
        server.send_bytes(garbage)
    assert server.initialize()["serverInfo"]["name"] == "voicegw-mcp"


@pytest.mark.parametrize("answers", [1, 4, 9])
def test_a_kill_in_the_middle_of_changes_leaves_a_whole_file_and_the_next_start_works(
    spawn, config, environment, answers
):
    server = spawn()
    server.initialize()
    for number in range(20):
        last = server.ask("tools/call", name="create_project", arguments=project(f"p{number}"))
        if number == answers:
            wanted = last
    server.answer(wanted)
    server.process.kill()
    server.process.wait(WAIT_S)
    found = yaml.safe_load(config.read_text())
    assert config.read_text().startswith(CONFIG[:60])
    assert "# the last comment" in config.read_text()
    assert len(found["projects"]) >= 2
    following = spawn()
    following.initialize()
    assert following.health()["status"] == "ok"
    assert "error" not in following.call("create_project", **project("after"))
    with closing(sqlite3.connect(environment["VOICEGW_DB_PATH"])) as store:
        states = dict(store.execute("SELECT state, count(*) FROM changes GROUP BY state").fetchall())
    projects = len(yaml.safe_load(config.read_text())["projects"])
    assert set(states) <= {"applied", "failed"}
    assert states["applied"] == projects - 1  # all but the one that was there


def test_an_answer_nobody_reads_does_not_keep_it_alive(spawn):
    server = spawn()
    server.initialize()
    for _ in range(200):
        server.ask("tools/list")
    server.process.stdout.close()
    server.close()
