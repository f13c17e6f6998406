from dataclasses import replace

import pytest
from tests.factories import NOW, request_record

from voicegw_mcp.core.cursors import encode_cursor
from voicegw_mcp.core.log_pages import log_page
from voicegw_mcp.domain import RequestStatus, Usage
from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.store.requests import LogFilter, insert_requests
from voicegw_mcp.store.sqlite import Store


@pytest.fixture
async def store(tmp_path):
    opened = await Store.open(tmp_path / "voicegw.db")
    yield opened
    await opened.close()


async def put(store, *records):
    await store.write(lambda connection: insert_requests(connection, records))


FAILED = request_record(
    id="x",
    status=RequestStatus.ERROR,
    usage=Usage(audio_ms=1500, characters=3),
    cost_nanousd=1_500_000,
    price_source="override",
    ttfb_ms=1.5,
    session_id="s",
    error_kind="timeout",
    error_message="a\u202e\n" + "b" * 3000,
    fallback_from="m2",
    estimated=True,
)
CONCISE = {
    "id": "x",
    "timestamp": "2026-11-18T11:06:40.000+00:00",
    "project": "p0",
    "modality": "stt",
    "model_id": "v0/m",
    "provider": "v0",
    "status": "error",
    "cost_usd": 0.0015,
    "ttfb_ms": 1.5,
    "session_id": "s",
    "error_message": "a\\u202e\\n" + "b" * 190 + "…",
}


async def test_a_concise_row_has_voicegateways_keys_and_harmless_text(store):
    await put(store, FAILED)
    page = await store.ask(log_page, LogFilter())
    assert page.as_json()["logs"] == [CONCISE]
    assert page.as_json().keys() == {"logs", "count"}


async def test_a_full_row_adds_units_price_and_longer_text(store):
    await put(store, FAILED)
    (row,) = (await store.ask(log_page, LogFilter(), detail="full")).as_json()["logs"]
    assert len(row.pop("error_message")) == 2000
    assert row == {key: value for key, value in CONCISE.items() if key != "error_message"} | {
        "units": {"audio_seconds": 1.5, "characters": 3},
        "price_source": "override",
        "error_kind": "timeout",
        "fallback_from": "m2",
        "estimated": True,
    }


async def pages(store, query, **options):
    found, cursor = [], None
    while True:
        page = await store.ask(log_page, query, cursor=cursor, **options)
        assert page.count == len(page.logs)
        found.append(page)
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_pages_follow_each_other_without_gap_or_repeat(store, order):
    await put(store, *(request_record(id=f"r{n}", timestamp_ms=NOW + n // 3) for n in range(20)))
    found = await pages(store, LogFilter(order=order), limit=5)
    assert [page.count for page in found] == [5, 5, 5, 5]
    ids = [row.id for page in found for row in page.logs]
    assert ids == [f"r{n}" for n in (range(20) if order == "oldest" else range(19, -1, -1))]
    assert not any(page.truncated for page in found)


async def test_a_page_of_long_rows_is_cut_to_the_byte_budget_and_goes_on(store):
    rows = [replace(FAILED, id=f"r{n}", error_message="\u202e" * 2000) for n in range(60)]
    await put(store, *rows)
    found = await pages(store, LogFilter(), limit=50, detail="full")
    assert all(len(page.model_dump_json(exclude_none=True).encode()) <= 32_000 for page in found)
    assert found[0].truncated is True
    assert sorted(row.id for page in found for row in page.logs) == sorted(row.id for row in rows)


async def test_an_empty_log_is_an_empty_page(store):
    assert (await store.ask(log_page, LogFilter(project="none"))).as_json() == {"logs": [], "count": 0}


@pytest.mark.parametrize("position", [[1], ["a", "b"], [1, 2, 3], [2**70, 1], [1, -(2**70)]])
async def test_a_cursor_with_another_kind_of_place_is_refused(store, position):
    query = LogFilter()
    cursor = encode_cursor({name: getattr(query, name) for name in LogFilter.__slots__}, position)
    with pytest.raises(InvalidInput) as caught:
        await store.ask(log_page, query, cursor=cursor)
    assert caught.value.details["field"] == "cursor"


async def test_a_cursor_of_other_filters_is_refused(store):
    await put(store, *(request_record(id=f"r{n}") for n in range(3)))
    cursor = (await store.ask(log_page, LogFilter(), limit=1)).next_cursor
    with pytest.raises(InvalidInput, match="another query"):
        await store.ask(log_page, LogFilter(project="p0"), limit=1, cursor=cursor)


async def test_a_limit_below_one_is_refused(store):
    with pytest.raises(InvalidInput, match="limit 0"):
        await store.ask(log_page, LogFilter(), limit=0)


@pytest.mark.parametrize(("order", "left"), [("newest", []), ("oldest", ["8", "9"])])
async def test_a_page_goes_on_where_its_last_row_was_pruned(store, order, left):
    await put(
        store, *(request_record(id=str(number), timestamp_ms=NOW + number // 2) for number in range(10))
    )
    query = LogFilter(order=order)
    pages = [await store.ask(log_page, query, limit=7)]
    last = 3 if order == "newest" else 6
    assert pages[0].logs[-1].id == str(last)
    # Rows are pruned by time, from the oldest on.
    await store.write(
        lambda connection: connection.execute("DELETE FROM requests WHERE timestamp_ms <= ?", (NOW + 3,))
    )
    page = await store.ask(log_page, query, limit=7, cursor=pages[0].next_cursor)
    assert [row.id for row in page.logs] == left
    assert page.next_cursor is None
