from functools import partial

import pytest
from tests.factories import DAY, NOW, request_record

from voicegw_mcp.core.queries import check_filters, find_window
from voicegw_mcp.domain import QUARTER_MS
from voicegw_mcp.errors import NotFound
from voicegw_mcp.store.requests import insert_requests


@pytest.fixture
async def store(gateway):
    store = await gateway.store()
    records = [
        request_record(id="a", timestamp_ms=NOW - 3 * DAY),
        request_record(id="b", timestamp_ms=NOW + DAY),
    ]
    await store.write(partial(insert_requests, records=records))
    return store


async def ask(store, **arguments):
    return await store.ask(find_window, **{"period": None, "timezone": "UTC", "now_ms": NOW, **arguments})


async def test_all_and_an_open_start_reach_to_the_first_row_and_all_to_the_last(store):
    everything = await ask(store, period="all")
    assert everything.start_ms <= NOW - 3 * DAY < everything.start_ms + QUARTER_MS
    assert everything.end_ms > NOW + DAY
    until = await ask(store, end="2026-11-17")
    assert until.start_ms == everything.start_ms


async def test_other_windows_do_not_ask_the_store(store):
    today = await ask(store, period="today")
    assert today.end_ms - today.start_ms < DAY
    since = await ask(store, period="all", start="2026-11-18")
    assert since.period == "custom"


async def test_all_of_an_empty_store_is_a_window(gateway):
    window = await ask(await gateway.store(), period="all")
    assert window.start_ms <= window.end_ms


async def test_a_filter_must_be_configured_or_recorded(gateway, store):
    catalog = gateway.catalog()
    await store.ask(check_filters, catalog)
    await store.ask(check_filters, catalog, project="default")
    await store.ask(check_filters, catalog, project="p0", provider_id="v0", model_id="v0/m")
    for field, name in (("project", "p1"), ("provider_id", "p0"), ("model_id", "v0")):
        with pytest.raises(NotFound) as caught:
            await store.ask(check_filters, catalog, **{field: name})
        assert caught.value.details["field"] == field
