"""/v1/logs: pages, exports and following."""

import json
import tracemalloc

import anyio
import pytest
from tests.factories import NOW, request_record

from voicegw_mcp.core import followers
from voicegw_mcp.domain import Modality, RequestStatus, Usage
from voicegw_mcp.errors import StoreUnavailable
from voicegw_mcp.web.api import logs, streams

CSV, NDJSON, EVENTS = "text/csv", "application/x-ndjson", "text/event-stream"
EXPORTS = (CSV, NDJSON)
KEYS = """
auth:
  api_keys:
    - {token: "${BOUND}", name: theirs, role: viewer, projects: [outbound]}
"""
BOUND = "fake-token-bound"


def numbered(count, **fields):
    return [request_record(id=f"r{n:05}", timestamp_ms=NOW - n, **fields) for n in range(count)]


def link(answer):
    return answer.headers["link"].removeprefix("<").removesuffix('>; rel="next"')


async def test_pages_are_lists_that_lead_to_the_next(site, house):
    await house.log(*numbered(5), *(request_record(id=f"e{n}", status=RequestStatus.ERROR) for n in range(3)))
    target, seen = "/v1/logs?limit=2&status=success&detail=concise", []
    while target:
        answer = await site.get(target)
        assert isinstance(answer.json, list)
        seen.append([row["id"] for row in answer.json])
        target = link(answer) if "link" in answer.headers else None
    assert seen == [["r00000", "r00001"], ["r00002", "r00003"], ["r00004"]]


async def test_a_page_has_a_hundred_rows_and_a_thousand_when_asked_for(site, house):
    await house.log(*numbered(1001, error_message="x" * 2000, status=RequestStatus.ERROR))
    assert len(await site.ok("/v1/logs")) == 100
    answer = await site.get("/v1/logs?limit=1000")
    assert len(answer.json) == 1000
    assert len((await site.get(link(answer))).json) == 1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("project=p1", ["b"]),
        ("modality=llm", ["b"]),
        ("provider_id=v0", ["a"]),
        ("model_id=v1/m", ["b"]),
        ("status=error", ["b"]),
        ("session_id=s-1", ["b"]),
        ("start=2026-11-18T11:06:40Z&end=2026-11-18T11:06:41Z", ["a"]),
        ("min_latency_ms=500", ["b"]),
        ("min_cost_usd=0.5", ["b"]),
        ("search=timed%20out", ["b"]),
        ("order=oldest&limit=1", ["b"]),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", NDJSON])
async def test_every_filter_of_get_logs_holds(site, house, query, expected, kind):
    other = {
        "project": "p1",
        "modality": Modality.LLM,
        "provider": "v1",
        "model_id": "v1/m",
        "total_ms": 900.0,
    }
    failed = {"status": RequestStatus.ERROR, "error_message": "it timed out", "cost_nanousd": 10**9}
    await house.log(
        request_record(id="a", cost_nanousd=1, total_ms=1.0),
        request_record(id="b", timestamp_ms=NOW - 5_000, session_id="s-1", **other, **failed),
    )
    body = (await site.get(f"/v1/logs?{query}", accept=kind)).body.decode()
    rows = json.loads(body) if body.startswith("[") else [json.loads(line) for line in body.splitlines()]
    assert [row["id"] for row in rows] == expected


@pytest.mark.parametrize("kind", EXPORTS)
@pytest.mark.parametrize("count", [0, 1, logs.EXPORTED_AT_ONCE, 2 * logs.EXPORTED_AT_ONCE + 7])
async def test_an_export_has_every_row_once_whatever_pages_it_was_read_in(site, house, kind, count):
    await house.log(*numbered(count), request_record(id="other", project="p9"))
    answer = await site.get("/v1/logs?project=p0" if count else "/v1/logs?status=error", accept=kind)
    assert (answer.status, answer.whole) == (200, True)
    assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
    lines = answer.rows if kind == CSV else [json.loads(line) for line in answer.body.splitlines()]
    assert [row["id"] for row in lines] == [f"r{n:05}" for n in range(count)]


@pytest.mark.parametrize("kind", EXPORTS)
async def test_an_export_goes_on_from_a_page_and_ends_at_its_limit(site, house, kind):
    await house.log(*numbered(900))
    page = await site.get("/v1/logs?limit=3")
    answer = await site.get(link(page).replace("limit=3", "limit=700"), accept=kind)
    lines = answer.body.splitlines()
    assert len(lines) == 700 + (kind == CSV)
    assert b"r00003" in lines[kind == CSV]
    assert b"r00702" in lines[-1]


@pytest.mark.parametrize("start", "=+-@\t\r\n")
async def test_no_cell_of_a_csv_begins_like_a_formula(site, house, start):
    text = f"{start}HYPERLINK(1)"
    named = {"project": text, "model_id": text, "provider": text, "session_id": text}
    await house.log(request_record(id=text, status=RequestStatus.ERROR, error_message=text, **named))
    answer = await site.get("/v1/logs", accept=CSV)
    (row,) = answer.rows
    assert "HYPERLINK" in row["error_message"]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in row.values())
    if start in "=+-@":
        assert row["project"] == f"'{text}"
    assert logs.harmless(text) == f"'{text}" or start == "\n"


async def test_a_csv_has_a_column_for_every_key_and_units_are_columns(site, house):
    usage = Usage(audio_ms=1500, input_tokens=7, output_tokens=2)
    await house.log(request_record(id='a,"b"', usage=usage, cost_nanousd=1_234, ttfb_ms=1.5))
    answer = await site.get("/v1/logs", accept=CSV)
    (row,) = answer.rows
    assert tuple(row) == logs.COLUMNS
    assert (row["id"], row["audio_seconds"], row["input_tokens"], row["characters"]) == (
        'a,"b"',
        "1.5",
        "7",
        "",
    )
    assert (row["cost_usd"], row["ttfb_ms"]) == ("1.234e-06", "1.5")
    assert answer.headers["content-disposition"] == 'attachment; filename="voicegw-logs.csv"'


@pytest.mark.unmeasured
async def test_an_export_holds_no_more_than_some_pages_in_memory(site, house):
    message = "x" * 2000
    for part in range(8):
        rows = [
            request_record(
                id=f"{part}-{n}", timestamp_ms=NOW - n, status=RequestStatus.ERROR, error_message=message
            )
            for n in range(1000)
        ]
        await house.log(*rows)
    gateway = site.gateway
    stream = await logs.export(gateway, logs.LOGS.parse({}), NDJSON)
    size = len(stream.first)
    tracemalloc.start()
    try:
        async for page in stream.rest:
            size += len(stream.write(page))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 16_000_000
    assert peak < 8_000_000


@pytest.mark.parametrize("kind", EXPORTS)
async def test_an_export_that_fails_in_the_middle_does_not_end_like_a_whole_one(
    site, house, monkeypatch, kind
):
    await house.log(*numbered(logs.EXPORTED_AT_ONCE + 1))
    read = logs.log_page

    def once(*arguments, cursor, **options):
        if cursor is not None:
            raise StoreUnavailable("The store is locked.", hint="Wait.")
        return read(*arguments, cursor=cursor, **options)

    monkeypatch.setattr(logs, "log_page", once)
    answer = await site.get("/v1/logs", accept=kind)
    assert (answer.status, answer.whole) == (200, False)
    assert b"locked" not in answer.body


async def test_following_tells_of_each_new_row_once_and_of_none_of_the_past(site, house):
    await house.log(request_record(id="past"))
    async with site.following("/v1/logs") as stream:
        await stream.begun()
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["cache-control"] == "no-store"
        for name in ("a", "b"):
            await house.log(request_record(id=name))
            event = await stream.event()
            assert (event["event"], event["data"]["id"]) == ("log", name)
            assert event["id"]


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_following_begins_with_as_much_of_the_past_as_is_asked_for(site, house, order):
    await house.log(*numbered(4))
    async with site.following(f"/v1/logs?limit=2&order={order}") as stream:
        past = [(await stream.event())["data"]["id"] for _ in range(2)]
        await house.log(request_record(id="new"))
        assert (await stream.event())["data"]["id"] == "new"
    assert past == (["r00001", "r00000"] if order == "newest" else ["r00003", "r00002"])


async def test_who_comes_again_misses_nothing(site, house):
    async with site.following("/v1/logs") as stream:
        await stream.begun()
        await house.log(request_record(id="seen"))
        mark = (await stream.event())["id"]
    await house.log(request_record(id="missed-1"), request_record(id="missed-2"))
    for target, headers in (("/v1/logs", {"last_event_id": mark}), (f"/v1/logs?cursor={mark}", {})):
        async with site.following(target, **headers) as stream:
            events = [await stream.event() for _ in range(2)]
        assert [event["data"]["id"] for event in events] == ["missed-1", "missed-2"]
        assert ["id" in event for event in events] == [False, True]


async def test_more_than_goes_into_a_page_comes_in_several(site, house):
    async with site.following("/v1/logs") as stream:
        await stream.begun()
        await house.log(*numbered(40, status=RequestStatus.ERROR, error_message="x" * 2000))
        found = [await stream.event() for _ in range(40)]
    assert [event["data"]["id"] for event in found] == [f"r{n:05}" for n in range(40)]
    assert sum("id" in event for event in found) > 1


async def test_only_rows_that_are_asked_for_are_told(site, house):
    await house.log(request_record(id="old", project="p1"))
    async with site.following("/v1/logs?project=p1&status=error&detail=concise") as stream:
        await stream.begun()
        failed = {"status": RequestStatus.ERROR, "error_message": "no"}
        await house.log(request_record(id="a", **failed), request_record(id="b", project="p1"))
        await house.log(request_record(id="c", project="p1", **failed))
        event = await stream.event()
    assert event["data"]["id"] == "c"
    assert "units" not in event["data"]


async def test_a_token_of_a_project_hears_of_no_other(site, house):
    house.secrets(BOUND=BOUND)
    house.write(house.text + KEYS)
    async with site.following("/v1/logs", token=BOUND) as stream:
        await stream.begun()
        await house.log(request_record(id="other", project="support-line"))
        await house.log(request_record(id="mine", project="outbound"))
        assert (await stream.event())["data"]["id"] == "mine"


async def test_a_page_s_cursor_does_not_lead_into_a_stream(site, house):
    await house.log(*numbered(2))
    target = link(await site.get("/v1/logs?limit=1"))
    refused = await site.get(target, accept=EVENTS)
    assert (refused.status, refused.error["details"]["field"]) == (400, "cursor")
    refused = await site.get("/v1/logs", accept=EVENTS, last_event_id="garbage")
    assert (refused.status, refused.error["details"]["field"]) == (400, "cursor")


async def test_head_of_a_stream_ends_at_once(site):
    answer = await site.get("/v1/logs", method="HEAD", accept=EVENTS)
    assert (answer.status, answer.body, answer.whole) == (200, b"", True)
    assert not site.gateway.followers._count


async def test_too_many_followers_are_told_to_come_again_and_those_who_leave_make_room(site, monkeypatch):
    monkeypatch.setattr(followers, "MOST", 1)
    async with site.following("/v1/logs") as stream:
        await stream.begun()
        refused = await site.get("/v1/logs", accept=EVENTS)
        assert (refused.status, refused.error["details"]) == (503, {"reason": "followers"})
    assert not site.gateway.followers._count
    async with site.following("/v1/logs") as stream:
        await stream.begun()


async def test_an_idle_stream_is_pinged(site, monkeypatch):
    monkeypatch.setattr(streams, "PING_S", 0.01)
    async with site.following("/v1/logs") as stream:
        with anyio.fail_after(20):
            while ": ping" not in stream._text:
                stream._more.clear()
                await stream._more.wait()


@pytest.mark.parametrize(
    "fault", [StoreUnavailable("The store is locked.", hint="Wait."), ValueError("SELECT 1")]
)
async def test_a_stream_that_fails_says_so_and_ends(site, house, monkeypatch, fault):
    async def fail(*_):
        raise fault

    async with site.following("/v1/logs") as stream:
        await stream.begun()
        monkeypatch.setattr("voicegw_mcp.core.log_following.read_arrivals", fail)
        await house.log(request_record(id="a"))
        event = await stream.event()
        assert event["event"] == "error"
        assert event["data"]["error"]["code"] in {"STORE_UNAVAILABLE", "INTERNAL_ERROR"}
        assert "SELECT" not in json.dumps(event)
        await stream.ended.wait()
