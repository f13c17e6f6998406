import contextlib

import pytest
from tests.factories import DAY, NOW, request_record

from voicegw_mcp.core.access import Access
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.health import health
from voicegw_mcp.core.recording import describe_losses, open_recorder
from voicegw_mcp.domain import Role
from voicegw_mcp.errors import ConfigInvalid, StoreUnavailable
from voicegw_mcp.store.losses import Loss, Source, add_losses
from voicegw_mcp.store.schema import connect, prepare

PER_PROJECT = Access(Role.VIEWER, frozenset({"p0"}))


def gateway_of(tmp_path, text, environment=None):
    (tmp_path / "voicegw.yaml").write_text(text)
    return Gateway.open(
        str(tmp_path / "voicegw.yaml"), door="test", environment=environment or {}, now_ms=lambda: NOW
    )


def stored(path):
    with contextlib.closing(connect(path, timeout_s=5)) as connection:
        return [name for (name,) in connection.execute("SELECT id FROM requests")]


async def test_rows_go_where_the_gateway_reads_them(tmp_path):
    gateway = gateway_of(tmp_path, "cost_tracking: {db_path: deep/calls.db}")
    with open_recorder(gateway) as recorder:
        recorder.record(request_record())
    assert stored(tmp_path / "deep" / "calls.db") == ["r"]
    assert (await health(gateway)).store.rows == 1
    await gateway.close()


def test_the_environment_names_the_store_first(tmp_path):
    named = {"VOICEGW_DB_PATH": str(tmp_path / "named.db")}
    with open_recorder(gateway_of(tmp_path, "cost_tracking: {db_path: other.db}", named)) as recorder:
        recorder.record(request_record())
    assert stored(tmp_path / "named.db") == ["r"]
    assert not (tmp_path / "other.db").exists()


def test_with_request_logging_off_there_is_no_recorder(tmp_path):
    assert open_recorder(gateway_of(tmp_path, "observability: {request_logging: false}")) is None


def test_a_store_that_is_named_wrongly_is_told_at_once(tmp_path):
    with pytest.raises(StoreUnavailable, match="is no path of a store"):
        open_recorder(gateway_of(tmp_path, "", {"VOICEGW_DB_PATH": "a\0b"}))


def test_a_broken_file_is_told_at_once(tmp_path):
    with pytest.raises(ConfigInvalid):
        open_recorder(gateway_of(tmp_path, "cost_tracking: {db_path: ["))


async def test_health_tells_of_lost_requests_while_they_are_recent_and_only_to_whom_all_projects_are_open(
    gateway,
):
    path = gateway.store_handle.wanted_path()
    with open_recorder(gateway) as recorder:
        recorder.record(request_record(id="good"))
        recorder.record(request_record(id="bad", timestamp_ms=-1))
    told = (await health(gateway)).warnings[0]
    assert told.startswith("1 request was not recorded by process ")
    assert told.endswith("(1: timestamp_ms out of range): costs and counts of that time are too low.")
    bound = gateway.as_caller("someone", PER_PROJECT)
    assert not any("not recorded" in warning for warning in (await health(bound)).warnings)
    assert await (await bound.reader()).read("SELECT * FROM lost") == []
    with contextlib.closing(connect(path, timeout_s=5)) as connection:
        connection.execute(
            "UPDATE lost SET first_ms = first_ms - ?, last_ms = last_ms - ?", (8 * DAY, 8 * DAY)
        )
    assert not any("not recorded" in warning for warning in (await health(gateway)).warnings)


async def test_losses_of_a_process_are_one_sentence_and_add_up(gateway):
    path = gateway.store_handle.wanted_path()
    prepare(path, deadline=float("inf"))
    with contextlib.closing(connect(path, timeout_s=5)) as connection:
        for at, source, losses in (
            (NOW - 60_000, Source("a", "host-a", 7), {"the queue was full": 3}),
            (NOW, Source("a", "host-a", 7), {"the queue was full": 2, "cost_nanousd out of range": 1}),
            (NOW - 30_000, Source("b", "host-b", 8), {"the queue was full": 1}),
        ):
            add_losses(connection, source, losses, at)
    assert (await health(gateway)).warnings[:2] == [
        (
            "6 requests were not recorded by process 7 on host-a, 2026-11-18T11:05:40Z to 2026-11-18T11:06:40Z "
            "(1: cost_nanousd out of range; 5: the queue was full): costs and counts of that time are too low."
        ),
        (
            "1 request was not recorded by process 8 on host-b, 2026-11-18T11:06:10Z to 2026-11-18T11:06:10Z "
            "(1: the queue was full): costs and counts of that time are too low."
        ),
    ]
    assert describe_losses([]) == []
    assert len(describe_losses([Loss("h", 1, "x", 1, NOW, NOW), Loss("h", 2, "x", 1, NOW, NOW)])) == 2
