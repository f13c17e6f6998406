"""Answers of reports that are kept: never one of another state, caller or quarter hour."""

import os
from dataclasses import replace

import pytest
from tests.factories import NOW, request_record

from voicegw_mcp.domain import QUARTER_MS
from voicegw_mcp.web.api import endpoints

KEYS = """
auth:
  api_keys:
    - {token: "${VIEW}", name: wall, role: viewer}
    - {token: "${BOUND}", name: theirs, role: viewer, projects: [outbound]}
"""
VIEW, BOUND = "fake-token-view", "fake-token-bound"


@pytest.fixture
def made(monkeypatch):
    """Counts the reports that are made."""
    found = []

    def counting(tool):
        async def run(gateway, args):
            found.append(tool.name)
            return await tool.run(gateway, args)

        return replace(tool, run=run)

    for name in ("get_costs", "get_latency_stats"):
        monkeypatch.setattr(endpoints, name, counting(getattr(endpoints, name)))
    return found


async def settled(site, house, *records, shift_ns=-(10**9)):
    """Log, open the store, and let all writing be long ago: only a stamp that is old enough tells the content."""
    await house.log(*records)
    await site.gateway.reader()
    for path in house.folder.glob("voicegw.db*"):
        os.utime(path, ns=(1, path.stat().st_mtime_ns + shift_ns))


def row(row_id, **fields):
    plain = {"project": "outbound", "provider": "openai", "model_id": "openai/gpt-4.1-mini"}
    return request_record(id=row_id, cost_nanousd=1_000_000_000, ttfb_ms=100.0, **{**plain, **fields})


@pytest.mark.parametrize("path", ["/v1/costs?period=today", "/v1/latency?period=today"])
async def test_an_answer_is_made_once_until_a_row_comes_in(site, house, made, path):
    await settled(site, house, row("a"))
    first = await site.ok(path)
    assert await site.ok(path) == first
    assert len(made) == 1
    await settled(site, house, row("b"))
    after = await site.ok(path)
    assert after != first
    assert len(made) == 2
    assert await site.ok(f"{path}&project=support-line") != after
    assert len(made) == 3


async def test_an_answer_is_made_anew_in_the_next_quarter_hour_and_after_a_change_of_the_file(
    site, house, made
):
    await settled(site, house, row("a"))
    first = await site.ok("/v1/costs")
    house.now = NOW + QUARTER_MS
    later = await site.ok("/v1/costs")
    assert (first["end"] < later["end"], len(made)) == (True, 2)
    house.write(house.text.replace("timezone: UTC", "timezone: Asia/Tokyo"))
    assert (await site.ok("/v1/costs"))["timezone"] == "Asia/Tokyo"


async def test_no_caller_gets_the_answer_of_another(site, house, made):
    house.secrets(VIEW=VIEW, BOUND=BOUND)
    house.write(house.text + KEYS)
    await settled(site, house, row("a"), row("b", project="support-line"))
    totals = [(await site.ok("/v1/costs", token=token))["total"] for token in (VIEW, BOUND, VIEW, BOUND)]
    assert totals == [2, 1, 2, 1]
    assert len(made) == 2
    assert (await site.get("/v1/costs?project=support-line", token=BOUND)).status == 404


async def test_few_answers_are_kept(site, house, made, monkeypatch):
    from voicegw_mcp.web.api import kept

    monkeypatch.setattr(kept, "MOST", 2)
    await settled(site, house, row("a"))
    asked = ("today", "week", "today", "month", "today", "week")
    for period in asked:
        await site.ok(f"/v1/costs?period={period}")
    assert len(made) == 4  # of the three the one that was asked for longest ago went


async def test_what_was_written_to_just_now_and_what_fails_is_not_kept(site, house, made):
    await settled(site, house, row("a"), shift_ns=3600 * 10**9)  # never old enough
    first = await site.ok("/v1/costs")
    assert await site.ok("/v1/costs") == first
    assert len(made) == 2
    await settled(site, house)
    before = len(made)
    for _ in range(2):
        assert (await site.get("/v1/costs?project=nobody")).status == 404
    assert len(made) == before + 2
    await site.gateway.close()
    house.database.write_bytes(b"no store" * 100)
    assert (await site.get("/v1/costs")).status == 503
    assert (await site.get("/v1/costs?period=fortnight")).status == 400
