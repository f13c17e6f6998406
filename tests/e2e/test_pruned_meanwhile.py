"""Another process prunes the store, a real command, while a server answers from it and between two of its pages."""

import json
import os
import subprocess
import time

import anyio
import anyio.lowlevel
import pytest
from tests.e2e.conftest import BIN, WAIT_S
from tests.factories import DAY, request_record
from tests.protocol.agents import FILE, House

OLD, NEW = 3_000, 30
CENT = 10_000_000


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def house(tmp_path):
    """Rows of twenty days ago, and rows of now that came in behind them; each costs a cent."""
    house = House(tmp_path / "gateway", now=int(time.time() * 1000))
    house.folder.mkdir()
    house.write(FILE)
    await house.log(
        *(row(house, f"old-{n:04}", -20 * DAY + n, session_id=f"s{n % 7}") for n in range(OLD)),
        *(row(house, f"new-{n:04}", -n, session_id="new") for n in range(NEW)),
    )
    return house


def row(house, name, offset_ms, **fields):
    return request_record(
        id=name, timestamp_ms=house.now + offset_ms, cost_nanousd=CENT, ttfb_ms=20.0, **fields
    )


def command(house):
    environment = {**os.environ, "HOME": str(house.folder), "VOICEGW_DB_PATH": str(house.database)}
    return [str(BIN / "voicegw"), "prune", "--older-than", "3", "-c", str(house.file), "--json"], environment


def prune(house, rows=OLD):
    arguments, environment = command(house)
    done = subprocess.run(
        arguments, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    assert json.loads(done.stdout)["rows"] == rows


async def pages(agent, **arguments):
    """Return the ids of all pages, and make a pause behind the first one for whoever asks."""
    answer = await agent.ok("get_logs", **arguments)
    yield [entry["id"] for entry in answer["logs"]]
    while "next_cursor" in answer:
        answer = await agent.ok("get_logs", **arguments, cursor=answer["next_cursor"])
        yield [entry["id"] for entry in answer["logs"]]


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_pages_go_on_behind_rows_that_were_pruned_between_them(house, order):
    async with house.agent() as agent:
        found = pages(agent, order=order, limit=20)
        seen = await anext(found)
        await anyio.to_thread.run_sync(prune, house)
        seen += [name async for page in found for name in page]
    fresh = [f"new-{n:04}" for n in range(NEW)]
    assert seen == (fresh if order == "newest" else [*(f"old-{n:04}" for n in range(20)), *fresh[::-1]])


async def test_who_follows_goes_on_and_a_cursor_at_a_row_that_was_pruned_is_refused(house):
    async with house.agent() as agent:
        last = await agent.ok("get_logs", follow_seconds=0, limit=1)
        await house.log(row(house, "late", -20 * DAY))
        late = await agent.ok("get_logs", cursor=last["next_cursor"], follow_seconds=0)
        assert [entry["id"] for entry in late["logs"]] == ["late"]
        await house.log(row(house, "next", 0))
        await anyio.to_thread.run_sync(prune, house, OLD + 1)
        answer = await agent.ok("get_logs", cursor=last["next_cursor"], follow_seconds=0)
        assert [entry["id"] for entry in answer["logs"]] == ["next"]
        error = await agent.refused("get_logs", cursor=late["next_cursor"], follow_seconds=0)
        assert (error["code"], error["details"]["field"]) == ("VALIDATION_ERROR", "cursor")
        assert "does not have (any more)" in error["message"]


async def test_every_answer_holds_together_while_another_process_prunes(house):
    total = (OLD + NEW) * CENT / 1e9
    asked = 0
    async with house.agent() as agent:
        arguments, environment = command(house)
        async with await anyio.open_process(arguments, env=environment, stdout=subprocess.DEVNULL) as process:
            while process.returncode is None:
                costs = await agent.ok("get_costs", period="all", group_by="session")
                assert costs["total_usd"] == total
                counted = sum(group["requests"] for group in costs["groups"])
                assert (counted == OLD + NEW) != costs.get("truncated", False)
                stats = await agent.ok("get_latency_stats", period="all")
                assert stats["overall"]["request_count"] == OLD + NEW
                seen = [name async for page in pages(agent, order="oldest", limit=500) for name in page]
                assert len(set(seen)) == len(seen)
                assert seen[-NEW:] == [f"new-{n:04}" for n in reversed(range(NEW))]
                asked += 1
                await anyio.lowlevel.checkpoint()
        assert process.returncode == 0
        assert asked > 0
        left = [name async for page in pages(agent) for name in page]
        assert left == [f"new-{n:04}" for n in range(NEW)]
        assert (await agent.ok("get_health"))["store"]["rows"] == OLD + NEW
