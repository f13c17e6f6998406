"""``voicegw backup``, ``restore`` and ``prune`` beside a server that is using the store: real processes."""

import json
import subprocess

import pytest
from tests.e2e.conftest import BIN, WAIT_S


@pytest.fixture
def voicegw(tmp_path, environment):
    """Runs a command and returns its exit code and its answer."""

    def run(*arguments):
        done = subprocess.run(
            [str(BIN / "voicegw"), *map(str, arguments), "--json"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout)

    return run


def project(server, name):
    return server.call("create_project", project_id=name, name=name.title())


def test_a_store_that_a_server_uses_is_backed_up_and_pruned_and_not_replaced(spawn, voicegw, tmp_path):
    server = spawn()
    server.initialize()
    assert project(server, "first")["created"]
    code, answer = voicegw("backup", "b.db")
    assert (code, answer["rows"]["changes"]) == (0, 1)
    assert voicegw("prune", "--older-than", "3", "--vacuum")[0] == 0
    assert voicegw("repair")[1]["clean"] is True
    assert project(server, "second")["created"]
    code, answer = voicegw("restore", "b.db")
    assert (code, answer["error"]["details"]["reason"]) == (3, "in_use")
    assert "Stop the servers and agents" in answer["error"]["hint"]
    assert project(server, "third")["created"]
    assert len(voicegw("changes")[1]["changes"]) == 3
    assert server.close() == 0
    code, answer = voicegw("restore", "b.db")
    assert code == 0
    assert len(voicegw("changes")[1]["changes"]) == 1
    assert sorted(path.name for path in tmp_path.glob("*.db*")) == sorted(
        ["b.db", "voicegw.db", answer["kept"].rpartition("/")[2]]
    )


def test_a_server_that_has_not_used_the_store_yet_works_on_the_restored_one(spawn, voicegw):
    first = spawn()
    first.initialize()
    project(first, "early")
    assert first.close() == 0
    assert voicegw("backup", "b.db")[0] == 0
    server = spawn()
    server.initialize()
    assert voicegw("restore", "b.db")[0] == 0
    assert project(server, "late")["created"]
    assert [change["tool"] for change in voicegw("changes")[1]["changes"]] == ["create_project"] * 2
