"""Alerts of real servers: one for each crossing, and none lost by a kill."""

import signal
import sqlite3
import sys
import time
from contextlib import closing

import pytest
from tests.e2e.conftest import BIN, CONFIG, WAIT_S
from tests.factories import request_record
from tests.webhook_receiver import SECRET, receiving

from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.schema import connect, prepare

AT_ONCE = "import sys; from voicegw_mcp.cli import stdio; stdio.FIRST_LOOK_S = 0.0; stdio.main(sys.argv[1:])"


@pytest.fixture
def spend(tmp_path):
    """Record requests of now, as an agent's process does."""

    def spend(project, usd, number):
        path = tmp_path / "voicegw.db"
        prepare(path, deadline=time.monotonic() + WAIT_S)
        record = request_record(
            id=f"r{number}",
            timestamp_ms=time.time_ns() // 1_000_000,
            project=project,
            cost_nanousd=usd * 10**9,
        )
        with closing(connect(path, timeout_s=WAIT_S)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            insert_requests(connection, [record])
            connection.execute("COMMIT")

    return spend


@pytest.fixture
def alerts(config):
    def write(receiver):
        config.write_text(
            CONFIG.replace("projects:\n", "projects:\n  second: {name: S, daily_budget: 5}\n")
            + "alerts:\n  check_every_seconds: 5\n  budget: {percent: [100]}\n"
            + f"  webhook: {{url: '{receiver.url}', secret: '${{HOOK}}'}}\n"
        )

    return write


@pytest.fixture
def serve(spawn):
    def serve(**variables):
        server = spawn("serve", "-p", "0", command=(BIN / "voicegw",), **variables)
        while b"claude mcp add" not in (line := server.line()):
            assert line, server.errors.read_text()
        return server

    return serve


def rows(tmp_path):
    with closing(sqlite3.connect(f"{(tmp_path / 'voicegw.db').as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT id, subject, delivery FROM alerts ORDER BY id").fetchall()


def test_two_servers_on_one_store_send_one_alert_for_each_crossing(serve, alerts, spend, tmp_path):
    with receiving() as receiver:
        alerts(receiver)
        spend("kept", 6, 1)
        servers = [serve(HOOK=SECRET), serve(HOOK=SECRET)]
        receiver.wait_for(1)
        spend("second", 7, 2)
        for request in receiver.wait_for(2):
            request.verify()
        for server in servers:
            server.process.send_signal(signal.SIGTERM)
        assert [server.process.wait(WAIT_S) for server in servers] == [0, 0]
        found = rows(tmp_path)
        assert [row[1] for row in found] == ["project:kept", "project:second"]
        assert [request.id for request in receiver.received] == [row[0] for row in found]
    lines = [line for server in servers for line in server.errors.read_text().splitlines()]
    assert sorted(line.partition("%")[0] for line in lines) == sorted(
        f"alert firing, budget ({row[0]}): 100 " for row in found
    )


def test_what_was_decided_and_not_sent_when_a_server_is_killed_is_sent_by_the_next_one(
    serve, alerts, spend, spawn, tmp_path
):
    with receiving() as receiver:
        alerts(receiver)
        spend("kept", 6, 1)
        first = serve()  # without a secret it tells and cannot send

        until = time.monotonic() + WAIT_S
        while "Alerts wait to be sent" not in first.errors.read_text():
            assert time.monotonic() < until
            time.sleep(0.02)  # a file tells nobody that it has grown
        first.process.kill()
        first.process.wait(WAIT_S)
        assert not receiver.received
        ((alert_id, _, _),) = rows(tmp_path)
        # A host's server over stdio is a server, too.
        second = spawn(command=(sys.executable, "-c", AT_ONCE), HOOK=SECRET)
        second.initialize()
        (request,) = receiver.wait_for(1)
        request.verify()
        assert request.id == alert_id
        assert second.close() == 0
