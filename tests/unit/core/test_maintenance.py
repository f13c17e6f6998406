from functools import partial

import pytest
from tests.factories import DAY, NOW, request_record

from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.imports import TOO_OLD, import_requests, open_source
from voicegw_mcp.store.requests import LogFilter, insert_requests, read_log
from voicegw_mcp.store.retention import BATCH_ROWS, prune_batch
from voicegw_mcp.store.sqlite import Store

COUNT = 2 * BATCH_ROWS + 100


@pytest.fixture
async def store_path(tmp_path):
    """A store with rows of ten days ago, enough for three rounds, and one of now."""
    path = tmp_path / "voicegw.db"
    store = await Store.open(path)
    rows = [request_record(id=f"{number:05}", timestamp_ms=NOW - 10 * DAY) for number in range(COUNT)]
    await store.write(partial(insert_requests, records=[*rows, request_record(id="new")]))
    await store.close()
    return path


def opened(tmp_path, text, *, door="stdio", read_only=False):
    file = tmp_path / "voicegw.yaml"
    file.write_text(text)
    return Gateway.open(
        str(file),
        door=door,
        read_only=read_only,
        environment={"VOICEGW_DB_PATH": str(tmp_path / "voicegw.db")},
        now_ms=lambda: NOW,
    )


async def rows_left(gateway, writes=4):
    """Return how many rows there are after the writer thread had so many turns."""
    reader = await gateway.reader()
    if not reader.read_only:
        for _ in range(writes):
            await reader.write(lambda _: None)
    return len(await reader.ask(read_log, LogFilter(), limit=2 * COUNT))


async def test_a_server_prunes_when_the_store_is_first_used_batch_by_batch(tmp_path, store_path):  # noqa: ARG001 - made there
    gateway = opened(tmp_path, "cost_tracking:\n  retention_days: 3\n")
    try:
        assert await rows_left(gateway) == 1
    finally:
        await gateway.close()


async def test_a_server_prunes_again_after_an_hour_and_not_before(tmp_path, store_path, monkeypatch):  # noqa: ARG001 - made there
    from voicegw_mcp.core import maintenance

    gateway = opened(tmp_path, "cost_tracking:\n  retention_days: 3\n")
    old = [request_record(id="old", timestamp_ms=NOW - 9 * DAY), request_record(id="newer")]
    try:
        assert await rows_left(gateway) == 1
        store = await gateway.store_handle.get()
        await store.write(partial(insert_requests, records=old))
        assert await rows_left(gateway) == 3
        later = maintenance.time.monotonic() + maintenance.EVERY_S
        monkeypatch.setattr(maintenance.time, "monotonic", lambda: later)
        assert await rows_left(gateway) == 2
    finally:
        await gateway.close()


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("timezone: UTC\n", {}),
        ("cost_tracking:\n  retention_days: 30\n", {}),
        ("cost_tracking:\n  retention_days: 3\n", {"read_only": True}),
        ("cost_tracking:\n  retention_days: 3\n", {"door": "cli"}),
        ("cost_tracking:\n  retention_days: [\n", {}),
    ],
    ids=["keep", "young", "read-only", "command", "broken file"],
)
async def test_rows_stay_unless_a_server_is_told_how_long_to_keep_them(tmp_path, store_path, text, options):  # noqa: ARG001 - made there
    gateway = opened(tmp_path, text, **options)
    try:
        assert await rows_left(gateway) == COUNT + 1
    finally:
        await gateway.close()


async def test_closing_in_the_middle_of_a_round_leaves_a_sound_store(tmp_path, store_path):
    gateway = opened(tmp_path, "cost_tracking:\n  retention_days: 3\n")
    await gateway.store_handle.get()
    await gateway.close()
    store = await Store.open(store_path)
    left = len(await store.ask(read_log, LogFilter(), limit=2 * COUNT))
    await store.close()
    assert (COUNT + 1 - left) % BATCH_ROWS in {0, COUNT % BATCH_ROWS}
    gateway = opened(tmp_path, "timezone: UTC\n")
    try:
        assert await rows_left(gateway) == left
    finally:
        await gateway.close()


@pytest.mark.unmeasured
async def test_an_import_leaves_out_what_may_have_been_pruned_and_counts_it(tmp_path, pytestconfig):
    sample = pytestconfig.rootpath / "tests" / "data" / "voicegateway-0.27.0.db"
    gateway = opened(tmp_path, "timezone: UTC\n")
    try:
        async with open_source(sample) as source:
            first = await import_requests(gateway, source, progress=lambda _done, _total: None)
            store = await gateway.store()
            rows = await store.ask(read_log, LogFilter(order="oldest"), limit=5000)
            horizon = rows[len(rows) // 2].timestamp_ms // DAY * DAY + DAY
            while await store.write(partial(prune_batch, before_ms=horizon)):
                pass
            again = await import_requests(gateway, source, progress=lambda _done, _total: None)
        assert (first.added, first.skipped.get(TOO_OLD)) == (5000, None)
        assert (again.added, again.skipped[TOO_OLD]) == (0, sum(row.timestamp_ms < horizon for row in rows))
        assert again.known == again.read - again.skipped[TOO_OLD]
    finally:
        await gateway.close()
