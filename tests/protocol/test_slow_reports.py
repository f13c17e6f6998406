"""A report that takes too long is ended where it is slow, in SQLite, and holds up nobody meanwhile."""

import threading
from functools import partial

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from tests.factories import NOW, request_record
from tests.protocol.agents import ERAS

from voicegw_mcp import server
from voicegw_mcp.core import costs
from voicegw_mcp.store import changes as journal

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i), 0, 0 FROM n"
HANGS_S = 30


def without_end(reads, *_, **__):
    return reads.read(ENDLESS)


@pytest.fixture
def endless_sessions(monkeypatch):
    """Grouping by session never ends, as in a log without end."""

    monkeypatch.setattr(costs, "read_sessions", without_end)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.usefixtures("endless_sessions")
async def test_at_the_deadline_a_query_is_stopped_and_the_next_call_answered(house, era, monkeypatch):
    monkeypatch.setattr(server, "DEADLINE_S", 0.2)
    await house.log(request_record(timestamp_ms=NOW - 1_000, cost_nanousd=10**9))
    async with house.agent(mode=era) as agent:
        before = await agent.ok("get_costs")
        threads = threading.active_count()
        with anyio.fail_after(HANGS_S):
            for _ in range(5):
                error = await agent.refused("get_costs", group_by="session")
                assert error["code"] == "STORE_UNAVAILABLE"
                assert error["details"]["reason"] == "deadline"
                assert "get_costs took longer" in error["message"]
        monkeypatch.undo()
        assert await agent.ok("get_costs") == before
        assert (await agent.ok("get_costs", group_by="session"))["total_usd"] == 1.0
        # A few connections for reading are kept, and none is left running.
        assert threading.active_count() <= threads + 3


@pytest.mark.parametrize("era", ERAS)
async def test_a_resource_that_takes_too_long_is_ended_too(house, era, monkeypatch):
    monkeypatch.setattr(server, "DEADLINE_S", 0.2)
    monkeypatch.setattr(journal, "list_changes", without_end)
    async with house.agent(mode=era) as agent:
        with anyio.fail_after(HANGS_S), pytest.raises(MCPError) as refusal:
            await agent.resource("voicegw://changes")
        assert refusal.value.error.data["error"]["code"] == "STORE_UNAVAILABLE"
        assert "changes took longer" in refusal.value.error.message
        monkeypatch.undo()
        assert (await agent.resource("voicegw://changes"))["count"] == 0


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.usefixtures("endless_sessions")
async def test_other_reports_are_answered_while_one_does_not_end(house, era):
    await house.log(request_record(timestamp_ms=NOW - 1_000, cost_nanousd=10**9))
    async with house.agent(mode=era) as agent, anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(partial(agent.call, "get_costs", {"group_by": "session"}))
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(HANGS_S):
            assert (await agent.ok("get_costs"))["total_usd"] == 1.0
            assert (await agent.ok("get_logs"))["count"] == 1
            assert (await agent.ok("get_health"))["store"]["rows"] == 1
            assert await agent.ok("list_projects")
        tasks.cancel_scope.cancel()
