"""Rows that cost but are nobody's requests, and rows that are made where they are written."""

import threading
import time
from contextlib import closing

import pytest
from tests.factories import NOW, request_record

from voicegw_mcp.core.costs import costs
from voicegw_mcp.core.latency import latency
from voicegw_mcp.domain import UNCOUNTED, UNTIMED, RequestStatus, Window
from voicegw_mcp.store.recorder import Recorder
from voicegw_mcp.store.repair import audit
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.schema import connect, prepare
from voicegw_mcp.store.sqlite import Store

QUARTER = 900_000
START, END = NOW // QUARTER * QUARTER, (NOW // QUARTER + 1) * QUARTER


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "voicegw.db"
    prepare(path, deadline=time.monotonic() + 5)
    with closing(connect(path, timeout_s=5)) as connection:
        connection.execute("BEGIN")
        insert_requests(
            connection,
            [
                request_record(
                    id=str(status),
                    status=status,
                    cost_nanousd=10_000_000,
                    ttfb_ms=5,
                    total_ms=9,
                    session_id="s",
                )
                for status in RequestStatus
            ],
        )
        connection.execute("COMMIT")
    return path


async def test_probes_and_idle_time_are_in_costs_and_in_no_count_or_latency(path):
    store = await Store.open(path)
    window = Window("custom", START, END, "UTC")
    try:
        spent = await store.ask(costs, window)
        speed = await store.ask(latency, window)
    finally:
        await store.close()
    counted = len(RequestStatus) - len(UNCOUNTED)
    assert spent.total_usd == len(RequestStatus) / 100
    assert spent.by_modality["stt"].requests == speed.overall.request_count == counted
    with closing(connect(path, timeout_s=5)) as connection:
        sums = connection.execute(
            "SELECT status, requests, cost_nanousd, total_count FROM rollup WHERE grain_s = 86400"
        ).fetchall()
    assert sorted(sums) == sorted(
        (str(status), int(status not in UNCOUNTED), 10_000_000, int(status not in UNTIMED))
        for status in RequestStatus
    )


def test_the_sums_agree_with_rows_of_every_status(path):
    with closing(connect(path, timeout_s=5)) as connection:
        assert audit(connection, lambda *_: None).is_clean()


def test_a_row_can_be_made_where_it_is_written(tmp_path):
    made_in = []

    def make():
        made_in.append(threading.current_thread().name)
        return request_record(id="late")

    with Recorder(tmp_path / "voicegw.db") as recorder:
        recorder.record(make)
        assert recorder.flush(20)
        assert recorder.counts().written == 1
    assert made_in == ["voicegw-recorder"]


def test_a_row_that_cannot_be_made_is_lost_alone_and_told(tmp_path):
    with Recorder(tmp_path / "voicegw.db") as recorder:
        recorder.record(lambda: 1 / 0)
        recorder.record(lambda: request_record(id="good"))
        assert recorder.flush(20)
        counts = recorder.counts()
    assert (counts.written, counts.lost) == (1, {"not a request (ZeroDivisionError)": 1})
